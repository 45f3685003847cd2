"""Tuning: what is searched, trials that are pruned, stopped and gone on with, and what is kept."""

import json
import shutil
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("optuna")

import optuna
import torch

from contentctr.config import override, to_dict
from contentctr.errors import InputError
from contentctr.outputs import alone
from contentctr.recipes import paper, recipe
from contentctr.simulate.mechanism import SimulatorConfig
from contentctr.simulate.rooms import write_features
from contentctr.train import tuning as module
from contentctr.train.search import default_search, parse_search
from contentctr.train.tuning import tune_model

WORDS = ["d_model=16", "num_heads=2", "ff_mult=1", "epochs=2", "loss.align_weight=0"]
SEARCH = ["train.learning_rate=1e-4:1e-2:log", "model.dropout=0:0.5"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    config = SimulatorConfig(num_rooms=8, num_streamers=2, min_segments=6, max_segments=8)
    return write_features(
        config,
        tmp_path_factory.mktemp("tuned") / "data",
        visual_dim=8,
        text_dim=8,
        val=0.3,
        test=0,
        show_progress=False,
    ).root


def small():
    return override(recipe("small"), WORDS)


def tuned(data, out, **settings):
    return tune_model(small(), data, out, search=SEARCH, show_progress=False, **settings)


def states(out):
    url = f"sqlite:///{out / 'study.db'}"
    storage = optuna.storages.RDBStorage(url)
    study = optuna.load_study(study_name="contentctr", storage=storage)
    found = [(t.number, t.state.name, t.params, dict(t.intermediate_values)) for t in study.trials]
    storage.remove_session()
    storage.engine.dispose()
    return found


def test_words_become_spaces_of_the_settings_type():
    space = parse_search(
        [
            "dropout=0:0.5",
            "train.batch_size=16:64:16",
            "learning_rate=1e-5:1e-3:log",
            "pair=L1,L3",
            "rotary=true,false",
        ],
        paper(),
    )
    assert list(space) == [
        "model.dropout",
        "train.batch_size",
        "train.learning_rate",
        "loss.pair",
        "model.rotary",
    ]
    floats, ints, log, words, _ = space.values()
    assert (floats.low, floats.high, floats.log) == (0, 0.5, False)
    assert (ints.low, ints.high, ints.step) == (16, 64, 16)
    assert log.log and words.choices == ("L1", "L3")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("dropout", "must be of the form KEY=LOW:HIGH or KEY=A,B, not 'dropout'"),
        ("dropuot=0:1", "no setting 'dropuot'; did you mean 'model.dropout'"),
        ("dropout=0:1", r"model.dropout must be in \[0, 1\), not 1.0"),
        ("dropout=0.5:0", "must be LOW:HIGH, LOW:HIGH:log or LOW:HIGH:STEP"),
        ("epochs=1.5:3", "of type int"),
        ("dropout=0:0.5:0.1:log", "must be LOW:HIGH"),
        ("pair=L1,L9", "config.loss.pair must be one of"),
        ("learning_rate=0:1:log", "of type float"),
    ],
)
def test_a_wrong_word_is_named(word, message):
    with pytest.raises(InputError, match=message):
        parse_search([word], paper())


def test_the_default_search_is_one():
    for name in ("paper", "small"):
        assert len(parse_search(default_search(recipe(name)), recipe(name))) == 4
    ids = override(paper(), ["kind=deepfm"])
    assert "ids.deep_dropout" in parse_search(default_search(ids), ids)


def test_the_best_trial_is_kept_and_the_same_call_goes_on(data, tmp_path):
    out = tmp_path / "tuned"
    first = tuned(data, out, trials=2)
    assert first["trials"] == {"complete": 2} and first["metric"] == "kendall_tau"
    second = tuned(data, out, trials=3)
    assert second["score"] >= first["score"]
    assert [number for number, *_ in states(out)] == [0, 1, 2]
    assert json.loads((out / "best.json").read_text()) == second
    with_checkpoints = [p.parent.name for p in out.glob("trials/*/checkpoints")]
    assert with_checkpoints == [f"{second['trial']:04d}"]
    assert recipe(str(out / "best.json")) == override(small(), second["settings"])
    assert recipe(str(out / second["run"] / "config.json")) == recipe(str(out / "best.json"))
    params = [tuple(params.values()) for _, _, params, _ in states(out)]
    assert len(set(params)) == 3  # a second call does not draw the first one's again
    with pytest.raises(InputError, match="holds a tuning with another search"):
        tune_model(small(), data, out, search=SEARCH[:1], show_progress=False)


def test_of_an_ensemble_one_member_is_tuned(data, tmp_path):
    config = override(small(), ["members=3", "epochs=1"])
    found = tune_model(config, data, tmp_path, search=SEARCH, trials=1, show_progress=False)
    assert recipe(str(tmp_path / "best.json")).train.members == 3
    assert recipe(str(tmp_path / found["run"] / "config.json")).train.members == 1
    with pytest.raises(InputError, match="--search members=1,3: every trial trains one member"):
        parse_search(["members=1,3"], paper())


def test_a_trial_that_lags_behind_is_pruned(data, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "STARTUP_TRIALS", 1)
    monkeypatch.setattr(optuna.trial.Trial, "should_prune", lambda trial: trial.number == 1)
    found = tuned(data, tmp_path / "tuned", trials=2)
    assert found["trials"] == {"complete": 1, "pruned": 1} and found["trial"] == 0
    assert [len(values) for *_, values in states(tmp_path / "tuned")] == [2, 1]


def test_a_stopped_trial_goes_on_where_it_was(data, tmp_path, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    wanted = tuned(data, whole, trials=1)
    train, calls = module.train_model, []

    def interrupted(*args, after_epoch, **settings):
        def once(epoch, found):
            after_epoch(epoch, found)
            raise KeyboardInterrupt

        calls.append(settings["resume"])
        train(*args, after_epoch=after_epoch if len(calls) > 1 else once, **settings)

    monkeypatch.setattr(module, "train_model", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tuned(data, stopped, trials=1)
    assert [state for _, state, *_ in states(stopped)] == ["RUNNING"]
    assert tuned(data, stopped, trials=1) == wanted
    assert calls == [False, True]
    assert states(stopped) == states(whole)


def test_settings_that_do_not_go_together_fail_alone(data, tmp_path):
    found = tune_model(
        small(),
        data,
        tmp_path / "tuned",
        search=["model.num_heads=1,3"],
        trials=5,
        show_progress=False,
    )
    assert found["settings"] == ["model.num_heads=1"]
    assert set(found["trials"]) == {"complete", "fail"}


def test_what_cannot_be_tuned_is_said(data, tmp_path):
    bare = tmp_path / "bare"
    config = SimulatorConfig(num_rooms=2, num_streamers=1, min_segments=6, max_segments=8)
    write_features(config, bare, visual_dim=8, text_dim=8, val=0, test=0, show_progress=False)
    with pytest.raises(InputError, match="tune needs a validation split"):
        tuned(bare, tmp_path / "tuned", trials=1)
    with pytest.raises(InputError, match="trials must be at least 1, not 0"):
        tuned(data, tmp_path / "none", trials=0)
    with pytest.raises(InputError, match="device must be cpu, cuda, .* not 'gpu'"):
        tuned(data, tmp_path / "none", trials=1, device="gpu")
    assert not (tmp_path / "none").exists()
    (tmp_path / "own").mkdir()
    (tmp_path / "own/notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds notes.txt"):
        tuned(data, tmp_path / "own", trials=1)


def test_two_processes_do_not_tune_in_one_folder(data, tmp_path):
    out = tmp_path / "out"
    with alone(out), pytest.raises(InputError, match="another process is at work tuning here"):
        tuned(data, out, trials=1)
    assert not out.exists()  # nothing is claimed


@pytest.mark.parametrize(
    "error", [InputError("no such data"), torch.OutOfMemoryError("out of memory\nand more")]
)
def test_a_trial_that_cannot_be_trained_fails_alone(data, tmp_path, monkeypatch, error):
    plain, calls = module.train_model, 0

    def train(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == 1:
            raise error
        return plain(*arguments, **options)

    monkeypatch.setattr(module, "train_model", train)
    found = tuned(data, tmp_path / "out", trials=2)
    assert [state for _, state, *_ in states(tmp_path / "out")] == ["FAIL", "COMPLETE"]
    assert found["trial"] == 1


def test_the_best_is_named_before_the_others_checkpoints_go(data, tmp_path, monkeypatch):
    out = tmp_path / "out"

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(module, "_drop_checkpoints", killed)
        tuned(data, out, trials=1)
    assert json.loads((out / "best.json").read_text())["trial"] == 0
    (out / "best.json").unlink()  # killed even before that
    tuned(data, out, trials=1)
    assert json.loads((out / "best.json").read_text())["trial"] == 0


@pytest.mark.slow
def test_ctrl_c_and_a_kill_lose_nothing(data, tmp_path):
    out = tmp_path / "tuned"
    words = ["tune", "small", *WORDS, "epochs=40", "--data", str(data), "--out", str(out)]
    words += ["--trials", "2", "--search", *SEARCH]

    def begun():
        """Grows when a run is begun, or goes on."""
        return len(list(out.glob("trials/*/tensorboard/events*")))

    def run(stop):
        process = subprocess.Popen(
            [sys.executable, "-m", "contentctr", *words],
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        before, deadline = begun(), time.monotonic() + 120
        while stop and begun() == before and time.monotonic() < deadline:
            time.sleep(0.05)
        if stop:
            process.send_signal(stop)
        shown, said = process.communicate(timeout=240)
        return process.returncode, shown, said

    assert run(signal.SIGKILL)[0] == -signal.SIGKILL
    code, _, said = run(signal.SIGINT)
    assert code == 130 and "the same command goes on" in said
    code, shown, _ = run(None)
    assert code == 0 and "Best of small" in shown
    assert len(states(out)) == 2
    assert {to_dict(recipe(str(out / "best.json")))["train"]["epochs"]} == {40}
    shutil.rmtree(out)
