"""What a file is, told by its content, where nobody says it."""

from __future__ import annotations

import codecs
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from contentctr.errors import InputError
from contentctr.rooms import events
from contentctr.rooms.chat import named
from contentctr.rooms.document import BYTE_ORDER_MARKS, GZIP
from contentctr.rooms.inspection.facts import Kind
from contentctr.rooms.parts import SUFFIXES, part_by_content

_HEAD = 1 << 16
_SUBTITLES = (".srt", ".vtt", ".lrc", ".ttml", ".dfxp", ".json3", ".bcc")
_ENDINGS = {*SUFFIXES["comments"], *SUFFIXES["speech"]}
_IMAGES = (
    (b"\x89PNG", 0),
    (b"\xff\xd8\xff", 0),
    (b"GIF8", 0),
    (b"WEBP", 8),
    (b"BM", 0),
)
_KLM3 = "a table of KuaiLive-M3: `contentctr prepare klm3` reads the folder of them"
_OTHER_TABLES = (
    ({"arm", "clicked"}, "exposures of an A/B test: `contentctr abtest` reads them"),
    ({"streamer_id", "clicked"}, "watch logs: `contentctr pretrain streamer` reads them"),
    ({"live_id"}, _KLM3),
    ({"live_stream_id"}, _KLM3),
)
"""Columns by which tables are known that are no part of a room, and what they are."""
_CELLS = re.compile(r"[,;|\t]")
_CUE_TEXT = re.compile(r"-->[^\n]*\n([^\n]+)")
_NAMED = re.compile(r"([^:\uff1a]{1,40})[:\uff1a]\s*\S")
_NAMES_OF_CHAT = 5
"""Subtitles in which at least so many names speak are chat: a transcript has few speakers."""
_ALL: tuple[Kind, ...] = ("comments", "speech", "events", "columns")


class OtherTableError(InputError):
    """A table that another command reads; its message says which."""


@dataclass(frozen=True)
class Told:
    """What a file may be, the likeliest first."""

    kinds: Sequence[Kind]
    by: str
    """By what that was told."""


def tell_file(path: Path, own: Mapping[str, str] | None = None) -> Told:
    """What a file is: a video, or a part of a room.

    Args:
        path: the file.
        own: the user's own names of columns, by field.

    Raises:
        InputError: it cannot be read, or is something else: says what.
    """
    try:
        with path.open("rb") as handle:
            raw = handle.read(_HEAD)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if not raw:
        raise InputError(f"{path}: is empty")
    if raw.startswith(b"#EXTM3U"):
        return Told(["video"], "a playlist")
    if raw.startswith(b"PAR1"):
        return _tell_names(path, _parquet_names(path), own) or Told(_ALL[2:], "being Parquet")
    text = _text(raw)
    if text is not None:
        return _tell_text(path, text, own)
    if any(raw[at : at + len(magic)] == magic for magic, at in _IMAGES):
        raise InputError(
            f"{path}: is an image; a room's images stand in its frames/, named by their second"
        )
    return Told(["video"], "its content")


def _text(raw: bytes) -> str | None:
    """The beginning as text; None where it is none."""
    if raw.startswith(GZIP):
        try:
            raw = zlib.decompressobj(wbits=31).decompress(raw, _HEAD)
        except zlib.error:
            return ""
    for mark, encoding in BYTE_ORDER_MARKS:
        if raw.startswith(mark):
            decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
            return decoder.decode(raw[len(mark) :])
    return None if b"\0" in raw else raw.decode("utf-8", errors="replace")


def _parquet_names(path: Path) -> list[str]:
    try:
        return list(pl.scan_parquet(path.absolute(), glob=False).collect_schema())
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        reason = str(error).split("\n", 1)[0]
        raise InputError(f"{path}: not a readable Parquet file ({reason})") from None


def _tell_text(path: Path, text: str, own: Mapping[str, str] | None) -> Told:
    ending = _ending(path)
    if ending in _SUBTITLES or re.match(r"\s*(WEBVTT|\d+\s*\n\s*-?\d+:\d)", text):
        if _is_chat(text):
            return Told(["comments", "speech"], "the many names in it")
        return Told(["speech", "comments"], "its content")
    if text.lstrip()[:1] not in ("{", "[", "<"):
        first = next((line for line in text.splitlines() if line.strip()), "")
        names = [cell.strip(' "') for cell in _CELLS.split(first)]
        told = _tell_names(path, names, own)
        if told is not None:
            return told
    part = part_by_content(ending if ending in _ENDINGS else _usual_ending(text), text)
    if part == "speech":
        return Told(["speech", "comments"], "its content")
    return Told(_ALL, "its content")


def _usual_ending(text: str) -> str:
    """What a text's name would end in, by its first character."""
    begin = text.lstrip()
    if begin.startswith("[Script Info]"):
        return ".ass"
    return {"{": ".json", "[": ".json", "<": ".xml"}.get(begin[:1], ".txt")


def _is_chat(text: str) -> bool:
    """Whether subtitles are danmaku: nearly every cue begins with a name, of which many differ."""
    cues = _CUE_TEXT.findall(text)
    found = [match[1] for cue in cues if (match := _NAMED.match(cue)) is not None]
    return len(set(found)) >= _NAMES_OF_CHAT and len(found) >= 0.9 * len(cues)


def _tell_names(path: Path, given: Sequence[str], own: Mapping[str, str] | None) -> Told | None:
    """What a table is by the names of its columns; None where they are not known."""
    names = {name.strip().lower() for name in given}
    for known, what in _OTHER_TABLES:
        if known <= names:
            raise OtherTableError(f"{path}: no part of a room, but {what}")
    names |= {field for field, name in (own or {}).items() if name.strip().lower() in names}
    by = "its columns"
    if {"start", "end", "text"} <= names:
        return Told(["speech"], by)
    if not names & {"t", *events.NAMES["t"], *(name.lower() for name in named.NAMES["t"])}:
        return None
    if names & ({name.lower() for name in named.NAMES["text"]} - {"comment", "danmaku"}):
        return Told(["comments"], by)
    if names & {"kind", *events.NAMES["kind"]} and names & {"user_id", *events.NAMES["user_id"]}:
        return Told(["events"], by)
    return Told(["columns"], by)


def _ending(path: Path) -> str:
    name = path.name.lower()
    while name.endswith((".gz", ".part")):
        name = name.rpartition(".")[0]
    return Path(name).suffix
