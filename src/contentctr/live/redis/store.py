"""Rooms in Redis: what a service reads, and the commands that a worker's commit is made of."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from typing import Any

from redis.exceptions import RedisError

from contentctr.files import parse_json
from contentctr.live.known_rooms import CURVE_KEPT, LiveRoom
from contentctr.live.ranking import RoomScore
from contentctr.live.redis.messages import (
    Fields,
    Keys,
    PartitionsMovedError,
    add_fields,
    end_fields,
)
from contentctr.live.shares import shares_from

EVENTS_KEPT, EVENTS_BYTES = 10_000, 64 * 2**20
_AT_ONCE = 1000
"""Rooms that are looked up by one script: Lua unpacks no more than some thousands."""
Command = Sequence[str | bytes | int | float]

# Scripts and not MULTI: a Redis whose memory is full refuses reads too between MULTI and EXEC.
_SCORES = """
local scored = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
return {scored, redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')}
"""
_SOME_SCORES = """
return {redis.call('ZMSCORE', KEYS[1], unpack(ARGV)), redis.call('ZMSCORE', KEYS[2], unpack(ARGV))}
"""
_ROOM = """
return {redis.call('GET', KEYS[1]), redis.call('LRANGE', KEYS[2], 0, -1)}
"""
_SWEEP = """
local gone = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[1], 'LIMIT', 0, 100)
for _, room in ipairs(gone) do
  for k = 1, 3 do redis.call('ZREM', KEYS[k], room) end
  for _, kind in ipairs({'room', 'curve', 'state', 'thumbnail'}) do
    redis.call('DEL', ARGV[2] .. ':' .. kind .. ':' .. room)
  end
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[3], '*', 'kind', 'end', 'room', room, 'data',
    cjson.encode({room_id = room, reason = 'idle'}))
end
return #gone
"""


@dataclass(frozen=True, kw_only=True)
class QueueFacts:
    """What waits in Redis, for metrics."""

    waiting: int
    """Messages in all partitions."""
    waiting_bytes: int
    oldest_s: float
    """How long the oldest of them has waited, by Redis' clock; 0 where none waits."""
    rejected: int
    """Messages that were put aside."""


class RedisStore:
    """Rooms that workers keep in Redis.

    Args:
        client: of `connect`.
        keys: names of its keys.
        partitions: of `settle_partitions`.
    """

    def __init__(self, client: Any, keys: Keys, partitions: int) -> None:
        self.partitions = partitions
        """As many as there are now."""
        self._client, self._keys = client, keys
        script = client.register_script
        self._sweep, self._room = script(_SWEEP), script(_ROOM)
        self._scores, self._some_scores = script(_SCORES), script(_SOME_SCORES)

    def scores(self, room_ids: Sequence[str] | None = None) -> dict[str, RoomScore]:
        """Latest scores, of some rooms or of all; rooms without one are left out."""
        keys = [self._keys.ranking, self._keys.ended]
        found: dict[str, tuple[bytes | None, bytes | None]] = {}
        if room_ids is None:
            flat, ended_flat = self._scores(keys=keys)
            ended = dict(zip(ended_flat[::2], ended_flat[1::2], strict=True))
            pairs = zip(flat[::2], flat[1::2], strict=True)
            found = {name.decode(): (score, ended.get(name)) for name, score in pairs}
        else:
            for start in range(0, len(room_ids), _AT_ONCE):
                names = room_ids[start : start + _AT_ONCE]
                both = self._some_scores(keys=keys, args=list(names))
                found.update(zip(names, zip(*both, strict=True), strict=True))
        return {
            name: RoomScore(score=float(score), ended_at=float(ended_at))
            for name, (score, ended_at) in found.items()
            if score is not None and ended_at is not None
        }

    def room(self, room_id: str) -> LiveRoom | None:
        """One room."""
        return self.rooms([room_id])[0]

    def rooms(self, room_ids: Sequence[str]) -> list[LiveRoom | None]:
        """Several rooms; None for those that are not there."""
        pipe = self._client.pipeline(transaction=False)
        for room_id in room_ids:
            self._room(keys=[self._keys.room(room_id), self._keys.curve(room_id)], client=pipe)
        found = pipe.execute(raise_on_error=False)
        for error in found:
            if isinstance(error, RedisError) and not str(error).startswith("WRONGTYPE"):
                raise error
        return [None if isinstance(one, RedisError) else _room(*one) for one in found]

    def queue(self) -> QueueFacts:
        """What waits."""
        pipe = self._client.pipeline(transaction=False)
        streams = [self._keys.stream(p) for p in range(self.partitions)]
        for partition, stream in enumerate(streams):
            pipe.xlen(stream)
            pipe.get(self._keys.bytes(partition))
            pipe.xrange(stream, "-", "+", 1)
        pipe.time()
        pipe.xlen(self._keys.rejected)
        *rows, (seconds, micros), rejected = pipe.execute()
        first_ms = [int(entries[0][0].split(b"-")[0]) for entries in rows[2::3] if entries]
        now_ms = 1000 * seconds + micros / 1000
        return QueueFacts(
            waiting=sum(rows[::3]),
            waiting_bytes=sum(int(size or 0) for size in rows[1::3]),
            oldest_s=max(0.0, now_ms - min(first_ms)) / 1000 if first_ms else 0.0,
            rejected=rejected,
        )

    def add(self, room_id: str, fields: Fields, **limits: int) -> None:
        """Put a message into its room's stream, whatever number of partitions there is by now.

        Raises:
            StreamFullError: too much waits.
        """
        try:
            add_fields(self._client, self._keys, self.partitions, room_id, fields, **limits)
        except PartitionsMovedError as moved:
            self.partitions = moved.count
            add_fields(self._client, self._keys, self.partitions, room_id, fields, **limits)

    def thumbnail(self, room_id: str) -> bytes | None:
        """The room's latest thumbnail."""
        data: bytes | None = self._client.get(self._keys.thumbnail(room_id))
        return data

    def end(self, room_id: str) -> bool:
        """Forget a room, once a worker has come to it; whether there is one now."""
        found = self._client.exists(self._keys.room(room_id), self._keys.state(room_id))
        self.add(room_id, end_fields(room_id))
        return bool(found)

    def forget_idle(self, before: float) -> int:
        """Forget rooms without a segment since `before` (Leases.now); how many, 100 at most."""
        keys = self._keys
        names = [keys.seen, keys.ranking, keys.ended, keys.events]
        count: int = self._sweep(keys=names, args=[before, keys.prefix, EVENTS_KEPT])
        return count


def score_commands(
    keys: Keys, room: LiveRoom, thumbnail: bytes | None, now: float, event: dict[str, Any]
) -> list[Command]:
    """What keeps a room's new score: its last point, what is shown, its place in the ranking."""
    index, score = room.curve[-1]
    about = {**asdict(replace(room, curve=())), "comments": list(room.comments)}
    commands: list[Command] = [
        ("SET", keys.room(room.room_id), json.dumps(about)),
        *(
            [("DEL", keys.curve(room.room_id))] if len(room.curve) == 1 else []
        ),  # it begins, or anew
        ("RPUSH", keys.curve(room.room_id), f"{index} {score!r}"),
        ("LTRIM", keys.curve(room.room_id), -CURVE_KEPT, -1),
        ("ZADD", keys.ranking, repr(room.score), room.room_id),
        ("ZADD", keys.ended, repr(room.ended_at), room.room_id),
        ("ZADD", keys.seen, repr(now), room.room_id),
        event_command(keys, "score", room.room_id, event),
    ]
    if thumbnail is not None:
        commands.append(("SET", keys.thumbnail(room.room_id), thumbnail))
    return commands


def end_commands(keys: Keys, room_id: str) -> list[Command]:
    """What forgets a room."""
    return [
        ("DEL", *keys.of_room(room_id)),
        *(("ZREM", key, room_id) for key in (keys.ranking, keys.ended, keys.seen)),
        event_command(keys, "end", room_id, {"room_id": room_id, "reason": "ended"}),
    ]


def event_command(
    keys: Keys, kind: str, room_id: str, data: dict[str, Any], request_id: str = ""
) -> Command:
    """What tells all services of something."""
    fields = {
        "kind": kind,
        "room": room_id,
        "data": json.dumps(data, allow_nan=False, ensure_ascii=False),
        "request_id": request_id,
    }
    return append_command(keys.events, EVENTS_KEPT, EVENTS_BYTES, fields)


def append_command(
    stream: str, kept: int, kept_bytes: int, fields: Mapping[str, str | bytes]
) -> Command:
    """What adds an entry to a stream of which only the last entries are kept.

    Args:
        stream: its key.
        kept: so many are kept, or some more.
        kept_bytes: fewer are kept where so many of this one's size would take more.
        fields: of the entry.
    """
    flat = [part if isinstance(part, bytes) else part.encode() for part in chain(*fields.items())]
    count = max(1, min(kept, kept_bytes // sum(map(len, flat))))
    return ("XADD", stream, "MAXLEN", "~", count, "*", *flat)


def _room(about: bytes | None, curve: Sequence[bytes]) -> LiveRoom | None:
    """The room; None where it is not there, or is damaged: it begins anew with its next score."""
    if about is None:
        return None
    try:
        values = parse_json(about)
        pairs = [point.split() for point in curve]
        room = LiveRoom(
            **{
                **values,
                "shares": shares_from(values["shares"]),
                "comments": tuple(map(str, values["comments"])),
                "models": tuple((int(first), str(name)) for first, name in values["models"]),
                "curve": tuple((int(index), float(score)) for index, score in pairs),
            }
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return None
    numbers = (room.score, room.ended_at, *(score for _, score in room.curve))
    plain = all(isinstance(x, int | float) and math.isfinite(x) for x in numbers)
    return room if plain and room.curve and isinstance(room.room_id, str) else None
