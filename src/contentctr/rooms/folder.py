"""Room folders: what a user with recordings has, found by name and read into one Room.

ROOM/room.json         room_id, streamer_id, started_at, maybe duration_s or ended_at
ROOM/video.* | frames/ a recording, or images named by their second
ROOM/comments.*  speech.*  events.*  columns.*
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from contentctr.errors import InputError
from contentctr.rooms.columns import read_columns
from contentctr.rooms.comments import read_comments
from contentctr.rooms.events import read_events
from contentctr.rooms.lines import Part
from contentctr.rooms.media import list_images, probe
from contentctr.rooms.room import Media, Room
from contentctr.rooms.room_json import MAX_DURATION_S, RoomHead, read_head
from contentctr.rooms.speech import read_speech

_READERS: dict[str, Callable[[Path], Part]] = {
    "comments": read_comments,
    "speech": read_speech,
    "events": read_events,
    "columns": read_columns,
}
_TIME_COLUMN = {"comments": "t", "speech": "start", "events": "t", "columns": "t", "frames": "t"}
_DIFFERENT_S = 1.0
"""A video whose length differs by more from the room's is worth a warning."""


@dataclass(kw_only=True)
class _Pictures:
    """A room's pictures and what is known of their length."""

    media: Media | None = None
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


def read_room(folder: Path) -> Room:
    """Read one room folder.

    The room lasts as long as room.json says (`duration_s`, else `ended_at` - `started_at`), else
    as long as the video, else up to the first whole second after the last frame or log line. Rows
    outside [0, duration) are left out and counted.

    Args:
        folder: with a room.json; every other part may be missing.

    Raises:
        InputError: names the file, the line or field, the rule and the value.
    """
    head = read_head(folder / "room.json")
    paths = _find_parts(folder)
    parts = {name: read(paths[name]) for name, read in _READERS.items() if name in paths}
    return _make_room(folder, head, _read_pictures(paths), parts)


def room_from_video(
    video: Path,
    *,
    comments: Path | None = None,
    speech: Path | None = None,
    events: Path | None = None,
    streamer_id: str = "",
    room_id: str | None = None,
) -> Room:
    """A room of a bare recording, with any logs beside it.

    Args:
        video: the recording; the room lasts as long as it.
        comments: a file of `read_comments`.
        speech: a file of `read_speech`.
        events: a file of `read_events`.
        streamer_id: "" where unknown.
        room_id: the file's name without its extension if None.

    Raises:
        InputError: a file is missing or unreadable.
    """
    given = {"comments": comments, "speech": speech, "events": events}
    parts = {}
    for name, path in given.items():
        if path is not None:
            _require_file(path)
            parts[name] = _READERS[name](path)
    head = RoomHead(room_id=room_id or video.stem, streamer_id=streamer_id)
    return _make_room(video, head, _read_pictures({"video": video}), parts)


def _make_room(place: Path, head: RoomHead, pictures: _Pictures, parts: dict[str, Part]) -> Room:
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
        if part.duplicates:
            warnings.append(f"{part.path}: left out {part.duplicates} exact duplicates")
    if "events" in tables:
        counts["clicks_without_exposure"] = _unexposed(
            parts["events"].path, tables["events"], warnings
        )
    return Room(
        room_id=head.room_id,
        streamer_id=head.streamer_id,
        started_at=head.started_at,
        duration_s=duration_s,
        media=pictures.media,
        comments=tables.get("comments"),
        speech=tables.get("speech"),
        events=tables.get("events"),
        columns=tables.get("columns"),
        simulated=head.simulated,
        counts={name: count for name, count in counts.items() if count},
        warnings=warnings,
    )


def _find_parts(folder: Path) -> dict[str, Path]:
    """The file (or folder of frames) of each part, by name."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = path.stem if path.name != "frames" else "frames"
        if name not in ("video", "frames", *_READERS) or (name == "frames" and not path.is_dir()):
            continue
        if name != "frames":
            _require_file(path)
        if name in found:
            raise InputError(
                f"{folder}: {found[name].name} and {path.name} are both {name}; keep one of them"
            )
        found[name] = path
    if "video" in found and "frames" in found:
        raise InputError(
            f"{folder}: {found['video'].name} and frames are both its pictures; keep one of them"
        )
    return found


def _require_file(path: Path) -> None:
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if not path.is_file():
        raise InputError(f"{path}: must be a file, not a folder")


def _read_pictures(paths: dict[str, Path]) -> _Pictures:
    if "video" in paths:
        path = paths["video"].resolve()
        info = probe(path, sound_alone=True)
        media = Media(path=path, kind="video") if info.width else None
        return _Pictures(media=media, video_s=info.duration_s, warnings=list(info.warnings))
    if "frames" in paths:
        path = paths["frames"].resolve()
        warnings: list[str] = []
        times = [second for second, _ in list_images(path, warnings)]
        frames = Part(path=path, table=pl.DataFrame({"t": times}, schema={"t": pl.Float64}))
        media = Media(path=path, kind="frames")
        return _Pictures(media=media, frames=frames, warnings=warnings)
    return _Pictures()


def _duration(place: Path, head: RoomHead, pictures: _Pictures, parts: dict[str, Part]) -> float:
    if head.duration_s is not None:
        video_s = pictures.video_s
        if video_s is not None and abs(video_s - head.duration_s) > _DIFFERENT_S:
            pictures.warnings.append(
                f"{place}: the video lasts {video_s:.1f} s, the room {head.duration_s:.1f} s"
            )
        return head.duration_s
    if pictures.video_s is not None:
        return pictures.video_s
    last = {n: _last_second(n, part.table) for n, part in parts.items() if part.table.height}
    longest = max(last, key=lambda name: last[name], default=None)
    if longest is None or last[longest] <= 0:
        raise InputError(
            f"{place}: how long the room lasted is unknown: give duration_s or ended_at in "
            "room.json, a video, frames or logs"
        )
    if last[longest] > MAX_DURATION_S:
        raise InputError(
            f"{parts[longest].path}: its last time, {last[longest]:.0f} s, would make a room of "
            "over 31 days; times must be seconds from the room's start (milliseconds? Unix "
            "time?)"
        )
    return last[longest]


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
    if last > 1e11:
        return " (these look like Unix time in milliseconds)"
    if last > 1e8:
        return " (these look like Unix time)"
    if last > 2 * duration_s:
        return " (milliseconds? Unix time? another room's log?)"
    return " (another room's log? a wrong duration?)"


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
