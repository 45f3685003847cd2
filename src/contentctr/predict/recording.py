"""A recording as it is given, read into a room: the same for a run and for the rule."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from contentctr.errors import InputError
from contentctr.rooms.folder import read_room, room_from_video
from contentctr.rooms.parts import is_text
from contentctr.rooms.room import Room


def read_recording(
    source: Path | str,
    comments: Path | str | None,
    speech: Path | str | None,
    events: Path | str | None,
    streamer_id: str,
    started_at: datetime | None,
    names: Mapping[str, str] | None,
) -> Room:
    """The room of a room folder, or of a file with its logs.

    Args:
        source: a room folder, a video file or a sound file.
        comments: chat log of a file, as are the others.
        speech: transcript or subtitles.
        events: event log.
        streamer_id: who streams.
        started_at: when a file started, with a zone.
        names: the user's own names of columns in the logs, of `read_room`.

    Raises:
        InputError: it cannot be read, or a folder is given what is for a file.
    """
    source = Path(source)
    if source.is_dir():
        given = {
            "comments": comments,
            "speech": speech,
            "events": events,
            "started-at": started_at,
        }
        extra = [name for name, path in given.items() if path is not None]
        if extra or streamer_id:
            raise InputError(
                f"{source}: a room folder names its own parts; --{(extra or ['streamer'])[0]} is "
                "for a video file"
            )
        return read_room(source, names=names)
    if not source.is_file():
        raise InputError(f"{source}: no such file or folder")
    if is_text((source.with_suffix("") if source.suffix == ".gz" else source).suffix.lower()):
        raise InputError(
            f"{source}: is no video or sound file; give it as --comments or --speech beside one, "
            "or lay it into a room folder with a room.json"
        )
    return room_from_video(
        source,
        comments=None if comments is None else Path(comments),
        speech=None if speech is None else Path(speech),
        events=None if events is None else Path(events),
        streamer_id=streamer_id,
        started_at=started_at,
        names=names,
    )


def has_video(room: Room) -> bool:
    """Whether clips can be cut from a room: of pictures in a folder they cannot."""
    return room.media is not None and room.media.kind == "video"


def playable(room: Room) -> Path | None:
    """What can be played of a room: its video, else a recording of its sound."""
    return room.media.path if room.media is not None and has_video(room) else room.sound
