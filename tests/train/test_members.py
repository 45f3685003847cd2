"""A run of several members is as many trainings, and one model of them all."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from contentctr.config import override
from contentctr.errors import InputError
from contentctr.models.ensemble import Ensemble
from contentctr.recipes import recipe
from contentctr.score import checkpoint as checkpoints
from contentctr.score.rooms import score_segments, segments_for
from contentctr.score.weights import load_tensors
from contentctr.train import loop
from contentctr.train import words as fitting
from contentctr.train.loop import train_model, train_step
from contentctr.train.run_folder import read_log
from launch import launch_two
from make import write_data
from spoken import write_spoken
from training import TINY, Stop, same, stopping_at, weights, with_train

TWO = with_train(members=2, seed=3)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("two") / "run"
    train_model(TWO, data, out, show_progress=False)
    return out


def member(run, number):
    """The weights of one member, by the names that it has alone."""
    prefix = f"members.{number}."
    found = weights(run, "best")
    return {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}


def test_each_member_is_what_its_seed_gives_alone_to_the_bit(run, data, tmp_path):
    for number in (0, 1):
        alone = tmp_path / str(number)
        train_model(with_train(seed=3 + number), data, alone, show_progress=False)
        assert same(member(run, number), weights(alone, "best"))
    assert len(weights(run, "best")) == 2 * len(weights(alone, "best"))
    assert not same(member(run, 0), member(run, 1))


def test_the_run_is_one_model_whose_score_is_the_mean_of_log_odds(run, data):
    checkpoint = checkpoints.load(run)
    assert checkpoint.config == TWO and isinstance(checkpoint.load_model(), Ensemble)
    assert (run / "best").resolve() == (run / "last").resolve() == checkpoint.folder
    assert [p.name for p in (run / "checkpoints").iterdir()] == [checkpoint.folder.name]
    segments = segments_for(checkpoint, data, "val")
    together = score_segments(checkpoint.load_model(), segments, window_len=4)
    each = [
        score_segments(
            checkpoints.load(run / "members" / str(k)).load_model(), segments, window_len=4
        )
        for k in (0, 1)
    ]
    assert np.abs(each[0] - each[1]).max() > 1e-3
    odds = np.mean([np.log(s / (1 - s)) for s in each], axis=0)
    assert np.allclose(together, 1 / (1 + np.exp(-odds)), atol=1e-6)


def test_logs_are_by_member_and_end_with_all_together(run):
    rows = read_log(run / "log.jsonl")
    for number in (0, 1):
        own = [
            {k: v for k, v in row.items() if k != "member"}
            for row in rows
            if row.get("member") == number
        ]
        assert own == read_log(run / "members" / str(number) / "log.jsonl")
    assert rows[-1]["split"] == "ensemble" and -1 <= rows[-1]["kendall_tau"] <= 1
    assert sum(row["split"] == "ensemble" for row in rows) == 1
    assert (run / "best" / "calibration.json").is_file()
    assert not list((run / "members").rglob("calibration.json"))


@pytest.mark.parametrize("stop_at", [0, 3, 6, 9, 12])
def test_a_run_stopped_within_any_member_ends_with_the_same_bits(
    run, data, tmp_path, monkeypatch, stop_at
):
    monkeypatch.setattr(loop, "train_step", stopping_at(stop_at))
    with pytest.raises(Stop):
        train_model(TWO, data, tmp_path / "run", show_progress=False)
    with pytest.raises(InputError, match="not a checkpoint .its members are not all trained"):
        checkpoints.load(tmp_path / "run")  # and never one of its members
    monkeypatch.setattr(loop, "train_step", train_step)
    train_model(TWO, data, tmp_path / "run", resume=True, show_progress=False)
    for name in ("log.jsonl", "best/model.safetensors", "best/checkpoint.json", "config.json"):
        assert (tmp_path / "run" / name).read_bytes() == (run / name).read_bytes(), name
    found = checkpoints.load(tmp_path / "run").model_id
    assert found == checkpoints.load(run).model_id


def test_a_finished_run_stays_as_it_is_and_goes_on_for_more_epochs(data, tmp_path):
    out = tmp_path / "run"
    train_model(TWO, data, out, show_progress=False)
    before = (out / "best").resolve()
    train_model(TWO, data, out, resume=True, show_progress=False)
    assert (out / "best").resolve() == before
    more = with_train(TWO, epochs=3)
    train_model(more, data, out, resume=True, show_progress=False)
    train_model(more, data, tmp_path / "whole", show_progress=False)
    assert same(weights(out), weights(tmp_path / "whole"))
    assert len(list((out / "checkpoints").iterdir())) == 1
    with pytest.raises(InputError, match="train.members was 2 and is now 3"):
        train_model(with_train(more, members=3), data, out, resume=True)


def test_a_member_starts_from_its_own_or_from_the_only_one(run, data, tmp_path):
    one = tmp_path / "one"
    train_model(with_train(epochs=1), data, one, show_progress=False)
    for name, start, wanted in (
        ("from own", run, [member(run, 0), member(run, 1)]),
        ("from one", one, [weights(one, "best")] * 2),
    ):
        # Of a rate so low that float32 does not move.
        still = with_train(TWO, learning_rate=1e-30, epochs=1)
        train_model(still, data, tmp_path / name, init_from=start, show_progress=False)
        for number in (0, 1):
            assert same(member(tmp_path / name, number), wanted[number])
        info = checkpoints.load(tmp_path / name).info
        assert len(info["init_from"]) == 2 and info["init_from"][0]["new"] == []
    for members, rule in ((1, "must be 2 to start from it, not 1"), (3, "must be 2 .*, not 3")):
        config = with_train(members=members)
        with pytest.raises(InputError, match=f"train.members {rule}"):
            train_model(config, data, tmp_path / "no", init_from=run)
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("new_head", [None, True])
def test_a_stopped_run_remembers_where_its_members_start(
    run, data, tmp_path, monkeypatch, new_head
):
    out, whole = tmp_path / "run", tmp_path / "whole"
    given = {"init_from": run, "new_head": new_head}
    train_model(TWO, data, whole, **given, show_progress=False)

    for stop_at in (0, 1):
        monkeypatch.setattr(loop, "train_step", stopping_at(stop_at))
        with pytest.raises(Stop):
            begun = out.exists()
            start = {} if begun else given
            train_model(TWO, data, out, resume=begun, **start, show_progress=False)
    monkeypatch.setattr(loop, "train_step", train_step)
    train_model(TWO, data, out, resume=True, show_progress=False)
    assert same(weights(out), weights(whole))


def test_begun_members_do_without_the_run_they_started_from(run, data, tmp_path, monkeypatch):
    start, out, whole = tmp_path / "start", tmp_path / "run", tmp_path / "whole"
    shutil.copytree(run, start, symlinks=True)
    config = with_train(TWO, save_every=1)
    train_model(config, data, whole, init_from=start, show_progress=False)

    def step(*args, **kwargs):
        if (out / "members" / "1" / "last").exists():
            raise Stop
        return train_step(*args, **kwargs)

    monkeypatch.setattr(loop, "train_step", step)
    with pytest.raises(Stop):
        train_model(config, data, out, init_from=start, show_progress=False)
    monkeypatch.setattr(loop, "train_step", train_step)
    shutil.rmtree(start)
    train_model(config, data, out, resume=True, show_progress=False)
    assert same(weights(out), weights(whole))


def test_standardised_features_are_in_every_member(data, tmp_path):
    sizes = dataclasses.replace(TINY.model, standardise=True)
    config = dataclasses.replace(with_train(members=2, epochs=1), model=sizes)
    train_model(config, data, tmp_path / "run", show_progress=False)
    found = checkpoints.load(tmp_path / "run").load_model()
    first, second = (m.fusion.visual[0].mean_D for m in found.members)
    assert torch.equal(first, second) and first.abs().sum() > 0


def test_what_an_ensemble_cannot_be(tmp_path):
    with pytest.raises(InputError, match="train.members must be 1 with train.finetune_encoders"):
        with_train(members=2, finetune_encoders=True)
    with pytest.raises(InputError, match=r"train.members must be in \[1, 32\], not 33"):
        with_train(members=33)


def test_damaged_weights_of_a_member_are_told(run, tmp_path):
    from safetensors.torch import save_file

    folder = tmp_path / "copy"
    folder.mkdir()
    for path in (run / "best").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    found = load_tensors(folder / "model.safetensors")
    save_file({k: v for k, v in found.items() if "members.1" not in k}, folder / "x")
    (folder / "x").rename(folder / "model.safetensors")
    with pytest.raises(InputError, match=r"weight 'members.1\..*must have shape"):
        checkpoints.load(folder).load_model()
    values = json.loads((folder / "checkpoint.json").read_text())
    values["config"]["train"]["members"] = 10**9
    (folder / "checkpoint.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match="train.members must be in"):
        checkpoints.load(folder)


@pytest.mark.slow
def test_two_processes_train_the_same_members(tmp_path):
    data = write_spoken(tmp_path / "data", rooms=8, length=12)
    words = ["window_len=4", "min_viewers=0", "d_model=8", "num_heads=2", "epochs=1", "members=2"]
    words += ["words=true", "prior=0.08"]
    run = ["-m", "contentctr", "train", "small", *words, "--data", str(data.root), "--out"]
    launch_two(*run, str(tmp_path / "two"))
    launch_two(*run, str(tmp_path / "two"), "--resume")
    train_model(override(recipe("small"), words), data, tmp_path / "one", show_progress=False)
    one, two = weights(tmp_path / "one", "best"), weights(tmp_path / "two", "best")
    assert one.keys() == two.keys()
    assert len(read_log(tmp_path / "two/log.jsonl")) == len(read_log(tmp_path / "one/log.jsonl"))


def test_settings_that_do_not_fit_leave_nothing_behind(data, tmp_path):
    wrong = override(TWO, ["words=true"])  # the data has none
    with pytest.raises(InputError, match="model.words must be false with this data"):
        train_model(wrong, data, tmp_path / "run", show_progress=False)
    assert not (tmp_path / "run").exists()
    (tmp_path / "empty").mkdir()
    for _ in range(2):  # it stays new
        with pytest.raises(InputError, match="model.words must be false with this data"):
            train_model(wrong, data, tmp_path / "empty", show_progress=False)


def test_words_are_fitted_once_for_all_members_to_the_bits_of_each_alone(tmp_path, monkeypatch):
    data = write_spoken(tmp_path / "data", rooms=8, length=12)
    words = ["window_len=4", "min_viewers=0", "epochs=1", "words=true", "prior=0.08"]
    two = override(TINY, [*words, "members=2", "seed=3"])
    fits, plain = [], fitting._fit
    monkeypatch.setattr(fitting, "_fit", lambda *given: (fits.append(given), plain(*given))[1])
    train_model(two, data, tmp_path / "two", show_progress=False)
    assert len(fits) == 1
    alone = override(TINY, [*words, "seed=4"])
    train_model(alone, data, tmp_path / "alone", show_progress=False)
    assert len(fits) == 2
    assert same(member(tmp_path / "two", 1), weights(tmp_path / "alone", "best"))
