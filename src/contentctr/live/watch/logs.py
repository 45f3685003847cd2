"""Chats and transcripts that are still being written, read by the readers of `predict`.

A log that has changed is read again as a whole, so that its form, its duplicates and its order are
those of the whole log. Only a long chat of lines is read on from where it was, a few megabytes at a
time: what a reader must see to know the form, the chat's beginning, stands before each piece.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import polars as pl

from contentctr.counting import counted
from contentctr.errors import InputError
from contentctr.rooms.chat.log import ChatLog
from contentctr.rooms.comments import chat_events, chat_rows, distinct_comments, read_chat
from contentctr.rooms.document import GZIP, MAX_TEXT_BYTES, Document, document_of
from contentctr.rooms.lines import Part
from contentctr.rooms.moments import TimeAxis
from contentctr.rooms.room import COMMENTS_SCHEMA, SPEECH_SCHEMA
from contentctr.rooms.speech import speech_of

PIECE_BYTES = 4 << 20
"""A longer rest of a chat of lines is put away once it was read."""
_HEAD_BYTES = 1 << 16
_ENOUGH_BYTES = 4096
"""A shorter log that no reader knows may become one that is known."""
_WRITTEN_S = 1.0
"""A last line without its end is still being written, unless nothing has come for so long."""


@dataclass(kw_only=True)
class _Sealed:
    """The part of a chat that is not read again."""

    rows: list[pl.DataFrame] = field(default_factory=list)
    events: list[tuple[str, float, str]] = field(default_factory=list)
    end: int = 0
    """Bytes of it."""
    bad: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


class GrowingLog:
    """A chat or a transcript that may still be written.

    Args:
        path: its file, which must be there; it may be empty.
        part: what it is.
        axis: when the room started, for clock times in a chat.
        names: the user's own names of columns in a chat.
        report: given each line that the user should see.

    Raises:
        InputError: there is no such file, or it is long enough and of no form that is known.
    """

    def __init__(
        self,
        path: Path,
        part: Literal["comments", "speech"],
        *,
        axis: TimeAxis | None = None,
        names: Mapping[str, str] | None = None,
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        if not path.exists():
            raise InputError(
                f"{path}: no such file; one that is still to come must be there, empty "
                f"(touch {path.name})"
            )
        if path.is_dir():
            raise InputError(f"{path}: must be a file, not a folder")
        if not path.is_file():
            raise InputError(f"{path}: must be a file: a pipe cannot be read again")
        self._path, self._is_chat, self._report = path, part == "comments", report
        self._axis, self._names = axis, names
        self._time = "t" if self._is_chat else "start"
        self._state: tuple[int, int, bool] | None = None
        self._sealed = _Sealed()
        schema = COMMENTS_SCHEMA if self._is_chat else SPEECH_SCHEMA
        self._part = Part(path=path, table=pl.DataFrame(schema=schema))
        self._fault = ""
        self._known = False
        """Whether the user was told what the log is."""
        self._given = 0
        self._given_s = 0.0
        self.poll()
        if self._fault and path.stat().st_size >= _ENOUGH_BYTES:
            raise InputError(self._fault)

    def poll(self, *, whole: bool = False) -> None:
        """Read what has come since.

        Args:
            whole: whether no more comes: a last line without its end is all of it.
        """
        try:
            now = self._path.stat()
            whole = whole or time.time() - now.st_mtime >= _WRITTEN_S
            state = now.st_size, now.st_mtime_ns, whole
            if state == self._state:
                return
            self._state = state
            part = self._read_chat(whole) if self._is_chat else self._read_speech(whole)
        except (OSError, InputError) as error:
            # A file that is written anew is not whole for a moment: what was read before holds.
            self._fail(str(error))
            return
        if self._fault and self._known:
            self._report(f"{self._path}: is read again")
        self._fault, self._part = "", part
        if not self._known and part.table.height:
            self._known = True
            self._report(f"{self._path}: {part.form}; {_span(part.table[self._time])} so far")

    def between(self, start_s: float, end_s: float) -> pl.DataFrame:
        """Rows that begin before `end_s` and end after `start_s`; they are given with this."""
        begin, end = pl.col(self._time), pl.col(self._time if self._is_chat else "end")
        rows = self._part.table.filter((begin >= 0) & (begin < end_s) & (end >= start_s))
        self._given += rows.filter(begin >= start_s).height
        self._given_s = end_s
        return rows

    def gifts_between(self, start_s: float, end_s: float) -> pl.DataFrame | None:
        """Gifts of [start_s, end_s) that a chat tells of; None if it has told of none till then."""
        events, t = self._part.events, pl.col("t")
        if events is None or not (gifts := events.filter((t >= 0) & (t < end_s))).height:
            return None
        return gifts.filter(t >= start_s)

    def reaches(self, moment_s: float) -> bool:
        """Whether it has a row of then, or of later."""
        table = self._part.table
        return bool((table[self._time] >= moment_s).any())

    def finish(self) -> None:
        """Say what became of all its rows.

        Raises:
            InputError: it could not be read up to the end.
        """
        self.poll(whole=True)
        if self._fault:
            raise InputError(self._fault)
        part = self._part
        times = part.table[self._time]
        inside = int(((times >= 0) & (times < self._given_s)).sum())
        counts = {
            "used": self._given,
            "too late": max(inside - self._given, 0),
            f"outside [0, {self._given_s:g}) s": part.table.height - inside,
            "bad": part.bad_lines,
            "duplicates": part.duplicates,
            **part.left_out,
        }
        said = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        self._report(f"{self._path}: {part.form or 'empty'}; rows: {said or 'none'}")
        if part.table.height and inside < part.table.height / 2:
            self._report(
                f"{self._path}: most of its rows lie outside what was watched: "
                f"{_span(times)}; times must be seconds from the room's start (milliseconds? "
                "another room's log? a wrong --started-at?)"
            )
        for line in part.warnings:
            self._report(line)

    def _fail(self, reason: str) -> None:
        if self._fault == "":
            self._report(f"{reason}; it is looked at again with every segment")
        self._fault = reason

    def _read_speech(self, whole: bool) -> Part:
        document = self._document(self._path.read_bytes()[: MAX_TEXT_BYTES + 1], whole)
        return speech_of(document)

    def _read_chat(self, whole: bool) -> Part:
        sealed = self._sealed
        if self._path.stat().st_size < sealed.end:  # it was written anew
            sealed = self._sealed = _Sealed()
        with self._path.open("rb") as file:
            head = file.read(_HEAD_BYTES) if sealed.end else b""
            head = head[: _whole_rows(head, self._part.form)]
            file.seek(sealed.end)
            data = file.read(MAX_TEXT_BYTES + 1)
        log = self._log(head, data, whole)
        # A log that is mostly bad is refused, as `predict` does.
        warnings = log.bad.warnings(len(log.comments) + len(log.events) + log.bad.count)
        table = pl.concat([*sealed.rows, chat_rows(log)])
        distinct = distinct_comments(table)
        part = Part(
            path=self._path,
            table=distinct,
            bad_lines=sealed.bad + log.bad.count,
            duplicates=table.height - distinct.height,
            # Numbers of lines in a later piece are not those of the log.
            warnings=[*([] if head else warnings), *log.warnings],
            form=log.form,
            left_out=dict(sealed.left_out + _left_out(log)),
            events=chat_events([*sealed.events, *log.events]),
        )
        if len(data) > PIECE_BYTES:
            self._seal(log, head, data)
        return part

    def _seal(self, log: ChatLog, head: bytes, data: bytes) -> None:
        """Put away what was read of a chat of lines, up to the last one that is whole."""
        cut = _whole_rows(data, log.form)
        begin = head or data[: _whole_rows(data[:_HEAD_BYTES], log.form)]
        if data.startswith(GZIP) or log.document.kind == "json" or not (cut and begin):
            return
        try:
            read_chat(self._document(begin, True), self._axis, self._names)
            log = self._log(head, data[:cut], True)
        except InputError:
            return  # its beginning alone does not tell its form: it is read as a whole
        sealed = self._sealed
        sealed.rows.append(chat_rows(log))
        sealed.events += log.events
        sealed.end += cut
        sealed.bad += log.bad.count
        sealed.left_out += _left_out(log)

    def _log(self, head: bytes, data: bytes, whole: bool) -> ChatLog:
        """The rows of `data` alone, which follows on `head` or on more than that."""
        log = read_chat(self._document(head + data, whole), self._axis, self._names)
        if head:
            before = read_chat(self._document(head, True), self._axis, self._names)
            del log.comments[: len(before.comments)], log.events[: len(before.events)]
            log.bad.count -= before.bad.count
            log.left_out -= before.left_out
        return log

    def _document(self, data: bytes, whole: bool) -> Document:
        try:
            document = document_of(self._path, data)
        except InputError:
            if whole:
                raise
            # A character may be cut in two where the file ends now.
            return document_of(self._path, data[: data.rfind(b"\n") + 1])
        cut = document.text.rfind("\n") + 1
        if whole or cut == len(document.text) or document.kind == "json":
            return document
        return Document(self._path, document.text[:cut])  # its last line is still being written


def _whole_rows(data: bytes, form: str) -> int:
    """Where the last whole row ends."""
    end = data.rfind(b"\n") + 1
    while form == "comments as CSV" and data.count(b'"', 0, end) % 2:
        end = data.rfind(b"\n", 0, end - 1) + 1  # not inside a quoted cell
    return end


def _left_out(log: ChatLog) -> Counter[str]:
    return log.left_out + Counter({"gifts": len(log.events)})


def _span(times: pl.Series) -> str:
    rows = counted(times.len(), "row")
    first, last = (float(t or 0) for t in times.sort().gather([0, -1]))
    return f"{rows}, from {first:.1f} to {last:.1f} s"
