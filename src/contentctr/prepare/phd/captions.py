"""Captions of a video, as YouTube's downloaders save them."""

from __future__ import annotations

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
