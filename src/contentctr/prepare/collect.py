"""Room folders read and segmented, some at a time, here or on many machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from contentctr.errors import InputError
from contentctr.parquet import require_unpackable
from contentctr.prepare.long_views import long_view_rates
from contentctr.prepare.segments import count_tail, segment_rooms
from contentctr.prepare.speech import RoomSpeech
from contentctr.progress import progress_bar
from contentctr.rooms.folder import read_room
from contentctr.rooms.grid import Grid
from contentctr.rooms.room import Room
from contentctr.shards import run_over
from contentctr.store.rooms import TRUTH_SCHEMA

_CHUNK_ROOMS = 64
_CHUNK_EVENTS = 20_000_000
"""Rooms are read by so many, and segmented together up to so many events: it bounds the memory."""


@dataclass(kw_only=True)
class Collected:
    """What some rooms have given."""

    segment_seconds: float
    long_view_seconds: float | None = None
    """None: long-view rates are not wanted."""
    places: list[tuple[str, Path]] = field(default_factory=list)
    """Room ids, and where they were found."""
    rooms: list[dict[str, Any]] = field(default_factory=list)
    segments: list[pl.DataFrame] = field(default_factory=list)
    long_views: list[pl.DataFrame] = field(default_factory=list)
    truth: list[pl.DataFrame] = field(default_factory=list)
    speech: RoomSpeech = field(default_factory=RoomSpeech)
    simulated: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    """Folders of bad rooms, and why each is one; not counted or told of yet."""

    def add(self, chunk: Sequence[tuple[Path, Room]]) -> None:
        """Segment some rooms and keep what comes of it."""
        grid = Grid(self.segment_seconds)
        for folder, room in chunk:
            self.places.append((room.room_id, folder))
            num_segments = grid.count(room.duration_s)
            self.counts.update(room.counts)
            self.warnings += room.warnings
            if not num_segments:
                self.counts["rooms_too_short"] += 1
                self.warnings.append(
                    f"{folder}: left out: {room.duration_s:g} s is less than half a segment"
                )
                continue
            self.rooms.append(_room_row(room, num_segments))
            self.simulated += room.simulated
            self.speech.add(folder, room, grid)
            self._add_truth(folder, room.room_id, num_segments)
        rooms = [room for _, room in chunk]
        self.counts.update(count_tail(rooms, segment_seconds=self.segment_seconds))
        self.segments.append(segment_rooms(rooms, segment_seconds=self.segment_seconds))
        if self.long_view_seconds is not None:
            self.long_views.append(
                long_view_rates(
                    rooms,
                    segment_seconds=self.segment_seconds,
                    long_view_seconds=self.long_view_seconds,
                )
            )

    def merge(self, later: Collected) -> None:
        """Take over what later rooms have given."""
        names = ("places", "rooms", "segments", "long_views", "truth", "warnings", "skipped")
        for name in names:
            getattr(self, name).extend(getattr(later, name))
        self.speech.merge(later.speech)
        self.simulated += later.simulated
        self.counts.update(later.counts)

    def tell_skipped(self, known: Container[str], kept: Container[str]) -> None:
        """Count bad rooms, and say why each is left out.

        Args:
            known: folders of those that were counted before: they are said to be known.
            kept: folders of rooms that could be read before and stay: they count as unchanged.
        """
        told, self.skipped = self.skipped, []
        for folder, reason in told:
            name = str(folder.resolve())
            if name in kept:
                self.warnings.append(
                    f"{folder}: has changed and cannot be read any more; its room stays as it was "
                    f"read before: {reason}"
                )
                continue
            self.skipped.append((folder, reason))
            self.counts["rooms_skipped"] += name not in known
            again = " as before" if name in known else ""
            self.warnings.append(f"{folder}: left out{again}: {reason}")

    def _add_truth(self, folder: Path, room_id: str, num_segments: int) -> None:
        path = folder / "truth.parquet"
        if not path.is_file():
            return
        truth = _read_truth(path)
        expected = [(room_id, number) for number in range(num_segments)]
        if truth.select("room_id", "segment").sort("segment").rows() == expected:
            self.truth.append(truth)
        else:
            self.warnings.append(
                f"{path}: left out: it does not have the {num_segments} segments of "
                f"{self.segment_seconds:g} s of room {room_id!r}"
            )


def collect_rooms(
    folders: Sequence[Path], reading: Reading, *, ray: str | None, show_progress: bool
) -> Collected:
    """Read and segment all rooms, and see to it that each has an id of its own."""
    chunks = [folders[n : n + _CHUNK_ROOMS] for n in range(0, len(folders), _CHUNK_ROOMS)]
    collected = reading.nothing_yet()
    place_of: dict[str, Path] = {}
    found = run_over(chunks, partial(_reader, reading), ray=ray)
    with progress_bar("Reading rooms", len(folders), show=show_progress) as bar:
        for chunk, part in zip(chunks, found, strict=True):
            for room_id, folder in part.places:
                if room_id in place_of:
                    raise InputError(
                        f"room_id {room_id!r} is in both {place_of[room_id]} and {folder}; give "
                        "each room an id of its own"
                    )
                place_of[room_id] = folder
            collected.merge(part)
            bar.advance(len(chunk))
    return collected


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How rooms are read."""

    segment_seconds: float
    long_view_seconds: float | None
    skip_bad_rooms: bool
    names: Mapping[str, str] | None
    needs_start: bool = False
    """Rooms without started_at are bad too."""

    def nothing_yet(self) -> Collected:
        """What is filled with what is read so."""
        return Collected(
            segment_seconds=self.segment_seconds, long_view_seconds=self.long_view_seconds
        )


def _reader(reading: Reading) -> Callable[[Sequence[Path]], Collected]:
    """What reads and segments the rooms of some folders."""

    def read(folders: Sequence[Path]) -> Collected:
        collected = reading.nothing_yet()
        for rooms in _read_rooms(folders, collected, reading):
            collected.add(rooms)
        return collected

    return read


def _read_rooms(
    folders: Sequence[Path],
    collected: Collected,
    reading: Reading,
) -> Iterator[list[tuple[Path, Room]]]:
    """The rooms, as many at a time as are segmented together."""
    rooms: list[tuple[Path, Room]] = []
    events = 0
    for folder in folders:
        try:
            room = read_room(folder, names=reading.names)
            # Where it must not be left out, the split says so of all rooms at once.
            if reading.skip_bad_rooms and reading.needs_start and room.started_at is None:
                raise InputError("it has no started_at, which the split by time needs")
        except InputError as error:
            if not reading.skip_bad_rooms:
                raise
            collected.skipped.append((folder, str(error)))
            continue
        rooms.append((folder, room))
        events += 0 if room.events is None else room.events.height
        if events >= _CHUNK_EVENTS:
            yield rooms
            rooms, events = [], 0
    if rooms:
        yield rooms


def _room_row(room: Room, num_segments: int) -> dict[str, Any]:
    return {
        "room_id": room.room_id,
        "streamer_id": room.streamer_id,
        "started_at": room.started_at,
        "duration_s": room.duration_s,
        "num_segments": num_segments,
        "split": None,
        "media": None if room.media is None else str(room.media.path.resolve()),
        "media_kind": None if room.media is None else room.media.kind,
        "sound": None if room.sound is None else str(room.sound.resolve()),
    }


def _read_truth(path: Path) -> pl.DataFrame:
    try:
        require_unpackable(path)
        table = pl.read_parquet(path, columns=list(TRUTH_SCHEMA), glob=False)
        return table.select(pl.col(k).cast(v) for k, v in TRUTH_SCHEMA.items())
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).split("\n", 1)[0]
        raise InputError(f"{path}: not a table of {', '.join(TRUTH_SCHEMA)} ({reason})") from None
