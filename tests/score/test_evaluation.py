"""The folder of an evaluation: written, read back, and refused where it is not whole."""

import json
from types import SimpleNamespace

import polars as pl
import pytest

from contentctr.batch import DataSpec
from contentctr.config import Config
from contentctr.errors import InputError
from contentctr.score.evaluation import FORMS, read_evaluation, read_metrics, write_evaluation

ROWS = {
    ("rooms", "predictions"): [
        ("room1", "a", 1, 30.0, 60.0, None, 0.5, None, False, None),
        ("room1", "a", 0, 0.0, 30.0, 0.25, 0.5, 8, True, 0.2),
    ],
    ("personal", "predictions"): [
        ("ann", "v", 1, 1.0, 2.0, 0.5, True),
        ("ann", "v", 0, 0.0, 1.0, 0.5, False),
    ],
    ("personal", "users"): [("ann", "v", 3, False, 2, 1, 0.5, 0.5, 0.5, None)],
}


@pytest.fixture(params=list(FORMS))
def task(request):
    return request.param


def write(folder, task, *, log="", **changes):
    """An evaluation folder; a keyword replaces a field of the task's own part of metrics.json."""
    run = folder / "run"
    run.mkdir(parents=True, exist_ok=True)
    if log:
        (run / "log.jsonl").write_text(log)
    checkpoint = SimpleNamespace(
        task=task,
        model_id="0123456789ab",
        spec=DataSpec(simulated=True),
        config=Config(),
        info={"epoch": 1},
        folder=run / "checkpoints" / "step-1",
    )
    form = FORMS[task]
    tables = {
        name: pl.DataFrame(ROWS[task, name], schema, orient="row")
        for name, schema in form.tables.items()
    }
    metrics = {
        **{name: {} if kind is dict else 1 for name, kind in form.fields.items()},
        "metrics": dict.fromkeys(form.metrics, 0.5),
        "references": {},
        "counts": {},
        **changes,
    }
    out = folder / "evaluation"
    found = write_evaluation(
        out, tables, metrics, checkpoint=checkpoint, data=DataSpec(simulated=True), split="test"
    )
    return out, found, tables


def test_what_is_written_is_read_in_its_order(tmp_path, task):
    log = [{"step": 1, "split": "train", "total": 2}, {"step": 1, "split": "train", "total": 3}]
    out, metrics, tables = write(tmp_path, task, log="\n".join(map(json.dumps, log)) + "\n")
    found = read_evaluation(out)
    assert found.metrics == metrics == read_metrics(out, task) and metrics["task"] == task
    assert metrics["simulated"] and metrics["trained_on_simulated"] and metrics["split"] == "test"
    assert found.predictions.equals(tables["predictions"].reverse())
    assert found.tables.keys() == FORMS[task].tables.keys()
    assert found.log["total"].to_list() == [3.0]  # the later line of a resumed run counts
    (tmp_path / "run" / "log.jsonl").unlink()
    assert read_evaluation(write(tmp_path, task)[0]).log is None


def test_another_column_may_follow_and_a_wrong_one_is_not_written(tmp_path, task):
    out, _, tables = write(tmp_path, task)
    path = out / "predictions.parquet"
    tables["predictions"].with_columns(extra=1).write_parquet(path)
    assert "extra" in read_evaluation(out).predictions.columns
    with pytest.raises(AssertionError):
        write_evaluation(
            out,
            {name: table.with_columns(score=pl.lit("x")) for name, table in tables.items()},
            {},
            checkpoint=SimpleNamespace(
                task=task, model_id="", spec=DataSpec(), config=Config(), info={}, folder=out
            ),
            data=DataSpec(),
            split="test",
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.write_bytes(b"PAR1"), "not a readable Parquet file"),
        (lambda path: pl.DataFrame({"x": [1]}).write_parquet(path), "column '.*_id' is missing"),
        (
            lambda path: (
                pl.read_parquet(path).cast({pl.String: pl.Categorical}).write_parquet(path)
            ),
            "column '.*_id' must be String, not Categorical",
        ),
    ],
)
def test_a_bad_table_names_file_and_column(tmp_path, task, change, message):
    for name in FORMS[task].tables:
        out, _, _ = write(tmp_path, task)
        change(out / f"{name}.parquet")
        with pytest.raises(InputError, match=rf"{name}\.parquet: {message}"):
            read_evaluation(out)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "ranking"}, "task must be rooms or personal, not 'ranking'"),
        ({"simulated": "yes"}, "simulated must be true or false, not 'yes'"),
        ({"metrics": 3}, "metrics must be an object, not 3"),
        ({"metrics": {}}, "field 'metrics.* is missing"),
        ({"counts": None}, "counts must be an object, not None"),
        ({"horizon": "x", "parameters": "x"}, "must be a whole number, not 'x'"),
    ],
)
def test_bad_metrics_name_file_and_field(tmp_path, task, changes, message):
    out, found, _ = write(tmp_path, task)
    (out / "metrics.json").write_text(json.dumps(found | changes))
    with pytest.raises(InputError, match=rf"metrics\.json: .*{message}"):
        read_evaluation(out)


def test_missing_fields_and_numbers_that_are_none(tmp_path, task):
    out, found, _ = write(tmp_path, task)
    name = FORMS[task].metrics[0]
    (out / "metrics.json").write_text(
        json.dumps({**found, "metrics": found["metrics"] | {name: "x"}})
    )
    with pytest.raises(InputError, match=f"metrics.{name} must be a number or null, not 'x'"):
        read_evaluation(out)
    del found["split"]
    (out / "metrics.json").write_text(json.dumps(found))
    with pytest.raises(InputError, match="field 'split' is missing"):
        read_evaluation(out)
    (out / "metrics.json").write_text("{")
    with pytest.raises(InputError, match=r"metrics\.json, line 1: not JSON"):
        read_evaluation(out)
    (out / "metrics.json").unlink()
    with pytest.raises(InputError, match=r"metrics\.json: no such file"):
        read_evaluation(out)


def test_an_evaluation_of_another_task_is_refused(tmp_path):
    out, _, _ = write(tmp_path, "personal")
    with pytest.raises(InputError, match="task must be rooms, not 'personal'"):
        read_evaluation(out, "rooms")


@pytest.mark.parametrize(
    "line", ["{", "3", '{"step": 1, "split": "val", "total": "x"}', '{"total": NaN}']
)
def test_a_bad_log_names_the_file(tmp_path, task, line):
    out, _, _ = write(tmp_path, task, log='{"step": 0, "split": "train"}\n' + line + "\n")
    with pytest.raises(InputError, match=r"training_log\.jsonl: not a readable log"):
        read_evaluation(out)
