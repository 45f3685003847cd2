"""Rooms in Redis: what a service reads, and the commands that a worker's commit is made of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain
from typing import Any

from contentctr.live.known_rooms import CURVE_KEPT, LiveRoom
from contentctr.live.ranking import RoomScore
from contentctr.live.redis.messages import Keys, end_fields, partition_of
from contentctr.live.shares import shares_from

EVENTS_KEPT = 10_000
REJECTED_KEPT = 1_000
Command = Sequence[str | bytes | int | float]

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


class RedisStore:
    """Rooms that workers keep in Redis.

    Args:
        client: of `connect`.
        keys: names of its keys.
        partitions: of `settle_partitions`.
    """

    def __init__(self, client: Any, keys: Keys, partitions: int) -> None:
        self._client, self._keys, self._partitions = client, keys, partitions
        self._sweep = client.register_script(_SWEEP)

    def scores(self, room_ids: Sequence[str] | None = None) -> dict[str, RoomScore]:
        """Latest scores, of some rooms or of all; rooms without one are left out."""
        keys = self._keys
        pipe = self._client.pipeline(transaction=True)
        if room_ids is None:
            pipe.zrange(keys.ranking, 0, -1, withscores=True)
            pipe.zrange(keys.ended, 0, -1, withscores=True)
            scored, ended = (dict(pairs) for pairs in pipe.execute())
            found = {name.decode(): (score, ended.get(name)) for name, score in scored.items()}
        elif not room_ids:
            return {}
        else:
            pipe.zmscore(keys.ranking, list(room_ids))
            pipe.zmscore(keys.ended, list(room_ids))
            pairs = zip(*pipe.execute(), strict=True)
            found = dict(zip(room_ids, pairs, strict=True))
        return {
            name: RoomScore(score=score, ended_at=ended_at)
            for name, (score, ended_at) in found.items()
            if score is not None and ended_at is not None
        }

    def room(self, room_id: str) -> LiveRoom | None:
        """One room."""
        return self.rooms([room_id])[0]

    def rooms(self, room_ids: Sequence[str]) -> list[LiveRoom | None]:
        """Several rooms; None for those that are not there."""
        pipe = self._client.pipeline(transaction=True)
        for room_id in room_ids:
            pipe.get(self._keys.room(room_id))
            pipe.lrange(self._keys.curve(room_id), 0, -1)
        found = pipe.execute()
        return [
            None if about is None else _room(about, curve)
            for about, curve in zip(found[::2], found[1::2], strict=True)
        ]

    def thumbnail(self, room_id: str) -> bytes | None:
        """The room's latest thumbnail."""
        data: bytes | None = self._client.get(self._keys.thumbnail(room_id))
        return data

    def end(self, room_id: str) -> bool:
        """Forget a room, once a worker has come to it; whether there is one now."""
        found = self._client.exists(self._keys.room(room_id))
        stream = self._keys.stream(partition_of(room_id, self._partitions))
        self._client.xadd(stream, end_fields(room_id))
        return bool(found)

    def forget_idle(self, before: float) -> int:
        """Forget rooms without a segment since `before`, Redis' seconds; how many, 100 at most."""
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
        "data": json.dumps(data, allow_nan=False),
        "request_id": request_id,
    }
    return append_command(keys.events, EVENTS_KEPT, fields)


def append_command(stream: str, kept: int, fields: Mapping[str, str | bytes]) -> Command:
    """What adds an entry to a stream of which the last `kept` entries, or some more, are kept."""
    return ("XADD", stream, "MAXLEN", "~", kept, "*", *chain.from_iterable(fields.items()))


def _room(about: bytes, curve: Sequence[bytes]) -> LiveRoom:
    values = json.loads(about)
    pairs = [point.split() for point in curve]
    return LiveRoom(
        **{
            **values,
            "shares": shares_from(values["shares"]),
            "comments": tuple(values["comments"]),
            "curve": tuple((int(index), float(score)) for index, score in pairs),
        }
    )
