"""Redis: names of keys, the partition of a room, and segments as messages of a stream.

Rooms are dealt to a fixed number of partitions by the hash of their id; each is a stream, read by
one worker at a time (redis/leases.py), which is what keeps a room's segments in order. Scripts name
keys that are computed, so a Redis Cluster will not do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from contentctr.errors import InputError
from contentctr.live.known_rooms import Shown
from contentctr.live.scorer_segments import LiveSegment

PREFIX = "contentctr"
GROUP = "workers"
PARTITIONS = 16
"""Of a new installation: the number of workers that can work at once."""
Fields = dict[str, bytes | str | int | float]


@dataclass(frozen=True)
class Keys:
    """Names of all keys."""

    prefix: str = PREFIX

    def __getattr__(self, name: str) -> str:
        """One of `partitions`, `workers`, `ranking`, `ended`, `seen`, `events`, `rejected`."""
        if name not in ("partitions", "workers", "ranking", "ended", "seen", "events", "rejected"):
            raise AttributeError(name)
        return f"{self.prefix}:{name}"

    def stream(self, partition: int) -> str:
        """Segments of a partition's rooms."""
        return f"{self.prefix}:segments:{partition}"

    def lease(self, partition: int) -> str:
        """Token of the worker that has the partition."""
        return f"{self.prefix}:lease:{partition}"

    def room(self, room_id: str) -> str:
        """What is known of a room, JSON."""
        return f"{self.prefix}:room:{room_id}"

    def curve(self, room_id: str) -> str:
        """The room's last scores, a list of "index score"."""
        return f"{self.prefix}:curve:{room_id}"

    def state(self, room_id: str) -> str:
        """What RoomScorer keeps of the room."""
        return f"{self.prefix}:state:{room_id}"

    def thumbnail(self, room_id: str) -> str:
        """The room's latest thumbnail."""
        return f"{self.prefix}:thumbnail:{room_id}"

    def of_room(self, room_id: str) -> list[str]:
        """All keys of one room."""
        return [f(room_id) for f in (self.room, self.curve, self.state, self.thumbnail)]


@dataclass(frozen=True, eq=False)
class Message:
    """A message of a partition's stream, read."""

    id: bytes
    room_id: str
    segment: LiveSegment | None
    """None: the room has ended."""
    shown: Shown | None
    request_id: str
    """Names the request that waits for the outcome; "": none does."""


def connect(url: str, *, timeout_s: float = 10.0) -> Any:
    """A client that never sends a command twice.

    Raises:
        InputError: not a Redis URL.
    """
    try:
        # A command whose answer was lost may have been done: only its caller knows what then.
        return Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
        )
    except ValueError:  # its words may hold a part of the password
        shown = without_secret(url)
        raise InputError(
            f"--redis must be a Redis URL like redis://HOST:6379/0, not {shown!r}"
        ) from None


def without_secret(url: str) -> str:
    """A URL that may be shown: without its user, its password, and what stands behind `?`."""
    scheme, there, rest = url.partition("://")
    place = rest.partition("?")[0].rpartition("@")[2]
    return f"{scheme}://{place}" if there else "(no URL)"


def settle_partitions(client: Any, keys: Keys, wanted: int | None = None) -> int:
    """The installation's number of partitions, which the first caller sets for good.

    Raises:
        InputError: another number is wanted than there is.
    """
    if wanted is not None and wanted < 1:
        raise InputError(f"partitions must be at least 1, not {wanted}")
    client.set(keys.partitions, wanted or PARTITIONS, nx=True)
    found = int(client.get(keys.partitions))
    if wanted not in (None, found):
        raise InputError(
            f"partitions must be {found}, as {keys.partitions!r} in Redis says, not {wanted}: "
            "rooms would change their streams"
        )
    return found


def partition_of(room_id: str, partitions: int) -> int:
    """The partition of a room; the same in every process."""
    return int.from_bytes(hashlib.sha256(room_id.encode()).digest()[:8]) % partitions


def segment_fields(segment: LiveSegment, shown: Shown, *, request_id: str = "") -> Fields:
    """A segment as the fields of a message; features with the bits they have."""
    shown_json = {**asdict(shown), "thumbnail": None, "comments": list(shown.comments)}
    fields: Fields = {
        "room": segment.room_id,
        "streamer": segment.streamer_id,
        "index": int(segment.index),
        "has_speech": int(segment.has_speech),
        "has_comments": int(segment.has_comments),
        "shown": json.dumps(shown_json),
        "request_id": request_id,
    }
    for name in ("visual", "text", "sound"):
        values = getattr(segment, name)
        if values is not None:
            half = values.dtype == np.float16
            fields[name] = values.astype("<f2" if half else "<f4").tobytes()
            fields[f"{name}_type"] = "f2" if half else "f4"
    if segment.counts is not None:
        fields["counts"] = json.dumps({k: int(v) for k, v in segment.counts.items()})
    if shown.thumbnail is not None:
        fields["thumbnail"] = shown.thumbnail
    return fields


def end_fields(room_id: str) -> Fields:
    """The end of a room as the fields of a message."""
    return {"room": room_id, "end": 1}


def add_segment(
    client: Any,
    keys: Keys,
    partitions: int,
    segment: LiveSegment,
    shown: Shown,
    *,
    request_id: str = "",
) -> None:
    """Put a segment into its room's stream. It does no harm to put it there twice."""
    stream = keys.stream(partition_of(segment.room_id, partitions))
    client.xadd(stream, segment_fields(segment, shown, request_id=request_id))


def read_message(id: bytes, fields: Mapping[bytes, bytes]) -> Message:
    """The message in a stream's entry.

    Raises:
        InputError: it is not one; names the field.
    """
    room_id = _text(fields, "room")
    if b"end" in fields:
        return Message(id, room_id, None, None, "")
    segment = LiveSegment(
        room_id=room_id,
        streamer_id=_text(fields, "streamer"),
        index=_whole(fields, "index"),
        visual=_values(fields, "visual"),
        text=_values(fields, "text"),
        sound=_values(fields, "sound"),
        has_speech=bool(_whole(fields, "has_speech")),
        has_comments=bool(_whole(fields, "has_comments")),
        counts=_counts(fields),
    )
    request_id = _text(fields, "request_id") if b"request_id" in fields else ""
    return Message(id, room_id, segment, _shown(fields), request_id)


def _text(fields: Mapping[bytes, bytes], name: str) -> str:
    try:
        return fields[name.encode()].decode()
    except KeyError:
        raise InputError(f"message: field {name!r} is missing") from None
    except UnicodeDecodeError:
        raise InputError(f"message: field {name!r} must be UTF-8") from None


def _whole(fields: Mapping[bytes, bytes], name: str) -> int:
    text = _text(fields, name)
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise InputError(f"message: field {name!r} must be a whole number, not {text[:50]!r}")
    return int(text)


def _values(fields: Mapping[bytes, bytes], name: str) -> NDArray[np.floating] | None:
    data = fields.get(name.encode())
    if data is None:
        return None
    kind = _text(fields, f"{name}_type")
    if kind not in ("f2", "f4") or len(data) % int(kind[1]):
        raise InputError(f"message: field {name!r} must be whole numbers of type f2 or f4")
    values: NDArray[np.floating] = np.frombuffer(data, f"<{kind}")
    return values


def _counts(fields: Mapping[bytes, bytes]) -> dict[str, int] | None:
    if b"counts" not in fields:
        return None
    try:
        counts = json.loads(_text(fields, "counts"))
    except (ValueError, RecursionError):
        counts = None
    if not isinstance(counts, dict):
        raise InputError("message: field 'counts' must be a JSON object")
    return counts  # RoomScorer checks what is in it


def _shown(fields: Mapping[bytes, bytes]) -> Shown:
    try:
        values = json.loads(_text(fields, "shown"))
        return Shown(
            ended_at=float(values["ended_at"]),
            title=str(values.get("title", "")),
            comments=tuple(str(comment) for comment in values.get("comments", ())),
            thumbnail=fields.get(b"thumbnail"),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError("message: field 'shown' must be JSON with ended_at") from None
