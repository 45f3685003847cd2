"""Subtitles as text with lines of times: SRT and WebVTT, also without empty lines.

A line of times begins a cue, and its text goes on to the next one: empty lines between cues may be
missing, and there may be some inside a cue.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from contentctr.errors import InputError
from contentctr.rooms.lines import BadLine, show
from contentctr.rooms.moments import clock_seconds
from contentctr.rooms.transcripts.log import Transcript, span

_TIME = re.compile(r"(-?)(?:(\d{1,5}):)?([0-5]?\d):([0-5]?\d)(?:[.,:](\d{1,9}))?")
_TIMES = re.compile(r"(?P<start>[-\d:.,]*\d)\s*--?>\s*(?P<end>\S*)")
_MARKUP = re.compile(
    r"</?(?:b|i|u|s|c|v|lang|ruby|rt|font)(?:[.\s][^<>]*)?>"  # tags of SRT and WebVTT
    r"|<\d+:[\d:.]+>"  # WebVTT's times inside a cue
    r"|\{\\[^{}]*\}"  # positions that SRT takes over from SSA
)
_BLOCK = re.compile(r"(NOTE|STYLE|REGION)(\s|$)")
_MAP = re.compile(r"X-TIMESTAMP-MAP=(?=.*MPEGTS:(\d{1,20}))(?=.*LOCAL:([\d:.]+))")
_TICKS_PER_S = 90_000
"""Of MPEG-TS."""


@dataclass
class _Cue:
    """A cue, and where it stands."""

    line: int
    times: str
    shift_s: float = 0.0
    text: list[str] = field(default_factory=list)


def read_cues(transcript: Transcript) -> bool:
    """SRT or WebVTT, told by WEBVTT or by a line of times near the beginning.

    Returns:
        Whether it is one.
    """
    text = transcript.document.text
    is_vtt = re.match(r"\s*WEBVTT(\s|$)", text) is not None
    if not is_vtt and not any(_TIMES.match(line.strip()) for line in text[:65536].split("\n")):
        return False
    transcript.form = "WebVTT" if is_vtt else "SRT"
    rows: list[tuple[float, float, list[str]]] = []
    for cue in _vtt_cues(transcript) if is_vtt else _srt_cues(transcript):
        if not cue.times:
            continue
        try:
            start, end = _cue_times(cue.times)
        except BadLine as reason:
            transcript.bad.add(cue.line, str(reason))
            continue
        lines = [html.unescape(_MARKUP.sub("", line)).strip() for line in cue.text]
        shifted = span(start + cue.shift_s, end + cue.shift_s)
        rows.append((*shifted, [line for line in lines if line]))
    if is_vtt and _is_rolling(rows):
        transcript.form = "WebVTT, rolling captions"
        rows = list(_rolled_out(rows))
    transcript.utterances += [[(start, end, " ".join(lines))] for start, end, lines in rows]
    return True


def require_cues(transcript: Transcript) -> None:
    """Stop at a .vtt that is none: a reader of its times may take it for another thing.

    Raises:
        InputError: it does not begin with WEBVTT.
    """
    text = transcript.document.text
    if text.strip() and transcript.document.path.name.lower().removesuffix(".gz").endswith(".vtt"):
        number, first = next(transcript.document.lines())
        if not re.match(r"WEBVTT(\s|$)", first.strip()):
            raise InputError(
                f"{transcript.document.path}, line {number}: a WebVTT file must start with WEBVTT, "
                f"not {show(first)}"
            )


def _srt_cues(transcript: Transcript) -> Iterator[_Cue]:
    lines = [line.strip() for line in transcript.document.text.split("\n")]
    cue: _Cue | None = None
    number, is_open = 0, False
    for place, line in enumerate(lines):
        if _is_times(line):
            before = lines[place - 1] if place else ""
            if cue is not None:
                # The line before the times is the next cue's number, not this one's text.
                if is_open and _is_number(lines, place - 1, number + 1):
                    _drop_last(cue)
                yield cue
            number = int(before) if before.isdecimal() else number
            cue, is_open = _Cue(line=place + 1, times=line), True
        elif line and _is_broken(lines, place, number, begun=cue is not None):
            if is_open or cue is None:
                transcript.bad.add(
                    place + 1, f"a line of times (start --> end) is missing at {show(line)}"
                )
            # What follows, up to the next times, is no cue's text.
            cue, is_open = cue or _Cue(line=0, times=""), False
        elif cue is not None and is_open:
            cue.text.append(line)
    if cue is not None:
        yield cue


def _is_number(lines: list[str], place: int, expected: int) -> bool:
    """Whether a line is a cue's number: alone after an empty line, or the one that is due."""
    if place < 0 or not lines[place].isdecimal():
        return False
    return place == 0 or not lines[place - 1] or int(lines[place]) == expected


def _is_broken(lines: list[str], place: int, number: int, *, begun: bool) -> bool:
    """Whether a line begins a cue that has no times that can be read."""
    line, after = lines[place], lines[place + 1] if place + 1 < len(lines) else ""
    if "-->" in line:
        return True
    if _is_times(after):
        return False
    if not begun:
        return True
    due = line.isdecimal() and int(line) == number + 1
    return due and not lines[place - 1] and bool(after)


def _vtt_cues(transcript: Transcript) -> Iterator[_Cue]:
    lines = transcript.document.text.split("\n")
    cue: _Cue | None = None
    in_block, shifts = True, _Shifts()  # the header is a block up to its first empty line
    for place, line in enumerate(lines):
        blank_before = not place or not lines[place - 1]
        if _is_times(line) and not (in_block and _BLOCK.match(line)):
            if cue is not None:
                if place and lines[place - 1] and (place < 2 or not lines[place - 2]):
                    _drop_last(cue)  # the cue's name
                yield cue
            cue, in_block = _Cue(place + 1, line.strip(), shifts.now), False
        elif re.match(r"WEBVTT(\s|$)", line) or (blank_before and _BLOCK.match(line)):
            if cue is not None:
                yield cue
            cue, in_block = None, True
        elif in_block:
            shifts.note(line, transcript)
            in_block = bool(line)
        elif cue is not None:
            cue.text.append(line.strip())
    if cue is not None:
        yield cue


class _Shifts:
    """What X-TIMESTAMP-MAP adds to the times of each piece of a joined HLS stream."""

    def __init__(self) -> None:
        self.now = 0.0
        self._first: float | None = None

    def note(self, line: str, transcript: Transcript) -> None:
        """Take a header line; the first map's clock is the file's."""
        match = _MAP.match(line)
        if match is None:
            return
        try:
            base = int(match[1]) / _TICKS_PER_S - _clock(match[2], "X-TIMESTAMP-MAP's LOCAL")
        except BadLine:
            return
        if self._first is None:
            self._first = base
        self.now = base - self._first
        if self.now and not any("X-TIMESTAMP-MAP" in words for words in transcript.warnings):
            transcript.warnings.append(
                f"{transcript.document.path}: joined pieces of a stream: their times are put on "
                "one clock by X-TIMESTAMP-MAP"
            )


def _drop_last(cue: _Cue) -> None:
    if cue.text:
        cue.text.pop()


def _is_times(line: str) -> bool:
    return "->" in line and _TIMES.match(line.strip()) is not None


def _cue_times(line: str) -> tuple[float, float]:
    # What follows the end time are the cue's settings.
    match = _TIMES.match(line)
    assert match is not None, line
    start = _clock(match["start"].strip(), "start")
    end = _clock(match["end"], "end")
    span(start, end)
    return start, end


def _clock(text: str, name: str) -> float:
    match = _TIME.fullmatch(text)
    if match is None:
        raise BadLine(f"{name} must be a time such as 00:01:02.345, not {show(text)}")
    return clock_seconds(*match.groups())


def _is_rolling(rows: list[tuple[float, float, list[str]]]) -> bool:
    """YouTube's automatic captions: cues that begin with the line before, while the next grows."""
    pairs = list(zip(rows, rows[1:], strict=False))
    repeats = sum(
        bool(a[2] and b[2]) and a[2][-1] == b[2][0] and b[0] - a[1] < 0.5 for a, b in pairs
    )
    return repeats >= 2 and repeats >= 0.4 * len(pairs)


def _rolled_out(
    rows: list[tuple[float, float, list[str]]],
) -> Iterator[tuple[float, float, list[str]]]:
    """Each line once, when it first shows."""
    shown: list[str] = []
    for start, end, lines in rows:
        new = lines
        for count in range(min(len(shown), len(lines)), 0, -1):
            if shown[-count:] == lines[:count]:
                new = lines[count:]
                break
        shown = lines or shown
        if new:
            yield start, end, new
