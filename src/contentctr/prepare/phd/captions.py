"""Captions of a video, as YouTube's downloaders save them, and the text shown during each frame."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl

from contentctr.errors import InputError
from contentctr.rooms.lines import BadLine, BadLines, Part, load_json, seconds, show
from contentctr.rooms.room import SPEECH_SCHEMA
from contentctr.rooms.speech import SUFFIXES as SPEECH_SUFFIXES
from contentctr.rooms.speech import read_speech

SUFFIXES = (*SPEECH_SUFFIXES, ".json3")


def read_captions(path: Path) -> Part:
    """Captions as a table of SPEECH_SCHEMA, sorted by start; those without text are left out.

    Args:
        path: .srt, .vtt, or one of the others of `read_speech`, or .json3, YouTube's own form: an
            object with a list `events`, each with tStartMs, dDurationMs and its text in pieces.

    Raises:
        InputError: the file is unreadable, or more than 1 % of its captions are bad.
    """
    return _json3(path) if path.suffix.lower() == ".json3" else read_speech(path)


def frame_texts(
    captions: Iterable[tuple[float, float, str]], num_frames: int, frame_rate: float
) -> list[str]:
    """The captions shown during each frame, joined; "" where there are none.

    YouTube's rolling captions repeat a line while the next one grows below it: words that repeat
    the end of what is there already are joined once.

    Args:
        captions: start, end (seconds) and text, sorted by start. One without a length belongs to
            the frame that its start is in.
        num_frames: T.
        frame_rate: frames a second; frame i lasts from i to i + 1 in units of 1 / frame_rate.
    """
    words: list[list[str]] = [[] for _ in range(num_frames)]
    for start, end, text in captions:
        first = math.floor(start * frame_rate)
        last = max(math.ceil(end * frame_rate) - 1, first)
        new = text.split()
        for frame in range(max(first, 0), min(last, num_frames - 1) + 1):
            words[frame] += new[_repeated(words[frame], new) :]
    return [" ".join(frame) for frame in words]


def _repeated(have: Sequence[str], new: Sequence[str]) -> int:
    """How many of the first new words repeat the last ones there."""
    for count in range(min(len(have), len(new)), 0, -1):
        if list(have[-count:]) == list(new[:count]):
            return count
    return 0


def _json3(path: Path) -> Part:
    whole = load_json(path)
    events = whole.get("events") if isinstance(whole, dict) else None
    if not isinstance(events, list):
        raise InputError(f"{path}: must be an object with a list `events`, not {show(whole)}")
    bad = BadLines(path, "event")
    rows = []
    for number, event in enumerate(events, start=1):
        try:
            rows += _event_rows(event)
        except BadLine as reason:
            bad.add(number, str(reason))
    return Part(
        path=path,
        table=pl.DataFrame(rows, SPEECH_SCHEMA, orient="row").sort("start", maintain_order=True),
        bad_lines=bad.count,
        warnings=bad.warnings(len(events)),
    )


def _event_rows(event: object) -> list[tuple[float, float, str]]:
    """A caption's row; none for an event that sets a window or breaks a line."""
    if not isinstance(event, dict):
        raise BadLine(f"must be an object, not {show(event)}")
    pieces = event.get("segs")
    if pieces is None:
        return []
    if not (isinstance(pieces, list) and all(isinstance(piece, dict) for piece in pieces)):
        raise BadLine(f"segs must be a list of objects, not {show(pieces)}")
    text = " ".join("".join(str(piece.get("utf8", "")) for piece in pieces).split())
    if not text:
        return []
    start_ms = seconds(event.get("tStartMs"), "tStartMs")
    length_ms = seconds(event.get("dDurationMs", 0), "dDurationMs")
    if start_ms < 0 or length_ms < 0:
        raise BadLine(f"tStartMs and dDurationMs must be at least 0, not {start_ms}, {length_ms}")
    return [(start_ms / 1000, (start_ms + length_ms) / 1000, text)]
