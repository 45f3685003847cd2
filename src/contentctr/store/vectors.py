"""Stored features and stored encoder inputs: written once, read memory-mapped.

    DATA/features/manifest.json       the encoders and settings they come from, counts
    DATA/features/NAME.safetensors    a shard, of one room or of many: `visual` float16 [S, V],
                                      `text` float16 [S, T], `has_visual`, `has_speech`,
                                      `has_comments` uint8 [S], of rooms also `words` float16
                                      [S, X] and `has_words`, with `encode --sound` also `sound`
                                      float16 [S, X] and `has_sound`; which rows are which room's
                                      stands in its metadata
    DATA/visual/                      the same, without texts, where `prepare` wrote features that
                                      came with the data: `visual`, `has_visual`
    DATA/inputs/                      the same for frames and tokens, for training the encoders
                                      too: `frames` uint8 [S, F, H, W, 3], `has_frame` uint8
                                      [S, F], `token_ids` int32, `token_types`, `token_mask`
                                      uint8 [S, L], and the three flags

A row whose flag is 0 holds zeros, which the model never looks at: it has learned what to use for
a missing part. Shape suffixes: batch.py's legend, and S segments, one room after the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from contentctr.batch import DataSpec
from contentctr.config import from_dict, to_dict
from contentctr.counting import counted
from contentctr.errors import InputError
from contentctr.files import ROOM_FILE as ROOM_FILE
from contentctr.files import JsonError, atomic, parse_json, read_json, write_json
from contentctr.files import room_file as room_file
from contentctr.store import statistics
from contentctr.store.mapped import FileRows, MappedFeatures, MappedRows, matrix_offsets
from contentctr.store.rooms import PreparedRooms

SCHEMA_VERSION = 1
FLAGS = ("has_visual", "has_speech", "has_comments")
_SEGMENT_FIELDS = ("segment_seconds", "frames_per_segment", "comment_lag")


@dataclass(frozen=True, kw_only=True)
class SegmentFeatures:
    """Features of S segments."""

    visual: NDArray[np.float16]
    """[S, V] mean over a segment's frames; zeros where it has none."""
    text: NDArray[np.float16]
    """[S, T]; zeros where there is neither speech nor comments."""
    has_visual: NDArray[np.bool_]
    has_speech: NDArray[np.bool_]
    has_comments: NDArray[np.bool_]
    sound: NDArray[np.float16] | None = None
    """[S, X]; zeros where there is none. None: it was not asked for."""
    has_sound: NDArray[np.bool_] | None = None
    words: NDArray[np.float16] | None = None
    """[S, X] of encode/words.py; None: there are none, as of features that came without texts."""
    has_words: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.has_visual)


@dataclass(frozen=True, kw_only=True)
class StoredRoom:
    """A room to be stored: its tensors, and what they were made of."""

    room_id: str
    tensors: Mapping[str, NDArray[Any]]
    """By the names that the store's files use, S rows each."""
    visual_fingerprint: str = ""
    """Hash of everything that the visual part depends on; "" if never encoded again."""
    text_fingerprint: str = ""
    sound_fingerprint: str = ""
    """"" where no sound is stored."""
    words_fingerprint: str = ""
    """"" where no words are stored."""


@dataclass(frozen=True)
class Entry:
    """Where a room is stored."""

    path: Path
    start: int
    stop: int
    visual_fingerprint: str
    text_fingerprint: str
    sound_fingerprint: str
    words_fingerprint: str


def feature_tensors(found: SegmentFeatures) -> dict[str, NDArray[Any]]:
    """The tensors of a feature shard."""
    tensors = {name: getattr(found, name).astype(np.uint8) for name in FLAGS}
    if found.sound is not None and found.has_sound is not None:
        tensors |= {"sound": found.sound, "has_sound": found.has_sound.astype(np.uint8)}
    if found.words is not None and found.has_words is not None:
        tensors |= {"words": found.words, "has_words": found.has_words.astype(np.uint8)}
    return {"visual": found.visual, "text": found.text, **tensors}


def to_half(values: NDArray[np.floating[Any]], what: str) -> NDArray[np.float16]:
    """`values` as float16.

    Raises:
        InputError: one of them is not finite, or beyond float16's 65,504; names `what`.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        half = values.astype(np.float16)
    if not np.isfinite(half).all():
        worst = values[~np.isfinite(half)].flat[0]
        raise InputError(f"{what}: features must be finite and within 65504, not {worst}")
    return half


def write_shard(folder: Path, name: str, rooms: Sequence[StoredRoom]) -> Path:
    """Write rooms into FOLDER/NAME.safetensors, atomically; the shard of that name is replaced."""
    assert re.fullmatch(r"[A-Za-z0-9_-]+", name), name
    lengths = [len(next(iter(room.tensors.values()))) for room in rooms]
    stops = np.cumsum(lengths).tolist()
    index = [
        {
            "room_id": room.room_id,
            "start": stop - length,
            "stop": stop,
            "visual_fingerprint": room.visual_fingerprint,
            "text_fingerprint": room.text_fingerprint,
            "sound_fingerprint": room.sound_fingerprint,
            "words_fingerprint": room.words_fingerprint,
        }
        for room, stop, length in zip(rooms, stops, lengths, strict=True)
    ]
    tensors = {
        key: np.ascontiguousarray(np.concatenate([room.tensors[key] for room in rooms]))
        for key in rooms[0].tensors
    }
    assert all(len(value) == stops[-1] for value in tensors.values())
    path = folder / f"{name}.safetensors"
    with atomic(path) as temporary:
        save_file(tensors, temporary, {"rooms": json.dumps(index)})
    return path


def write_manifest(
    folder: Path,
    spec: DataSpec,
    *,
    counts: Mapping[str, int],
    complete: bool = True,
    segments_hash: str = "",
) -> None:
    """Say what a store holds.

    Args:
        folder: the store.
        spec: encoders and settings that its rows come from.
        counts: of rooms, segments and whatever the writer counted.
        complete: false while rooms are still to be written; such a store is not read.
        segments_hash: hash of the segments.parquet it belongs to; "" if that cannot change.
    """
    write_json(
        folder / "manifest.json",
        {
            "schema_version": SCHEMA_VERSION,
            "complete": complete,
            "spec": to_dict(spec),
            "segments_hash": segments_hash,
            "counts": dict(counts),
        },
    )


def read_manifest(folder: Path) -> tuple[DataSpec, dict[str, Any]]:
    """A store's spec and its manifest.

    Raises:
        InputError: there is none, it is of another version, or the store is not complete.
    """
    path = folder / "manifest.json"
    again = {"inputs": "run `contentctr encode --inputs`", "visual": "prepare the data"}.get(
        folder.name, "run `contentctr encode`"
    )
    if not path.is_file():
        raise InputError(f"{folder}: nothing is encoded yet; {again}")
    manifest = read_json(path)
    if manifest.get("schema_version") != SCHEMA_VERSION:
        raise InputError(
            f"{path}: schema_version must be {SCHEMA_VERSION}, not "
            f"{manifest.get('schema_version')!r}; remove {folder} and {again}"
        )
    spec = from_dict(DataSpec, manifest.get("spec", {}), where=f"{path}: spec")
    if not manifest.get("complete"):
        raise InputError(f"{folder}: encoding was stopped before its end; {again} again to go on")
    return spec, manifest


def data_spec(data: PreparedRooms, *, inputs: bool = False) -> DataSpec:
    """What a model must know of prepared and encoded data.

    Args:
        data: the prepared folder.
        inputs: of the stored encoder inputs in place of the features.

    Raises:
        InputError: nothing is encoded, or the rooms were prepared anew since.
    """
    folder = data.inputs_dir if inputs else data.features_dir
    prepared = data.manifest()
    stored, manifest = read_manifest(folder)
    for name in _SEGMENT_FIELDS:
        if prepared.get(name) != getattr(stored, name):
            raise InputError(
                f"{folder}: was encoded with {name} {getattr(stored, name)}, but the rooms are "
                f"prepared with {prepared.get(name)}; encode again"
            )
    # Features of segments that were prepared otherwise could hold the target: another comment
    # lag would let a segment see the comments that its target was made of.
    if manifest.get("segments_hash") and manifest["segments_hash"] != data.content_hash():
        raise InputError(
            f"{folder}: segments.parquet has changed since it was encoded; encode again (only "
            "what changed is encoded)"
        )
    values = {**to_dict(stored), "target": prepared.get("target")}
    values["target_scale"] = prepared.get("target_scale", "none")
    values["simulated"] = prepared.get("simulated", False)
    values["statistics_dim"] = statistics.WIDTH
    return from_dict(DataSpec, values, where=str(data.root / "manifest.json"))


def read_index(folder: Path, *, doubles: bool = False) -> dict[str, Entry]:
    """Where each room of a store is.

    Args:
        folder: the store; may be missing.
        doubles: let a later file's room replace an earlier one's.

    Raises:
        InputError: a file is damaged, or a room is stored twice.
    """
    index: dict[str, Entry] = {}
    for path in sorted(folder.glob("*.safetensors")):
        for room_id, entry in shard_index(path).items():
            if room_id in index and not doubles:
                raise InputError(
                    f"{path}: holds room {room_id!r}, and so does {index[room_id].path.name}; "
                    "remove one of them"
                )
            index[room_id] = entry
    return index


def shard_index(path: Path) -> dict[str, Entry]:
    """The rooms of one file of a store.

    Raises:
        InputError: the file is damaged.
    """
    with open_shard(path) as file:
        try:
            rooms = parse_json((file.metadata() or {})["rooms"])
            return {
                r["room_id"]: Entry(
                    path,
                    r["start"],
                    r["stop"],
                    r["visual_fingerprint"],
                    r["text_fingerprint"],
                    r["sound_fingerprint"],
                    # Files of before words were stored are good but for them.
                    r.get("words_fingerprint", ""),
                )
                for r in rooms
            }
        except (KeyError, TypeError, JsonError):
            raise _damaged(path, "its metadata does not say which rooms it holds") from None


def read_entry(entry: Entry, names: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
    """A room's rows of some tensors, or of all, as they are stored.

    Raises:
        InputError: the file is damaged, or lacks one of them.
    """
    with open_shard(entry.path) as file:
        return {
            name: shard_rows(file, entry.path, name, entry.start, entry.stop)
            for name in (names if names is not None else file.keys())
        }


class FeatureStore:
    """Reads a folder of feature shards.

    Raises:
        InputError: nothing is encoded, not everything is, or a shard is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.spec, _ = read_manifest(folder)
        self.index = read_index(folder)

    def map(self, rooms: Mapping[str, int]) -> MappedFeatures:
        """Features of rooms, one after the other, read when they are asked for.

        Args:
            rooms: room id to its number of segments, in the order wanted.

        Raises:
            InputError: a room is missing or has another number of segments, a shard is damaged,
                or a width is not the manifest's.
        """
        require_rooms(self.folder, self.index, rooms)
        entries = [self.index[room_id] for room_id in rooms]
        widths = {"visual": self.spec.visual_dim, "text": self.spec.text_dim}
        names: tuple[str, ...] = FLAGS
        for part, width in (("sound", self.spec.sound_dim), ("words", self.spec.words_dim)):
            if width:
                widths[part], names = width, (*names, f"has_{part}")
        flags = {name: np.zeros(sum(rooms.values()), np.bool_) for name in names}
        by_path: dict[Path, list[tuple[Entry, int]]] = {}
        for entry, stop in zip(entries, np.cumsum(list(rooms.values())).tolist(), strict=True):
            by_path.setdefault(entry.path, []).append((entry, stop))
        offsets: dict[Path, dict[str, int]] = {}
        for path, found in by_path.items():
            offsets[path] = matrix_offsets(path, widths, max(entry.stop for entry, _ in found))
            _read_flags(path, found, flags)
        rows = {
            name: MappedRows(
                name,
                [FileRows(e.path, offsets[e.path][name], e.start, e.stop) for e in entries],
                width,
            )
            for name, width in widths.items()
        }
        return MappedFeatures(
            visual=rows["visual"],
            text=rows["text"],
            sound=rows.get("sound"),
            has_sound=flags.get("has_sound"),
            words=rows.get("words"),
            has_words=flags.get("has_words"),
            **{name: flags[name] for name in FLAGS},
        )

    def load(self, rooms: Mapping[str, int]) -> SegmentFeatures:
        """The same in memory.

        Raises:
            InputError: as `map`, or a feature is not finite.
        """
        found = self.map(rooms)
        rows = torch.arange(len(found.visual))
        return SegmentFeatures(
            visual=found.visual[rows].numpy(),
            text=found.text[rows].numpy(),
            sound=None if found.sound is None else found.sound[rows].numpy(),
            has_sound=found.has_sound,
            words=None if found.words is None else found.words[rows].numpy(),
            has_words=found.has_words,
            **{name: getattr(found, name) for name in FLAGS},
        )


def open_shard(path: Path) -> Any:
    """One file of a store, to be read in parts.

    Raises:
        InputError: the file is damaged.
    """
    try:
        return safe_open(path, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise _damaged(path, str(error)) from None


def shard_rows(file: Any, path: Path, name: str, start: int, stop: int) -> NDArray[Any]:
    """Some rows of a tensor of an open file.

    Raises:
        InputError: the file is damaged, or lacks them.
    """
    try:
        part = file.get_slice(name)
        if stop > part.get_shape()[0]:
            raise _damaged(path, f"{name} has {part.get_shape()[0]} rows, not {stop}")
        # A slice of no rows is an error to safetensors.
        rows: NDArray[Any] = part[start:stop] if start < stop else file.get_tensor(name)[:0]
    except SafetensorError as error:
        raise _damaged(path, str(error)) from None
    return rows


def _read_flags(
    path: Path, found: Sequence[tuple[Entry, int]], flags: Mapping[str, NDArray[np.bool_]]
) -> None:
    """Put flags of a shard's rooms at their places, each of which ends before a row."""
    with open_shard(path) as file:
        for entry, stop in found:
            for name, target in flags.items():
                rows = shard_rows(file, path, name, entry.start, entry.stop)
                target[stop - len(rows) : stop] = rows


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(f"{path}: not a whole file of the store ({reason}); remove it, encode again")


def require_rooms(folder: Path, index: Mapping[str, Entry], rooms: Mapping[str, int]) -> None:
    """Stop where a room is missing, or has another number of segments than is wanted.

    Raises:
        InputError: names the folder and the room.
    """
    missing = [room_id for room_id in rooms if room_id not in index]
    if missing:
        names = ", ".join(repr(room_id) for room_id in missing[:3])
        raise InputError(
            f"{folder}: not encoded: {len(missing)} of {counted(len(rooms), 'room')}, such as "
            f"{names}; encode again"
        )
    for room_id, count in rooms.items():
        stored = index[room_id].stop - index[room_id].start
        if stored != count:
            raise InputError(
                f"{index[room_id].path}: room {room_id!r} must have {counted(count, 'segment')}, "
                f"not {stored}; encode again"
            )
