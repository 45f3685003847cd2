"""Room folders into a prepared folder: read, segment, set the target, split, write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from contentctr.counting import counted
from contentctr.errors import InputError
from contentctr.outputs import check_output, output_folder
from contentctr.parquet import require_unpackable
from contentctr.prepare.labels import add_labels
from contentctr.prepare.long_views import (
    LONG_VIEW,
    LONG_VIEW_SECONDS,
    check_long_view,
    long_view_rates,
)
from contentctr.prepare.segments import count_tail, segment_rooms
from contentctr.prepare.speech import RoomSpeech, with_speech
from contentctr.prepare.splits import Split
from contentctr.prepare.targets import (
    TargetScale,
    check_comment_lag,
    default_comment_lag,
    default_scale,
    set_target,
)
from contentctr.progress import progress_bar
from contentctr.rooms.folder import find_rooms, read_room
from contentctr.rooms.grid import Grid
from contentctr.rooms.labels import Labels, find_labels, read_labels
from contentctr.rooms.room import Room
from contentctr.shards import run_over
from contentctr.store import rooms as prepared
from contentctr.store.rooms import (
    LABEL,
    ROOMS_SCHEMA,
    TRUTH_SCHEMA,
    PreparedRooms,
    is_label_name,
)
from contentctr.transcribe.recogniser import Choice
from contentctr.transcribe.segments import Recogniser
from contentctr.transcribe.source import join_sources

_CHUNK_ROOMS = 64
_CHUNK_EVENTS = 20_000_000
"""Rooms are read by so many, and segmented together up to so many events: it bounds the memory."""
_MAX_WARNINGS = 500
"""The manifest keeps so many; the counts are complete."""


@dataclass(kw_only=True)
class _Collected:
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

    def merge(self, later: _Collected) -> None:
        """Take over what later rooms have given."""
        for name in ("places", "rooms", "segments", "long_views", "truth", "warnings"):
            getattr(self, name).extend(getattr(later, name))
        self.speech.merge(later.speech)
        self.simulated += later.simulated
        self.counts.update(later.counts)

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


def prepare_rooms(
    rooms_root: Path | str,
    out: Path | str,
    *,
    target: str = "ctr",
    target_scale: TargetScale | None = None,
    comment_lag: int | None = None,
    labels: Path | str | None = None,
    long_view_seconds: float = LONG_VIEW_SECONDS,
    segment_seconds: float = 30.0,
    frames_per_segment: int = 3,
    val: float | None = None,
    test: float | None = None,
    val_from: datetime | None = None,
    test_from: datetime | None = None,
    skip_bad_rooms: bool = False,
    names: Mapping[str, str] | None = None,
    asr: Path | str | Recogniser | None = None,
    language: str | None = None,
    device: str = "cpu",
    ray: str | None = None,
    show_progress: bool = True,
) -> PreparedRooms:
    """Read all room folders at or below `rooms_root` and write the prepared folder `out`.

    Nothing is written before every room is read. Then rooms that have sound and no transcript are
    heard; transcripts are kept in OUT/speech, where a killed run goes on. What was left out, and
    why, is in the manifest's `counts` and `warnings`. Features that are in `out` already stay.

    Args:
        rooms_root: a folder of room folders, or one room folder.
        out: the prepared folder: new or empty, or one of an earlier `prepare`.
        target: of `set_target`; among them long_view_rate, and where there is a table of labels
            label, or label:CLASS,CLASS for some of them.
        target_scale: of `set_target`; None for `default_scale`.
        comment_lag: segments between the comments and the segment whose text they are; None for
            `default_comment_lag`.
        labels: table of labels of `read_labels`; None: `find_labels` in `rooms_root`.
        long_view_seconds: how long those stay at least whom the long-view rate counts.
        segment_seconds: length of a segment.
        frames_per_segment: frames that `encode` takes from a segment.
        val: share of validation rooms; None, where there is no date: a tenth.
        test: share of test rooms; likewise.
        val_from: in place of shares, of `Split`: a room's split then stays when others come.
        test_from: likewise.
        skip_bad_rooms: leave out rooms that cannot be read, instead of stopping at the first.
        names: the user's own names of columns in the rooms' logs, of `read_room`.
        asr: what hears rooms without a transcript, of `Choice`.
        language: what is spoken in them, of `Choice`.
        device: where they are heard: cpu, cuda or auto.
        ray: the Ray cluster whose machines read, hear and segment, as `run_over` takes it; None:
            here.
        show_progress: show a bar.

    Raises:
        InputError: a setting or a room is wrong, two rooms have one id, `out` holds files of
            somebody else, or the recogniser cannot be had.
    """
    rooms_root, out = Path(rooms_root), Path(out)
    lag = default_comment_lag(target) if comment_lag is None else comment_lag
    check_comment_lag(target, lag)
    split = Split(val=val, test=test, val_from=val_from, test_from=test_from)
    if frames_per_segment < 1:
        raise InputError(f"frames_per_segment must be at least 1, not {frames_per_segment}")
    check_long_view(long_view_seconds)
    length = Grid(segment_seconds).segment_seconds
    folders = find_rooms(rooms_root)
    _require_separate(out, [rooms_root, *folders])
    check_output(out, prepared.KIND, prepared.FILES)
    table = _read_labels(rooms_root, labels, target, names)
    reading = _Reading(
        segment_seconds=length,
        long_view_seconds=long_view_seconds if target == LONG_VIEW else None,
        skip_bad_rooms=skip_bad_rooms,
        names=names,
    )
    collected = _collect(folders, reading, ray=ray, show_progress=show_progress)
    if not collected.rooms:
        raise InputError(f"{rooms_root}: no room left: {collected.warnings[-1]}")
    rooms = split.assign(pl.DataFrame(collected.rooms, schema=ROOMS_SCHEMA))
    segments = _segments(collected, table, target)
    scale = target_scale or default_scale(segments, target)
    segments = segments.drop("split").join(rooms.select("room_id", "split"), on="room_id")
    segments = set_target(segments, target, scale)
    _warn_of_lacks(collected, rooms, segments, target, split)
    settings = {
        "source": "room folders",
        "source_path": str(rooms_root.resolve()),
        "segment_seconds": float(segment_seconds),
        "frames_per_segment": frames_per_segment,
        "target": target,
        "target_scale": scale,
        **({"long_view_seconds": float(long_view_seconds)} if target == LONG_VIEW else {}),
        **({"labels": _labels_manifest(table, segments)} if table else {}),
        "comment_lag": lag,
        "split": split.described(),
    }
    choice = Choice(asr=asr, language=language, device=device)
    with output_folder(out, prepared.KIND, prepared.FILES, keep=True):
        texts = collected.speech.hear(
            out, choice, collected.warnings, ray=ray, show_progress=show_progress
        )
        segments = with_speech(segments, texts)
        settings["speech_source"] = join_sources(collected.speech.sources)
        collected.counts["rooms_heard"] = collected.speech.heard
        return _write(out, collected, rooms, segments, settings)


def _read_labels(
    root: Path, given: Path | str | None, target: str, names: Mapping[str, str] | None
) -> Labels | None:
    """The table of labels, where there is one.

    Raises:
        InputError: it cannot be read, or there is none and the target is of it.
    """
    path = Path(given) if given is not None else find_labels(root)
    if path is not None:
        return read_labels(path, names)
    if is_label_name(target):
        raise InputError(
            f"target {target!r} needs a table of labels (room_id and t, or start_s and end_s): "
            f"labels.csv in {root}, or --labels FILE"
        )
    return None


def _labels_manifest(labels: Labels, segments: pl.DataFrame) -> dict[str, Any]:
    columns = [f"{LABEL}:{name}" for name in labels.classes]
    return {
        "path": str(labels.path.resolve()),
        "form": labels.form,
        "classes": [name for name in columns if name in segments.columns],
    }


def _segments(collected: _Collected, labels: Labels | None, target: str) -> pl.DataFrame:
    """All rooms' segments, with what else a target can be."""
    segments = pl.concat(collected.segments, how="diagonal")
    if labels is not None:
        collected.warnings += labels.warnings
        segments, warnings = add_labels(segments, labels, target, collected.counts)
        collected.warnings += warnings
    if target == LONG_VIEW:
        rates = pl.concat(collected.long_views).cast({"segment": segments.schema["segment"]})
        segments = segments.join(
            rates, on=["room_id", "segment"], how="left", maintain_order="left"
        )
    return segments


def _collect(
    folders: Sequence[Path], reading: _Reading, *, ray: str | None, show_progress: bool
) -> _Collected:
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
class _Reading:
    """How rooms are read."""

    segment_seconds: float
    long_view_seconds: float | None
    skip_bad_rooms: bool
    names: Mapping[str, str] | None

    def nothing_yet(self) -> _Collected:
        return _Collected(
            segment_seconds=self.segment_seconds, long_view_seconds=self.long_view_seconds
        )


def _reader(reading: _Reading) -> Callable[[Sequence[Path]], _Collected]:
    """What reads and segments the rooms of some folders."""

    def read(folders: Sequence[Path]) -> _Collected:
        collected = reading.nothing_yet()
        for rooms in _read_rooms(folders, collected, reading.skip_bad_rooms, reading.names):
            collected.add(rooms)
        return collected

    return read


def _read_rooms(
    folders: Sequence[Path],
    collected: _Collected,
    skip_bad_rooms: bool,
    names: Mapping[str, str] | None,
) -> Iterator[list[tuple[Path, Room]]]:
    """The rooms, as many at a time as are segmented together."""
    rooms: list[tuple[Path, Room]] = []
    events = 0
    for folder in folders:
        try:
            room = read_room(folder, names=names)
        except InputError as error:
            if not skip_bad_rooms:
                raise
            collected.counts["rooms_skipped"] += 1
            collected.warnings.append(f"{folder}: left out: {error}")
            continue
        rooms.append((folder, room))
        events += 0 if room.events is None else room.events.height
        if events >= _CHUNK_EVENTS:
            yield rooms
            rooms, events = [], 0
    if rooms:
        yield rooms


def _require_separate(out: Path, inputs: Sequence[Path]) -> None:
    if out.resolve() in {path.resolve() for path in inputs}:
        raise InputError(f"{out}: the prepared folder must be another than those of the rooms")


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


def _warn_of_lacks(
    collected: _Collected,
    rooms: pl.DataFrame,
    segments: pl.DataFrame,
    target: str,
    split: Split,
) -> None:
    """Say what will be missed later on."""
    if 0 < collected.simulated < rooms.height:
        collected.warnings.append(
            f"{collected.simulated} of {rooms.height} rooms are simulated; all numbers will be "
            "labelled simulated"
        )
    if segments["target"].null_count() == segments.height:
        hint = {
            "ctr": "; rooms without click logs can use comment_rate",
            LONG_VIEW: "; it needs who entered and who left (events.*: enter, exit)",
        }.get(target, "")
        collected.warnings.append(f"no segment has the target {target!r}{hint}")
    for name in ("train", *split.wanted):
        if name in rooms["split"]:
            continue
        if split.by_date:
            collected.warnings.append(f"there is no {name} room by the dates {split.described()}")
        else:
            collected.warnings.append(
                f"there is no {name} room: {counted(rooms.height, 'room')} with "
                f"{counted(rooms['started_at'].n_unique(), 'different start')} cannot be split so"
            )


def _write(
    out: Path,
    collected: _Collected,
    rooms: pl.DataFrame,
    segments: pl.DataFrame,
    settings: dict[str, Any],
) -> PreparedRooms:
    warnings = collected.warnings[:_MAX_WARNINGS]
    if len(collected.warnings) > _MAX_WARNINGS:
        warnings.append(f"and {len(collected.warnings) - _MAX_WARNINGS} more")
    return prepared.write(
        out,
        rooms=rooms,
        segments=segments,
        truth=pl.concat(collected.truth) if collected.truth else None,
        manifest={
            **settings,
            "simulated": collected.simulated > 0,
            "counts": {name: count for name, count in collected.counts.items() if count},
            "warnings": warnings,
        },
    )
