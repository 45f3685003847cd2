"""Chat logs: JSONL, CSV, TwitchDownloader's chat JSON and Bilibili's danmaku XML."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.parsers import expat

import polars as pl

from contentctr.errors import InputError
from contentctr.rooms.lines import (
    BadLine,
    BadLines,
    Part,
    identifier,
    json_lines,
    load_json,
    parse_seconds,
    read_utf8,
    require_suffix,
    seconds,
    show,
    string,
)
from contentctr.rooms.room import COMMENTS_SCHEMA

SUFFIXES = (".jsonl", ".csv", ".json", ".xml")
_Row = tuple[float, str, str]


def read_comments(path: Path) -> Part:
    """A chat log as a table of COMMENTS_SCHEMA, sorted by time, without exact duplicates.

    Duplicates (same time, user and text) are left out because logs are shipped at least once.

    Args:
        path: .jsonl or .csv with `t`, `user_id` and `text`; .json by TwitchDownloader, where
            deleted users have the id ""; .xml by Bilibili.

    Raises:
        InputError: the file as a whole is unreadable, or more than 1 % of its lines are bad.
    """
    readers = {".jsonl": _jsonl, ".csv": _csv, ".json": _twitch, ".xml": _danmaku}
    suffix = require_suffix(path, "comments", SUFFIXES)
    bad = BadLines(path, "comment" if suffix == ".json" else "line")
    rows = list(readers[suffix](path, bad))
    warnings = bad.warnings(len(rows) + bad.count)
    table = pl.DataFrame(rows, schema=COMMENTS_SCHEMA, orient="row")
    distinct = table.unique(keep="first", maintain_order=True)
    return Part(
        path=path,
        table=distinct.sort("t", maintain_order=True),
        bad_lines=bad.count,
        duplicates=table.height - distinct.height,
        warnings=warnings,
    )


def _jsonl(path: Path, bad: BadLines) -> Iterable[_Row]:
    for number, record in json_lines(path, bad):
        try:
            yield (
                seconds(record.get("t"), "t"),
                identifier(record.get("user_id"), "user_id"),
                string(record.get("text"), "text"),
            )
        except BadLine as reason:
            bad.add(number, str(reason))


def _csv(path: Path, bad: BadLines) -> Iterable[_Row]:
    reader = csv.reader(io.StringIO(read_utf8(path), newline=""), strict=True)
    places: tuple[int, ...] | None = None
    width = 0
    while True:
        first = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            bad.add(first, f"not CSV: {error}", count=reader.line_num - first + 1)
            continue
        if places is None:
            places, width = _places(path, fields), len(fields)
        elif fields:
            try:
                yield _csv_row(fields, places, width)
            except BadLine as reason:
                bad.add(first, str(reason))
    if places is None:
        _places(path, [])


def _places(path: Path, header: list[str]) -> tuple[int, ...]:
    for name in COMMENTS_SCHEMA:
        if header.count(name) != 1:
            raise InputError(
                f"{path}, line 1: must name the column {name!r} once, among others separated by "
                f"commas; it has {show(header)}"
            )
    return tuple(header.index(name) for name in COMMENTS_SCHEMA)


def _csv_row(fields: list[str], places: tuple[int, ...], width: int) -> _Row:
    if len(fields) != width:
        raise BadLine(f"has {len(fields)} fields, the first line {width}")
    t, user_id, text = (fields[place] for place in places)
    return parse_seconds(t, "t"), identifier(user_id, "user_id"), text


def _twitch(path: Path, bad: BadLines) -> Iterable[_Row]:
    whole = load_json(path)
    comments = whole.get("comments") if isinstance(whole, dict) else None
    if not isinstance(comments, list):
        raise InputError(
            f"{path}: must be TwitchDownloader's chat JSON, an object with a list `comments`, not "
            f"{show(whole)}; other chat logs can be comments.jsonl or comments.csv"
        )
    for number, comment in enumerate(comments, start=1):
        try:
            yield _twitch_row(comment)
        except BadLine as reason:
            bad.add(number, str(reason))


def _twitch_row(comment: object) -> _Row:
    if not isinstance(comment, dict):
        raise BadLine(f"must be an object, not {show(comment)}")
    # TwitchDownloader writes null for users that are gone.
    commenter = comment.get("commenter") or {}
    message = comment.get("message")
    if not isinstance(commenter, dict):
        raise BadLine(f"commenter must be an object, not {show(commenter)}")
    if not isinstance(message, dict):
        raise BadLine(f"message must be an object, not {show(message)}")
    user_id = commenter.get("_id") or commenter.get("display_name")
    return (
        seconds(comment.get("content_offset_seconds"), "content_offset_seconds"),
        identifier(user_id, "commenter._id") if commenter else "",
        string(message.get("body"), "message.body"),
    )


def _danmaku(path: Path, bad: BadLines) -> Iterable[_Row]:
    handler = _Danmaku(path, bad)
    text = read_utf8(path)
    try:
        handler.parser.Parse(text, True)
    except expat.ExpatError as error:
        raise InputError(
            f"{path}, line {error.lineno}: not XML: {expat.ErrorString(error.code)}"
        ) from None
    return handler.rows


class _Danmaku:
    """Collects `<d p="t,mode,size,color,date,pool,user,id">text</d>`.

    A document type is refused: entities that it declares can grow without bound or name files.
    """

    def __init__(self, path: Path, bad: BadLines) -> None:
        self.rows: list[_Row] = []
        self._path = path
        self._bad = bad
        self._p: str | None = None
        self._text: list[str] = []
        self._line = 0
        self._rooted = False
        self.parser: Any = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text.append

    def _doctype(self, *_: object) -> None:
        raise InputError(
            f"{self._path}, line {self.parser.CurrentLineNumber}: a document type (<!DOCTYPE>) is "
            "not allowed; Bilibili's danmaku files have none"
        )

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if not self._rooted and name != "i":
            raise InputError(
                f"{self._path}, line {self.parser.CurrentLineNumber}: must be Bilibili's danmaku "
                f"XML, whose outermost element is <i>, not <{name}>"
            )
        self._rooted = True
        if name == "d":
            self._p, self._line = attributes.get("p", ""), self.parser.CurrentLineNumber
            self._text.clear()

    def _end(self, name: str) -> None:
        if name != "d" or self._p is None:
            return
        fields, self._p = self._p.split(","), None
        try:
            if len(fields) < 7:
                raise BadLine(f"p must have at least 7 fields, not {len(fields)}")
            row = (
                parse_seconds(fields[0], "p[0] (t)"),
                identifier(fields[6], "p[6] (user)"),
                "".join(self._text),
            )
            self.rows.append(row)
        except BadLine as reason:
            self._bad.add(self._line, str(reason))
