"""Live features are the stored ones; with an engine that takes rows by themselves, to the bit."""

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from contentctr.batch import DataSpec
from contentctr.encode import segments
from contentctr.encode.encoders import for_inference, load_text, load_visual
from contentctr.encode.rooms import encode_rooms
from contentctr.encode.segments import segment_frames, segment_spans
from contentctr.encode.words import DIM, word_numbers
from contentctr.live.encoding import LiveEncoder, RawSegment
from contentctr.rooms.room import Media
from contentctr.store.vectors import FeatureStore
from encoded_rooms import TEXTS, make_data
from tiny_models import make_tiny_bert, make_tiny_swin

SPEC = DataSpec(segment_seconds=6.0, frames_per_segment=3, visual_dim=16, text_dim=16)
needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime")),
    reason="the extra `fast` is not installed",
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    return make_tiny_swin(folder / "swin"), make_tiny_bert(folder / "bert")


@needs_onnx
def test_features_of_an_engine_are_the_stored_ones_to_the_bit(
    tmp_path: Path, models: tuple[Path, Path]
) -> None:
    visual, text = map(str, models)
    data = make_data(tmp_path)
    encode_rooms(data, visual=visual, text=text, engine="onnx", show_progress=False)
    stored = FeatureStore(data.features_dir).load({"video": 3})
    encoder = LiveEncoder(
        for_inference(load_visual(visual), engine="onnx"),
        for_inference(load_text(text), engine="onnx"),
        SPEC,
    )
    table = data.segments().filter(pl.col("room_id") == "video")
    media = Media(path=tmp_path / "v.mp4", kind="video")
    frames = list(segment_frames(media, segment_spans(table), 3, None))
    speech, comments = TEXTS["video"]
    raws = [
        RawSegment(
            room_id="video",
            streamer_id="s",
            index=k,
            pictures=tuple(
                encoder.preprocess(f) for f in frames[3 * k : 3 * k + 3] if f is not None
            ),
            speech=speech[k] or "",
            comments=comments[k] or "",
        )
        for k in range(3)
    ]
    # Live they come one by one, or beside those of other rooms.
    other = dataclasses.replace(raws[1], room_id="other", speech="hello " * 40)
    found = encoder.encode(raws[:1]) + encoder.encode([other, *raws[1:]])[1:]
    for k, segment in enumerate(found):
        assert segment.visual is not None and segment.text is not None
        assert np.array_equal(segment.visual, stored.visual[k].astype(np.float32))
        assert np.array_equal(segment.text, stored.text[k].astype(np.float32))


def test_a_still_is_encoded_once(
    models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    run = segments._run

    def counted(encoder: Any, *arguments: torch.Tensor) -> Any:
        sizes.append(len(arguments[0]))
        return run(encoder, *arguments)

    monkeypatch.setattr(segments, "_run", counted)
    encoder = LiveEncoder(load_visual(str(models[0])), load_text(str(models[1])), SPEC)
    still = encoder.preprocess(Image.new("RGB", (64, 48), (200, 30, 30)))

    def show(room: str, index: int) -> np.ndarray | None:
        raw = RawSegment(
            room_id=room,
            streamer_id="s",
            index=index,
            pictures=(still,) * 3,
            speech="",
            comments="",
        )
        return encoder.encode([raw])[0].visual

    first = show("a", 0)
    assert sizes == [1]
    assert np.array_equal(show("a", 1), first) and np.array_equal(show("b", 0), first)
    assert sizes == [1]


def test_what_still_comes_of_a_run_that_is_over_takes_no_comments_away(
    models: tuple[Path, Path],
) -> None:
    visual, text = map(str, models)
    spec = dataclasses.replace(SPEC, comment_lag=2)
    encoder = LiveEncoder(load_visual(visual), load_text(text), spec)

    def has_comments(run: str, index: int) -> bool:
        raw = RawSegment(
            room_id="r",
            streamer_id="s",
            index=index,
            pictures=(),
            speech="",
            comments=f"{run}{index}",
            run=run,
        )
        [found] = encoder.encode([raw])
        return found.has_comments

    assert [has_comments("a", k) for k in range(3)] == [False, False, True]
    assert [has_comments("b", k) for k in range(2)] == [False, False]
    assert not has_comments("a", 3)
    assert [has_comments("b", k) for k in (2, 3)] == [True, True]


def test_words_are_made_where_the_model_knows_of_them(
    models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = dataclasses.replace(SPEC, words_dim=DIM)
    loaded = load_visual(str(models[0])), load_text(str(models[1]))
    raws = [
        RawSegment(room_id="r", streamer_id="s", index=k, pictures=(), speech=said, comments="")
        for k, said in enumerate(("a goal", "?"))
    ]
    wanted, none = (segment.words for segment in LiveEncoder(*loaded, spec).encode(raws))
    assert none is None and np.array_equal(wanted, word_numbers([("a goal", "")])[0][0])
    monkeypatch.setattr("contentctr.live.encoding.word_numbers", None)
    assert [s.words for s in LiveEncoder(*loaded, SPEC).encode(raws)] == [None, None]
