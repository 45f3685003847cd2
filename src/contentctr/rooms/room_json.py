"""room.json: which room it is, whose, when and how long."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from contentctr.errors import InputError
from contentctr.files import read_json
from contentctr.rooms.lines import BadLine, identifier, seconds, show
from contentctr.rooms.moments import parse_started_at

MAX_DURATION_S = 31 * 86400.0
"""Longer rooms are taken for a mistake of units."""


@dataclass(frozen=True, kw_only=True)
class RoomHead:
    """What room.json says."""

    room_id: str
    streamer_id: str = ""
    """"" where unknown."""
    started_at: datetime | None = None
    """With the zone it was given in; None where unknown."""
    duration_s: float | None = None
    """None where room.json does not say."""
    simulated: bool = False


def read_head(path: Path) -> RoomHead:
    """Read a room.json; keys that are not known are left alone.

    Args:
        path: JSON object with `room_id` (text or whole number), and maybe `streamer_id` (the
            same), `started_at` (ISO 8601 with zone), `duration_s` or else `ended_at`, and
            `simulated` (true or false).

    Raises:
        InputError: names the file, the key, the rule and the value.
    """
    record = read_json(path)
    try:
        streamer = record.get("streamer_id")
        head = RoomHead(
            room_id=identifier(record.get("room_id"), "room_id"),
            streamer_id="" if streamer in (None, "") else identifier(streamer, "streamer_id"),
            started_at=_time_of_day(record, "started_at"),
            simulated=_flag(record, "simulated"),
        )
        return replace(head, duration_s=_stated_duration(record, head.started_at))
    except BadLine as reason:
        raise InputError(f"{path}: {reason}") from None


def _stated_duration(record: dict[str, Any], started_at: datetime | None) -> float | None:
    if record.get("duration_s") is not None:
        name, duration_s = "duration_s", seconds(record["duration_s"], "duration_s")
    elif record.get("ended_at") is not None:
        ended_at = _time_of_day(record, "ended_at")
        if started_at is None or ended_at is None:
            raise BadLine("ended_at needs started_at")
        name, duration_s = "ended_at - started_at", (ended_at - started_at).total_seconds()
    else:
        return None
    if not 0 < duration_s <= MAX_DURATION_S:
        raise BadLine(
            f"{name} must be above 0 and at most {MAX_DURATION_S:.0f} seconds (31 days), not "
            f"{duration_s:g}"
        )
    return duration_s


def _flag(record: dict[str, Any], name: str) -> bool:
    value = record.get(name, False)
    if not isinstance(value, bool):
        raise BadLine(f"{name} must be true or false, not {show(value)}")
    return value


def _time_of_day(record: dict[str, Any], name: str) -> datetime | None:
    value = record.get(name)
    return None if value is None else parse_started_at(value, name)
