"""ONNX: scores equal to torch's and to live ones, of every kind, or nothing is written."""

import json

import numpy as np
import onnxruntime
import pytest

from contentctr.errors import InputError
from contentctr.live.engine import Engine
from contentctr.live.scorer_segments import LiveSegment
from contentctr.models.contentctr import ContentCTR
from contentctr.models.registry import MODELS
from contentctr.score import checkpoint as checkpoints
from contentctr.score.calibration import Calibration, write_calibration
from contentctr.score.rooms import score_segments
from contentctr.share import onnx
from contentctr.train.loop import train_model
from contentctr.windows.rooms import curve_windows, gather
from contentctr.windows.segment_data import load_segments
from live_service import KNOWN, MORE, SPEC, N, T, V, make_model
from make import write_data
from training import TINY, with_train

KINDS = [
    name
    for name, kind in MODELS.items()
    if kind.task == "rooms" and issubclass(kind, ContentCTR) and not kind.sees_later
]


def saved(folder, kind="contentctr", **sizes):
    model, config = make_model(kind, **sizes)
    about = {"config": config, "spec": SPEC, "vocabulary": KNOWN, "info": {}}
    checkpoints.save(folder / "checkpoint", model, **about)
    return checkpoints.load(folder / "checkpoint")


CALIBRATIONS = {
    "platt": Calibration(method="platt", parameters=(1.4, -0.3)),
    "beta": Calibration(method="beta", parameters=(1.2, 0.8, 0.1)),
    "isotonic": Calibration(
        method="isotonic", knots=((0.0, 0.0), (0.3, 0.2), (0.45, 0.4), (0.6, 0.55), (1.0, 1.0))
    ),
}


def session(folder):
    return onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])


@pytest.mark.parametrize(
    ("kind", "members"), [*((kind, 1) for kind in KINDS), ("contentctr", 2), ("without_visual", 2)]
)
def test_every_kind_that_scores_live_rooms_is_exported(tmp_path, kind, members):
    words = kind != "without_text"  # which reads none
    sizes = {"decoder_lookback": "3,2", "members": members, **MORE, "words": words}
    assert onnx.export_onnx(saved(tmp_path, kind, **sizes), tmp_path / "out") <= onnx.TOLERANCE
    about = json.loads((tmp_path / "out" / "model.json").read_text())
    assert about["streamers"] == {"a": 1, "b": 2} and about["simulated"] is True
    given = {each.name for each in session(tmp_path / "out").get_inputs()}
    assert given == about["inputs"].keys()


@pytest.mark.parametrize(
    ("sizes", "method"),
    [
        ({}, "none"),
        ({"members": 2}, "platt"),
        ({"decoder_lookback": "3,2"}, "none"),
        ({}, "platt"),
        ({}, "beta"),
        ({}, "isotonic"),
    ],
    ids=["whole", "members", "lookback", "platt", "beta", "isotonic"],
)
def test_a_growing_room_scores_as_it_does_live(tmp_path, sizes, method):
    checkpoint = saved(tmp_path, **sizes)
    if method != "none":
        write_calibration(checkpoint.folder, CALIBRATIONS[method])
        checkpoint = checkpoints.load(checkpoint.folder)
    onnx.export_onnx(checkpoint, tmp_path / "out")
    graph, engine = session(tmp_path / "out"), Engine.from_checkpoint(checkpoint)
    about = json.loads((tmp_path / "out" / "model.json").read_text())
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(N + 4, V + T)).astype(np.float32)
    for index in range(N + 4):
        segment = LiveSegment(
            room_id="r",
            streamer_id="b",
            index=index,
            visual=rows[index, :V] if index % 3 else None,
            text=rows[index, V:],
            has_speech=index % 2 == 0,
            has_comments=True,
        )
        [taken] = engine.score([segment])
        first, last = max(0, index - N + 1), index + 1
        window = np.arange(first, first + N).clip(max=N + 3)
        feed = {
            "visual": rows[None, window, :V],
            "text": rows[None, window, V:],
            "has_visual": (window % 3 != 0)[None],
            "has_speech": (window % 2 == 0)[None],
            "has_comments": np.ones((1, N), bool),
            "streamer": np.array([about["streamers"]["b"]]),
        }
        [scores] = graph.run(None, feed)
        assert abs(scores[0, last - first - 1] - taken.scored.score) <= 1e-5


def test_real_windows_are_compared_and_score_as_offline(tmp_path):
    data = write_data(tmp_path / "data")
    best = train_model(with_train(epochs=1), data, tmp_path / "run", show_progress=False)
    assert onnx.export_onnx(best, tmp_path / "out", data=data) <= onnx.TOLERANCE
    about = json.loads((tmp_path / "out" / "model.json").read_text())
    assert about["compared_on"] == "random and real windows"
    checkpoint = checkpoints.load(best)
    segments = load_segments(data, checkpoint.vocabulary, split="test", horizon=0)
    length = TINY.data.window_len
    wanted = score_segments(checkpoint.load_model(), segments, window_len=length)
    windows, wanted_WN = curve_windows(segments, length)
    batch = gather(segments, windows, np.arange(len(windows)), length)
    feed = {k: v.numpy() for k, v in onnx._feed(batch, checkpoint.config).items()}
    [found] = session(tmp_path / "out").run(None, feed)
    np.testing.assert_allclose(found[wanted_WN], wanted, atol=1e-5)


def test_scores_that_differ_are_not_written(tmp_path, monkeypatch):
    checkpoint = saved(tmp_path)
    monkeypatch.setattr(onnx, "TOLERANCE", -1.0)
    with pytest.raises(InputError, match="differ from torch's by .*: nothing was written"):
        onnx.export_onnx(checkpoint, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_exported_says_so(tmp_path):
    with pytest.raises(InputError, match="contentctr or an attention variant of it"):
        onnx.export_onnx(saved(tmp_path, "deepfm"), tmp_path / "out")
    other = write_data(tmp_path / "data")
    with pytest.raises(InputError, match="does not fit the checkpoint"):
        onnx.export_onnx(saved(tmp_path / "b"), tmp_path / "out", data=other)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes.txt").write_text("x")
    with pytest.raises(InputError, match=r"holds notes\.txt"):
        onnx.export_onnx(saved(tmp_path / "c"), mine)
