"""What of a room is watched: given one by one, or found in its folder as `predict` finds it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from contentctr.errors import InputError
from contentctr.rooms.parts import find_parts
from contentctr.rooms.room_json import read_head


@dataclass(frozen=True, kw_only=True)
class WatchedParts:
    """Where a room's recording and its logs are, and what is known of it."""

    source: str
    """As `open_source` takes it."""
    comments: Path | None = None
    speech: Path | None = None
    started_at: datetime | None = None
    """With a zone; None where unknown."""
    room_id: str = "room"
    streamer_id: str = ""
    simulated: bool = False
    warnings: list[str] = field(default_factory=list)


def folder_parts(folder: Path) -> WatchedParts:
    """The parts of a room folder, which are there already and may still be written.

    The room lasts as long as its recording, whatever room.json says: while a room runs, its end is
    not known.

    Raises:
        InputError: it has no room.json, or no video.
    """
    if not (folder / "room.json").is_file():
        raise InputError(
            f"{folder}: is a folder without a room.json; watch takes a room folder, a recording, a "
            "pipe, a playlist or a URL"
        )
    head, found = read_head(folder / "room.json"), find_parts(folder)
    video = found.paths.pop("video", None)
    if video is None:
        frames = " (its frames are images of a room that is over)" * ("frames" in found.paths)
        raise InputError(
            f"{folder}: has no video to watch{frames}; `contentctr predict` takes it as it is"
        )
    comments, speech = found.paths.pop("comments", None), found.paths.pop("speech", None)
    warnings = list(found.warnings)
    if found.paths:
        names = ", ".join(path.name for path in found.paths.values())
        warnings.append(f"{folder}: {names}: not read; no score needs it")
    if head.duration_s is not None:
        warnings.append(
            f"{folder}: room.json says that the room lasts {head.duration_s:g} s; watched is the "
            "whole video"
        )
    return WatchedParts(
        source=str(video),
        comments=comments,
        speech=speech,
        started_at=head.started_at,
        room_id=head.room_id,
        streamer_id=head.streamer_id,
        simulated=head.simulated,
        warnings=warnings,
    )
