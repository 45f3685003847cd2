"""Chats of Twitch's recordings: TwitchDownloader's JSON, text and HTML."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

from contentctr.errors import InputError
from contentctr.rooms.chat.log import ChatLog, clean_text, joined_runs, user_name
from contentctr.rooms.lines import BadLine, show

_LINE = re.compile(
    r"\[(?P<time>[^\]]{1,40})\]\s*<?[@+%~&]?(?P<user>[^:>]{1,80})(?:>|:)\s?(?P<text>.*)"
)


def read_downloader_json(log: ChatLog) -> bool:
    """TwitchDownloader's JSON: offsets of comments count from the VOD's start, not the file's.

    Returns:
        Whether it is one.
    """
    whole = log.document.value if log.document.kind == "json" else None
    if not isinstance(whole, dict):
        return False
    comments = whole.get("comments")
    if not isinstance(comments, list) or not _is_downloader(whole, comments):
        return False
    log.form = "TwitchDownloader JSON"
    start = _start(log, whole, comments)
    for number, comment in enumerate(comments, start=1):
        try:
            _add_comment(log, comment, start)
        except BadLine as reason:
            log.bad.add(number, str(reason))
    return True


def _is_downloader(whole: dict[str, Any], comments: list[Any]) -> bool:
    first = next((comment for comment in comments if isinstance(comment, dict)), None)
    if first is None:
        return not comments or isinstance(whole.get("video"), dict)
    return "content_offset_seconds" in first


def _start(log: ChatLog, whole: dict[str, Any], comments: list[Any]) -> float:
    """Where in the VOD the trimmed video, or the clip, begins."""
    video = whole.get("video")
    start = video.get("start") if isinstance(video, dict) else None
    if isinstance(start, bool) or not isinstance(start, (int, float)) or start <= 0:
        return 0.0
    offsets = [c.get("content_offset_seconds") for c in comments if isinstance(c, dict)]
    before = sum(isinstance(offset, (int, float)) and offset < start - 60 for offset in offsets)
    if before > len(offsets) / 2:
        log.warnings.append(
            f"{log.document.path}: its video starts at {start:g} s, and most comments lie before "
            "that: their times are taken as the video's own"
        )
        return 0.0
    log.warnings.append(
        f"{log.document.path}: its video starts {start:g} s into the broadcast: comments are moved "
        "by as much"
    )
    return float(start)


def _add_comment(log: ChatLog, comment: object, start: float) -> None:
    if not isinstance(comment, dict):
        raise BadLine(f"must be an object, not {show(comment)}")
    # Users that are gone are null.
    commenter = comment.get("commenter") or {}
    message = comment.get("message")
    if not isinstance(commenter, dict):
        raise BadLine(f"commenter must be an object, not {show(commenter)}")
    if not isinstance(message, dict):
        raise BadLine(f"message must be an object, not {show(message)}")
    user = commenter.get("_id") or commenter.get("display_name") or commenter.get("name")
    body = message.get("body")
    if body is None and message.get("fragments"):
        body = joined_runs(message["fragments"])
    log.add(
        log.axis.seconds(comment.get("content_offset_seconds"), "content_offset_seconds") - start,
        user_name(user, "commenter._id"),
        clean_text(body, "message.body"),
        str(comment.get("_id") or ""),
    )


def read_text_log(log: ChatLog) -> bool:
    """Lines `[time] user: text`: TwitchDownloader's text, and logs of Chatterino and Chatty.

    Times are seconds from the start (0:01:02), dates and times, or times of day. Two digits of
    hours in all lines mean a time of day where a line says when logging began, or where the first
    is near the room's start.

    Returns:
        Whether half of its lines are such.
    """
    lines = [(n, line.strip()) for n, line in log.document.lines()]
    return read_lines(log, lines)


def read_lines(log: ChatLog, lines: list[tuple[int, str]]) -> bool:
    """The same, of lines that were got elsewhere."""
    notes = [line for _, line in lines if line.startswith("#")]
    found = [(number, _LINE.fullmatch(line), line) for number, line in lines if line[0] != "#"]
    matched = [match for _, match, _ in found if match is not None]
    if not found or 2 * len(matched) < len(found):
        return False
    of_day = _is_time_of_day(log, [match["time"] for match in matched], notes)
    log.form = log.form or ("a chat client's log" if of_day else "TwitchDownloader text")
    last = -43200.0
    for number, match, line in found:
        try:
            if match is None:
                if line.startswith("["):  # joins, notices, "X subscribed": no one's comment
                    log.left_out["lines that nobody wrote"] += 1
                    continue
                raise BadLine(f"must be `[time] user: text`, not {show(line)}")
            if of_day:
                t = last = log.axis.time_of_day(match["time"], "time", after=last - 3600)
            else:
                t = log.axis.seconds(match["time"], "time")
            log.add(t, match["user"].strip(), clean_text(match["text"], "text"))
        except BadLine as reason:
            log.bad.add(number, str(reason))
    return True


def _is_time_of_day(log: ChatLog, times: list[str], notes: list[str]) -> bool:
    if not all(re.fullmatch(r"\d{2}:\d{2}(:\d{2})?(\.\d+)?", time) for time in times):
        return False
    if any(re.search(r"[Ll]og", note) for note in notes):
        return True
    if log.axis.started_at is None:
        return False
    try:
        return abs(log.axis.time_of_day(times[0], "time")) < 3600 < log.axis.seconds(times[0], "t")
    except BadLine:
        return False


class _Lines(HTMLParser):
    """The text of each `<pre class="comment-root">`; an emote is its title or alt text."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[int, str]] = []
        self._words: list[str] | None = None
        self._line = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin a comment, or take an emote's name."""
        values = dict(attrs)
        if tag == "pre" and "comment-root" in (values.get("class") or ""):
            self._words, self._line = [], self.getpos()[0]
        elif tag == "img" and self._words is not None:
            self._words.append(f" {values.get('title') or values.get('alt') or ''} ")

    def handle_endtag(self, tag: str) -> None:
        """End a comment."""
        if tag == "pre" and self._words is not None:
            self.lines.append((self._line, " ".join("".join(self._words).split())))
            self._words = None

    def handle_data(self, data: str) -> None:
        """Text of the comment."""
        if self._words is not None:
            self._words.append(data)


def read_html(log: ChatLog) -> bool:
    """TwitchDownloader's HTML page.

    Returns:
        Whether it is one.

    Raises:
        InputError: it has no comment.
    """
    if log.document.kind != "html":
        return False
    parser = _Lines()
    parser.feed(log.document.text)
    parser.close()
    log.form = "TwitchDownloader HTML"
    lines = [(number, line.replace(" :", ":", 1)) for number, line in parser.lines if line]
    if not lines or not read_lines(log, lines):
        raise InputError(
            f"{log.document.path}: an HTML page without comments of TwitchDownloader "
            '(<pre class="comment-root">); export the chat as JSON'
        )
    return True
