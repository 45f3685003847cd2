"""A recording as an editor counts it: frames at a rational rate, from a start timecode.

Times of a room are seconds from its first picture or sound; an editor counts frames from the first
picture. Both meet here, so that a cut is the same frame in every program.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from contentctr.errors import InputError
from contentctr.rooms.frames import Decoder
from contentctr.rooms.video import Video, picture

RATES = tuple(
    Fraction(n, d)
    for n, d in (
        *((24000, 1001), (24, 1), (25, 1), (30000, 1001), (30, 1), (48, 1), (50, 1)),
        *((60000, 1001), (60, 1), (100, 1), (120000, 1001), (120, 1)),
    )
)
"""Rates that editors have; what is as near as stamps in whole milliseconds is taken for one."""
_STEADY = 0.95
"""Share of pictures that must lie one frame after the one before, else the rate is variable."""
_DROPPING = (Fraction(30000, 1001), Fraction(60000, 1001))
_TIMECODE = re.compile(r"(\d\d):(\d\d):(\d\d)([:;.])(\d\d)")


@dataclass(frozen=True, kw_only=True)
class Footage:
    """What an editor's program must know of a recording."""

    path: Path
    rate: Fraction
    """Frames a second; of a variable rate the nearest usual one."""
    first_s: float
    """When the first picture is shown, in seconds of the room."""
    frames: int
    """From the first picture to the end of the last."""
    width: int
    """Upright."""
    height: int
    start_frame: int = 0
    """Of the container's timecode."""
    drop: bool = False
    """Whether timecodes drop numbers, to keep up with the clock."""
    channels: int = 0
    """Of the sound; 0: there is none."""
    sample_rate: int = 0
    notes: list[str] = field(default_factory=list)
    """What an editor should be told."""

    def frame(self, seconds: float) -> int:
        """The frame that begins nearest to a time of the room, counted from the first picture."""
        exact = (Fraction(seconds).limit_denominator(10**6) - Fraction(self.first_s)) * self.rate
        return min(max(round(exact), 0), self.frames)

    def timecode(self, frame: int) -> str:
        """The timecode of a frame, counted from the first picture."""
        return timecode(self.start_frame + frame, self.rate, drop=self.drop)


def read_footage(path: Path) -> Footage:
    """Count a recording's frames, by reading it once without decoding it.

    Raises:
        InputError: the recording cannot be read, or has no pictures.
    """
    shown, size = array("d"), None
    decoder = Decoder()
    with Video(path) as video:
        if video.picture is None:
            raise InputError(f"{path}: has no pictures, so that an editor has no frames to count")
        headers = [r for r in (video.picture.average_rate, video.picture.base_rate) if r]
        told = _told_timecode(video)
        heard = video.heard
        sound = (0, 0) if heard is None else (heard.channels, heard.sample_rate or 0)
        for timed in video.packets():
            if not timed.is_picture or timed.packet.is_discard:
                continue
            shown.append(timed.show_s)
            if size is None:
                frames = [*decoder.decode(timed.packet)]
                size = picture(frames[0]).size if frames else None
        breaks = len(video.clock.breaks)
    if not shown or size is None:
        raise InputError(f"{path}: no frame of its video can be read")
    times = np.sort(np.frombuffer(shown, dtype=np.float64))
    rate, steady = find_rate(times, headers)
    notes = _notes(path, rate, steady, times, breaks)
    start_frame, drop = (0, rate in _DROPPING) if told is None else parse_timecode(told, rate)
    return Footage(
        path=path,
        rate=rate,
        first_s=float(times[0]),
        frames=int(np.rint((times[-1] - times[0]) * float(rate))) + 1,
        width=size[0],
        height=size[1],
        start_frame=start_frame,
        drop=drop,
        channels=sound[0],
        sample_rate=sound[1],
        notes=notes,
    )


def find_rate(
    times_N: npt.NDArray[np.float64], headers: Sequence[Fraction] = ()
) -> tuple[Fraction, bool]:
    """The rate of pictures, and whether it is steady.

    Args:
        times_N: when they are shown, in seconds, rising.
        headers: rates that the container tells; the first that fits the pictures is believed.
    """
    mean = Fraction(1)
    if len(times_N) > 1 and times_N[-1] > times_N[0]:
        mean = Fraction(float((len(times_N) - 1) / (times_N[-1] - times_N[0])))
    wanted = [_usual(rate) for rate in headers]
    # Then the usual rates, the nearest to what was counted first.
    wanted += sorted(RATES, key=lambda rate: abs(rate / mean - 1))
    for rate in wanted:
        at_N = (times_N - times_N[0]) * float(rate)
        frame_N = np.rint(at_N)
        if len(times_N) == 1 or (
            np.mean((np.diff(frame_N) == 1) & (abs(at_N - frame_N)[1:] < 0.3)) >= _STEADY
        ):
            return rate, True
    return min(RATES, key=lambda rate: abs(rate / mean - 1)), False


def timecode(frame: int, rate: Fraction, *, drop: bool = False) -> str:
    """A frame's timecode; where it drops numbers, with ; before the frames (SMPTE 12M)."""
    whole = round(rate)
    if drop and rate in _DROPPING:
        skipped = whole // 15  # 2 of 30 or 4 of 60, in each minute but every tenth
        minute = 60 * whole - skipped
        tens, rest = divmod(frame, 10 * minute + skipped)
        frame += 9 * skipped * tens
        if rest >= 60 * whole:
            frame += skipped * (1 + (rest - 60 * whole) // minute)
    seconds, frames = divmod(frame, whole)
    mark = ";" if drop and rate in _DROPPING else ":"
    minutes, hours = seconds // 60 % 60, seconds // 3600
    return f"{hours:02d}:{minutes:02d}:{seconds % 60:02d}{mark}{frames:02d}"


def parse_timecode(text: str, rate: Fraction) -> tuple[int, bool]:
    """The frame that a timecode names, and whether it drops numbers; (0, False) if it is none."""
    found = _TIMECODE.fullmatch(text.strip())
    if found is None:
        return 0, False
    hours, minutes, seconds, frames = (int(found[i]) for i in (1, 2, 3, 5))
    whole = round(rate)
    drop = found[4] != ":" and rate in _DROPPING
    minutes += 60 * hours
    frame = (60 * minutes + seconds) * whole + frames
    return frame - (whole // 15) * (minutes - minutes // 10) * drop, drop


def _usual(rate: Fraction) -> Fraction:
    """One of RATES where it is that but for rounding, else the rate itself in small numbers."""
    nearest = min(RATES, key=lambda usual: abs(usual / rate - 1))
    # 30 and 30000/1001 are a thousandth apart: nearer than that to one is it.
    return nearest if abs(nearest / rate - 1) < 0.0004 else rate.limit_denominator(1001)


def _told_timecode(video: Video) -> str | None:
    """The timecode at which a container begins; None if it tells none."""
    container = video.container
    assert container is not None
    for place in (container, *container.streams):
        for name, text in place.metadata.items():
            if name.lower() == "timecode":
                return str(text)
    return None


def _notes(
    path: Path, rate: Fraction, steady: bool, times_N: npt.NDArray[np.float64], breaks: int
) -> list[str]:
    shown = f"{float(rate):.5g}"
    notes = []
    if not steady:
        notes.append(
            f"{path}: its frame rate is variable: frames are counted at {shown} a second; if its "
            "sound drifts in your editor, convert it to a constant rate first"
        )
    elif missing := int(np.rint((times_N[-1] - times_N[0]) * float(rate))) + 1 - len(times_N):
        if missing > 0:
            notes.append(
                f"{path}: {missing} of its pictures are missing (at {shown} a second): an editor "
                "that counts pictures, not time, drifts by so many frames"
            )
    if breaks:
        notes.append(
            f"{path}: its clock does not run on ({breaks} breaks): an editor may place what "
            "follows on them elsewhere; cut clips, or copy it into one container first"
        )
    return notes
