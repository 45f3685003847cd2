"""Training on personalized highlights through the one loop, and what the loop asks of data."""

import json

import numpy as np
import pytest
import torch

from contentctr.config import override
from contentctr.errors import InputError
from contentctr.evaluate.evaluate import evaluate_model
from contentctr.metrics.average_precision import mean_over_users
from contentctr.models.registry import build_model
from contentctr.recipes import recipe
from contentctr.score import checkpoint as checkpoints
from contentctr.score.personal import score_videos
from contentctr.score.weights import load_tensors
from contentctr.simulate.personal import PersonalSimulation, write_personal_features
from contentctr.train.loop import train_model
from contentctr.train.opened import open_task
from contentctr.train.personal import PersonalTask
from contentctr.train.rooms import RoomsTask
from contentctr.train.run_folder import read_log
from contentctr.train.task import Process
from contentctr.windows.personal import UserSamples, training_stretches
from make import write_data
from make_phd import copy_with

WORDS = [
    "d_model=8",
    "num_heads=2",
    "decoder_layers=1",
    "epochs=2",
    "window_len=48",
    "learning_rate=1e-2",
    "num_negatives=2",
    "feature_dropout=0",
]
TINY = override(recipe("highlights_small"), WORDS)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    config = PersonalSimulation(
        num_users=40, max_video_s=120.0, visual_dim=8, text_dim=4, noise=0.3, val=0.2
    )
    return write_personal_features(
        config, tmp_path_factory.mktemp("phd") / "data", show_progress=False
    )


def weights(run, name="last"):
    return load_tensors(run / name / "model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_a_folder_says_what_it_is(data, tmp_path):
    rooms = write_data(tmp_path / "rooms")
    assert isinstance(open_task(rooms.root), RoomsTask)
    assert isinstance(open_task(data.root), PersonalTask)
    assert open_task(str(data.root)).data == data and open_task(rooms).data == rooms
    with pytest.raises(InputError, match="nothing: not a prepared folder"):
        open_task(tmp_path / "nothing")
    manifest = {**rooms.manifest(), "task": "chess"}
    (rooms.root / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=r"manifest.json: task must be rooms or personal, not 'ch"):
        open_task(rooms.root)


def test_training_learns_and_keeps_the_best_by_map(data, tmp_path):
    config = override(TINY, ["epochs=8"])
    best = train_model(config, data, tmp_path / "run", show_progress=False)
    rows = read_log(tmp_path / "run" / "log.jsonl")
    val = [row["map"] for row in rows if row["split"] == "val"]
    losses = [row["total"] for row in rows if row["split"] == "train"]
    assert len(val) == 8 and len(set(val)) > 4
    assert sum(losses[-5:]) < sum(losses[:5])
    saved = checkpoints.load(best)
    assert saved.info["position"]["best_score"] == max(val)
    assert saved.info["position"]["epoch"] == val.index(max(val)) + 1
    assert saved.spec.target == "highlight" and list(saved.vocabulary.streamers) == []
    assert any(row["align"] > 0 for row in rows if row["split"] == "train")
    assert all(row["pair"] == 0 for row in rows if row["split"] == "train")


@pytest.mark.parametrize("kind", ["contentctr_hl", "pr_net"])
def test_a_run_stopped_and_resumed_is_equal_to_the_bit(data, tmp_path, monkeypatch, kind):
    config = override(TINY, [f"kind={kind}", "save_every=1"])
    train_model(config, data, tmp_path / "whole", show_progress=False)
    real, calls = PersonalTask.load, []

    def load(self, config, vocabulary, process):
        loader, validate = real(self, config, vocabulary, process)
        if calls:
            return loader, validate
        calls.append(1)

        class Cut:
            steps = loader.steps

            def epoch(self, epoch, start=0):
                for number, pieces in enumerate(loader.epoch(epoch, start)):
                    if (epoch, number) == (1, 1):
                        raise KeyboardInterrupt
                    yield pieces

        return Cut(), validate

    monkeypatch.setattr(PersonalTask, "load", load)
    with pytest.raises(KeyboardInterrupt):
        train_model(config, data, tmp_path / "cut", show_progress=False)
    train_model(config, data, tmp_path / "cut", resume=True, show_progress=False)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    logs = [read_log(tmp_path / name / "log.jsonl") for name in ("whole", "cut")]
    assert logs[0] == logs[1]
    if kind == "pr_net":  # its own contrastive loss is weighed as a pairwise one
        assert any(row["pair"] > 0 for row in logs[0] if row["split"] == "train")


@pytest.mark.parametrize("kind", ["contentctr_hl", "pr_net"])
def test_an_ensemble_of_highlights(data, tmp_path, kind):
    config = override(TINY, [f"kind={kind}", "epochs=1", "members=2"])
    best = train_model(config, data, tmp_path / "run", show_progress=False)
    users = UserSamples(data, "val")
    together, *each = (
        np.concatenate(list(score_videos(model, users, range(len(users)), window_len=48)))
        for model in (
            checkpoints.load(folder).load_model()
            for folder in (best, tmp_path / "run/members/0", tmp_path / "run/members/1")
        )
    )
    odds = np.mean([np.log(s / (1 - s)) for s in each], axis=0)
    # PR-Net's log-odds reach 20, of which float32's scores keep little.
    assert np.allclose(together, 1 / (1 + np.exp(-odds)), atol=1e-2 if kind == "pr_net" else 1e-6)
    last = read_log(tmp_path / "run/log.jsonl")[-1]
    found = evaluate_model(best, data, tmp_path / "e", split="val", show_progress=False)
    assert last["split"] == "ensemble"
    assert last["map"] == pytest.approx(found["metrics"]["map"], abs=1e-3)
    assert not (best / "calibration.json").exists()


def test_models_and_data_must_be_of_one_task(data, tmp_path):
    rooms = write_data(tmp_path / "rooms")
    with pytest.raises(InputError, match="must be one of contentctr_hl.*not 'contentctr' .rooms"):
        train_model(recipe("small"), data, tmp_path / "a")
    with pytest.raises(InputError, match="must be one of contentctr,.*not 'contentctr_hl' .pers"):
        train_model(TINY, rooms, tmp_path / "b")
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    "word",
    ["horizon=1", "stride=2", "block=2", "finetune_encoders=true", "streamer_table=x.parquet"],
)
def test_settings_that_videos_cannot_have_are_refused(data, tmp_path, word):
    name, value = word.split("=")
    with pytest.raises(InputError, match=f"{name} must be .* for personalized highlights"):
        train_model(override(TINY, [word]), data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_must_keep_its_users(data, tmp_path):
    copy = copy_with(data, tmp_path / "copy")
    train_model(override(TINY, ["epochs=1"]), copy, tmp_path / "run", show_progress=False)
    users = data.users().with_columns(history=data.users()["history"] + 1)
    copy_with(data, tmp_path / "copy", users=users)
    with pytest.raises(InputError, match="must keep its settings and data; data_hash was"):
        train_model(TINY, copy, tmp_path / "run", resume=True, show_progress=False)


def test_no_training_and_no_validation_users(data, tmp_path):
    split = data.users()["split"]
    no_val = copy_with(
        data, tmp_path / "a", users=data.users().with_columns(split=split.replace("val", "test"))
    )
    best = train_model(override(TINY, ["epochs=1"]), no_val, tmp_path / "run", show_progress=False)
    assert checkpoints.load(best).info["position"]["best_score"] is None
    no_train = copy_with(
        data, tmp_path / "b", users=data.users().with_columns(split=split.replace("train", "val"))
    )
    with pytest.raises(InputError, match="must have users in its split train"):
        train_model(TINY, no_train, tmp_path / "other")


def test_the_loader_is_as_the_settings_and_the_process_say(data):
    task = open_task(data)
    config = override(TINY, ["batch_size=6", "micro_batch_size=2", "seed=3", "window_len=40"])
    vocabulary = task.vocabulary(config)[1]
    loader, validate = task.load(config, vocabulary, Process(rank=1, world=2))
    assert loader.steps == -(-len(loader) // 6)
    assert (loader.rank, loader.world, loader.micro_batch_size, loader.seed) == (1, 2, 2, 3)
    assert (loader.window_len, loader.num_negatives) == (40, 2)
    assert {len(piece) for step in loader.epoch(0) for piece in step} <= {1, 2}
    assert loader.stretches == training_stretches(UserSamples(data, "train"), 40)
    without = override(config, ["align_weight=0"])
    assert task.load(without, vocabulary, Process())[0].num_negatives == 0
    assert validate.users.users["split"].unique().to_list() == ["val"]


def test_validation_is_map_over_whole_videos(data):
    torch.manual_seed(0)
    task = open_task(data)
    model = build_model(TINY, task.spec(TINY), task.vocabulary(TINY)[1])
    _, validate = task.load(TINY, task.vocabulary(TINY)[1], Process())
    users = UserSamples(data, "val")
    scores = list(score_videos(model, users, range(len(users)), window_len=48))
    labels = [users.labels(user) for user in range(len(users))]
    found = mean_over_users(labels, scores, frame_rate=1.0)
    expected = {name: found[name] for name in ("map", "map_stretches", "map_top5", "map_published")}
    assert validate(model, torch.device("cpu")) == pytest.approx(expected, abs=1e-6)
