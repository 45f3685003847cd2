"""What several tests share, taken out of test_predict."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.torch import load_file, save_file

from contentctr.encode.rooms import encode_rooms
from contentctr.evaluate.evaluate import evaluate_model
from contentctr.outputs import LOCK, MARKER
from contentctr.predict.rooms import Prediction
from contentctr.prepare.rooms import prepare_rooms
from contentctr.report.figures import clock
from contentctr.score import checkpoint as checkpoints
from contentctr.simulate.mechanism import SimulatorConfig
from contentctr.simulate.rooms import write_room_folders
from contentctr.store.rooms import PreparedRooms
from contentctr.train.loop import train_model
from tiny_models import make_tiny_bert, make_tiny_swin
from training import with_train

NAMES = {"curve.csv", "curve.png", "highlights.csv", "index.html", "prediction.json"}


ROOMS = SimulatorConfig(
    num_rooms=5,
    num_streamers=2,
    min_segments=6,
    max_segments=8,
    rooms_without_video=0.0,
    rooms_without_speech=0.0,
    rooms_without_comments=0.0,
)


@dataclasses.dataclass(frozen=True)
class World:
    """Simulated rooms, prepared and encoded with tiny encoders, and a run on them."""

    rooms: list[Path]
    data: PreparedRooms
    run: Path


def make_world(folder: Path, *, finetune: bool = False, **train: object) -> World:
    rooms = write_room_folders(ROOMS, folder / "rooms", video_share=0.8, show_progress=False)
    data = prepare_rooms(folder / "rooms", folder / "data", val=0.2, test=0.2, show_progress=False)
    visual, text = make_tiny_swin(folder / "swin"), make_tiny_bert(folder / "bert")
    encode_rooms(data, visual=str(visual), text=str(text), inputs=finetune, show_progress=False)
    config = with_train(finetune_encoders=finetune, **{"epochs": 2, **train})
    train_model(config, data, folder / "run", show_progress=False)
    return World(rooms=rooms, data=data, run=folder / "run")


def sharpen(world: World, out: Path, factor: float = 30.0) -> None:
    """Spread the run's scores, so that they differ by far more than rounding to float16 does."""
    evaluate_model(world.run, world.data, out, split="all", show_progress=False)
    scores = pl.read_parquet(out / "predictions.parquet")["score"].to_numpy()
    middle = float(np.log(scores / (1 - scores)).mean())
    path = checkpoints.load(world.run).folder / "model.safetensors"
    tensors = load_file(path)
    tensors["head.bias"] = -factor * (middle - tensors["head.bias"])
    tensors["head.weight"] = factor * tensors["head.weight"]
    save_file(tensors, path)


def check(found: Prediction, out: Path, more: set[str] = frozenset()) -> pl.DataFrame:  # type: ignore[assignment]
    """Files, table, picture and highlights agree; the curve is returned."""
    assert {p.name for p in out.iterdir()} - {"clips", MARKER, LOCK} == NAMES | more
    assert {p.name for p in found.files if p.parent == out} == NAMES
    assert all(path.is_file() for path in found.files)
    curve = pl.read_csv(out / "curve.csv")
    assert curve.columns[:5] == ["segment", "start_s", "end_s", "score", "highlight"]
    scores = curve["score"].to_numpy()
    np.testing.assert_allclose(scores, found.curve["score"].to_numpy(), rtol=1e-6)
    assert ((scores > 0) & (scores < 1)).all()
    assert curve["segment"].to_list() == list(range(curve.height))
    middles = ((curve["start_s"] + curve["end_s"]) / 2).to_list()
    inside = [any(h.start_s <= t < h.end_s for h in found.highlights) for t in middles]
    assert curve["highlight"].to_list() == inside
    assert (out / "curve.png").read_bytes().startswith(b"\x89PNG")
    rows = pl.read_csv(out / "highlights.csv").to_dicts()
    assert len(rows) == len(found.highlights)
    for rank, (row, h) in enumerate(zip(rows, found.highlights, strict=True), 1):
        assert row["rank"] == rank and row["score"] == pytest.approx(h.score)
        assert (row["start_s"], row["end_s"]) == (h.start_s, h.end_s)
        assert (row["start"], row["end"]) == (clock(h.start_s), clock(h.end_s))
        peak = curve.filter((pl.col("start_s") < h.peak_s) & (pl.col("end_s") > h.peak_s))
        assert h.start_s <= peak["start_s"].item() and peak["end_s"].item() <= h.end_s
        assert peak["score"].item() == pytest.approx(h.score) and row["peak_s"] == h.peak_s
    if found.highlights:
        assert found.highlights[0].score == pytest.approx(curve["score"].max())
    facts = json.loads((out / "prediction.json").read_text())
    assert facts["warnings"] == found.warnings and facts["target"] == "ctr"
    assert facts["trained_on_simulated"] is True and facts["kind"] == "model"
    assert facts["run"] == facts["checkpoint"] and facts["verdict"] == found.verdict
    told = [(h["rank"], h["start_s"], h["end_s"], h["peak_s"]) for h in facts["highlights"]]
    assert told == [
        (rank, h.start_s, h.end_s, h.peak_s) for rank, h in enumerate(found.highlights, 1)
    ]
    return curve
