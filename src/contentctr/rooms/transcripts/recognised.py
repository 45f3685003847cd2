"""What recognisers write as JSON: Whisper and its kin, YouTube's json3, Bilibili's BCC, JSONL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from contentctr.errors import InputError
from contentctr.rooms.lines import BadLine, seconds, show, string
from contentctr.rooms.transcripts.log import Row, Transcript, span, word_row

_WORD = ("word", "text")


def read_json(transcript: Transcript) -> bool:
    """Any of the JSON forms, told by the list that it has.

    Returns:
        Whether it is JSON.

    Raises:
        InputError: it is JSON, and none of them.
    """
    document = transcript.document
    if document.kind != "json":
        return False
    whole = document.value
    if isinstance(whole, list):
        transcript.form = "list of segments (faster-whisper)"
        return _read_list(transcript, whole, _segment_rows)
    found = whole if isinstance(whole, dict) else {}
    if isinstance(found.get("segments"), list) and found["segments"]:
        transcript.form = "Whisper JSON"
        return _read_list(transcript, found["segments"], _segment_rows)
    for name, form, rows in (
        ("words", "words with times (OpenAI)", _word_rows),
        ("word_segments", "words with times (WhisperX)", _word_rows),
        ("transcription", "whisper.cpp JSON", _cpp_rows),
        ("events", "YouTube json3", _json3_rows),
        ("body", "Bilibili BCC", _bcc_rows),
        ("chunks", "list of chunks (transformers)", _chunk_rows),
    ):
        if isinstance(found.get(name), list):
            transcript.form = form
            return _read_list(transcript, found[name], rows)
    if isinstance(found.get("segments"), list):
        transcript.form = "Whisper JSON"
        return True
    if {"start", "end", "text"} <= found.keys():
        return _read_list(transcript, [found], _segment_rows)
    has = ", ".join(map(str, found)) or show(whole)
    raise InputError(
        f"{document.path}: no reader of speech knows this JSON; known are an object with a list "
        "`segments` (Whisper, WhisperX), `words` (OpenAI), `transcription` (whisper.cpp), `events` "
        f"(json3), `body` (BCC), or a list of segments; it has {has}"
    )


def read_jsonl(transcript: Transcript) -> bool:
    """A segment a line.

    Returns:
        Whether it is JSONL.
    """
    if transcript.document.kind != "jsonl":
        return False
    transcript.form = "JSONL of segments"
    for number, record in transcript.document.records(transcript.bad):
        try:
            transcript.utterances.append(_segment_rows(record))
        except BadLine as reason:
            transcript.bad.add(number, str(reason))
    return True


def _read_list(transcript: Transcript, values: list[Any], rows: Callable[[Any], list[Row]]) -> bool:
    for number, value in enumerate(values, start=1):
        try:
            if not isinstance(value, dict):
                raise BadLine(f"must be an object, not {show(value)}")
            found = rows(value)
        except BadLine as reason:
            transcript.bad.add(number, str(reason))
        else:
            if found:
                transcript.utterances.append(found)
    return True


def _segment_rows(segment: dict[str, Any]) -> list[Row]:
    """A row a word where every word has its time; aligners leave numbers without."""
    words = segment.get("words")
    if isinstance(words, list) and words and all(map(_is_timed, words)):
        try:
            return [row for word in words for row in _word_rows(word)]
        except BadLine:  # a word that ends before it starts: the segment's own times hold
            pass
    times = span(segment.get("start"), segment.get("end"))
    return [(*times, string(segment.get("text"), "text"))]


def _is_timed(word: Any) -> bool:
    return (
        isinstance(word, dict)
        and all(word.get(key) is not None for key in ("start", "end"))
        and any(word.get(key) is not None for key in _WORD)
    )


def _word_rows(word: dict[str, Any]) -> list[Row]:
    name = next((key for key in _WORD if word.get(key) is not None), _WORD[0])
    text = string(word.get(name), f"words[].{name}")
    if word.get("start") is None and word.get("end") is None:
        return []
    return [word_row(word.get("start"), word.get("end"), text)]


def _cpp_rows(part: dict[str, Any]) -> list[Row]:
    offsets = part.get("offsets")
    if not isinstance(offsets, dict):
        raise BadLine(f"offsets must be an object with from and to in ms, not {show(offsets)}")
    start, end = span(offsets.get("from"), offsets.get("to"), ("offsets.from", "offsets.to"))
    return [(start / 1000, end / 1000, string(part.get("text"), "text"))]


def _json3_rows(event: dict[str, Any]) -> list[Row]:
    """A caption's row; none for an event that sets a window or breaks a line."""
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


def _bcc_rows(part: dict[str, Any]) -> list[Row]:
    times = span(part.get("from"), part.get("to"), ("from", "to"))
    return [(*times, string(part.get("content"), "content"))]


def _chunk_rows(part: dict[str, Any]) -> list[Row]:
    times = part.get("timestamp")
    if not isinstance(times, list) or len(times) != 2:
        raise BadLine(f"timestamp must be a list of start and end, not {show(times)}")
    # The last chunk of a cut recording has no end.
    end = times[0] if times[1] is None else times[1]
    return [
        (*span(times[0], end, ("timestamp[0]", "timestamp[1]")), string(part.get("text"), "text"))
    ]
