"""Danmaku as XML: Bilibili's, BililiveRecorder's and blrec's, Bilibili's 2.0, and Niconico's.

Elements are looked for one by one and not by an XML parser: recorders crash, are still recording,
write control characters and bare `&`, and are joined with `cat`; that must cost a line, not the
file. No entity is expanded but HTML's own, so that nothing can grow or name a file.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from contentctr.errors import InputError
from contentctr.rooms.chat.log import ChatLog, clean_text
from contentctr.rooms.lines import BadLine, parse_seconds, show

_OPENING = re.compile(r"<(d|sc|gift|guard|toast|chat)(?=[\s/>])")
_ATTRIBUTE = re.compile(r"""\s*([\w:.-]{1,40})\s*=\s*(?:"([^"]*)"|'([^']*)')""")
_END = re.compile(r"\s*(/?)>")
_UNSURE_MS = 1e12
"""A first number of `p` from here on is a row's id: Bilibili's XML 2.0."""


def read_danmaku(log: ChatLog) -> bool:
    """Comments, Super Chats (comments too), gifts and guards (events).

    Returns:
        Whether it is danmaku.

    Raises:
        InputError: another XML, or one with a document type.
    """
    document = log.document
    if document.kind != "xml":
        return False
    if "<!DOCTYPE" in document.head:
        raise InputError(
            f"{document.path}: a document type (<!DOCTYPE>) is not allowed; danmaku files have none"
        )
    known = ("<i>", "<i ", "<packet", "<d ", "<chat ", "<chatserver", "BililiveRecorder")
    if not any(mark in document.head for mark in known):
        root = re.search(r"<([\w:.-]+)", document.text)
        raise InputError(
            f"{document.path}: must be danmaku XML (Bilibili's <i>, Niconico's <packet>), not "
            f"<{root[1] if root else ''}>"
        )
    log.form = "Niconico XML" if "<packet" in document.head else "Bilibili danmaku XML"
    if "BililiveRecorder" in document.head:
        log.form = "BililiveRecorder XML"
    for line, name, attributes, text in _elements(log):
        try:
            _add_element(log, name, attributes, text)
        except BadLine as reason:
            log.bad.add(line, str(reason))
    return True


def _elements(log: ChatLog) -> Iterator[tuple[int, str, dict[str, str], str]]:
    """Line, name, attributes and text of each known element; broken ones go to `log.bad`."""
    text = log.document.text
    starts = list(_OPENING.finditer(text))
    ends = [*(match.start() for match in starts), len(text)][1:]
    line, counted = 1, 0
    for match, after in zip(starts, ends, strict=True):
        line += text.count("\n", counted, match.start())
        counted = match.start()
        place, attributes = match.end(), {}
        while found := _ATTRIBUTE.match(text, place, after):
            attributes[found[1]] = html.unescape(found[2] if found[3] is None else found[3])
            place = found.end()
        end = _END.match(text, place, after)
        if end is None:
            log.bad.add(
                line, f"<{match[1]} is not closed: {show(text[match.start() : after][:60])}"
            )
        elif end[1]:
            yield line, match[1], attributes, ""
        else:
            close = text.find(f"</{match[1]}>", end.end(), after)
            if close < 0:
                log.bad.add(line, f"<{match[1]}> has no end: {show(text[end.end() : after][:60])}")
            else:
                yield line, match[1], attributes, html.unescape(text[end.end() : close])


def _add_element(log: ChatLog, name: str, attributes: dict[str, str], text: str) -> None:
    if name == "d":
        t, user, row_id = _point(attributes)
        log.add(t, user, clean_text(text, "text"), row_id)
        return
    if name == "chat":  # Niconico: hundredths of a second
        user = attributes.get("user_id", "")
        t = parse_seconds(attributes.get("vpos", ""), "vpos") / 100
        log.add(t, user, clean_text(text, "text"), "")
        return
    t = parse_seconds(attributes.get("ts", ""), "ts")
    user = attributes.get("uid") or attributes.get("user", "")
    log.events.append((user, t, "gift"))
    if name == "sc":
        log.add(t, user, clean_text(text, "text"), "")


def _point(attributes: dict[str, str]) -> tuple[float, str, str]:
    """Time, user and row id of a `<d>`, from its attribute p."""
    fields = attributes.get("p", "").split(",")
    if len(fields) < 5:
        raise BadLine(f"p must have at least 5 fields, not {len(fields)}")
    if len(fields) >= 9 and fields[0].isdecimal() and float(fields[0]) >= _UNSURE_MS:
        return parse_seconds(fields[2], "p[2] (ms)") / 1000, fields[8], fields[0]
    t = parse_seconds(fields[0], "p[0] (t)")
    user = fields[6].strip() if len(fields) > 6 else ""
    if user in ("", "0"):  # biliup and others write no user here
        user = attributes.get("uid") or attributes.get("user") or user
    if not user and len(fields) > 6:
        raise BadLine("p[6] (user) is missing")
    row_id = fields[7].strip() if len(fields) > 7 else ""
    return t, user, "" if row_id == "0" else row_id
