"""A model without the causal mask: trained, evaluated and told as it is, and never live."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from contentctr.abtest.platform import Scores, load_platform
from contentctr.config import override
from contentctr.errors import InputError
from contentctr.evaluate.evaluate import evaluate_model
from contentctr.live.engine import Engine
from contentctr.live.scorer import RoomScorer
from contentctr.models.end_to_end import EndToEnd
from contentctr.predict.rooms import predict_recording
from contentctr.report import write_report
from contentctr.score import checkpoint as checkpoints
from contentctr.score.rooms import RoomsScorer, score_segments, segments_for
from contentctr.share.card import model_card
from contentctr.share.onnx import export_onnx
from contentctr.store.rooms import PreparedRooms
from contentctr.train.loop import train_model
from contentctr.windows.rooms import Windows, gather
from make import write_data
from training import TINY
from world import World, make_world

CONFIG = override(TINY, ["kind=without_mask", "rotary=true", "members=2", "epochs=1"])
WINDOW, PLACE = 4, 2


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[PreparedRooms, Path]:
    """Rooms of eight segments, and a run with two members on them."""
    folder = tmp_path_factory.mktemp("trained")
    data = write_data(folder / "data")
    train_model(CONFIG, data, folder / "run", show_progress=False)
    return data, folder / "run"


def test_a_segment_of_a_long_room_is_scored_with_segments_on_both_sides(
    trained: tuple[PreparedRooms, Path],
) -> None:
    data, run = trained
    checkpoint = checkpoints.load(run)
    model, segments = checkpoint.load_model(), segments_for(checkpoint, data, "test")
    found_S = score_segments(model, segments, window_len=WINDOW, batch_size=3)
    assert np.std(found_S) > 1e-3
    for row, score in enumerate(found_S):
        start, end = (int(bounds[segments.room_S[row]]) for bounds in segments.room_bounds)
        first = max(start, min(row - PLACE, end - WINDOW))
        window = Windows(np.array([first]), np.array([WINDOW]))
        with torch.inference_mode():
            scores_BN = model(gather(segments, window, np.array([0]), WINDOW)).scores_BN
        assert abs(float(scores_BN[0, row - first]) - score) <= 1e-6


def test_with_encoders_in_front_its_windows_are_the_same(
    trained: tuple[PreparedRooms, Path],
) -> None:
    data, run = trained
    checkpoint = checkpoints.load(run)
    segments, model = segments_for(checkpoint, data, "test"), checkpoint.load_model()
    encoded = EndToEnd(model, torch.nn.Identity(), torch.nn.Identity())
    one, other = (RoomsScorer(x, segments, window_len=WINDOW) for x in (model, encoded))
    np.testing.assert_array_equal(one.wanted_WN, other.wanted_WN)
    assert one.wanted_WN[1].tolist() == [False, False, True, False]


def test_a_later_segment_moves_the_scores_of_those_before_it_that_see_it(
    trained: tuple[PreparedRooms, Path],
) -> None:
    data, run = trained
    checkpoint = checkpoints.load(run)
    segments = segments_for(checkpoint, data, "test")
    visual_SV = segments.visual_SV[torch.arange(len(segments))].clone()
    visual_SV[5] *= -1.0
    other = dataclasses.replace(segments, visual_SV=visual_SV)
    before, after = (
        score_segments(checkpoint.load_model(), x, window_len=WINDOW) for x in (segments, other)
    )
    # Segment 4 is scored from 2 to 5, and the last two from the room's last window, 4 to 7.
    assert np.flatnonzero(before != after).tolist() == [4, 5, 6, 7]


def test_its_evaluation_says_that_it_is_no_forecast(
    trained: tuple[PreparedRooms, Path], tmp_path: Path
) -> None:
    data, run = trained
    metrics = evaluate_model(run, data, tmp_path, show_progress=False)
    assert (metrics["horizon"], metrics["later_segments"]) == (0, 3)
    assert any(
        "no forecast: with model.kind=without_mask" in note and "up to 3 segments after" in note
        for note in metrics["warnings"]
    )
    table = pl.read_parquet(tmp_path / "predictions.parquet")
    assert table["segment"].to_list() == [*range(8)] * 2
    # The same samples as of a causal model, so that the two are measured on the same segments.
    assert table.filter("is_sample")["segment"].to_list() == [*range(3, 8)] * 2
    page = write_report(tmp_path).read_text()
    assert "Knows what comes after:" in page and "up to 3 segments after it" in page


def test_a_causal_models_evaluation_says_no_such_thing(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    train_model(override(CONFIG, ["kind=contentctr"]), data, tmp_path / "run", show_progress=False)
    metrics = evaluate_model(tmp_path / "run", data, tmp_path / "out", show_progress=False)
    assert metrics["later_segments"] == 0 and not metrics["warnings"]
    assert "comes after" not in write_report(tmp_path / "out").read_text()


def test_it_scores_no_live_room(trained: tuple[PreparedRooms, Path], tmp_path: Path) -> None:
    _, run = trained
    message = (
        "model.kind must be contentctr or another whose scores depend on no later segment to "
        "score live rooms, not 'without_mask'"
    )
    with pytest.raises(InputError, match=message):
        Engine.from_checkpoint(run)
    found = checkpoints.load(run)
    with pytest.raises(InputError, match=message):
        RoomScorer(found.load_model(), found.config, found.spec, found.vocabulary)
    with pytest.raises(InputError, match=message):
        export_onnx(found, tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()
    card = model_card(found, None, "somebody/model")
    assert "contentctr serve" not in card and "contentctr evaluate" in card
    assert "once the segments after it are there too" in card
    assert "[live]" not in card and "contentctr_drift" not in card
    assert "up to 3 segments after its own: it is no forecast" in card


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Simulated room folders, and a run on them."""
    folder = tmp_path_factory.mktemp("world")
    made = make_world(folder, calibrate=False)
    train_model(CONFIG, made.data, folder / "unmasked", show_progress=False)
    return dataclasses.replace(made, run=folder / "unmasked")


def test_a_recording_scores_as_its_stored_features_do(world: World, tmp_path: Path) -> None:
    predict_recording(world.run, world.rooms[0], tmp_path / "p", show_progress=False)
    facts = json.loads((tmp_path / "p" / "prediction.json").read_text())
    assert (facts["horizon"], facts["later_segments"]) == (0, 3)
    evaluate_model(world.run, world.data, tmp_path / "e", split="all", show_progress=False)
    table = pl.read_parquet(tmp_path / "e" / "predictions.parquet")
    expected = table.filter(pl.col("room_id") == facts["room_id"])["score"].to_numpy()
    curve = pl.read_csv(tmp_path / "p" / "curve.csv")
    np.testing.assert_allclose(curve["score"].to_numpy(), expected, atol=1e-3)


def test_in_a_replay_a_score_is_ready_once_its_window_has_ended(
    world: World, tmp_path: Path
) -> None:
    evaluate_model(world.run, world.data, tmp_path, show_progress=False)
    platform = load_platform(world.data, Scores(evaluation=tmp_path), split="test", seed=0)
    assert platform.scores_name.endswith("horizon 0, each ready 3 segments later")
    table = pl.read_parquet(tmp_path / "predictions.parquet")
    assert np.isnan(platform.ready_score_S[:4]).all()
    np.testing.assert_allclose(platform.ready_score_S[4:6], table["score"].to_numpy()[:2])
