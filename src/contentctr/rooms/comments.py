"""Chat logs, told by their content: see chat/ for the forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import polars as pl

from contentctr.rooms.chat.danmaku import read_danmaku
from contentctr.rooms.chat.log import ChatLog
from contentctr.rooms.chat.named import read_csv, read_json_rows, require_names
from contentctr.rooms.chat.subtitles import read_subtitles
from contentctr.rooms.chat.twitch import read_downloader_json, read_html, read_text_log
from contentctr.rooms.chat.youtube import read_live_chat
from contentctr.rooms.document import Document, read_document
from contentctr.rooms.duplicates import drop_duplicates
from contentctr.rooms.lines import Part
from contentctr.rooms.moments import TimeAxis
from contentctr.rooms.room import COMMENTS_SCHEMA, EVENTS_SCHEMA

_READERS: tuple[Callable[[ChatLog], bool], ...] = (
    read_live_chat,
    read_downloader_json,
    read_json_rows,
    read_danmaku,
    read_html,
    read_subtitles,
    read_text_log,
    read_csv,
)
"""Each reads a form, or says that the log is not of it; in this order."""
SUFFIXES = (".jsonl", ".csv", ".json", ".xml", ".tsv", ".txt", ".log", ".html", ".ass", ".srt")
"""Endings that a chat log in a room folder may have; what it is, its content says."""


def read_comments(
    path: Path, axis: TimeAxis | None = None, names: Mapping[str, str] | None = None
) -> Part:
    """A chat log as a table of COMMENTS_SCHEMA, sorted by time, without duplicates.

    Args:
        path: TwitchDownloader's JSON, text or HTML, Twitch's rechat, yt-dlp's live_chat,
            chat-downloader's JSON, JSONL or CSV, Kick's and others' JSON, danmaku as XML
            (Bilibili, BililiveRecorder, blrec, Niconico), ASS or SRT, Chatterino's and Chatty's
            logs, or a CSV or JSONL with a time, a user and a text under their usual names; gzip
            around it or not. Users that are gone have the id "".
        axis: when the room started, for logs with clock times.
        names: the user's own names of the columns t, text, user_id, id.

    Raises:
        InputError: the file as a whole is unreadable or of no known form, or too many of its
            lines are bad (`BadLines.warnings`).
    """
    log = read_chat(read_document(path), axis, names)
    warnings = log.bad.warnings(len(log.comments) + len(log.events) + log.bad.count)
    table = chat_rows(log)
    distinct = distinct_comments(table)
    if not table.height:
        warnings.append(f"{path}: holds no comment")
    return Part(
        path=path,
        table=distinct,
        bad_lines=log.bad.count,
        duplicates=table.height - distinct.height,
        warnings=warnings + log.warnings,
        form=log.form or "an empty file",
        left_out=dict(log.left_out),
        events=chat_events(log.events),
    )


def read_chat(
    document: Document, axis: TimeAxis | None = None, names: Mapping[str, str] | None = None
) -> ChatLog:
    """A chat log's rows as they stand in it, those that are bad counted; as `read_comments`.

    Raises:
        InputError: it is of no known form.
    """
    log = ChatLog(document=document, axis=axis or TimeAxis(), names=dict(names or {}))
    if document.text.strip() and not any(read(log) for read in _READERS):
        raise require_names(log)
    return log


def chat_rows(log: ChatLog) -> pl.DataFrame:
    """The comments of a log: COMMENTS_SCHEMA and the row's own `id`."""
    return pl.DataFrame(log.comments, schema={**COMMENTS_SCHEMA, "id": pl.String}, orient="row")


def distinct_comments(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows of `chat_rows` as a room has them: COMMENTS_SCHEMA, by time, without duplicates."""
    distinct = drop_duplicates(rows, "t", list(COMMENTS_SCHEMA)).select(list(COMMENTS_SCHEMA))
    return distinct.sort("t", maintain_order=True)


def chat_events(events: Sequence[tuple[str, float, str]]) -> pl.DataFrame | None:
    """What a log tells of gifts, by time, as of EVENTS_SCHEMA; None where it tells of none."""
    if not events:
        return None
    known = [event for event in events if event[0]]
    return pl.DataFrame(known, schema=EVENTS_SCHEMA, orient="row").sort("t", maintain_order=True)
