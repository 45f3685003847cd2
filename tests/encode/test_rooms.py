"""Encoding a prepared folder: right rows, only what changed, and never a store half done."""

import os
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from contentctr.encode import items as encode
from contentctr.encode.encoders import load_text, load_visual
from contentctr.encode.rooms import encode_rooms
from contentctr.encode.segments import encode_frames, encode_segments, encode_texts
from contentctr.errors import InputError
from contentctr.rooms.room import Media
from contentctr.store.inputs import InputStore
from contentctr.store.vectors import FeatureStore, data_spec, read_entry, read_index
from encoded_rooms import TEXTS, make_data
from tiny_models import make_tiny_bert, make_tiny_swin


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "visual": str(make_tiny_swin(folder / "swin")),
        "text": str(make_tiny_bert(folder / "bert")),
    }


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that went through an encoder."""
    seen: list[int] = []
    run = encode.encode_texts.__globals__["_run"]

    def counted(encoder, *arguments):  # type: ignore[no-untyped-def]
        seen.append(len(arguments[0]))
        return run(encoder, *arguments)

    monkeypatch.setitem(encode.encode_texts.__globals__, "_run", counted)
    return seen


SIZES = {r: len(t[0]) for r, t in TEXTS.items()}


def test_rows_are_the_means_of_frames_and_the_features_of_texts(
    tmp_path: Path, models: dict[str, str]
) -> None:
    data = make_data(tmp_path)
    counts = encode_rooms(data, **models, batch_size=4, show_progress=False)
    assert counts["rooms_encoded"] == 3 and counts["segments"] == 9 and counts["warnings"] == []
    assert counts["segments_with_visual"] == 6 and counts["segments_with_speech"] == 6
    found = FeatureStore(data.features_dir).load(SIZES)
    assert found.has_visual.tolist() == [True, True, False, True] + [False] * 2 + [True] * 3
    assert found.has_speech.tolist() == [False, True, False, True, True, False, True, True, True]
    assert found.has_comments.tolist() == [
        True,
        True,
        False,
        False,
        True,
        False,
        False,
        False,
        True,
    ]
    visual, text = load_visual(models["visual"]), load_text(models["text"])

    def seen(*seconds: int) -> np.ndarray:
        images = [Image.open(tmp_path / "pictures" / f"{s}.png") for s in seconds]
        with torch.inference_mode():
            stack = torch.from_numpy(np.stack([visual.preprocess(i) for i in images]))
            return visual(stack).mean(0).numpy()

    # Segments of 6 s, times 1, 3, 5 | 7, 9, 11 | 13, 15, 17 | 19, 21, 23; an image within 1 s.
    for row, seconds in {0: (1, 3, 5), 1: (7, 9), 3: (19, 22, 22)}.items():
        np.testing.assert_allclose(found.visual[row], seen(*seconds), atol=2e-3)
    assert not found.visual[[2, 4, 5]].any() and not found.text[[2, 5]].any()
    with torch.inference_mode():
        both = text(*text.tokenize(["", "hello this song"], ["wow", "love you"])).numpy()
    np.testing.assert_allclose(found.text[[0, 1]], both, atol=2e-3)
    assert np.array_equal(found.text[1], found.text[4])
    spec = data_spec(data)
    assert (spec.visual_dim, spec.text_dim, spec.text_pooling) == (16, 16, "cls")
    assert (spec.visual_revision, spec.text_revision) == (visual.revision, text.revision)


def test_one_room_alone_equals_the_store(tmp_path: Path, models: dict[str, str]) -> None:
    data = make_data(tmp_path)
    encode_rooms(data, **models, show_progress=False)
    found = encode_segments(
        Media(path=tmp_path / "v.mp4", kind="video"),
        data.segments().filter(pl.col("room_id") == "video"),
        visual=load_visual(models["visual"]),
        text=load_text(models["text"]),
        frames_per_segment=3,
        comment_lag=0,
        batch_size=2,
    )
    stored = FeatureStore(data.features_dir).load({"video": 3})
    for name in ("visual", "text", "has_visual", "has_speech", "has_comments"):
        np.testing.assert_allclose(getattr(found, name), getattr(stored, name), atol=2e-3)
    assert found.visual.std(0).max() > 1e-3  # the segments differ


def test_each_text_is_encoded_once_and_empty_ones_never(
    tmp_path: Path, models: dict[str, str], forwards: list[int]
) -> None:
    texts = {"nothing": (["hi", "hi", "", "you"] * 5, [""] * 20), "none": (["hi", "you"], ["", ""])}
    data = make_data(tmp_path, texts)
    encode_rooms(data, **models, show_progress=False)
    assert forwards == [2, 2]  # once a room: bits must not depend on the rooms before
    text = load_text(models["text"])
    got = encode_texts([("", ""), ("hi", "")], text)
    assert not got[0].any() and got[1].any()


def test_only_what_changed_is_encoded_again(
    tmp_path: Path, models: dict[str, str], forwards: list[int]
) -> None:
    data = make_data(tmp_path)
    first = encode_rooms(data, **models, show_progress=False)
    before = {p.name: p.stat().st_mtime_ns for p in data.features_dir.glob("*.safetensors")}
    assert len(before) == 3 and sum(forwards) == 7 + 9 + 7  # one of 8 pictures is there twice
    forwards.clear()

    again = encode_rooms(data, **models, show_progress=False)
    assert (again["rooms_encoded"], again["rooms_kept"], forwards) == (0, 3, [])
    assert before == {p.name: p.stat().st_mtime_ns for p in data.features_dir.glob("*.safetensors")}
    assert {k: v for k, v in again.items() if k.startswith("segments_with")} == {
        k: v for k, v in first.items() if k.startswith("segments_with")
    }

    # Text of one room: its pictures are taken over.
    old = FeatureStore(data.features_dir).load(SIZES)
    make_data(tmp_path, TEXTS | {"video": (["one", "two", "more"], [None, None, "look now"])})
    assert encode_rooms(data, **models, show_progress=False)["rooms_encoded"] == 1
    assert sum(forwards) == 3
    new = FeatureStore(data.features_dir).load(SIZES)
    assert np.array_equal(new.visual, old.visual)
    np.testing.assert_array_equal((new.text != old.text).any(1), [False] * 8 + [True])
    forwards.clear()

    # A picture: texts are taken over.
    shutil.copy(tmp_path / "pictures" / "1.png", tmp_path / "pictures" / "13.png")
    assert encode_rooms(data, **models, show_progress=False)["rooms_encoded"] == 1
    assert sum(forwards) == 7  # the new one is a copy
    assert FeatureStore(data.features_dir).load({"frames": 4}).has_visual.all()
    forwards.clear()

    # Rooms that are gone are removed, and so is a damaged file.
    make_data(tmp_path, {k: TEXTS[k] for k in ("frames", "nothing")})
    entry = read_index(data.features_dir)["frames"]
    entry.path.write_bytes(entry.path.read_bytes()[:100])
    counts = encode_rooms(data, **models, show_progress=False)
    assert counts["rooms_removed"] == 1 and counts["rooms_encoded"] == 1
    assert "not a whole file" in counts["warnings"][0]
    assert set(read_index(data.features_dir)) == {"frames", "nothing"}


def test_moved_and_copied_pictures_are_not_encoded_again(
    tmp_path: Path, models: dict[str, str], forwards: list[int]
) -> None:
    data = make_data(tmp_path)
    encode_rooms(data, **models, show_progress=False)
    forwards.clear()
    for path in [tmp_path / "v.mp4", *(tmp_path / "pictures").iterdir()]:
        os.utime(path, ns=(1, 1))
    assert encode_rooms(data, **models, show_progress=False)["rooms_encoded"] == 0
    place = tmp_path / "elsewhere"
    place.mkdir()
    for name in ("v.mp4", "pictures"):
        (tmp_path / name).rename(place / name)
    rooms = data.rooms().with_columns(
        pl.col("media").str.replace(str(tmp_path), str(place), literal=True)
    )
    rooms.write_parquet(data.root / "rooms.parquet")
    assert encode_rooms(data, **models, show_progress=False)["rooms_encoded"] == 0
    assert not forwards
    first, other = (place / "pictures" / name for name in ("1.png", "5.png"))
    state = first.stat()
    first.write_bytes(other.read_bytes())
    os.utime(first, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    assert encode_rooms(data, **models, show_progress=False)["rooms_encoded"] == 1


@pytest.mark.parametrize(
    "change", ["text_pooling", "text_prefix", "max_text_tokens", "lag", "visual"]
)
def test_settings_and_encoders_are_part_of_what_is_compared(
    tmp_path: Path, models: dict[str, str], change: str
) -> None:
    data = make_data(tmp_path)
    encode_rooms(data, **models, show_progress=False)
    settings: dict = dict(models)
    if change == "lag":
        make_data(tmp_path, lag=1)
    elif change == "visual":
        settings["visual"] = str(make_tiny_swin(tmp_path / "other", seed=5))
    else:
        other = {"text_pooling": "mean", "text_prefix": "wow ", "max_text_tokens": 8}
        settings[change] = other[change]
    counts = encode_rooms(data, **settings, show_progress=False)
    assert counts["rooms_encoded"] == 3
    spec = data_spec(data)
    assert spec.comment_lag == (1 if change == "lag" else 0)
    assert spec.text_prefix == ("wow " if change == "text_prefix" else "")
    if change == "lag":  # the comments of the segment before
        found = FeatureStore(data.features_dir).load({"frames": 4})
        assert found.has_comments.tolist() == [False, True, True, False]


@pytest.mark.parametrize("inputs", [False, True])
def test_another_choice_of_frames_encodes_pictures_of_videos_alone(
    tmp_path: Path, models: dict[str, str], forwards: list[int], inputs: bool
) -> None:
    data = make_data(tmp_path)
    settings: dict = {**models, "inputs": inputs, "show_progress": False}
    store = data.inputs_dir if inputs else data.features_dir
    visual, text = encode.VISUAL_PART[inputs][0], encode.TEXT_PART[inputs][0]

    def stored(room: str) -> dict[str, np.ndarray]:
        return read_entry(read_index(store)[room])

    encode_rooms(data, **settings)
    exact, images = stored("video"), stored("frames")
    forwards.clear()
    assert encode_rooms(data, **settings, frames="keyframe")["rooms_encoded"] == 1
    assert forwards == ([] if inputs else [4, 4, 1])  # three frames of three segments, no text
    key = stored("video")
    assert (key[visual] != exact[visual]).reshape(3, -1).any(1).all()
    assert np.array_equal(key[text], exact[text])
    assert np.array_equal(stored("frames")[visual], images[visual])
    assert data_spec(data, inputs=inputs).frames == "keyframe"
    # Frames at 1, 3, 5, ... s; a group of 20 pictures takes 2 s.
    f = load_visual(models["visual"])
    media = Media(path=tmp_path / "v.mp4", kind="video")
    spans = [(6.0 * i, 6.0 * i + 6) for i in range(3)]
    earlier = [(6.0 * i - 1, 6.0 * i + 5) for i in range(3)]
    key_SV, _ = encode_frames(media, spans, f, frames_per_segment=3, frames="keyframe")
    then_SV, _ = encode_frames(media, earlier, f, frames_per_segment=3)
    np.testing.assert_array_equal(key_SV, then_SV)
    if not inputs:
        np.testing.assert_array_equal(key[visual], key_SV.astype(np.float16))
    assert encode_rooms(data, **settings)["rooms_encoded"] == 1
    assert np.array_equal(stored("video")[visual], exact[visual])


def test_a_killed_run_goes_on_and_is_never_read(
    tmp_path: Path, models: dict[str, str], monkeypatch: pytest.MonkeyPatch, forwards: list[int]
) -> None:
    data = make_data(tmp_path)
    write, written = encode.write_shard, []

    def killed(folder, name, rooms):  # type: ignore[no-untyped-def]
        if written:
            raise KeyboardInterrupt
        written.append(name)
        return write(folder, name, rooms)

    with monkeypatch.context() as patch:
        patch.setattr(encode, "write_shard", killed)
        with pytest.raises(KeyboardInterrupt):
            encode_rooms(data, **models, show_progress=False)
    with pytest.raises(InputError, match="stopped before its end"):
        FeatureStore(data.features_dir)
    with pytest.raises(InputError, match="stopped before its end"):
        data_spec(data)
    forwards.clear()
    counts = encode_rooms(data, **models, show_progress=False)
    assert (counts["rooms_encoded"], counts["rooms_kept"]) == (2, 1)
    assert sum(forwards) == 1 + 9 + 3  # not the 7 pictures and 3 texts of the first room
    assert len(FeatureStore(data.features_dir).load(SIZES)) == 9


def test_stored_inputs_give_the_stored_features(tmp_path: Path, models: dict[str, str]) -> None:
    data = make_data(tmp_path)
    encode_rooms(data, **models, show_progress=False)
    counts = encode_rooms(data, **models, inputs=True, show_progress=False)
    assert counts["rooms_encoded"] == 3 and counts["segments_with_visual"] == 6
    assert encode_rooms(data, **models, inputs=True, show_progress=False)["rooms_encoded"] == 0
    found = FeatureStore(data.features_dir).load(SIZES)
    store = InputStore(data.inputs_dir, SIZES)
    got = store.read(np.arange(9))
    assert got.frames.shape == (9, 3, 32, 32, 3)
    assert torch.equal(store.has_visual, torch.from_numpy(found.has_visual))
    assert torch.equal(got.has_frame.any(1), store.has_visual)
    assert not got.frames[~got.has_frame].any()
    visual, text = load_visual(models["visual"]), load_text(models["text"])
    for row in np.flatnonzero(found.has_visual):
        with torch.inference_mode():
            feature = visual(got.frames[row][got.has_frame[row]]).mean(0)
        np.testing.assert_allclose(found.visual[row], feature.numpy(), atol=2e-3)
    has_text = found.has_speech | found.has_comments
    assert torch.equal(got.token_mask.any(1), torch.from_numpy(has_text))
    with torch.inference_mode():
        tokens = (got.token_ids, got.token_types, got.token_mask)
        features = text(*(t[torch.from_numpy(has_text)] for t in tokens))
    np.testing.assert_allclose(found.text[has_text], features.numpy(), atol=2e-3)


def test_bad_input(tmp_path: Path, models: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_data(tmp_path)
    with pytest.raises(InputError, match="batch_size must be at least 1, not 0"):
        encode_rooms(data, **models, batch_size=0)
    with pytest.raises(InputError, match="not a prepared folder"):
        encode_rooms(tmp_path / "gone", **models)
    run = encode.encode_texts.__globals__["_run"]
    with monkeypatch.context() as patch:
        patch.setitem(encode.encode_texts.__globals__, "_run", lambda *a: run(*a) * 1e9)
        with pytest.raises(InputError, match="room 'frames', .* encoder .* within 65504"):
            encode_rooms(data, **models, show_progress=False)
    os.remove(tmp_path / "v.mp4")
    with pytest.raises(InputError, match=r"room 'video': its video .*v\.mp4 cannot be read"):
        encode_rooms(data, **models, show_progress=False)
    shutil.rmtree(tmp_path / "pictures")
    with pytest.raises(InputError, match=r"room 'frames': its frames .*pictures cannot be read"):
        encode_rooms(data, **models, show_progress=False)


def test_damage_to_media_is_a_warning(tmp_path: Path, models: dict[str, str]) -> None:
    data = make_data(tmp_path)
    (tmp_path / "pictures" / "3.png").write_bytes(b"no picture")
    counts = encode_rooms(data, **models, show_progress=False)
    assert len(counts["warnings"]) == 1 and "3.png: not a readable image" in counts["warnings"][0]
    found = FeatureStore(data.features_dir).load({"frames": 4})
    assert found.has_visual.tolist() == [True, True, False, True]


def test_a_users_files_in_the_store_are_left_alone(tmp_path: Path, models: dict[str, str]) -> None:
    data = make_data(tmp_path)
    data.features_dir.mkdir()
    mine = data.features_dir / "mine.safetensors"
    mine.write_bytes(b"mine")
    with pytest.raises(
        InputError, match=r"features: holds mine\.safetensors; choose a new or empty"
    ):
        encode_rooms(data, **models, show_progress=False)
    mine.unlink()
    encode_rooms(data, **models, show_progress=False)
    left = data.features_dir / ".nothing.safetensors.0123abcd.tmp"
    left.touch()
    encode_rooms(data, **models, show_progress=False)
    assert not left.exists()
    mine.write_bytes(b"mine")
    with pytest.raises(InputError, match=r"mine\.safetensors: is none of the files that are kept"):
        encode_rooms(data, **models, show_progress=False)
    assert mine.read_bytes() == b"mine"
