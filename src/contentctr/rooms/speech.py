"""Speech: SRT, WebVTT, Whisper's JSON and JSONL."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from contentctr.errors import InputError
from contentctr.rooms.lines import (
    BadLine,
    BadLines,
    Part,
    json_lines,
    load_json,
    read_utf8,
    require_suffix,
    seconds,
    show,
    string,
)
from contentctr.rooms.room import SPEECH_SCHEMA

SUFFIXES = (".srt", ".vtt", ".json", ".jsonl")
_Row = tuple[float, float, str]
_Block = list[tuple[int, str]]
"""Lines without an empty one between them, each with its number."""

_TIME = re.compile(r"(?:(\d{1,5}):)?([0-5]?\d):([0-5]?\d)[.,](\d{1,3})")
_MARKUP = re.compile(
    r"</?(?:b|i|u|s|c|v|lang|ruby|rt|font)(?:[.\s][^<>]*)?>"  # tags of SRT and WebVTT
    r"|<\d+:[\d:.]+>"  # WebVTT's times inside a cue
    r"|\{\\[^{}]*\}"  # positions that SRT takes over from SSA
)


def read_speech(path: Path) -> Part:
    """Speech as a table of SPEECH_SCHEMA, sorted by start. Utterances without text are left out.

    Args:
        path: .srt, .vtt, .jsonl with `start`, `end` and `text`, or Whisper's .json. Where Whisper
            timed every word of a segment, each word is a row of its own whose start and end are
            both the middle of the word, so that a word is never cut.

    Raises:
        InputError: the file as a whole is unreadable, or more than 1 % of its cues are bad.
    """
    readers = {".srt": _srt, ".vtt": _vtt, ".json": _whisper, ".jsonl": _jsonl}
    suffix = require_suffix(path, "speech", SUFFIXES)
    bad = BadLines(path, "segment" if suffix == ".json" else "line")
    groups = list(readers[suffix](path, bad))
    warnings = bad.warnings(len(groups) + bad.count)
    rows = [(a, b, text.strip()) for group in groups for a, b, text in group if text.strip()]
    table = pl.DataFrame(rows, schema=SPEECH_SCHEMA, orient="row")
    return Part(
        path=path,
        table=table.sort("start", maintain_order=True),
        bad_lines=bad.count,
        warnings=warnings,
    )


def _span(
    start: object, end: object, names: tuple[str, str] = ("start", "end")
) -> tuple[float, float]:
    span = seconds(start, names[0]), seconds(end, names[1])
    if span[1] < span[0]:
        raise BadLine(f"{names[1]} ({span[1]:g}) must not be before {names[0]} ({span[0]:g})")
    return span


def _jsonl(path: Path, bad: BadLines) -> Iterator[list[_Row]]:
    for number, record in json_lines(path, bad):
        try:
            span = _span(record.get("start"), record.get("end"))
            yield [(*span, string(record.get("text"), "text"))]
        except BadLine as reason:
            bad.add(number, str(reason))


def _whisper(path: Path, bad: BadLines) -> Iterator[list[_Row]]:
    whole = load_json(path)
    segments = whole.get("segments") if isinstance(whole, dict) else None
    if not isinstance(segments, list):
        raise InputError(
            f"{path}: must be Whisper's JSON, an object with a list `segments`, not {show(whole)}"
        )
    for number, segment in enumerate(segments, start=1):
        try:
            yield _whisper_rows(segment)
        except BadLine as reason:
            bad.add(number, str(reason))


def _whisper_rows(segment: object) -> list[_Row]:
    if not isinstance(segment, dict):
        raise BadLine(f"must be an object, not {show(segment)}")
    words: Any = segment.get("words")
    if not _timed(words):
        span = _span(segment.get("start"), segment.get("end"))
        return [(*span, string(segment.get("text"), "text"))]
    rows = []
    for word in words:
        start, end = _span(word["start"], word["end"], ("words[].start", "words[].end"))
        middle = start + 0.5 * (end - start)
        rows.append((middle, middle, string(word["word"], "words[].word")))
    return rows


def _timed(words: Any) -> bool:
    """Whether there are words and each has its time; aligners leave numbers without."""
    return (
        isinstance(words, list)
        and bool(words)
        and all(
            isinstance(word, dict)
            and all(word.get(key) is not None for key in ("start", "end", "word"))
            for word in words
        )
    )


def _srt(path: Path, bad: BadLines) -> Iterator[list[_Row]]:
    return _cues(_blocks(read_utf8(path)), bad)


def _vtt(path: Path, bad: BadLines) -> Iterator[list[_Row]]:
    blocks = list(_blocks(read_utf8(path)))
    first = blocks[0][0] if blocks else (1, "")
    if not re.match(r"WEBVTT(\s|$)", first[1]):
        raise InputError(
            f"{path}, line {first[0]}: a WebVTT file must start with WEBVTT, not {show(first[1])}"
        )
    cues = (b for b in blocks[1:] if not re.match(r"(NOTE|STYLE|REGION)(\s|$)", b[0][1]))
    for rows in _cues(cues, bad):
        yield [(start, end, html.unescape(text)) for start, end, text in rows]


def _blocks(text: str) -> Iterator[_Block]:
    block: _Block = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            block.append((number, line.strip()))
        elif block:
            yield block
            block = []
    if block:
        yield block


def _cues(blocks: Iterable[_Block], bad: BadLines) -> Iterator[list[_Row]]:
    """A cue a block: maybe a number or a name, then the line of times, then the text."""
    for block in blocks:
        timing = next((i for i, (_, line) in enumerate(block[:2]) if "-->" in line), None)
        try:
            if timing is None:
                raise BadLine(f"a line of times (start --> end) is missing at {show(block[0][1])}")
            span = _cue_times(block[timing][1])
            text = " ".join(line for _, line in block[timing + 1 :])
            yield [(*span, _MARKUP.sub("", text))]
        except BadLine as reason:
            bad.add(block[timing or 0][0], str(reason))


def _cue_times(line: str) -> tuple[float, float]:
    # What follows the end time are the cue's settings.
    before, _, after = line.partition("-->")
    start, end = before.strip(), (after.split() or [""])[0]
    return _span(_clock(start, "start"), _clock(end, "end"))


def _clock(text: str, name: str) -> float:
    match = _TIME.fullmatch(text)
    if match is None:
        raise BadLine(f"{name} must be a time such as 00:01:02.345, not {show(text)}")
    hours, minutes, whole, fraction = match.groups()
    # One division, so that 00:00:30,000 is 30.0 and 00:00:00,300 is 0.3 to the bit.
    total_ms = (int(hours or 0) * 3600 + int(minutes) * 60 + int(whole)) * 1000
    return (total_ms + int(fraction.ljust(3, "0"))) / 1000
