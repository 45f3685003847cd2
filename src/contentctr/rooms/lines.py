"""Bad lines: one place that words, counts and limits them, and the checks of single values."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from contentctr.errors import InputError

MAX_BAD_SHARE = 0.01
"""More bad lines than this share of a file stop the command ..."""
FEW_BAD = 5
"""... but so many do not, where they are at most a quarter of the file; and never a single one."""
SHOWN = 3
"""Bad lines that a message quotes."""
_JSON_ERRORS = (ValueError, RecursionError)


class BadLine(Exception):
    """A line that cannot be used; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a reader makes of one file of a room."""

    path: Path
    table: pl.DataFrame
    bad_lines: int = 0
    duplicates: int = 0
    warnings: list[str] = field(default_factory=list)
    form: str = ""
    """What the file is, in words: "TwitchDownloader JSON"."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Rows that were understood and are not of the table (joins, system messages), by reason."""
    events: pl.DataFrame | None = None
    """Actions that a chat log tells beside its comments (gifts, guards), of EVENTS_SCHEMA."""


class BadLines:
    """The bad lines of one file.

    Args:
        path: the file, for messages.
        unit: what is numbered: line, row, comment, segment.
    """

    def __init__(self, path: Path, unit: str = "line") -> None:
        self.path = path
        self.unit = unit
        self.count = 0
        self._shown: list[str] = []

    def add(self, number: int, reason: str, *, count: int = 1) -> None:
        """Leave out `count` lines that start at line `number`."""
        self.count += count
        if len(self._shown) < SHOWN:
            self._shown.append(f"{self.unit} {number}: {reason}")

    def take(self, other: BadLines, name: str) -> None:
        """Count the bad lines of a part of this file.

        Args:
            other: those of the part.
            name: of the part.
        """
        for shown in other._shown[: SHOWN - len(self._shown)]:
            self._shown.append(f"{name}, {shown}")
        self.count += other.count

    def warnings(self, total: int) -> list[str]:
        """One message about the lines left out, if any.

        Args:
            total: lines of the file, good and bad.

        Raises:
            InputError: more of them are bad than may be, or all of them.
        """
        if not self.count:
            return []
        shown = "; ".join(self._shown) + ("; ..." if self.count > len(self._shown) else "")
        # The last line of a log that was cut off must not stop a run, however short the log is.
        allowed = max(1, min(FEW_BAD, total // 4), int(MAX_BAD_SHARE * total))
        if self.count > allowed or self.count == total:
            raise InputError(
                f"{self.path}: {self.count} of {total} {self.unit}s are bad, and at most {allowed} "
                f"may be: {shown}"
            )
        return [f"{self.path}: left out {self.count} of {total} {self.unit}s: {shown}"]


def show(value: object) -> str:
    """`value` as a message quotes it, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def seconds(value: object, name: str) -> float:
    """A number of seconds from JSON.

    Raises:
        BadLine: it is missing, no number or not finite.
    """
    if value is None:
        raise BadLine(f"{name} is missing")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadLine(f"{name} must be a number of seconds, not {show(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise BadLine(f"{name} must be finite, not {show(value)}")
    return number


def parse_seconds(text: str, name: str) -> float:
    """A number of seconds from text.

    Raises:
        BadLine: it is empty, no number or not finite.
    """
    if not text.strip():
        raise BadLine(f"{name} is missing")
    try:
        # float() also takes 1_000, which no log means.
        number = float(text) if "_" not in text else None
    except ValueError:
        number = None
    if number is None:
        raise BadLine(f"{name} must be a number of seconds, not {show(text)}")
    return seconds(number, name)


def string(value: object, name: str) -> str:
    """Text from JSON.

    Raises:
        BadLine: it is missing, no text, or has half a surrogate pair.
    """
    if value is None:
        raise BadLine(f"{name} is missing")
    if not isinstance(value, str):
        raise BadLine(f"{name} must be text, not {show(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadLine(f"{name} has half a surrogate pair: {show(value)}") from None
    return value


def identifier(value: object, name: str) -> str:
    """An id from JSON: text that is not empty, or a whole number, kept digit by digit.

    Raises:
        BadLine: it is neither.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is not None and not isinstance(value, str):
        raise BadLine(f"{name} must be text or a whole number, not {show(value)}")
    if not string(value, name):
        raise BadLine(f"{name} is missing")
    return str(value)
