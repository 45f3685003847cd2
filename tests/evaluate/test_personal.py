"""Evaluating models of personalized highlights: files, numbers, references, refusals."""

import json
import math

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import average_precision_score

from contentctr.config import override
from contentctr.errors import InputError
from contentctr.evaluate.evaluate import evaluate_model, headline
from contentctr.models.registry import build_model
from contentctr.recipes import recipe
from contentctr.score import checkpoint as checkpoints
from contentctr.score.personal import score_videos
from contentctr.simulate.personal import PersonalSimulation, write_personal_features
from contentctr.store.vectors import StoredRoom, read_entry, shard_index, write_shard
from contentctr.train.loop import train_model
from contentctr.train.opened import open_task
from contentctr.windows.personal import Stretch, UserSamples, make_batch
from make import write_data
from make_phd import copy_with

TINY = override(
    recipe("highlights_small"),
    [
        "d_model=16",
        "num_heads=2",
        "decoder_layers=1",
        "epochs=12",
        "window_len=24",
        "rotary=true",
        "learning_rate=1e-2",
        "num_negatives=2",
        "feature_dropout=0",
        "align_weight=0",
    ],
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    config = PersonalSimulation(
        num_users=60,
        max_video_s=120.0,
        visual_dim=8,
        text_dim=4,
        noise=0.3,
        test=0.2,
        frame_rate=0.5,
    )
    return write_personal_features(
        config, tmp_path_factory.mktemp("phd") / "data", show_progress=False
    )


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    train_model(override(TINY, ["kind=pr_net"]), data, out, show_progress=False)
    return out


@pytest.fixture(scope="module")
def evaluated(data, run, tmp_path_factory):
    out = tmp_path_factory.mktemp("evaluation")
    return out, evaluate_model(run, data, out, show_progress=False)


def test_the_files_and_their_numbers(data, run, evaluated):
    out, metrics = evaluated
    assert json.loads((out / "metrics.json").read_text()) == metrics
    assert metrics["task"] == "personal" and metrics["simulated"]
    table, people = (pl.read_parquet(out / f"{n}.parquet") for n in ("predictions", "users"))
    test = UserSamples(data, "test")
    assert people["user_id"].to_list() == test.users["user_id"].to_list()
    assert table.height == metrics["counts"]["frames"] == people["frames"].sum()
    aps = []
    for number, user_id in enumerate(people["user_id"]):
        mine = table.filter(pl.col("user_id") == user_id)
        assert mine["frame"].to_list() == list(range(test.num_frames(number)))
        np.testing.assert_array_equal(mine["selected"], test.labels(number))
        np.testing.assert_array_equal(mine["start_s"], mine["frame"] * 2.0)
        np.testing.assert_array_equal(mine["end_s"], mine["start_s"] + 2.0)
        aps.append(average_precision_score(mine["selected"], mine["score"]))
    np.testing.assert_allclose(people["ap"], aps, rtol=1e-12)
    assert metrics["metrics"]["map"] == pytest.approx(np.mean(aps), rel=1e-12)
    assert metrics["metrics"]["users"] == len(test)
    assert people["history"].to_list() == [len(test.history(user)) for user in range(len(test))]
    said = dict(data.videos().select("video_id", "has_captions").iter_rows())
    assert people["captions"].to_list() == [said[v] for v in people["video_id"]]
    assert metrics["counts"] == {
        "users": len(test),
        "videos": len(set(people["video_id"])),
        "frames": sum(test.num_frames(user) for user in range(len(test))),
        "highlight_frames": sum(int(test.labels(user).sum()) for user in range(len(test))),
        "users_without_history": 0,
        "users_with_captions": sum(said[v] for v in people["video_id"]),
    }
    assert 0 < metrics["counts"]["users_with_captions"] < len(test)
    assert metrics["counts"]["videos"] < len(test)
    model = checkpoints.load(run).load_model()
    expected = np.concatenate(list(score_videos(model, test, range(len(test)), window_len=24)))
    np.testing.assert_allclose(table["score"], expected, atol=1e-6)
    other = np.concatenate(list(score_videos(model, test, range(len(test)), window_len=10)))
    assert not np.allclose(expected, other, atol=1e-3)
    assert metrics["parameters"] == sum(p.numel() for p in model.parameters())
    assert (out / "training_log.jsonl").read_bytes() == (run / "log.jsonl").read_bytes()


def test_references_stand_in_their_order(data, run, evaluated, tmp_path):
    _, metrics = evaluated
    found = {name: block["map"] for name, block in metrics["references"].items()}
    share = metrics["counts"]["highlight_frames"] / metrics["counts"]["frames"]
    assert share < found["random"] < 0.5 * found["oracle"]
    seen = evaluate_model(run, data, tmp_path / "train", split="train", show_progress=False)
    assert seen["metrics"]["map"] > 1.5 * seen["references"]["random"]["map"]  # it has learned
    again = evaluate_model(run, data, tmp_path / "again", show_progress=False)
    assert again == metrics


def test_the_oracle_ranks_by_the_truth_beside_the_data(data, run, evaluated, tmp_path):
    truth, frames = data.truth(), pl.read_parquet(evaluated[0] / "predictions.parquet")
    joined = frames.join(truth, on=["user_id", "frame"])
    assert joined.height == frames.height
    users = joined.partition_by("user_id", maintain_order=True)
    aps = [average_precision_score(u["selected"], u["selection_probability"]) for u in users]
    assert evaluated[1]["references"]["oracle"]["map"] == pytest.approx(np.mean(aps), rel=1e-12)
    copy = copy_with(data, tmp_path / "copy")  # without a truth, as of real users
    assert list(evaluate_model(run, copy, tmp_path / "out")["references"]) == ["random"]
    truth.filter(pl.col("frame") != 3).write_parquet(copy.root / "truth.parquet")
    with pytest.raises(InputError, match=r"truth\.parquet: knows nothing of user .*, frame 3"):
        evaluate_model(run, copy, tmp_path / "other")


def test_the_result_in_short(evaluated):
    title, rows = headline(evaluated[1])
    assert title == "12 users of test (simulated videos)"
    assert list(rows) == ["map", "map of random", "map of oracle", "parameters"]
    real = {**evaluated[1], "simulated": False}
    assert headline(real)[0] == "12 users of test (by a model of simulated videos)"
    assert headline({**real, "trained_on_simulated": False})[0] == "12 users of test"


def test_scores_are_the_models_on_whole_videos_whatever_the_batch(data, run):
    model, test = checkpoints.load(run).load_model(), UserSamples(data, "test")
    users = [3, 0, 5]
    found = [
        list(score_videos(model, test, users, window_len=24, batch_size=size)) for size in (1, 4)
    ]
    for user, one, four in zip(users, *found, strict=True):
        assert len(one) == test.num_frames(user)
        np.testing.assert_allclose(one, four, atol=1e-6)
        last = Stretch(user=user, start=24 * ((len(one) - 1) // 24), stop=len(one))
        with torch.inference_mode():
            expected = model(make_batch(test, [last])).scores_BN[0].numpy()
        np.testing.assert_allclose(one[last.start :], expected, atol=1e-6)


def test_scoring_is_without_dropout_and_leaves_the_model_as_it_was(data):
    torch.manual_seed(0)
    task = open_task(data)
    config = override(TINY, ["dropout=0.5", "feature_dropout=0.5"])
    model = build_model(config, task.spec(config), task.vocabulary(config)[1])
    users = UserSamples(data, "test")
    expected = next(score_videos(model.eval(), users, [0], window_len=24))
    found = next(score_videos(model.train(), users, [0], window_len=24))
    np.testing.assert_array_equal(found, expected)
    assert model.training


def test_a_score_that_is_not_finite_is_an_error(data, run):
    model, test = checkpoints.load(run).load_model(), UserSamples(data, "test")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(math.nan)
    with pytest.raises(ValueError, match="user number 1, frame 0, is not finite"):
        list(score_videos(model, test, [1], window_len=24))


def test_a_history_changes_the_scores_and_the_one_without_does_not_look(data, run, tmp_path):
    # Everybody's history becomes one clip of the target video itself.
    targets = data.selections().filter("is_target")
    clips = targets.unique("user_id", maintain_order=True).with_columns(
        start_s=pl.lit(0.0), end_s=pl.lit(2.0), is_target=pl.lit(False)
    )
    selections = pl.concat([targets, clips]).sort("user_id")
    other = copy_with(data, tmp_path / "other", selections=selections)

    def scores(checkpoint, where):
        evaluate_model(checkpoint, where, tmp_path / "e", show_progress=False)
        return pl.read_parquet(tmp_path / "e" / "predictions.parquet")["score"].to_numpy()

    assert not np.allclose(scores(run, data), scores(run, other), atol=1e-3)
    blind = override(TINY, ["kind=contentctr_hl_without_history", "epochs=1"])
    train_model(blind, data, tmp_path / "blind", show_progress=False)
    np.testing.assert_allclose(
        scores(tmp_path / "blind", data), scores(tmp_path / "blind", other), atol=1e-6
    )


def test_a_history_that_cannot_be_decoded_counts_as_none(data, run, tmp_path):
    copy = copy_with(data, tmp_path / "copy")
    targets = set(data.videos().filter("is_target")["video_id"])
    for path in copy.features_dir.glob("*.safetensors"):
        rooms = []
        for video_id, entry in shard_index(path).items():
            tensors = read_entry(entry)
            if video_id not in targets:
                tensors["has_visual"] = np.zeros_like(tensors["has_visual"])
            rooms.append(StoredRoom(room_id=video_id, tensors=tensors))
        path.unlink()
        write_shard(copy.features_dir, path.stem, rooms)
    metrics = evaluate_model(run, copy, tmp_path / "out", show_progress=False)
    people = pl.read_parquet(tmp_path / "out" / "users.parquet")
    assert metrics["counts"]["users_without_history"] == people.height
    assert people["history"].to_list() == [0] * people.height


@pytest.mark.parametrize("damage", ["width", "nan", "short"])
def test_a_damaged_store_names_its_file(data, run, tmp_path, damage):
    copy = copy_with(data, tmp_path / "copy")
    path = sorted(copy.features_dir.glob("*.safetensors"))[0]
    rooms = []
    for video_id, entry in shard_index(path).items():
        tensors = read_entry(entry)
        if damage == "width":
            tensors["visual"] = tensors["visual"][:, :-1].copy()
        elif damage == "nan":
            tensors["visual"] = np.full_like(tensors["visual"], np.nan)
        else:
            tensors = {name: rows[:-1] for name, rows in tensors.items()}
        rooms.append(StoredRoom(room_id=video_id, tensors=tensors))
    path.unlink()
    write_shard(copy.features_dir, path.stem, rooms)
    message = {
        "width": "visual must have width 8, not .7,.",
        "nan": "visual must be finite",
        "short": "must have .* stored frames",
    }[damage]
    with pytest.raises(InputError, match=f"{path.name}: .*{message}|{path.name}: {message}"):
        evaluate_model(run, copy, tmp_path / "out", split="all", show_progress=False)
    assert not (tmp_path / "out").exists()


def test_what_does_not_fit_is_refused(data, run, tmp_path):
    rooms = write_data(tmp_path / "rooms")
    with pytest.raises(InputError, match="must be a model of rooms here.*'pr_net' is one of pers"):
        evaluate_model(run, rooms, tmp_path / "out")
    with pytest.raises(InputError, match="split must be one of"):
        evaluate_model(run, data, tmp_path / "out", split="later")
    for size in (0, -1):
        with pytest.raises(InputError, match=f"batch_size must be at least 1, not {size}"):
            evaluate_model(run, data, tmp_path / "out", batch_size=size)
    with pytest.raises(InputError, match="--ray is not for"):
        evaluate_model(run, data, tmp_path / "out", ray="local")
    other = PersonalSimulation(num_users=10, max_video_s=100.0, visual_dim=9, text_dim=4)
    write_personal_features(other, tmp_path / "wide", show_progress=False)
    with pytest.raises(InputError, match="visual_dim must be 8, not 9"):
        evaluate_model(run, tmp_path / "wide", tmp_path / "out")
    none = copy_with(data, tmp_path / "none", users=data.users().with_columns(split=pl.lit("val")))
    with pytest.raises(InputError, match="none: has no user in the split test"):
        evaluate_model(run, none, tmp_path / "out")
    assert not (tmp_path / "out").exists()
