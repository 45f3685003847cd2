"""Subtitles and lyrics of other kinds: ASS and SSA, Whisper's TSV, LRC, TTML."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from contentctr.errors import InputError
from contentctr.rooms.lines import BadLine, parse_seconds, show
from contentctr.rooms.moments import clock_seconds
from contentctr.rooms.transcripts.log import Row, Transcript, span

_ASS_TIME = re.compile(r"(-?)(\d{1,5}):(\d{1,2}):(\d{1,2})(?:[.:,](\d{1,6}))?")
_ASS_CODES = re.compile(r"\{[^{}]*\}")
_LRC = re.compile(r"\s*\[(-?)(?:(\d{1,3}):)?(\d{1,3}):(\d{1,2})(?:[.:](\d{1,6}))?\]")
_LRC_TAG = re.compile(r"\[(ar|ti|al|au|by|re|ve|length|offset|la|#)[^\]]*\]", re.IGNORECASE)
_LAST_LINE_S = 5.0
"""LRC lines last until the next one; the last so long."""
_TTML_OFFSET = re.compile(r"(\d+(?:\.\d+)?)(h|m|s|ms|f|t)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def ass_lines(text: str) -> list[tuple[int, dict[str, str]]]:
    """Line number and fields (lower-case names) of each dialogue of an ASS or SSA file."""
    names = ["layer", "start", "end", "style", "name", "marginl", "marginr", "marginv", "effect"]
    names.append("text")
    found, in_events = [], False
    for number, line in enumerate(text.split("\n"), start=1):
        key, _, rest = line.strip().partition(":")
        if line.startswith("["):
            in_events = line.strip().lower() == "[events]"
        elif in_events and key == "Format":
            names = [name.strip().lower() for name in rest.split(",")]
        elif in_events and key == "Dialogue":
            found.append((number, dict(zip(names, rest.split(",", len(names) - 1), strict=False))))
    return found


def ass_span(fields: dict[str, str]) -> tuple[float, float]:
    """Start and end of a dialogue in seconds.

    Raises:
        BadLine: they are no times.
    """
    times = []
    for name in ("start", "end"):
        match = _ASS_TIME.fullmatch(fields.get(name, "").strip())
        if match is None:
            raise BadLine(f"{name} must be a time such as 0:01:02.34, not {show(fields.get(name))}")
        times.append(clock_seconds(*match.groups()))
    return span(times[0], times[1])


def ass_text(text: str) -> str:
    """A dialogue's text without its codes; a drawing has none."""
    if re.search(r"\{[^{}]*\\p[1-9]", text):
        return ""
    plain = _ASS_CODES.sub("", text)
    return " ".join(re.sub(r"\\[Nnh]", " ", plain).split())


def is_ass(text: str) -> bool:
    """Whether a text is ASS or SSA."""
    return text.lstrip().lower().startswith("[script info]") or "\n[Events]" in text[:65536]


def read_ass(transcript: Transcript) -> bool:
    """ASS and SSA.

    Returns:
        Whether it is one.
    """
    if not is_ass(transcript.document.text):
        return False
    transcript.form = "ASS subtitles"
    for number, fields in ass_lines(transcript.document.text):
        try:
            transcript.utterances.append([(*ass_span(fields), ass_text(fields.get("text", "")))])
        except BadLine as reason:
            transcript.bad.add(number, str(reason))
    return True


def read_tsv(transcript: Transcript) -> bool:
    """Whisper's TSV: start and end in milliseconds, text.

    Returns:
        Whether it is one.
    """
    lines = list(transcript.document.lines())
    if not lines or lines[0][1].split("\t")[:3] != ["start", "end", "text"]:
        return False
    transcript.form = "Whisper TSV"
    for number, line in lines[1:]:
        try:
            fields = line.split("\t", 2)
            if len(fields) < 3:
                raise BadLine(f"must have start, end and text, and has {len(fields)} fields")
            start, end = (parse_seconds(fields[i], ("start", "end")[i]) for i in (0, 1))
            times = span(start / 1000, end / 1000)
            transcript.utterances.append([(*times, fields[2])])
        except BadLine as reason:
            transcript.bad.add(number, str(reason))
    return True


def read_lrc(transcript: Transcript) -> bool:
    """LRC: `[mm:ss.xx]text`; a line lasts until the next.

    Returns:
        Whether it is one.
    """
    lines = list(transcript.document.lines())
    timed = [line for _, line in lines if _LRC.match(line.strip())]
    tags = [line for _, line in lines if _LRC_TAG.match(line.strip())]
    if not timed or 2 * (len(timed) + len(tags)) < len(lines):
        return False
    transcript.form = "LRC"
    offset = re.search(r"\[offset:\s*([+-]?\d{1,9})\s*\]", transcript.document.head)
    shift = -int(offset[1]) / 1000 if offset else 0.0  # a positive offset shows text earlier
    starts: list[tuple[float, str]] = []
    for number, line in lines:
        times, place = [], 0
        while match := _LRC.match(line, place):
            times.append(clock_seconds(*match.groups()))
            place = match.end()
        text = line[place:].strip()
        if not times and not _LRC_TAG.match(text):
            transcript.bad.add(
                number, f"must begin with a time such as [01:02.34], not {show(text)}"
            )
        starts += [(time + shift, re.sub(r"<[\d:.]+>", "", text)) for time in times]
    starts.sort(key=lambda row: row[0])
    ends = [start for start, _ in starts[1:]]
    for (start, text), end in zip(
        starts, [*ends, *(s + _LAST_LINE_S for s, _ in starts[-1:])], strict=True
    ):
        transcript.utterances.append([(max(start, 0.0), max(end, 0.0), text)])
    return True


def read_ttml(transcript: Transcript) -> bool:
    """TTML and DFXP: `<p begin= end=>`.

    Returns:
        Whether it is one.

    Raises:
        InputError: it is XML of another kind, damaged, or has a document type.
    """
    document = transcript.document
    if document.kind != "xml":
        return False
    if "<!DOCTYPE" in document.text or "<!ENTITY" in document.text:
        raise InputError(f"{document.path}: a document type (<!DOCTYPE>) is not allowed")
    try:
        root = ET.fromstring(document.text)
    except ET.ParseError as error:
        raise InputError(f"{document.path}, line {error.position[0]}: not XML: {error}") from None
    if root.tag.rpartition("}")[2] not in ("tt", "timedtext", "transcript"):
        raise InputError(
            f"{document.path}: no reader of speech knows XML whose outermost element is "
            f"<{root.tag.rpartition('}')[2]}>; known is TTML (<tt>)"
        )
    transcript.form = "TTML"
    rates = {key.rpartition("}")[2]: value for key, value in root.attrib.items()}
    paragraphs = [e for e in root.iter() if e.tag.rpartition("}")[2] in ("p", "text")]
    for number, element in enumerate(paragraphs, start=1):
        try:
            row = _ttml_row(element, rates)
        except BadLine as reason:
            transcript.bad.add(number, str(reason))
        else:
            transcript.utterances.append([row])
    return True


def _ttml_row(element: ET.Element, rates: dict[str, str]) -> Row:
    given = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
    begin = given.get("begin", given.get("start", ""))
    start = _ttml_time(begin, "begin", rates)
    if "end" in given:
        end = _ttml_time(given["end"], "end", rates)
    else:
        end = start + _ttml_time(given.get("dur", "0s"), "dur", rates)
    words = []
    for part in element.iter():
        words.append(" " if part.tag.rpartition("}")[2] == "br" else part.text or "")
        words.append(part.tail or "" if part is not element else "")
    return (*span(start, end), " ".join("".join(words).split()))


def _ttml_time(text: str, name: str, rates: dict[str, str]) -> float:
    frame_rate = _rate(rates.get("frameRate"), 30.0)
    match = _TTML_OFFSET.fullmatch(text.strip())
    if match is not None:
        units = {**_UNITS, "f": 1 / frame_rate, "t": 1 / _rate(rates.get("tickRate"), frame_rate)}
        return float(match[1]) * units[match[2]]
    clock = _ASS_TIME.fullmatch(text.strip())
    if clock is not None:
        return clock_seconds(*clock.groups())
    return parse_seconds(text, name)


def _rate(text: str | None, default: float) -> float:
    return float(text) if text and re.fullmatch(r"[1-9]\d{0,9}", text) else default
