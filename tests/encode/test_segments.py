"""Equal pictures are encoded once; a thread that decodes ahead changes nothing."""

from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from contentctr.encode import segments
from contentctr.encode.encoders import load_text, load_visual
from contentctr.encode.segments import (
    NoTexts,
    encode_frames,
    encode_pictures,
    encode_texts,
)
from contentctr.errors import InputError
from contentctr.rooms.room import Media
from tiny_models import make_tiny_bert, make_tiny_swin
from videos import make_video


@pytest.fixture(scope="module")
def visual(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_visual(str(make_tiny_swin(tmp_path_factory.mktemp("models") / "swin")))


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that went through an encoder."""
    seen: list[int] = []
    run = segments._run

    def counted(encoder: Any, *arguments: torch.Tensor) -> Any:
        seen.append(len(arguments[0]))
        return run(encoder, *arguments)

    monkeypatch.setattr(segments, "_run", counted)
    return seen


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def pictures(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(count)]


def folder_of(path: Path, names: str) -> Media:
    """An image a second, equal ones for equal letters."""
    path.mkdir()
    colours = {letter: picture for letter, picture in zip("abcdefgh", pictures(8), strict=True)}
    for second, letter in enumerate(names):
        Image.fromarray(colours[letter]).save(path / f"{second}.png")
    return Media(path=path, kind="frames")


def encoded(visual: Any, media: Media, seconds: int, **options: Any) -> Any:
    spans = [(float(s), s + 3.0) for s in range(0, seconds, 3)]
    return encode_frames(media, spans, visual, frames_per_segment=3, **options)


def test_equal_pictures_of_a_room_are_encoded_once(
    visual: Any, tmp_path: Path, batches: list[int]
) -> None:
    media = folder_of(tmp_path / "still", "aaaabbacdeaa")
    found_SV, has_S = encoded(visual, media, 12, batch_size=4)
    assert batches == [1, 2, 2] and has_S.all()
    with torch.inference_mode():
        frames = torch.from_numpy(np.stack(pictures(8)))
        each = dict(zip("abcdefgh", visual(frames).numpy(), strict=True))
    for row, letters in enumerate(("aaa", "abb", "acd", "eaa")):
        mean_V = np.mean([each[letter] for letter in letters], axis=0)
        np.testing.assert_allclose(found_SV[row], mean_V, rtol=1e-5, atol=1e-6)
    # Nothing of it is left for the next room: bits must not depend on the rooms before.
    batches.clear()
    again_SV, _ = encoded(visual, media, 12, batch_size=4)
    assert batches == [1, 2, 2] and np.array_equal(again_SV, found_SV)


def test_pictures_that_differ_have_the_batches_they_had(
    visual: Any, tmp_path: Path, batches: list[int]
) -> None:
    found_SV, _ = encoded(visual, folder_of(tmp_path / "x", "abcdef"), 6, batch_size=4)
    assert batches == [4, 2]
    with torch.inference_mode():
        parts = [visual(torch.from_numpy(np.stack(p))) for p in (pictures(4), pictures(6)[4:])]
    expected_SV = np.zeros((2, visual.dim), np.float32)
    np.add.at(expected_SV, [0, 0, 0, 1, 1, 1], torch.cat(parts).numpy())
    assert np.array_equal(found_SV, expected_SV / np.float32(3))


def test_remembered_pictures_are_bounded_and_the_oldest_go(
    visual: Any, batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "PICTURES_KEPT", 2)
    a, b, c = pictures(3)
    cache: segments.PictureCache = OrderedDict()
    first = encode_pictures([a, b, a], visual, cache=cache)
    assert np.array_equal(first[0], first[2]) and len(cache) == 2
    encode_pictures([a, c], visual, cache=cache)  # b has gone
    assert batches == [2, 1]
    encode_pictures([c, b, a], visual, cache=cache)
    assert batches == [2, 1, 1] and len(cache) == 2
    # One bit is another picture.
    d = c.copy()
    d[0, 0, 0] ^= 1
    encode_pictures([c, d], visual, cache=cache)
    assert batches == [2, 1, 1, 2]


def test_decoding_ahead_changes_nothing(
    visual: Any, tmp_path: Path, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_video(tmp_path / "v.mp4", seconds=12)
    media = Media(path=tmp_path / "v.mp4", kind="video")
    found = {}
    for ahead in (0, 1, 16):
        monkeypatch.setattr(segments, "AHEAD", ahead)
        notes: list[str] = []
        found[ahead] = (*encoded(visual, media, 18, warnings=notes), notes)
    for ahead in (1, 16):
        assert np.array_equal(found[ahead][0], found[0][0])
        assert np.array_equal(found[ahead][1], found[0][1]) and not found[0][1].all()
        assert found[ahead][2] == found[0][2] != []
    (tmp_path / "v.mp4").write_bytes(b"no video")
    with pytest.raises(InputError, match="cannot be opened"):
        encoded(visual, media, 12)


def test_without_texts_no_text_encoder_is_needed(tmp_path: Path) -> None:
    none = NoTexts("some", 5)
    assert encode_texts([("", ""), ("", "")], none).tolist() == [[0.0] * 5] * 2
    text = load_text(str(make_tiny_bert(tmp_path / "bert")))
    assert encode_texts([("", "hello"), ("", "")], text)[0].any()
