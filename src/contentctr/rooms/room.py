"""Room: what every reader returns, whatever the source."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import polars as pl

from contentctr.rooms.steady import Steady

EVENT_KINDS = ("exposure", "click", "like", "comment", "gift", "follow", "enter", "exit")

EVENTS_SCHEMA: dict[str, Any] = {
    "user_id": pl.String,
    "t": pl.Float64,
    "kind": pl.Enum(EVENT_KINDS),
}
"""One row an action: who, seconds from the room's start, what."""
COMMENTS_SCHEMA: dict[str, Any] = {"t": pl.Float64, "user_id": pl.String, "text": pl.String}
"""One row a comment: seconds from the room's start, who, what."""
SPEECH_SCHEMA = {"start": pl.Float64, "end": pl.Float64, "text": pl.String}
"""One row an utterance (or a word, where the source times words), in seconds from the start."""


@dataclass(frozen=True, kw_only=True)
class Media:
    """Where a room's pictures are."""

    path: Path
    """A video file, or a folder of images named by their second."""
    kind: Literal["video", "frames"]
    steady: Steady | None = field(default=None, compare=False, repr=False)
    """What the first reading of a video found, if that spares the next ones much."""


@dataclass(frozen=True, kw_only=True)
class Room:
    """One live room. A part that was not recorded is None; one without a row is an empty table."""

    room_id: str
    streamer_id: str
    """"" where the streamer is unknown."""
    started_at: datetime | None
    """Aware, UTC; None where unknown (a bare recording)."""
    duration_s: float
    media: Media | None = None
    sound: Path | None = None
    """A recording of its sound, with pictures or without."""
    comments: pl.DataFrame | None = None
    """Of COMMENTS_SCHEMA, sorted by t."""
    speech: pl.DataFrame | None = None
    """Of SPEECH_SCHEMA, sorted by start."""
    events: pl.DataFrame | None = None
    """Of EVENTS_SCHEMA, sorted by t."""
    gifts: pl.DataFrame | None = None
    """Gifts that the chat log tells of, of EVENTS_SCHEMA, where there is no event log to join."""
    columns: pl.DataFrame | None = None
    """The user's own numbers: `t` in seconds from the start, and any numeric columns."""
    simulated: bool = False
    """Whether the room is simulated; every number from it is labelled so."""
    counts: dict[str, int] = field(default_factory=dict)
    """What the reader left out: bad lines, duplicates, rows outside the room, by name."""
    warnings: list[str] = field(default_factory=list)
    """What the user should know, each naming its file."""
