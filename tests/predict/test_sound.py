"""A model that reads sound: from recordings to training, evaluation and prediction."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from contentctr.encode.rooms import encode_rooms
from contentctr.errors import InputError
from contentctr.evaluate.evaluate import evaluate_model
from contentctr.predict.rooms import predict_recording
from contentctr.prepare.rooms import prepare_rooms
from contentctr.score.checkpoint import load
from contentctr.store.rooms import PreparedRooms
from contentctr.train.loop import train_model
from recordings import record
from tiny_models import make_tiny_bert, make_tiny_swin
from training import with_train


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rooms of 8 segments of 3 s with sound, and a chat that the target is made of."""
    root = tmp_path_factory.mktemp("heard")
    rng = np.random.default_rng(0)
    for day, name in enumerate(("a", "b", "c", "d"), 1):
        folder = root / "rooms" / name
        folder.mkdir(parents=True)
        record(folder / "video.mkv", 24.0)
        head = {"room_id": name, "streamer_id": "s", "started_at": f"2026-01-0{day}T00:00:00Z"}
        (folder / "room.json").write_text(json.dumps(head))
        times = np.sort(rng.uniform(0, 24, 30)).tolist()
        texts = [("wow", "what a goal", "lol")[n % 3] for n in range(len(times))]
        lines = [
            json.dumps({"t": t, "user_id": f"u{t:.0f}", "text": text})
            for t, text in zip(times, texts, strict=True)
        ]
        (folder / "comments.jsonl").write_text("\n".join(lines) + "\n")
    make_tiny_swin(root / "swin")
    make_tiny_bert(root / "bert")
    return root


def encoded(root: Path, out: Path, *, sound: bool) -> PreparedRooms:
    data = prepare_rooms(
        root / "rooms",
        out,
        segment_seconds=3.0,
        target="comment_rate",
        val=0.25,
        test=0.25,
        asr="none",
        show_progress=False,
    )
    models = {"visual": str(root / "swin"), "text": str(root / "bert")}
    encode_rooms(data, **models, sound=sound, show_progress=False)
    return data


def config(**model):
    base = with_train(epochs=1)
    return dataclasses.replace(base, model=dataclasses.replace(base.model, **model))


def test_a_recording_scores_as_its_stored_features_do(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contentctr.train.words.LEAST_SEGMENTS", 2)
    data = encoded(root, tmp_path / "data", sound=True)
    run = tmp_path / "run"
    more = config(sound=True, statistics=True, residual=True, words=True)
    train_model(more, data, run, show_progress=False)
    assert load(run).load_model().words.by_word_VK.any()
    evaluate_model(run, data, tmp_path / "e", split="all", show_progress=False)
    known = pl.read_parquet(tmp_path / "e" / "predictions.parquet")
    found = predict_recording(
        run, root / "rooms" / "a", tmp_path / "p", asr="none", show_progress=False
    )
    expected = known.filter(pl.col("room_id") == "a")["score"].to_numpy()
    np.testing.assert_allclose(found.curve["score"].to_numpy(), expected, atol=1e-5)
    assert "no sound: taken as missing" not in found.warnings
    mute = record(tmp_path / "mute.mkv", 9.0, sound=None)
    found = predict_recording(run, mute, tmp_path / "q", asr="none", show_progress=False)
    assert "no sound: taken as missing" in found.warnings
    heard = record(tmp_path / "heard.mkv", 9.0, pictures=(0.0, 0.0))
    found = predict_recording(run, heard, tmp_path / "r", asr="none", show_progress=False)
    assert found.curve.height == 3


def test_sound_is_asked_for_where_it_is_read_and_nowhere_else(root: Path, tmp_path: Path) -> None:
    mute, data = (encoded(root, tmp_path / str(sound), sound=sound) for sound in (False, True))
    with pytest.raises(InputError, match=r"model\.sound must be false with this data"):
        train_model(config(sound=True), mute, tmp_path / "x", show_progress=False)
    train_model(config(), data, tmp_path / "plain", show_progress=False)
    evaluate_model(tmp_path / "plain", mute, tmp_path / "e", split="test", show_progress=False)
    train_model(config(sound=True), data, tmp_path / "run", show_progress=False)
    with pytest.raises(InputError, match="sound_dim must be"):
        evaluate_model(tmp_path / "run", mute, tmp_path / "f", split="test", show_progress=False)
