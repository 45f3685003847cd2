"""Danmaku that was converted to subtitles: ASS and SRT."""

from __future__ import annotations

import re

from contentctr.rooms.chat.log import ChatLog, clean_text
from contentctr.rooms.lines import BadLine
from contentctr.rooms.transcripts.cues import read_cues
from contentctr.rooms.transcripts.log import Transcript
from contentctr.rooms.transcripts.others import ass_lines, ass_span, ass_text, is_ass

_USER = re.compile(r"([^:\uff1a]{1,40})[:\uff1a]\s*(.+)", re.DOTALL)


def read_subtitles(log: ChatLog) -> bool:
    """A comment a dialogue or cue, at its start; `user: text` where nearly all are so.

    Returns:
        Whether it is ASS or SRT.
    """
    rows = _ass_rows(log) if is_ass(log.document.text) else _srt_rows(log)
    if rows is None:
        return False
    parted = [_USER.fullmatch(text) for _, user, text in rows if not user]
    has_users = bool(parted) and sum(match is not None for match in parted) >= 0.9 * len(parted)
    nameless = 0
    for start, user, text in rows:
        match = _USER.fullmatch(text) if has_users and not user else None
        if match is not None:
            user, text = match[1].strip(), match[2]
        nameless += not user
        log.add(start, user, clean_text(text, "text"))
    if nameless:
        log.warnings.append(
            f"{log.document.path}: subtitles do not say who wrote a comment: {nameless} count as "
            "one unknown user"
        )
    return True


def _ass_rows(log: ChatLog) -> list[tuple[float, str, str]]:
    log.form = "danmaku as ASS"
    rows = []
    for number, fields in ass_lines(log.document.text):
        try:
            start, _ = ass_span(fields)
        except BadLine as reason:
            log.bad.add(number, str(reason))
            continue
        rows.append((start, fields.get("name", "").strip(), ass_text(fields.get("text", ""))))
    return rows


def _srt_rows(log: ChatLog) -> list[tuple[float, str, str]] | None:
    transcript = Transcript(document=log.document)
    if log.document.kind != "text" or not read_cues(transcript):
        return None
    log.form = "danmaku as SRT"
    log.bad = transcript.bad
    return [(start, "", text) for rows in transcript.utterances for start, _, text in rows]
