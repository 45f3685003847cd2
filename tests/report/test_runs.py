"""Runs beside each other, where both they and their evaluations may have been moved."""

import csv
import io
import json
import shutil
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from contentctr.cli import app
from contentctr.config import override
from contentctr.errors import InputError
from contentctr.evaluate.evaluate import evaluate_model
from contentctr.recipes import recipe
from contentctr.report.runs import FACTS, compare_runs
from contentctr.simulate.mechanism import SimulatorConfig
from contentctr.simulate.rooms import write_features
from contentctr.train.loop import train_model

WORDS = ["d_model=16", "num_heads=2", "ff_mult=1", "epochs=2", "align_weight=0", "patience=0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    config = SimulatorConfig(num_rooms=12, num_streamers=2, min_segments=6, max_segments=8)
    widths = {"visual_dim": 8, "text_dim": 8}
    data = write_features(config, root / "data", **widths, val=0.2, test=0.5, show_progress=False)
    for name, words in (("one", ["seed=1"]), ("two", ["seed=2", "dropout=0.1"])):
        made = override(recipe("small"), [*WORDS, *words])
        train_model(made, data, root / name, show_progress=False)
    evaluate_model(root / "one", data, root / "measured", show_progress=False)
    (root / "moved").mkdir()
    shutil.move(root / "one", root / "moved" / "one")
    return root


def test_runs_stand_beside_each_other_with_what_differs(folder):
    table = compare_runs(folder)
    assert table.columns == [*FACTS, "model.dropout", "train.seed"]
    rows = {row["run"]: row for row in table.to_dicts()}
    assert set(rows) == {"moved/one", "two"}
    one, two = rows["moved/one"], rows["two"]
    metrics = json.loads((folder / "measured/metrics.json").read_text())
    assert one["value"] == metrics["metrics"]["kendall_tau"]
    assert [one["low"], one["high"]] == metrics["floors"]["model"]["kendall_tau"]["interval"]
    assert (one["evaluation"], one["split"], one["simulated"]) == ("measured", "test", True)
    assert (one["train.seed"], two["train.seed"], two["model.dropout"]) == ("1", "2", "0.1")
    assert (two["evaluation"], two["epochs"]) == (None, 2)
    log = [json.loads(line) for line in (folder / "two/log.jsonl").read_text().splitlines()]
    assert two["best_validation"] == max(row["kendall_tau"] for row in log if row["split"] == "val")


def test_an_ensemble_is_one_run_with_what_its_members_say_together(folder, tmp_path):
    made = override(recipe("small"), [*WORDS, "members=2", "epochs=1"])
    train_model(made, folder / "data", tmp_path / "both", show_progress=False)
    evaluate_model(tmp_path / "both", folder / "data", tmp_path / "measured", show_progress=False)
    [row] = compare_runs(tmp_path).to_dicts()
    assert (row["run"], row["evaluation"], row["epochs"]) == ("both", "measured", 1)
    log = [json.loads(line) for line in (tmp_path / "both/log.jsonl").read_text().splitlines()]
    assert row["best_validation"] == log[-1]["kendall_tau"] and row["best_epoch"] is None
    shown = CliRunner().invoke(app, ["runs", str(tmp_path)]).output
    assert f"kendall_tau {row['best_validation']:.4f} (all members)" in shown
    shutil.copytree(folder / "two", tmp_path / "members" / "two", symlinks=True)
    assert {row["run"] for row in compare_runs(tmp_path).to_dicts()} == {"both", "members/two"}


def test_an_evaluation_whose_run_is_gone_and_copies_of_a_run_are_shown(folder, tmp_path):
    shutil.copytree(folder / "measured", tmp_path / "measured")
    [alone] = compare_runs(tmp_path).to_dicts()
    assert (alone["run"], alone["evaluation"]) == ("", "measured")
    for name in ("a", "b"):
        shutil.copytree(folder / "moved/one", tmp_path / name, symlinks=True)
    rows = compare_runs(str(tmp_path)).to_dicts()
    assert [(row["run"], row["evaluation"]) for row in rows] == [("a", "measured"), ("b", None)]


def test_the_command_prints_a_table_json_or_csv(folder):
    def runs(*words):
        command = [sys.executable, "-m", "contentctr", "runs", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    shown = runs().stdout
    assert "moved/one" in shown and "model.dropout=0.1" in shown and "simulated test" in shown
    found = json.loads(runs("--json").stdout)
    assert found == compare_runs(folder).to_dicts()
    rows = list(csv.DictReader(io.StringIO(runs("--csv").stdout)))
    assert [row["run"] for row in rows] == [row["run"] for row in found]
    assert runs("--json", "--csv").returncode == 2


def test_a_folder_without_runs_says_so(tmp_path):
    with pytest.raises(InputError, match="no run in it"):
        compare_runs(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        compare_runs(tmp_path / "none")
