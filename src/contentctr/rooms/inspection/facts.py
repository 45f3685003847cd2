"""What an inspection finds: of a recording, of every part, of a whole room or file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from contentctr.rooms.lines import Part

Floats = NDArray[np.float64]
Kind = Literal["room", "video", "frames", "comments", "speech", "events", "columns"]
Verdict = Literal["in step", "shifted", "cannot tell"]


@dataclass(frozen=True, kw_only=True)
class StreamFacts:
    """A stream of a recording."""

    index: int
    kind: str
    """video, audio, subtitle, data, attachment."""
    codec: str
    """"" where this FFmpeg does not know it."""
    details: str
    """Size, rate, channels, language: what the header says."""
    default: bool
    cover: bool
    """Whether it is a picture of the file (a cover, thumbnails), not of the room."""
    use: str
    """What the software takes it for; or that it does not."""


@dataclass(frozen=True, kw_only=True)
class RecordingFacts:
    """A video, as one reading of its packets has it. Times are seconds of the room."""

    path: Path
    container: str
    streams: list[StreamFacts]
    duration_s: float
    width: int
    """Of the first decoded picture, upright; 0: there are no pictures."""
    height: int
    rotation: int
    """Degrees by which players turn its pictures."""
    pictures_s: tuple[float, float] | None
    """Where they begin and end; None: there are none."""
    sound_s: tuple[float, float] | None
    keyframe_every_s: float | None
    """The usual time from one keyframe to the next."""
    frame_rate: float
    """Pictures a second, on average over the time in which there are some."""
    bad_packets: int
    clock: list[str]
    """Where its clock did not run on, and what is done there."""
    warnings: list[str]
    """The same, and what else the user should know, each naming the file."""
    picture_spans: list[tuple[float, float]]
    sound_spans: list[tuple[float, float]]
    picture_activity: Floats
    """Bytes of pictures between keyframes, a second each: more where more moves."""
    cuts: Floats
    """Keyframes that came before their time, a second each: an encoder's view of a cut."""
    sound_activity: Floats
    """Bytes of sound, a second each."""


@dataclass(frozen=True, kw_only=True)
class PartFacts:
    """A log, transcript, table or folder of images, and what of it is used."""

    name: Kind
    path: Path
    part: Part | None
    """None: it cannot be read, and `problem` says why."""
    problem: str = ""
    starts_s: Floats = field(default_factory=lambda: np.empty(0))
    """Of every row read, by time; outside of the room too."""
    ends_s: Floats | None = None
    """Of utterances alone."""
    details: dict[str, Any] = field(default_factory=dict)
    """What is particular to this part: users, kinds of events, names of columns."""

    @property
    def span_s(self) -> tuple[float, float] | None:
        """The first and the last time."""
        if not self.starts_s.size:
            return None
        last = self.starts_s if self.ends_s is None else self.ends_s
        return float(self.starts_s[0]), float(max(last.max(), self.starts_s[-1]))

    def outside(self, duration_s: float | None) -> int:
        """Rows outside of [0, duration); 0 where the length is unknown."""
        if duration_s is None:
            return 0
        return int(((self.starts_s < 0) | (self.starts_s >= duration_s)).sum())


@dataclass(frozen=True, kw_only=True)
class Shift:
    """Whether chat and video seem shifted against each other."""

    verdict: Verdict
    reason: str
    shift_s: float | None = None
    """How far the chat's clock is late (above 0) or early; None where that cannot be told."""
    lag_s: float | None = None
    """How long after pictures or sound the comments come, by their correlation."""
    correlation: float | None = None
    facts: list[str] = field(default_factory=list)
    """How chat and video begin and end."""


@dataclass(kw_only=True)
class Inspection:
    """A room folder or a single file."""

    path: Path
    kind: Kind | None
    """None: it cannot be told."""
    told: str = ""
    """By what the kind was told."""
    room_id: str = ""
    streamer_id: str = ""
    started_at: str | None = None
    simulated: bool = False
    duration_s: float | None = None
    """Of the room; None where it is unknown, as of a log alone."""
    recording: RecordingFacts | None = None
    parts: list[PartFacts] = field(default_factory=list)
    shift: Shift | None = None
    notes: list[str] = field(default_factory=list)
    """Files taken by another name or not read, and what else the room's reader warns of."""
    problems: list[str] = field(default_factory=list)
    """What keeps the room, or a part of it, from being used."""

    @property
    def is_read(self) -> bool:
        """Whether anything of it could be read."""
        return self.recording is not None or any(part.part is not None for part in self.parts)


def as_json(found: Inspection) -> dict[str, Any]:
    """The facts as JSON has them; times are seconds, None where a thing is unknown."""
    recording = found.recording
    shift = found.shift
    return {
        "path": str(found.path),
        "kind": found.kind,
        "told": found.told,
        "room_id": found.room_id,
        "streamer_id": found.streamer_id,
        "started_at": found.started_at,
        "simulated": found.simulated,
        "duration_s": found.duration_s,
        "recording": None if recording is None else _recording_json(recording),
        "parts": [_part_json(part, found.duration_s) for part in found.parts],
        "shift": None if shift is None else vars(shift),
        "notes": found.notes,
        "problems": found.problems,
    }


_ARRAYS = ("picture_activity", "cuts", "sound_activity")


def _recording_json(found: RecordingFacts) -> dict[str, Any]:
    plain = {name: value for name, value in vars(found).items() if name not in _ARRAYS}
    return {**plain, "path": str(found.path), "streams": [vars(s) for s in found.streams]}


def _part_json(facts: PartFacts, duration_s: float | None) -> dict[str, Any]:
    part, span = facts.part, facts.span_s
    common = {"name": facts.name, "path": str(facts.path), "problem": facts.problem or None}
    if part is None:
        return common
    return {
        **common,
        "form": part.form,
        "rows": part.table.height,
        "used": part.table.height - facts.outside(duration_s),
        "bad_lines": part.bad_lines,
        "duplicates": part.duplicates,
        "outside": facts.outside(duration_s),
        "left_out": part.left_out,
        "first_s": None if span is None else span[0],
        "last_s": None if span is None else span[1],
        "details": facts.details,
        "warnings": part.warnings,
    }
