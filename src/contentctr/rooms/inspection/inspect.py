"""Inspect a room folder or a file: read all of it, and say what was understood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from contentctr.errors import InputError
from contentctr.rooms.folder import MAX_UNSTATED_S, Pictures, find_rooms, make_room
from contentctr.rooms.inspection.facts import Inspection, Kind, PartFacts, RecordingFacts
from contentctr.rooms.inspection.reading import inspect_part
from contentctr.rooms.inspection.recording import inspect_recording
from contentctr.rooms.inspection.shift import find_shift
from contentctr.rooms.inspection.told import OtherTableError, tell_file
from contentctr.rooms.lines import Part
from contentctr.rooms.media import IMAGE_SUFFIXES
from contentctr.rooms.moments import NO_START, TimeAxis
from contentctr.rooms.parts import find_parts
from contentctr.rooms.room import Media
from contentctr.rooms.room_json import RoomHead, read_head


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the user says of the inputs."""

    kind: Kind | None = None
    """What every single file is; None: told by its content."""
    beside: Mapping[str, Path] = field(default_factory=dict)
    """The comments, speech and events of a video file."""
    started_at: datetime | None = None
    """With a zone; when a video file, or what a log tells of, started."""
    names: Mapping[str, str] | None = None
    """Names of columns in logs, by field."""
    show_progress: bool = False


def find_inputs(paths: list[Path]) -> list[Path]:
    """The paths, with the rooms in place of a folder that holds them."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir() and not (path / "room.json").is_file():
            try:
                found += find_rooms(path)
                continue
            except InputError:
                pass
        # `inspect ROOM/*` names its room.json too.
        found.append(path.parent if path.name == "room.json" else path)
    return list(dict.fromkeys(found))


def inspect(path: Path, given: Given | None = None) -> Inspection:
    """What the software understands of a room folder or a file; never raises InputError."""
    given = given or Given()
    try:
        if path.is_dir():
            return _inspect_folder(path, given)
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
        if not path.is_file():
            raise InputError(f"{path}: must be a file or a folder, not a device or a pipe")
        return _inspect_file(path, given)
    except InputError as error:
        return Inspection(path=path, kind=None, problems=[str(error)])


def _inspect_folder(folder: Path, given: Given) -> Inspection:
    kind = given.kind or _folder_kind(folder)
    axis = TimeAxis(started_at=given.started_at)
    if kind is not None:
        part = inspect_part(kind, folder, axis, given.names)
        return _of_part(folder, part, "its files" if given.kind is None else "--as")
    if given.beside or given.started_at is not None:
        raise InputError(
            f"{folder}: a room folder names its own parts and its start; --comments, --speech, "
            "--events and --started-at are for a video file"
        )
    found = Inspection(path=folder, kind="room", told="being a folder")
    head = RoomHead(room_id=folder.resolve().name)
    try:
        head = read_head(folder / "room.json")
        found.told = "its room.json"
    except InputError as error:
        found.problems.append(f"{error}; prepare and predict need it")
    parts = find_parts(folder)
    found.notes += parts.warnings
    if not parts.paths and not (folder / "room.json").is_file():
        _require_no_other_table(folder)
        raise InputError(
            f"{folder}: neither a room folder (room.json and a part of a room) nor a folder of "
            "such, nor a table in parts"
        )
    _read_all(found, head, parts.paths, TimeAxis(started_at=head.started_at), given)
    return found


def _require_no_other_table(folder: Path) -> None:
    """Say so where the folder holds tables that another command reads."""
    for path in sorted(folder.iterdir()):
        if path.suffix in (".csv", ".parquet", ".tsv", ".gz") and path.is_file():
            try:
                tell_file(path)
            except OtherTableError:
                raise
            except InputError:
                continue


def _folder_kind(folder: Path) -> Kind | None:
    """What a folder is that is no room: events in parts, or frames; None: a room."""
    if (folder / "room.json").is_file():
        return None
    files = [path for path in folder.iterdir() if path.is_file() and path.name[0] not in "._"]
    if files and all(path.name.startswith("part-") or path.suffix == ".parquet" for path in files):
        return tell_file(files[0]).kinds[0]
    if files and all(path.suffix.lower() in IMAGE_SUFFIXES for path in files):
        return "frames"
    return None


def _inspect_file(path: Path, given: Given) -> Inspection:
    if given.kind is not None:
        kinds, by = [given.kind], "--as"
    else:
        told = tell_file(path, given.names)
        kinds, by = list(told.kinds), told.by
    if kinds == ["video"]:
        found = Inspection(path=path, kind="video", told=by)
        head = RoomHead(room_id=path.stem, started_at=given.started_at)
        paths = {"video": path, **given.beside}
        _read_all(found, head, paths, TimeAxis(started_at=given.started_at), given)
        return found
    if given.beside:
        named = ", ".join(f"--{name}" for name in given.beside)
        raise InputError(f"{path}: is no video; {named} would be of one")
    return _of_part(path, _read_likeliest(path, kinds, given), by)


def _read_likeliest(path: Path, kinds: list[Kind], given: Given) -> PartFacts:
    """The file as the first kind by which it can be read, and something is in it."""
    axis = TimeAxis(started_at=given.started_at)
    tried: list[PartFacts] = []
    for kind in kinds:
        part = inspect_part(kind, path, axis, given.names)
        if part.part is not None and part.part.table.height:
            return part
        tried.append(part)
        if NO_START in part.problem:
            break  # it is of this kind, and needs a start alone
    read = [part for part in tried if part.part is not None]
    return (read or tried)[0]


def _of_part(path: Path, part: PartFacts, by: str) -> Inspection:
    problems = [part.problem] if part.problem else []
    notes = []
    if part.span_s is not None and part.span_s[1] > MAX_UNSTATED_S:
        hours = part.span_s[1] / 3600
        notes.append(f"its last time makes a room of {hours:.0f} hours: are they milliseconds?")
    return Inspection(
        path=path, kind=part.name, told=by, parts=[part], notes=notes, problems=problems
    )


def _read_all(
    found: Inspection, head: RoomHead, paths: Mapping[str, Path], axis: TimeAxis, given: Given
) -> None:
    """Read the parts, and make of them what a room's reader makes."""
    found.room_id, found.streamer_id = head.room_id, head.streamer_id
    found.simulated = head.simulated
    found.started_at = None if head.started_at is None else head.started_at.isoformat()
    for name, path in paths.items():
        if name == "video":
            try:
                found.recording = inspect_recording(path, show_progress=given.show_progress)
            except InputError as error:
                found.problems.append(str(error))
        else:
            part = inspect_part(name, path, axis, given.names)  # type: ignore[arg-type]
            found.parts.append(part)
            if part.problem:
                found.problems.append(part.problem)
    found.parts.sort(key=lambda part: _ORDER.index(part.name))
    recording = found.recording
    found.duration_s = head.duration_s
    if found.duration_s is None and recording is not None:
        found.duration_s = recording.duration_s
    if found.is_read:
        _make_room(found, head)
    comments = next((part for part in found.parts if part.name == "comments"), None)
    if comments is not None and comments.part is not None:
        found.shift = find_shift(comments.starts_s, found.duration_s, recording)


_ORDER: tuple[Kind, ...] = ("frames", "speech", "comments", "events", "columns")


def _make_room(found: Inspection, head: RoomHead) -> None:
    """What the reader of rooms says of all parts together: their length, and what does not fit."""
    recording: RecordingFacts | None = found.recording
    pictures = Pictures()
    parts: dict[str, Part] = {part.name: part.part for part in found.parts if part.part is not None}
    if recording is not None:
        media = Media(path=recording.path, kind="video") if recording.width else None
        pictures = Pictures(media=media, video_s=recording.duration_s)
    frames = parts.pop("frames", None)
    if frames is not None:
        media = Media(path=frames.path, kind="frames")
        pictures = Pictures(media=media, frames=frames)
    known = {warning for part in parts.values() for warning in part.warnings}
    try:
        room = make_room(found.path, head, pictures, parts)
    except InputError as error:
        found.problems.append(str(error))
        return
    found.duration_s = room.duration_s
    known |= set(frames.warnings if frames is not None else ())
    found.notes += [note for note in room.warnings if note not in known]
