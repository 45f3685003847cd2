"""Room folders: what a user with recordings has, found by name and read into one Room.

ROOM/room.json         room_id, streamer_id, started_at, maybe duration_s or ended_at
ROOM/video.* | frames/ a recording, or images named by their second
ROOM/comments.*  speech.*  events.*  columns.*
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from contentctr.errors import InputError
from contentctr.rooms.columns import read_columns
from contentctr.rooms.comments import read_comments
from contentctr.rooms.events import read_events
from contentctr.rooms.lines import Part
from contentctr.rooms.media import list_images, probe
from contentctr.rooms.moments import TimeAxis
from contentctr.rooms.parts import find_parts
from contentctr.rooms.room import Media, Room
from contentctr.rooms.room_json import MAX_DURATION_S, RoomHead, read_head
from contentctr.rooms.speech import read_speech

READERS: dict[str, Callable[[Path, TimeAxis, Mapping[str, str] | None], Part]] = {
    "comments": read_comments,
    # Speech is always counted from the start.
    "speech": lambda path, axis, names: read_speech(path),
    "events": read_events,
    "columns": read_columns,
}
_TIME_COLUMN = {"comments": "t", "speech": "start", "events": "t", "columns": "t", "frames": "t"}
_DIFFERENT_S = 1.0
"""A video whose length differs by more from the room's is worth a warning."""
MAX_UNSTATED_S = 86400.0
"""Logs alone, without a video or a stated length, make a room of a day at most."""
_FAR = 10
"""A log that goes on for so many times as long as the frames is in other units."""
_DOUBTED_S, _PIECE_S = 7200.0, 30.0
"""From which length on logs alone must fill a tenth of the room's half minutes, or are doubted."""


@dataclass(kw_only=True)
class Pictures:
    """A room's pictures and what is known of their length."""

    media: Media | None = None
    sound: Path | None = None
    video_s: float | None = None
    frames: Part | None = None
    warnings: list[str] = field(default_factory=list)


def find_rooms(root: Path) -> list[Path]:
    """The folders at or below `root` that hold a room.json, sorted; none inside another.

    Raises:
        InputError: `root` is no folder, or there is no room in it.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder of rooms")
    found: list[Path] = []
    seen: set[str] = set()
    # Rooms may be links to other disks; `seen` breaks the circles that links can make.
    for place, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        if "room.json" in files:
            found.append(Path(place))
            folders.clear()
    if not found:
        raise InputError(
            f"{root}: no room in it; a room is a folder with a room.json (room_id, streamer_id, "
            "started_at)"
        )
    return sorted(found)


def read_room(folder: Path | str, *, names: Mapping[str, str] | None = None) -> Room:
    """Read one room folder, whose parts `find_parts` tells by name and their readers by content.

    The room lasts as long as room.json says (`duration_s`, else `ended_at` - `started_at`), else
    as long as the video, else up to the first whole second after the last frame or log line, at
    most MAX_UNSTATED_S. Rows outside [0, duration) are left out and counted.

    Args:
        folder: with a room.json; every other part may be missing.
        names: the user's own names of columns in its logs: t, user_id, text, kind, id.

    Raises:
        InputError: names the file, the line or field, the rule and the value.
    """
    folder = Path(folder)
    head = read_head(folder / "room.json")
    found = find_parts(folder)
    axis = TimeAxis(started_at=head.started_at)
    parts = {
        name: read(found.paths[name], axis, names)
        for name, read in READERS.items()
        if name in found.paths
    }
    pictures = _read_pictures(found.paths)
    pictures.warnings[:0] = found.warnings
    return make_room(folder, head, pictures, parts)


def room_from_video(
    video: Path,
    *,
    comments: Path | None = None,
    speech: Path | None = None,
    events: Path | None = None,
    streamer_id: str = "",
    room_id: str | None = None,
    started_at: datetime | None = None,
    names: Mapping[str, str] | None = None,
) -> Room:
    """A room of a bare recording, with any logs beside it.

    Args:
        video: the recording; the room lasts as long as it.
        comments: a file of `read_comments`.
        speech: a file of `read_speech`.
        events: a file of `read_events`.
        streamer_id: "" where unknown.
        room_id: the file's name without its extension if None.
        started_at: when it started, with a zone; clock times in logs are counted from it.
        names: the user's own names of columns in its logs: t, user_id, text, kind, id.

    Raises:
        InputError: a file is missing or unreadable.
    """
    given = {"comments": comments, "speech": speech, "events": events}
    assert started_at is None or started_at.tzinfo is not None
    head = RoomHead(room_id=room_id or video.stem, streamer_id=streamer_id, started_at=started_at)
    axis = TimeAxis(started_at=started_at)
    parts = {}
    for name, path in given.items():
        if path is not None:
            _require_file(path, or_folder=name == "events")
            parts[name] = READERS[name](path, axis, names)
    return make_room(video, head, _read_pictures({"video": video}), parts)


def make_room(place: Path, head: RoomHead, pictures: Pictures, parts: dict[str, Part]) -> Room:
    """A room of what was read of it; rows outside of it are left out and counted.

    Raises:
        InputError: its length is unknown, or most rows of a part lie outside of it.
    """
    if pictures.frames is not None:
        parts = {**parts, "frames": pictures.frames}
    duration_s = _duration(place, head, pictures, parts)
    counts: dict[str, int] = {}
    warnings = list(pictures.warnings)
    tables: dict[str, pl.DataFrame] = {}
    for name, part in parts.items():
        warnings += part.warnings
        tables[name] = _inside(part, _TIME_COLUMN[name], duration_s, warnings)
        counts[f"{name}_bad_lines"] = part.bad_lines
        counts[f"{name}_duplicates"] = part.duplicates
        counts[f"{name}_outside"] = part.table.height - tables[name].height
        counts[f"{name}_left_out"] = sum(part.left_out.values())
        if part.duplicates:
            warnings.append(f"{part.path}: left out {part.duplicates} exact duplicates")
    gifts = _chat_gifts(parts, tables, duration_s, warnings)
    if "events" in tables:
        counts["clicks_without_exposure"] = _unexposed(
            parts["events"].path, tables["events"], warnings
        )
    return Room(
        room_id=head.room_id,
        streamer_id=head.streamer_id,
        started_at=None if head.started_at is None else head.started_at.astimezone(UTC),
        duration_s=duration_s,
        media=pictures.media,
        sound=pictures.sound,
        comments=tables.get("comments"),
        speech=tables.get("speech"),
        events=tables.get("events"),
        gifts=gifts,
        columns=tables.get("columns"),
        simulated=head.simulated,
        counts={name: count for name, count in counts.items() if count},
        warnings=warnings,
    )


def _chat_gifts(
    parts: dict[str, Part],
    tables: dict[str, pl.DataFrame],
    duration_s: float,
    warnings: list[str],
) -> pl.DataFrame | None:
    """Gifts that the chat tells of: put among the events where those have none, else returned."""
    chat = parts.get("comments")
    if chat is None or chat.events is None:
        return None
    t = pl.col("t")
    gifts = chat.events.filter((t >= 0) & (t < duration_s))
    events = tables.get("events")
    if events is None:
        return gifts
    if (events["kind"] == "gift").any():
        warnings.append(
            f"{chat.path}: its {gifts.height} gifts are not counted: the event log has gifts itself"
        )
    else:
        tables["events"] = pl.concat([events, gifts]).sort("t", maintain_order=True)
    return None


def _require_file(path: Path, *, or_folder: bool = False) -> None:
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if not path.is_file() and not (or_folder and path.is_dir()):
        raise InputError(f"{path}: must be a file, not a folder")


def _read_pictures(paths: dict[str, Path]) -> Pictures:
    if "video" in paths:
        path = paths["video"].resolve()
        info = probe(path, sound_alone=True)
        media = Media(path=path, kind="video", steady=info.steady) if info.width else None
        return Pictures(
            media=media,
            sound=path if info.has_sound else None,
            video_s=info.duration_s,
            warnings=list(info.warnings),
        )
    if "frames" in paths:
        path = paths["frames"].resolve()
        warnings: list[str] = []
        times = [second for second, _ in list_images(path, warnings)]
        frames = Part(path=path, table=pl.DataFrame({"t": times}, schema={"t": pl.Float64}))
        media = Media(path=path, kind="frames")
        return Pictures(media=media, frames=frames, warnings=warnings)
    return Pictures()


def _duration(place: Path, head: RoomHead, pictures: Pictures, parts: dict[str, Part]) -> float:
    if head.duration_s is not None:
        video_s = pictures.video_s
        if video_s is not None and abs(video_s - head.duration_s) > _DIFFERENT_S:
            pictures.warnings.append(
                f"{place}: the video lasts {video_s:.1f} s, the room {head.duration_s:.1f} s"
            )
        return head.duration_s
    if pictures.video_s is not None:
        return _believed(place, pictures.video_s, "video")
    last = {n: _last_second(n, part.table) for n, part in parts.items() if part.table.height}
    longest = max(last, key=lambda name: last[name], default=None)
    if longest is None or last[longest] <= 0:
        raise InputError(
            f"{place}: how long the room lasted is unknown: give duration_s or ended_at in "
            "room.json, a video, frames or logs"
        )
    _require_seconds(place, last, longest, parts, pictures)
    return _believed(place, last[longest], longest)


def _believed(place: Path, duration_s: float, name: str) -> float:
    """A length that is no mistake of units or of stamps: each segment of it takes time and memory.

    Raises:
        InputError: it is.
    """
    if duration_s > MAX_DURATION_S:
        raise InputError(
            f"{place}: its {name} would make a room of {duration_s:.0f} s; a room lasts at most "
            f"{MAX_DURATION_S:.0f} s (31 days)"
        )
    return duration_s


def _require_seconds(
    place: Path, last: dict[str, float], longest: str, parts: dict[str, Part], pictures: Pictures
) -> None:
    """Refuse logs that alone make a room of over a day, and doubt ones that leave it empty.

    Milliseconds taken for seconds make a room of 90 s last a day; that a room did, a user can say.
    """
    duration_s, shown = last[longest], last.get("frames", 0.0)
    if longest == "frames" or shown > duration_s / 2:
        return
    if duration_s > MAX_UNSTATED_S or 0 < shown < duration_s / _FAR:
        beside = f", though the frames end at {shown:.0f} s" if shown else ""
        raise InputError(
            f"{parts[longest].path}: its last time, {duration_s:.0f} s, would make a room of "
            f"{duration_s / 3600:.0f} hours{beside}; times must be seconds from the room's start "
            "(milliseconds? another room's log?). If it did last so long, give duration_s or "
            "ended_at in room.json"
        )
    if duration_s <= _DOUBTED_S:
        return
    times = [part.table[_TIME_COLUMN[name]] for name, part in parts.items()]
    filled = (pl.concat([time.cast(pl.Float64) for time in times]) // _PIECE_S).n_unique()
    if filled * _PIECE_S < duration_s / 10:
        pictures.warnings.append(
            f"{place}: its logs reach {duration_s / 3600:.1f} hours and fill {filled} half minutes "
            f"of {duration_s / _PIECE_S:.0f}: are the times of {parts[longest].path.name} "
            "milliseconds?"
        )


def _last_second(name: str, table: pl.DataFrame) -> float:
    # The room holds [0, duration): the last row must lie inside.
    last = math.floor(float(table[_TIME_COLUMN[name]].max() or 0)) + 1.0  # type: ignore[arg-type]
    if name == "speech":
        return max(last, float(table["end"].max() or 0))  # type: ignore[arg-type]
    return last


def _inside(part: Part, column: str, duration_s: float, warnings: list[str]) -> pl.DataFrame:
    """The rows of [0, duration); a warning if others are left out."""
    time = pl.col(column)
    inside = part.table.filter((time >= 0) & (time < duration_s))
    left_out = part.table.height - inside.height
    if not left_out:
        return inside
    outside = part.table.filter((time < 0) | (time >= duration_s))[column]
    first, last = float(outside.min()), float(outside.max())  # type: ignore[arg-type]
    message = (
        f"{left_out} of {part.table.height} rows lie outside the room, [0, {duration_s:g}) s: "
        f"{column} from {first:.15g} to {last:.15g}"
    )
    if left_out > part.table.height / 2:
        raise InputError(
            f"{part.path}: {message}; times must be seconds from the room's start"
            f"{_units_hint(last, duration_s)}"
        )
    warnings.append(f"{part.path}: left out: {message}")
    return inside


def _units_hint(last: float, duration_s: float) -> str:
    if last > 2 * duration_s:
        return " (milliseconds? another room's log? a wrong started_at?)"
    return " (another room's log? a wrong duration or started_at?)"


def _unexposed(path: Path, events: pl.DataFrame, warnings: list[str]) -> int:
    """Clicks by users without any exposure in the room: they count as viewers all the same."""
    clicks = events.filter(pl.col("kind") == "click")
    exposures = events.filter(pl.col("kind") == "exposure")
    count = clicks.join(exposures, on="user_id", how="anti").height
    if count and not exposures.height:
        warnings.append(
            f"{path}: has {count} clicks and no exposure, so that every CTR is 1: is the log of "
            "exposures missing?"
        )
    elif count:
        warnings.append(
            f"{path}: {count} clicks are by users without an exposure in the room; they count as "
            "viewers"
        )
    return count
