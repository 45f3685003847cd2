"""What a reader finds in one transcript, whatever its form."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from contentctr.rooms.document import Document
from contentctr.rooms.lines import BadLine, BadLines, seconds

Row = tuple[float, float, str]
"""Start and end in seconds, text."""


@dataclass(kw_only=True)
class Transcript:
    """A transcript that is being read: its document, and what was found so far."""

    document: Document
    form: str = ""
    """What it is, in words; set by its reader."""
    utterances: list[list[Row]] = field(default_factory=list)
    """An utterance has one row, or one for each of its words."""
    warnings: list[str] = field(default_factory=list)

    @cached_property
    def bad(self) -> BadLines:
        """Cues, segments or lines that cannot be used."""
        entries = self.document.kind == "json" and not self.document.is_jsonl_by_name
        return BadLines(self.document.path, "segment" if entries else "line")


def span(
    start: object, end: object, names: tuple[str, str] = ("start", "end")
) -> tuple[float, float]:
    """Start and end in seconds; what begins below 0 is cut there.

    Raises:
        BadLine: one is missing or no number, or the end is before the start.
    """
    first, last = seconds(start, names[0]), seconds(end, names[1])
    if last < first:
        raise BadLine(f"{names[1]} ({last:g}) must not be before {names[0]} ({first:g})")
    return (max(first, 0.0) if last > 0 else first), last


def word_row(start: Any, end: Any, text: str) -> Row:
    """A word as a row whose start and end are its middle, so that a word is never cut."""
    first, last = span(start, end, ("words[].start", "words[].end"))
    middle = first + 0.5 * (last - first)
    return middle, middle, text
