"""The stores: what is written is what is read, and nothing half, stale or damaged is read."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import save_file

from contentctr.batch import DataSpec
from contentctr.errors import InputError
from contentctr.store import rooms as prepared
from contentctr.store.inputs import InputStore
from contentctr.store.vectors import (
    FeatureStore,
    SegmentFeatures,
    StoredRoom,
    data_spec,
    feature_tensors,
    read_entry,
    read_index,
    room_file,
    to_half,
    write_manifest,
    write_shard,
)

SPEC = DataSpec(visual_encoder="v", visual_dim=5, text_encoder="t", text_dim=3)


def made(s: int, seed: int = 0, v: int = 5, t: int = 3) -> SegmentFeatures:
    rng = np.random.default_rng(seed)
    flags = rng.random((3, s)) < 0.7
    return SegmentFeatures(
        visual=rng.standard_normal((s, v)).astype(np.float16),
        text=rng.standard_normal((s, t)).astype(np.float16),
        has_visual=flags[0],
        has_speech=flags[1],
        has_comments=flags[2],
    )


def stored(room_id: str, found: SegmentFeatures) -> StoredRoom:
    return StoredRoom(
        room_id=room_id,
        tensors=feature_tensors(found),
        visual_fingerprint=f"v-{room_id}",
        text_fingerprint=f"t-{room_id}",
    )


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Rooms a (4 segments) and b (0) in one shard, c/ä (3) in another."""
    folder = tmp_path / "features"
    write_shard(folder, "0000", [stored("a", made(4, 1)), stored("b", made(0, 2))])
    write_shard(folder, room_file("c/ä"), [stored("c/ä", made(3, 3))])
    write_manifest(folder, SPEC, counts={"rooms": 3})
    return folder


def test_rooms_come_back_in_the_order_asked_for(store: Path) -> None:
    found = FeatureStore(store).load({"c/ä": 3, "b": 0, "a": 4})
    assert len(found) == 7
    for name in ("visual", "text", "has_visual", "has_speech", "has_comments"):
        parts = [getattr(made(3, 3), name), getattr(made(4, 1), name)]
        got = getattr(found, name)
        assert np.array_equal(got, np.concatenate(parts)) and got.dtype == parts[0].dtype
    entry = read_index(store)["a"]
    assert (entry.start, entry.stop, entry.text_fingerprint) == (0, 4, "t-a")
    assert read_entry(entry, ["text"])["text"].shape == (4, 3)
    assert not [p for p in store.iterdir() if ".tmp" in p.name]


def test_any_room_id_has_a_safe_name_of_its_own() -> None:
    ids = ["a", "A", "../../x", "x/../..", "", "con", "ä" * 300, "ä" * 301, "a b", "a_b", "😀"]
    names = [room_file(i) for i in ids]
    assert len({n.lower() for n in names}) == len(ids)
    assert all(len(n) < 64 and set(n) & set("/\\. :") == set() for n in names)


def test_numbers_that_float16_cannot_hold_are_refused() -> None:
    assert to_half(np.array([65504.0, -65504.0]), "x").tolist() == [65504.0, -65504.0]
    for bad in (65600.0, -1e9, np.nan, np.inf):
        with pytest.raises(InputError, match="room 'r'.*within 65504"):
            to_half(np.array([[1.0, bad]]), "room 'r'")


def test_what_is_wrong_is_said(store: Path, tmp_path: Path) -> None:
    reader = FeatureStore(store)
    with pytest.raises(InputError, match=r"not encoded: 2 of 3 rooms, such as 'x', 'y'"):
        reader.load({"a": 4, "x": 1, "y": 1})
    with pytest.raises(InputError, match=r"room 'a' must have 5 segments, not 4"):
        reader.load({"a": 5})
    with pytest.raises(InputError, match="nothing is encoded yet"):
        FeatureStore(tmp_path / "gone")
    write_manifest(store, DataSpec(visual_dim=6, text_dim=3), counts={})
    with pytest.raises(InputError, match=r"0000.safetensors: visual must be float16 of width"):
        FeatureStore(store).load({"a": 4})
    write_manifest(store, SPEC, counts={}, complete=False)
    with pytest.raises(InputError, match="stopped before its end.*again"):
        FeatureStore(store)
    manifest = json.loads((store / "manifest.json").read_text())
    (store / "manifest.json").write_text(json.dumps({**manifest, "schema_version": 99}))
    with pytest.raises(InputError, match="schema_version must be 1, not 99"):
        FeatureStore(store)


def test_damaged_shards_are_named(store: Path) -> None:
    path = store / "0000.safetensors"
    whole = path.read_bytes()
    for damaged in (b"", whole[:5], whole[:40], whole[:-3], b"x" * 500):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"0000\.safetensors: not a whole file"):
            FeatureStore(store)
    save_file({"visual": np.zeros((4, 5), np.float16)}, path)
    with pytest.raises(InputError, match="does not say which rooms"):
        FeatureStore(store)
    rooms = [
        {"room_id": "a", "start": 0, "stop": 9}
        | {f"{part}_fingerprint": "" for part in ("visual", "text", "sound")}
    ]
    save_file(feature_tensors(made(4)), path, {"rooms": json.dumps(rooms)})
    with pytest.raises(InputError, match="has 4 rows, not 9"):
        FeatureStore(store).load({"a": 9})
    bad = made(4)
    bad.text[2, 1] = np.inf
    write_shard(store, "0000", [stored("a", bad)])
    with pytest.raises(InputError, match="text holds numbers that are not finite"):
        FeatureStore(store).load({"a": 4})
    write_shard(store, "0001", [stored("a", made(4))])
    with pytest.raises(InputError, match=r"0001.safetensors: holds room 'a', and so does 0000"):
        FeatureStore(store)


def make_inputs(folder: Path, lengths: dict[str, tuple[int, int]]) -> dict[str, dict]:
    """Rooms of (segments, tokens)."""
    rng, rooms = np.random.default_rng(0), {}
    for room_id, (s, longest) in lengths.items():
        mask = np.arange(longest) < rng.integers(0, longest + 1, (s, 1))
        rooms[room_id] = {
            "frames": rng.integers(0, 256, (s, 2, 4, 5, 3), np.uint8),
            "has_frame": rng.integers(0, 2, (s, 2), np.uint8),
            "token_ids": (rng.integers(1, 60_000, (s, longest)) * mask).astype(np.int32),
            "token_types": (rng.integers(0, 2, (s, longest)) * mask).astype(np.uint8),
            "token_mask": mask.astype(np.uint8),
            "has_visual": rng.integers(0, 2, s, np.uint8),
            "has_speech": rng.integers(0, 2, s, np.uint8),
            "has_comments": rng.integers(0, 2, s, np.uint8),
        }
        write_shard(
            folder, room_file(room_id), [StoredRoom(room_id=room_id, tensors=rooms[room_id])]
        )
    write_manifest(folder, SPEC, counts={})
    return rooms


def test_rows_of_stored_inputs(tmp_path: Path) -> None:
    rooms = make_inputs(tmp_path / "inputs", {"a": (5, 9), "b": (4, 3), "c": (6, 0)})
    store = InputStore(tmp_path / "inputs", {"b": 4, "a": 5, "c": 6})
    assert (store.visual_dim, store.text_dim, len(store)) == (5, 3, 15)
    order = [rooms[r] for r in "bac"]
    for name in ("has_visual", "has_speech", "has_comments"):
        expected = np.concatenate([r[name] for r in order]).astype(bool)
        assert torch.equal(getattr(store, name), torch.from_numpy(expected))
    everything = [(room, i) for room in order for i in range(len(room["frames"]))]
    for rows in ([0, 1, 2, 3, 4, 5], [3, 4], [8, 2, 14, 13], [7], [14], list(range(15))):
        found = store.read(np.array(rows))
        assert found.frames.dtype == torch.uint8 and found.token_ids.dtype == torch.int64
        longest = max(int(everything[r][0]["token_mask"][everything[r][1]].sum()) for r in rows)
        assert found.token_ids.shape == (len(rows), longest)
        for at, row in enumerate(rows):
            room, i = everything[row]
            assert torch.equal(found.frames[at], torch.from_numpy(room["frames"][i]))
            assert found.has_frame[at].tolist() == room["has_frame"][i].astype(bool).tolist()
            for name in ("token_ids", "token_types", "token_mask"):
                values = room[name][i][:longest].tolist()
                got = getattr(found, name)[at].tolist()
                assert got == values + [0] * (longest - len(values))


def test_data_spec_joins_both_manifests(tmp_path: Path) -> None:
    started = pl.Series([None], dtype=pl.Datetime("us", "UTC"))
    rooms = pl.DataFrame({k: [None] for k in prepared.ROOMS_SCHEMA}).with_columns(
        room_id=pl.lit("a"), started_at=started, split=pl.lit("train")
    )
    segments = pl.DataFrame(schema=prepared.SEGMENTS_SCHEMA)
    manifest = {
        "source": "folder",
        "simulated": True,
        "segment_seconds": 20,
        "target": "likes",
        "frames_per_segment": 2,
        "comment_lag": 1,
    }
    data = prepared.write(tmp_path, rooms=rooms, segments=segments, manifest=manifest)
    with pytest.raises(InputError, match="nothing is encoded yet.*encode --inputs"):
        data_spec(data, inputs=True)
    spec = DataSpec(
        segment_seconds=20.0,
        frames_per_segment=2,
        comment_lag=1,
        visual_encoder="v",
        visual_dim=5,
        text_dim=3,
        text_pooling="mean",
    )
    known = data.manifest()["hashes"]["segments.parquet"]
    write_manifest(data.features_dir, spec, counts={}, segments_hash=known)
    found = data_spec(data)
    assert (found.target, found.simulated, found.visual_encoder) == ("likes", True, "v")
    assert (found.visual_dim, found.text_pooling, found.segment_seconds) == (5, "mean", 20.0)
    write_manifest(data.features_dir, spec, counts={}, segments_hash="another")
    with pytest.raises(InputError, match="segments.parquet has changed since"):
        data_spec(data)
    # Comments that the encoder saw with another lag could hold the target.
    prepared.write(
        tmp_path, rooms=rooms, segments=segments, manifest={**manifest, "comment_lag": 0}
    )
    with pytest.raises(InputError, match="encoded with comment_lag 1, but .* prepared with 0"):
        data_spec(data)
