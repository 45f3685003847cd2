"""What a reader finds in one chat log, whatever its form."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from contentctr.rooms.document import Document
from contentctr.rooms.lines import BadLine, BadLines, show, string
from contentctr.rooms.moments import TimeAxis


@dataclass(kw_only=True)
class ChatLog:
    """A chat log that is being read: its document, and what was found so far."""

    document: Document
    axis: TimeAxis
    names: dict[str, str] = field(default_factory=dict)
    """The user's own names of columns: t, user_id, text, id."""
    form: str = ""
    """What the log is, in words; set by its reader."""
    comments: list[tuple[float, str, str, str]] = field(default_factory=list)
    """(t, user_id, text, the row's own id or "")."""
    events: list[tuple[str, float, str]] = field(default_factory=list)
    """(user_id, t, kind) of what viewers did beside commenting."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Rows that are no comment and no event, by what they are."""
    warnings: list[str] = field(default_factory=list)

    @cached_property
    def bad(self) -> BadLines:
        """Lines, or entries, that cannot be used."""
        entries = self.document.kind == "json" and not self.document.is_jsonl_by_name
        return BadLines(self.document.path, "comment" if entries else "line")

    def add(self, t: float, user_id: str, text: str, row_id: str = "") -> None:
        """A comment."""
        self.comments.append((t, user_id, text, row_id))


def user_name(value: Any, name: str) -> str:
    """A user's id or name from JSON; "" where there is none (a user that is gone).

    Raises:
        BadLine: it is neither text nor a whole number.
    """
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise BadLine(f"{name} must be text or a whole number, not {show(value)}")
    if isinstance(value, float):
        if not value.is_integer() or abs(value) > 2**53:
            raise BadLine(f"{name} must be text or a whole number, not {show(value)}")
        value = int(value)
    return clean_text(str(value), name).strip()


def clean_text(value: Any, name: str) -> str:
    """Text of a comment, without control characters.

    Raises:
        BadLine: it is missing, no text, or has half a surrogate pair.
    """
    return string(value, name).translate(_CONTROL)


_CONTROL = {code: " " for code in (*range(9), 11, 12, *range(14, 32), 127)}


def joined_runs(runs: Any) -> str:
    """A message that comes in pieces of text and emotes, as YouTube and Twitch have it."""
    words = []
    for run in runs if isinstance(runs, list) else []:
        if not isinstance(run, dict):
            continue
        if isinstance(run.get("text"), str):
            words.append(run["text"])
            continue
        emoji = run.get("emoji") or {}
        shortcuts = emoji.get("shortcuts") if isinstance(emoji, dict) else None
        if isinstance(shortcuts, list) and shortcuts and isinstance(shortcuts[0], str):
            words.append(f" {shortcuts[0]} ")
        elif isinstance(emoji, dict) and isinstance(emoji.get("emojiId"), str):
            words.append(emoji["emojiId"])
    return " ".join("".join(words).split())
