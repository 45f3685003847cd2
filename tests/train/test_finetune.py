"""Training both encoders too: from stored inputs to a prediction."""

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from contentctr.encode.encoders import load_text, load_visual
from contentctr.encode.rooms import encode_rooms
from contentctr.errors import InputError
from contentctr.evaluate.evaluate import evaluate_model
from contentctr.models.registry import build_model
from contentctr.predict.rooms import predict_recording
from contentctr.report import write_report
from contentctr.score import checkpoint as checkpoints
from contentctr.score.weights import load_tensors
from contentctr.store.vectors import data_spec
from contentctr.train.loop import train_model
from training import TINY, Stop, same, stopping_at, weights, with_train
from world import World, check, make_world

SETTINGS = with_train(finetune_encoders=True, epochs=2, encoder_learning_rate=1e-3, save_every=1)
PARTS = ("visual", "text")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A run with SETTINGS on stored inputs."""
    folder = tmp_path_factory.mktemp("finetune")
    return make_world(folder, finetune=True, encoder_learning_rate=1e-3, save_every=1)


def encoder_weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    saved = checkpoints.load(run / name)
    visual, text = (
        load_visual(saved.encoder_source("visual")),
        load_text(saved.encoder_source("text")),
    )
    return {
        **{f"visual.{k}": v for k, v in visual.state_dict().items()},
        **{f"text.{k}": v for k, v in text.state_dict().items()},
    }


def test_encoders_and_core_move(world: World) -> None:
    saved = checkpoints.load(world.run)
    assert saved.finetuned and saved.config == SETTINGS
    assert {p.name for p in (saved.folder / "encoders").iterdir()} == set(PARTS)
    base = data_spec(world.data, inputs=True)
    assert saved.spec.visual_revision != base.visual_revision
    assert saved.spec.text_revision != base.text_revision
    before = {
        "visual": load_visual(base.visual_encoder).state_dict(),
        "text": load_text(base.text_encoder).state_dict(),
    }
    after = dict(zip(PARTS, saved.load_encoders(), strict=True))
    for part in PARTS:
        now = after[part].state_dict()  # type: ignore[attr-defined]
        assert now.keys() == before[part].keys()
        moved = [k for k in now if not torch.equal(now[k], before[part][k])]
        assert len(moved) > 0.5 * len(now), (part, moved)
        assert all(torch.isfinite(v).all() for v in now.values())
    torch.manual_seed(SETTINGS.train.seed)
    fresh = build_model(SETTINGS, base, saved.vocabulary).state_dict()
    core = saved.load_model().state_dict()
    assert core.keys() == fresh.keys() and not same(core, fresh)
    files = [p for p in saved.folder.rglob("*") if p.is_file()]
    assert {p.suffix for p in files} <= {".json", ".safetensors", ".txt"}


@pytest.mark.parametrize("stop_at", [1, 3])
def test_a_resumed_run_is_equal_to_the_bit(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("contentctr.train.loop.train_step", stopping_at(stop_at))
        with pytest.raises(Stop):
            train_model(SETTINGS, world.data, run, show_progress=False)
    assert checkpoints.load(run / "last").info["position"]["step"] == stop_at
    train_model(SETTINGS, world.data, run, resume=True, show_progress=False)
    assert checkpoints.load(run / "last").info["position"]["step"] > stop_at
    assert same(weights(world.run), weights(run))
    assert same(encoder_weights(world.run), encoder_weights(run))
    optimizers = [
        load_tensors(r / "last" / "training" / "optimizer.safetensors") for r in (world.run, run)
    ]
    assert same(*optimizers)


def test_evaluation_and_prediction_with_trained_encoders(world: World, tmp_path: Path) -> None:
    metrics = evaluate_model(
        world.run, world.data, tmp_path / "e", split="all", batch_size=4, show_progress=False
    )
    assert metrics["counts"]["samples"] > 0 and "oracle" in metrics["references"]
    write_report(tmp_path / "e")
    table = pl.read_parquet(tmp_path / "e" / "predictions.parquet")
    for number in (0, len(world.rooms) - 1):
        room = world.data.rooms()["room_id"][number]
        found = predict_recording(
            world.run, world.rooms[number], tmp_path / "p", show_progress=False
        )
        curve = check(found, tmp_path / "p")
        expected = table.filter(pl.col("room_id") == room)["score"].to_numpy()
        # Nothing is rounded to float16 on either way.
        assert np.ptp(expected) > 1e-4
        np.testing.assert_allclose(curve["score"].to_numpy(), expected, atol=1e-5)


def test_features_in_place_of_inputs(world: World, tmp_path: Path) -> None:
    """A frozen run needs features, a fine-tuned one inputs; what is lacking is named."""
    with pytest.raises(InputError, match="data/features.*encode"):
        train_model(TINY, world.data, tmp_path / "run", show_progress=False)
    spec = data_spec(world.data, inputs=True)
    encode_rooms(
        world.data, visual=spec.visual_encoder, text=spec.text_encoder, show_progress=False
    )
    config = dataclasses.replace(TINY, train=dataclasses.replace(TINY.train, epochs=1))
    train_model(config, world.data, tmp_path / "run", show_progress=False)
    assert not checkpoints.load(tmp_path / "run").finetuned
