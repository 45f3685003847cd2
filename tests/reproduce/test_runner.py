import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from contentctr.errors import InputError
from contentctr.outputs import LOCK
from contentctr.reproduce import plan, runner
from contentctr.reproduce.runner import FailedRunsError, reproduce
from contentctr.reproduce.study import Job, open_study
from contentctr.reproduce.worker import run_job
from contentctr.train.loop import train_model
from contentctr.train.run_folder import RunFolder, read_log
from make import write_data

TINY = (
    "d_model=8",
    "num_heads=2",
    "perceiver_layers=1",
    "decoder_layers=1",
    "streamer_dim=4",
    "window_len=4",
    "min_viewers=1",
    "epochs=2",
    "num_negatives=2",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"), rooms=10)


def go(what, data, out, **changes):
    wishes = {"recipe": "small", "settings": TINY, "show_progress": False, **changes}
    return reproduce(what, data.root, out, **wishes)


def taus(out):
    found = {}
    for path in sorted(Path(out).glob("runs/*/seed-*/evaluation/metrics.json")):
        name = f"{path.parts[-4].rsplit('-', 1)[0]} {path.parts[-3]}"
        found[name] = json.loads(path.read_text())["metrics"]
    return found


def times(out):
    return {p: p.stat().st_mtime_ns for p in Path(out).glob("runs/**/*") if p.name != LOCK}


@pytest.fixture
def two_rows(monkeypatch):
    """Table 3 with two rows, the second of which cannot be trained."""
    bad = plan.Run(name="bad", settings=("model.kind=nonsense",))
    papers = ({"kendall_tau": 0.6}, {"kendall_tau": 0.5})
    rows = (
        plan.Row(label="Ours", run=plan.OURS, paper=papers[0]),
        plan.Row(label="B", run=bad, paper=papers[1]),
    )
    table = dataclasses.replace(plan.TABLE_3, rows=rows)
    monkeypatch.setitem(plan.ITEMS, "table3", table)


def test_finished_runs_stay_and_a_failing_one_takes_no_other_with_it(two_rows, data, tmp_path):
    with pytest.raises(FailedRunsError, match=r"1 of 2 runs failed(.|\n)*bad.*not 'nonsense'"):
        go("table3", data, tmp_path)
    assert list(taus(tmp_path)) == ["contentctr seed-0"]
    page = (tmp_path / "reproduction.html").read_text()
    assert "nonsense" in page
    before = times(tmp_path)
    with pytest.raises(FailedRunsError, match="1 of 1 run failed"):
        go("table3", data, tmp_path)
    after = times(tmp_path)
    assert {p: after[p] for p in before if "contentctr-" in str(p)} == {
        p: t for p, t in before.items() if "contentctr-" in str(p)
    }


@pytest.mark.slow
def test_processes_do_not_change_a_number(data, tmp_path):
    for jobs in (1, 2):
        go("fig5", data, tmp_path / str(jobs), jobs=jobs)
    assert taus(tmp_path / "1") == taus(tmp_path / "2")
    assert list(taus(tmp_path / "1")) == ["model2 seed-0", "model3 seed-0"]


def study_job(data, out, *more):
    settings = (*TINY, *more)
    study = open_study("fig6", data.root, out, recipe_name="small", settings=settings, seeds=1)
    return study.job(plan.OURS, 0)


def with_epochs(job: Job, epochs: int) -> Job:
    train = dataclasses.replace(job.config.train, epochs=epochs)
    return dataclasses.replace(job, config=dataclasses.replace(job.config, train=train))


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def kill(*_, **__):
    raise Killed


def test_a_begun_run_goes_on(data, tmp_path, monkeypatch):
    whole, parts, killed = (
        study_job(data, tmp_path / name, "schedule=constant") for name in ("a", "b", "c")
    )
    run_job(whole)
    # Stopped after its first epoch.
    train_model(with_epochs(parts, 1).config, data, parts.folder / "run", show_progress=False)
    first = (parts.folder / "run" / "log.jsonl").read_text()
    run_job(parts)
    assert (parts.folder / "run" / "log.jsonl").read_text().startswith(first)
    # Killed before its first save.
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save", kill)
        with pytest.raises(Killed):
            run_job(killed)
    assert not (killed.folder / "run" / "last").exists()
    run_job(killed)
    assert taus(tmp_path / "a") == taus(tmp_path / "b") == taus(tmp_path / "c")
    assert whole.finished and parts.finished
    # Trained, but not evaluated.
    before = (parts.folder / "run" / "last" / "model.safetensors").read_bytes()
    (parts.evaluation / "metrics.json").unlink()
    run_job(parts)
    assert parts.finished
    assert (parts.folder / "run" / "last" / "model.safetensors").read_bytes() == before


def test_nobody_else_works_on_a_run(data, tmp_path):
    job = study_job(data, tmp_path)
    code = (
        "import sys, time; from pathlib import Path; from contentctr.reproduce import worker\n"
        "with worker.alone(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, job.folder], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="another process is at work"):
            run_job(job)
        other.kill()
    run_job(job)
    assert job.finished


CALL = """
import sys
from contentctr.reproduce.runner import reproduce
if __name__ == "__main__":
    try:
        reproduce("fig6", sys.argv[1], sys.argv[2], recipe="small", settings=sys.argv[3:])
    except KeyboardInterrupt as stopped:
        print(stopped)
        sys.exit(130)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kill", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_command_loses_nothing(kill, data, tmp_path):
    (tmp_path / "call.py").write_text(CALL)
    settings = (*TINY, "epochs=20", "patience=0")
    command = [sys.executable, tmp_path / "call.py", data.root, tmp_path / "out", *settings]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not (logs := list(tmp_path.glob("out/runs/*/*/run/log.jsonl"))) or (
            logs[0].stat().st_size < 700
        ):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        os.kill(process.pid, kill)
        said = process.communicate(timeout=60)[0]
    if kill != signal.SIGKILL:
        assert process.returncode == 130 and "all runs are saved" in said
    assert not list(tmp_path.glob("out/runs/*/*/evaluation"))
    deadline = time.monotonic() + 60
    while True:  # a worker that lost its parent saves and goes
        result = subprocess.run(command, capture_output=True, text=True)
        if "another process is at work" not in result.stderr or time.monotonic() > deadline:
            break
    assert result.returncode == 0, result.stderr
    steps = [r["step"] for r in read_log(logs[0]) if r["split"] == "train"]
    assert steps == list(range(1, len(steps) + 1))
    whole = tmp_path / "whole"
    reproduce("fig6", data.root, whole, recipe="small", settings=settings, show_progress=False)
    assert taus(tmp_path / "out") == taus(whole)


@pytest.mark.slow
def test_a_process_that_dies_fails_its_run_alone(data, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "work", die)
    job = study_job(data, tmp_path)
    with pytest.raises(FailedRunsError, match="its process ended with exit code 7"):
        go("fig6", data, tmp_path)
    assert not job.finished


def die(pipe, device, threads):
    pipe.recv()
    os._exit(7)
