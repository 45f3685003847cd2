"""Files of deploy/: they parse, and what they name is there."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
import yaml

from contentctr.cli import app
from contentctr.live.exposition import DriftCollector, OutcomeCollector
from contentctr.live.redis.backend import RedisBackend
from contentctr.live.redis.messages import connect
from contentctr.live.redis.worker import Worker
from contentctr.live.service.backend import LocalBackend
from contentctr.live.service.keeping import Keeper
from contentctr.live.service.metrics import _FIXED
from contentctr.live.service.observed import STATUSES
from live_service import make_engine
from redis_server import RedisServer

DEPLOY = Path(__file__).parents[1] / "deploy"
ROOT = DEPLOY.parent
UNIT = DEPLOY / "contentctr.service"
YAML = sorted(DEPLOY.rglob("*.yml"))
DASHBOARD = DEPLOY / "grafana" / "contentctr.json"


OURS = (DriftCollector, OutcomeCollector)
VALUES = {"span": {"hour", "day", "$span"}, "status": {"5..", *STATUSES}, "path": _FIXED}
"""What a label can be; of others any value may come."""


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """Names of all samples that services and workers tell, with the labels that they can have."""
    folder = tmp_path_factory.mktemp("deploy")
    server = RedisServer(folder / "redis")
    engine = make_engine()
    keeper = Keeper(folder / "state", forget_after_s=600, report=print)
    try:
        client = connect(server.url)
        registries = [
            LocalBackend(engine, keeper=keeper).metrics.registry,
            RedisBackend(client, horizon=0).metrics.registry,
            Worker(client, engine).health.registry,
        ]
        client.close()
    finally:
        keeper.close({}, engine)
        server.kill()
    found = {}
    for registry in registries:
        for collector, names in registry._collector_to_names.items():
            described = collector.describe() if isinstance(collector, OURS) else []
            labels = {family.name: set(family._labelnames) for family in described}
            own = set(getattr(collector, "_labelnames", ()))
            for name in names:
                bucket = {"le"} if name.endswith("_bucket") else set()
                found[name] = labels.get(name, own) | bucket | {"instance", "job"}
    return found


def queries():
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_yaml_is_yaml(path):
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_alerts_and_panels_ask_for_metrics_that_there_are(registered):
    asked = {
        name: title for title, expr in queries() for name in re.findall(r"contentctr_\w+", expr)
    }
    assert len(asked) > 20
    unknown = {name: title for name, title in asked.items() if name not in registered}
    assert not unknown


def told_labels():
    """Of each alert and panel what it asks for, and the labels that its words name."""
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        yield rule["expr"], set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            legend = target.get("legendFormat", "")
            yield target["expr"], set(re.findall(r"\{\{\s*(\w+)\s*\}\}", legend))


def test_alerts_and_panels_ask_for_labels_that_there_are(registered):
    matched = 0
    for expr, named in told_labels():
        metrics = set(re.findall(r"contentctr_\w+", expr))
        for name, block in re.findall(r"(contentctr_\w+)\{([^}]*)\}", expr):
            for label, value in re.findall(r'(\w+)=~?"([^"]*)"', block):
                assert label in registered[name], (label, expr)
                assert value in VALUES.get(label, {value}), (label, value, expr)
                matched += 1
        kept = {
            label
            for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", expr)
            for label in filter(None, labels.split(", "))
        }
        assert all(kept <= registered[name] for name in metrics), (kept, expr)
        assert named <= kept, (named, expr)
    assert matched > 20


def test_panels_are_told_apart_and_do_not_lie_over_each_other():
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells) and max(x for x, _ in cells) < 24


def test_every_alert_says_what_is_wrong_and_how_urgent_it_is():
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
            assert rule["annotations"]["summary"].endswith("."), rule["alert"]


def command_lines():
    """Words behind `contentctr` in all of these files."""
    compose = yaml.safe_load((DEPLOY / "compose.yml").read_text())
    for name in ("worker", "service"):
        yield f"compose.yml: {name}", shlex.split(compose["services"][name]["command"])
    start = re.search(r"^ExecStart=\S+ (.*)$", UNIT.read_text(), re.M)
    yield "contentctr.service", shlex.split(start[1])


@pytest.mark.parametrize("words", [pytest.param(w, id=name) for name, w in command_lines()])
def test_commands_are_understood(words):
    command = typer.main.get_command(app).commands[words[0]]
    found = command.make_context(words[0], list(words[1:]), resilient_parsing=False)
    assert found.params["checkpoint"] and not found.args


def test_the_files_that_compose_mounts_are_there():
    compose = yaml.safe_load((DEPLOY / "compose.yml").read_text())
    mounts = [v for one in compose["services"].values() for v in one.get("volumes", [])]
    ours = [v.split(":")[0] for v in mounts if v.startswith("./")]
    assert len(ours) == 4 and all((DEPLOY / name).exists() for name in ours)
    scraped = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    assert "service:8000" in scraped and "port: 9100" in scraped
    assert compose["services"]["worker"]["deploy"]["replicas"] == 2
    # Docker's own 10 s would end a worker within its batch.
    assert all(compose["services"][n]["stop_grace_period"] == "40s" for n in ("worker", "service"))
    assert "noeviction" in compose["services"]["redis"]["command"]


def test_the_image_copies_what_there_is_and_is_not_root():
    text = (DEPLOY / "Dockerfile").read_text()
    for names in re.findall(r"^COPY (?!--)(.*) \S+$", text, re.M):
        assert all((ROOT / name).exists() for name in names.split()), names
    kept = (ROOT / ".dockerignore").read_text().splitlines()
    for name in re.findall(r"^COPY (?!--)(.*) \S+$", text, re.M):
        assert all(f"!{part}" in kept for part in name.split()), name
    assert re.search(r"^USER 10001$", text, re.M) and "--constraint constraints.txt" in text
    extras = re.search(r"^ARG EXTRAS=(.*)$", text, re.M)[1]
    assert f"\n{extras} = [" in (ROOT / "pyproject.toml").read_text()
    assert "\ntorch==" in (ROOT / "constraints.txt").read_text()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_the_unit_is_one(tmp_path):
    unit = tmp_path / "contentctr.service"
    # Of what it starts, systemd asks that it is there.
    unit.write_text(UNIT.read_text().replace("/opt/contentctr/bin/contentctr", sys.executable))
    found = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, "")
