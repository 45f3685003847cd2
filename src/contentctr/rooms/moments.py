"""Times as logs write them, as seconds from a room's start."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from contentctr.rooms.lines import BadLine, show

UNIX_S = 1e8
"""Seconds from here on are Unix time: no room lasts three years, and 1e8 is in 1973."""
UNITS = ((1e17, 1e9, "ns"), (1e14, 1e6, "us"), (1e11, 1e3, "ms"), (UNIX_S, 1.0, "s"))
"""From which number on Unix time is taken to be in which unit, and how many are a second."""
NO_START = "when the room started is not known: give started_at (room.json, or --started-at)"
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?")
_CLOCK = re.compile(r"(-?)(?:(\d{1,5}):)?(\d{1,3}):(\d{2})(?:[.,:](\d{1,9}))?")
_DAY_S = 86400.0
_ZONE = re.compile(r"\s*(?:UTC|GMT)$")
_SPACE_BEFORE_ZONE = re.compile(r"\s+(?=(?:Z|[+-]\d\d:?\d\d)$)")


@dataclass(frozen=True, kw_only=True)
class TimeAxis:
    """What times in a room's logs are counted from."""

    started_at: datetime | None = None
    """When the room started, with the zone it was given in; None where unknown."""

    def seconds(self, value: Any, name: str) -> float:
        """A time as seconds from the room's start.

        Args:
            value: a number of seconds, or the same as text; `1:02:03.5`, `2:03`, also below 0; and,
                where `started_at` is known, Unix time in s, ms, us or ns, or a date and time
                (ISO 8601, a space for the T, "UTC" for the Z; without a zone, `started_at`'s).
            name: of the field, for messages.

        Raises:
            BadLine: it is none of these, or a clock time where `started_at` is not known.
        """
        if value is None or (isinstance(value, str) and not value.strip()):
            raise BadLine(f"{name} is missing")
        if isinstance(value, datetime):
            return self._since_start(value, name)
        if isinstance(value, str):
            return self._from_text(value.strip(), name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise BadLine(f"{name} must be a number of seconds, not {show(value)}")
        try:
            return self._from_number(float(value), value, name)
        except OverflowError:
            raise BadLine(f"{name} must be finite, not {show(value)}") from None

    def _from_number(self, number: float, given: Any, name: str) -> float:
        if not math.isfinite(number):
            raise BadLine(f"{name} must be finite, not {show(given)}")
        for least, per_second, _ in UNITS:
            if number >= least:
                started_at = self._require_start(given, name, "Unix time")
                return number / per_second - started_at.timestamp()
        return number

    def _from_text(self, text: str, name: str) -> float:
        if _NUMBER.fullmatch(text):
            return self._from_number(float(text), text, name)
        clock = _CLOCK.fullmatch(text)
        if clock is not None:
            return clock_seconds(*clock.groups())
        try:
            plain = _SPACE_BEFORE_ZONE.sub("", _ZONE.sub("+00:00", text))
            time = datetime.fromisoformat(plain.replace("/", "-"))
        except ValueError:
            raise BadLine(
                f"{name} must be a number of seconds or a time, not {show(text)}"
            ) from None
        return self._since_start(time, name)

    def _since_start(self, time: datetime, name: str) -> float:
        started_at = self._require_start(str(time), name, "a clock time")
        if time.tzinfo is None:
            time = time.replace(tzinfo=started_at.tzinfo)
        return (time - started_at).total_seconds()

    def time_of_day(self, text: str, name: str, after: float = -43200.0) -> float:
        """A bare `HH:MM:SS`, which a log of wall-clock times has, as seconds from the start.

        Args:
            text: hours, minutes, seconds and maybe a fraction, in `started_at`'s zone.
            name: of the field, for messages.
            after: the first such time from here on is meant: a log over midnight goes on.
        """
        clock = _CLOCK.fullmatch(text.strip())
        if clock is None:
            raise BadLine(f"{name} must be a time of day such as 20:01:02, not {show(text)}")
        started_at = self._require_start(text, name, "a time of day")
        midnight = started_at.replace(hour=0, minute=0, second=0, microsecond=0)
        second = clock_seconds(*clock.groups()) - (started_at - midnight).total_seconds()
        return second + _DAY_S * math.ceil((after - second) / _DAY_S)

    def _require_start(self, given: Any, name: str, what: str) -> datetime:
        if self.started_at is None:
            raise BadLine(f"{name} is {what} ({show(given)}), and {NO_START}")
        return self.started_at


def clock_seconds(
    sign: str, hours: str | None, minutes: str, seconds: str, fraction: str | None
) -> float:
    """Seconds of a clock time's parts.

    One division at the end, so that 00:00:30,000 is 30.0 and 00:00:00,300 is 0.3 to the bit.
    """
    digits = fraction or "0"
    whole = (int(hours or 0) * 60 + int(minutes)) * 60 + int(seconds)
    scale: int = 10 ** len(digits)
    value = (whole * scale + int(digits)) / scale
    return -value if sign else value


def parse_started_at(text: str, name: str = "started_at") -> datetime:
    """When a room started, from ISO 8601 with a zone; the zone is kept.

    Raises:
        BadLine: it is not that.
    """
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise BadLine(
            f"{name} must be ISO 8601 with a zone, such as 2024-05-01T20:00:00+08:00, not "
            f"{show(text)}"
        ) from None
    if time.tzinfo is None:
        raise BadLine(f"{name} must have a zone, such as {text}+08:00 or {text}Z, not {show(text)}")
    try:
        time.astimezone(UTC)
    except OverflowError:
        raise BadLine(f"{name} must lie in the years 1 to 9999, not {show(text)}") from None
    return time
