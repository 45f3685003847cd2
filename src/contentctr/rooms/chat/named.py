"""Chat logs whose fields say what they are: CSV, JSONL and JSON lists, by known or given names."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from contentctr.errors import InputError
from contentctr.rooms.chat.log import ChatLog, clean_text, joined_runs, user_name
from contentctr.rooms.lines import BadLine, show

NAMES = {
    # Seconds from the start come before clock times, and ids before names that may change.
    "t": (
        "t",
        "time_in_seconds",
        "content_offset_seconds",
        "contentOffsetSeconds",
        "offset_seconds",
        "video_offset",
        "offset",
        "seconds",
        "elapsed",
        "elapsedTime",
        "ts",
        "time",
        "timestamp",
        "created_at",
        "createdAt",
        "sent_at",
        "datetime",
        "date",
        "timestamp_ms",
    ),
    "user_id": (
        "user_id",
        "userId",
        "uid",
        "author_id",
        "author.id",
        "authorId",
        "channelId",
        "author.channelId",
        "sender.id",
        "sender_id",
        "user.id",
        "commenter._id",
        "commenter.id",
        "user_name",
        "username",
        "user.name",
        "userName",
        "author.name",
        "author_name",
        "author",
        "sender.username",
        "sender",
        "user",
        "commenter.display_name",
        "login",
        "nickname",
        "nick",
        "name",
        "display_name",
    ),
    "text": (
        "text",
        "message",
        "content",
        "body",
        "msg",
        "message.body",
        "message.text",
        "message.fragments",
        "message.runs",
        "comment",
        "danmaku",
    ),
    "id": ("id", "_id", "message_id", "messageId", "msg_id", "comment_id", "uuid"),
}
"""Names of each field, from the one that is preferred."""
_LOOKED_AT = 50
"""Rows at the beginning that are looked at for the names of fields."""
LISTS = ("comments", "messages", "chat", "data", "items", "edges", "results", "events")
"""Where a JSON object may have its list of comments."""
_DECIMAL_COMMA = re.compile(r"^(\s*[+-]?\d*),(\d+\s*)$")
_COMMENT_TYPES = {
    "text_message",
    "paid_message",
    "chat",
    "message",
    "comment",
    "text",
    "textMessage",
    "reply",
    "superChat",
    "highlighted_message",
    "send_message_in_subscriber_only_mode",
    "send_message_in_r9k_mode",
    "sponsorships_message",
}
"""What `message_type` says of a row that a viewer wrote."""
_GIFT_TYPES = {
    "paid_message",
    "paid_sticker",
    "superChat",
    "superSticker",
    "sponsorships_gift_purchase",
    "sponsorships_gift_purchase_announcement",
    "gift",
    "subgift",
    "mystery_subscription_gift",
}


def read_json_rows(log: ChatLog) -> bool:
    """Read JSONL, or JSON with a list of objects, by the names of their fields.

    Returns:
        Whether it is such a log.
    """
    rows = _json_rows(log)
    if rows is None:
        return False
    rows = [(n, r["node"] if isinstance(r.get("node"), dict) else r) for n, r in rows]
    found: dict[str, str] = {}
    for _, record in rows[:_LOOKED_AT]:
        found = {**_fields(log, record), **found}
    if rows and not {"t", "text"} <= found.keys():
        return False
    log.form = "comments as JSON by names of fields"
    for number, record in rows:
        try:
            lacks = any(_lookup(record, path) is None for path in found.values())
            _add_record(log, record, {**found, **_fields(log, record)} if lacks else found)
        except BadLine as reason:
            log.bad.add(number, str(reason))
    return True


def read_csv(log: ChatLog) -> bool:
    """Read a CSV (by commas, semicolons or tabs) by the names in its first line.

    Returns:
        Whether its first line names a time and a text.
    """
    first = next((line for _, line in log.document.lines()), "")
    delimiter = max(
        (",", ";", "\t"), key=lambda mark: (len(_places(log, first, mark)), mark == ",")
    )
    places = _places(log, first, delimiter)
    if not {"t", "text"} <= places.keys():
        return False
    log.form = "comments as CSV"
    header = _split(first, delimiter)
    twice = [header[place] for place in places.values() if header.count(header[place]) > 1]
    if twice:
        raise InputError(f"{log.document.path}, line 1: names the column {twice[0]!r} twice")
    if "user_id" not in places:
        log.warnings.append(
            f"{log.document.path}: no column says who wrote a comment: all count as one unknown "
            f"user (it has {show(header)}; name it with --columns user_id=NAME)"
        )
    for number, fields in _csv_rows(log, delimiter):
        try:
            if len(fields) != len(header):
                raise BadLine(f"has {len(fields)} fields, the first line {len(header)}")
            row = {name: fields[place] for name, place in places.items()}
            if delimiter != ",":  # where commas part no cells, 0,5 is a half
                row["t"] = _DECIMAL_COMMA.sub(r"\1.\2", row["t"])
            log.add(
                log.axis.seconds(row["t"], header[places["t"]]),
                _user(row["user_id"]) if "user_id" in row else "",
                clean_text(row["text"], "text"),
                row.get("id", ""),
            )
        except BadLine as reason:
            log.bad.add(number, str(reason))
    return True


def require_names(log: ChatLog) -> InputError:
    """The error for a log whose time or text no known name has."""
    document = log.document
    if document.kind in ("json", "jsonl"):
        record = next((record for _, record in _json_rows(log) or ()), {})
        has = ", ".join(map(str, record)) or show(document.text[:60])
    else:
        has = show(next((line for _, line in document.lines()), ""))
    return InputError(
        f"{document.path}: no reader of chat knows this form; a table or JSONL of comments needs a "
        f"time and a text (t, text; or --columns t=NAME,text=NAME,user_id=NAME), and this has {has}"
    )


def _json_rows(log: ChatLog) -> Iterable[tuple[int, dict[str, Any]]] | None:
    document = log.document
    if document.kind == "jsonl":
        return document.records(log.bad)
    if document.kind != "json":
        return None
    value = document.value
    for _ in range(4):  # {"data": {"messages": [...]}}
        if not isinstance(value, dict):
            break
        inner = next((value[k] for k in LISTS if isinstance(value.get(k), (list, dict))), None)
        if inner is None:
            break
        value = inner
    if isinstance(value, dict):
        return document.records(log.bad) if _fields(log, value) else None
    return _objects(log, value) if isinstance(value, list) else None


def _objects(log: ChatLog, values: list[Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, value in enumerate(values, start=1):
        if isinstance(value, dict):
            yield number, value
        else:
            log.bad.add(number, f"must be an object, not {show(value)}")


def _fields(log: ChatLog, record: dict[str, Any]) -> dict[str, str]:
    """Which field of a record is what, the user's own names first."""
    found = {}
    for what, names in NAMES.items():
        given = (log.names[what],) if what in log.names else names
        path = next((path for path in given if _scalar(_lookup(record, path), what)), None)
        if path is not None:
            found[what] = path
    return found


def _scalar(value: Any, what: str) -> bool:
    if what == "text":
        return isinstance(value, str) or (isinstance(value, list) and bool(joined_runs(value)))
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


def _lookup(record: Any, path: str) -> Any:
    if isinstance(record, dict) and path in record:
        return record[path]
    head, _, rest = path.partition(".")
    return _lookup(record.get(head), rest) if rest and isinstance(record, dict) else None


def _add_record(log: ChatLog, record: dict[str, Any], found: dict[str, str]) -> None:
    kind = record.get("message_type", record.get("type"))
    t_name = found.get("t", log.names.get("t", "t"))
    given = _lookup(record, t_name)
    t = log.axis.seconds(given, t_name)
    user = _user(_lookup(record, found["user_id"])) if "user_id" in found else ""
    if isinstance(kind, str) and kind in _GIFT_TYPES:
        log.events.append((user, t, "gift"))
    text = _lookup(record, found["text"]) if "text" in found else None
    if isinstance(text, list):
        text = joined_runs(text)
    if text is None and isinstance(kind, str) and kind in _GIFT_TYPES:
        return
    # Only chat-downloader's message_type says what a row is; others' `type` may be anything.
    if "message_type" in record and isinstance(kind, str) and kind not in _COMMENT_TYPES:
        log.left_out[f"messages of type {kind[:40]}"] += 1
        return
    row_id = _lookup(record, found["id"]) if "id" in found else ""
    log.add(t, user, clean_text(text, found.get("text", "text")), str(row_id))


def _user(value: Any) -> str:
    """A user's id or name, which every row has where any has."""
    user = user_name(value, "user_id")
    if not user:
        raise BadLine("user_id is missing")
    return user


def _places(log: ChatLog, line: str, delimiter: str) -> dict[str, int]:
    header = _split(line, delimiter)
    lower = [name.lower() for name in header]
    found = {}
    for what, names in NAMES.items():
        given = (log.names[what],) if what in log.names else names
        place = next((lower.index(name.lower()) for name in given if name.lower() in lower), None)
        if place is not None:
            found[what] = place
    return found


def _split(line: str, delimiter: str) -> list[str]:
    try:
        return [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]
    except csv.Error:  # a field longer than any name
        return []


def _csv_rows(log: ChatLog, delimiter: str) -> Iterator[tuple[int, Sequence[str]]]:
    """Rows after the first, each with the number of the line where it begins."""
    text = log.document.text
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    header_seen = False
    while True:
        first = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            log.bad.add(first, f"not CSV: {error}", count=reader.line_num - first + 1)
            continue
        if fields and header_seen:
            yield first, fields
        header_seen = header_seen or bool(fields)
