"""Pictures of rooms, decoded once into files of uint8 that are read memory-mapped.

    FOLDER/ROOM-0000.safetensors   `frames` uint8 [F, H, W, 3], up to CHUNK of a room
    FOLDER/ROOM.json               written last: how many there are, and what they were made of

Shape suffixes: F frames, H height, W width, C channels.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from contentctr.encode.items import media_content
from contentctr.encode.pictures import ImageSettings
from contentctr.encode.rooms import room_media
from contentctr.encode.segments import segment_frames, segment_spans
from contentctr.errors import InputError
from contentctr.files import digest, read_json, write_json
from contentctr.hashes import ContentHashes
from contentctr.progress import Progress, progress_bar
from contentctr.store.rooms import PreparedRooms
from contentctr.store.vectors import StoredRoom, room_file, write_shard

CHUNK = 256
"""Frames of a file, which bounds the memory."""
_OPEN_FILES = 64


@dataclass(frozen=True)
class _Stretch:
    path: Path
    frames: int


class FrameCache:
    """The pictures of some rooms by number, one room after the other.

    Args:
        stretches: the files, in order.
    """

    def __init__(self, stretches: list[_Stretch]) -> None:
        self._stretches = stretches
        self._stops = np.cumsum([s.frames for s in stretches], dtype=np.int64)
        self._open: OrderedDict[Path, Any] = OrderedDict()

    def __len__(self) -> int:
        return int(self._stops[-1]) if len(self._stops) else 0

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Frames [F, H, W, 3] of some rows, in their order.

        Raises:
            InputError: a file is damaged.
        """
        places = np.searchsorted(self._stops, rows, side="right")
        frames = [self._frame(int(p), int(row)) for p, row in zip(places, rows, strict=True)]
        return np.concatenate(frames)

    def _frame(self, place: int, row: int) -> NDArray[np.uint8]:
        stretch = self._stretches[place]
        at = row - int(self._stops[place]) + stretch.frames
        try:
            if stretch.path not in self._open:
                if len(self._open) >= _OPEN_FILES:
                    self._open.popitem(last=False)
                self._open[stretch.path] = safe_open(stretch.path, framework="numpy")
            self._open.move_to_end(stretch.path)
            frame: NDArray[np.uint8] = self._open[stretch.path].get_slice("frames")[at : at + 1]
        except (SafetensorError, OSError) as error:
            raise InputError(
                f"{stretch.path}: not a readable file of frames ({error}); remove the folder it "
                "is in, and resume"
            ) from None
        return frame


def pictures_state(data: PreparedRooms) -> str:
    """Hash of the rooms' pictures, by content."""
    hashes, rooms = ContentHashes(data.root), data.rooms().iter_rows(named=True)
    found = [media_content(f"room {r['room_id']!r}", room_media(r), hashes) for r in rooms]
    hashes.save()
    return digest(found)


def cache_frames(
    data: PreparedRooms, folder: Path, settings: ImageSettings, *, split: str, show_progress: bool
) -> FrameCache:
    """Decode the pictures of a split's rooms; what is there from an earlier run is kept.

    Frames are those that `encode` takes of each segment; missing ones are left out.

    Args:
        data: a prepared folder.
        folder: of the cache.
        settings: how a picture becomes the encoder's input.
        split: train or val.
        show_progress: show a bar on a terminal.

    Raises:
        InputError: a room's media cannot be read.
    """
    per_segment = data.manifest()["frames_per_segment"]
    rooms = data.rooms().filter(split=split)
    segments = data.segments().filter(split=split)
    stretches: list[_Stretch] = []
    hashes = ContentHashes(data.root)
    with progress_bar(f"frames of {split}", segments.height, show=show_progress) as bar:
        for room in rooms.iter_rows(named=True):
            spans = segment_spans(segments.filter(room_id=room["room_id"]))
            stretches += _room(room, spans, per_segment, folder, settings, hashes, bar)
    return FrameCache(stretches)


def _room(
    room: dict[str, Any],
    spans: list[tuple[float, float]],
    per_segment: int,
    folder: Path,
    settings: ImageSettings,
    hashes: ContentHashes,
    bar: Progress,
) -> list[_Stretch]:
    """Files of one room, made if they are not there."""
    media, name = room_media(room), room_file(room["room_id"])
    content = media_content(f"room {room['room_id']!r}", media, hashes)
    fingerprint = digest(asdict(settings), per_segment, spans, content)
    note = folder / f"{name}.json"
    if note.is_file() and (noted := read_json(note)).get("fingerprint") == fingerprint:
        counts: list[int] = noted["counts"]
        bar.advance(len(spans))
    else:
        counts = []
        found = _pictures(
            segment_frames(media, spans, per_segment, None), per_segment, settings, bar
        )
        while chunk := list(islice(found, CHUNK)):
            stored = StoredRoom(room_id=room["room_id"], tensors={"frames": np.stack(chunk)})
            write_shard(folder, f"{name}-{len(counts):04d}", [stored])
            counts.append(len(chunk))
        write_json(note, {"fingerprint": fingerprint, "counts": counts})
    return [_Stretch(folder / f"{name}-{k:04d}.safetensors", n) for k, n in enumerate(counts)]


def _pictures(
    frames: Iterator[Any], per_segment: int, settings: ImageSettings, bar: Progress
) -> Iterator[NDArray[np.uint8]]:
    for number, frame in enumerate(frames, 1):
        if frame is not None:
            yield settings(frame)
        if number % per_segment == 0:
            bar.advance()
