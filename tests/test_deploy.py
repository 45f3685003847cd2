"""Files of deploy/: they parse, and what they name is there."""

import json
import re
from pathlib import Path

import pytest
import yaml

from contentctr.live.redis.backend import RedisBackend
from contentctr.live.redis.messages import connect
from contentctr.live.redis.worker import Worker
from contentctr.live.service.backend import LocalBackend
from live_service import make_engine
from redis_server import RedisServer

DEPLOY = Path(__file__).parents[1] / "deploy"
YAML = sorted(DEPLOY.rglob("*.yml"))
DASHBOARD = DEPLOY / "grafana" / "contentctr.json"


@pytest.fixture(scope="module")
def registered(tmp_path_factory):
    """Names of all samples that services and workers tell, and the labels that they can have."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    try:
        client, engine = connect(server.url), make_engine()
        registries = [
            LocalBackend(engine).metrics.registry,
            RedisBackend(client, horizon=0).metrics.registry,
            Worker(client, engine).health.registry,
        ]
    finally:
        server.kill()
    found = set()
    for registry in registries:
        for names in registry._collector_to_names.values():
            found |= set(names)
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
