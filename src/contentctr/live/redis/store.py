"""Rooms in Redis: what a service reads, and the commands that a worker's commit is made of."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from typing import Any

from redis.exceptions import RedisError

from contentctr.files import parse_json
from contentctr.live.known_rooms import CURVE_KEPT, LiveRoom
from contentctr.live.ranking import RoomScore, Scores
from contentctr.live.redis.keys import Keys
from contentctr.live.redis.messages import (
    MOVES,
    Fields,
    LogRecord,
    PartitionsMovedError,
    add_fields,
    adding_script,
    always_moving,
    end_fields,
    message_id,
)
from contentctr.live.service.schemas import shares_out
from contentctr.live.shares import shares_from

EVENTS_KEPT, EVENTS_BYTES = 10_000, 64 * 2**20
OUTCOMES_KEPT, OUTCOMES_BYTES = 10_000, 64 * 2**20
"""Entries of the stream of outcomes."""
_AT_ONCE = 1000
"""Rooms that are looked up by one script: Lua unpacks no more than some thousands."""
Command = Sequence[str | bytes | int | float]

# Scripts and not MULTI: a Redis whose memory is full refuses reads too between MULTI and EXEC.
# Each takes the current model's keys as it stands: KEYS: current; ARGV: prefix.
_OWN = """
local model = redis.call('GET', KEYS[1])
local own = model and ARGV[1] .. ':model:' .. model .. ':'
"""
_SCORES = f"""{_OWN}
if not model then return {{'', {{}}, {{}}}} end
return {{model, redis.call('ZRANGE', own .. 'ranking', 0, -1, 'WITHSCORES'),
  redis.call('ZRANGE', own .. 'ended', 0, -1, 'WITHSCORES')}}
"""
_SOME_SCORES = f"""{_OWN}
if not model then return {{'', {{}}, {{}}}} end
return {{model, redis.call('ZMSCORE', own .. 'ranking', unpack(ARGV, 2)),
  redis.call('ZMSCORE', own .. 'ended', unpack(ARGV, 2))}}
"""
_HAS_PLACE = f"""{_OWN}
if not model or redis.call('ZCARD', own .. 'ranking') < tonumber(ARGV[2]) then return 1 end
return redis.call('ZSCORE', own .. 'ranking', ARGV[3]) and 1 or 0
"""
_ROOM = """
return {redis.call('GET', KEYS[1]), redis.call('LRANGE', KEYS[2], 0, -1)}
"""
# KEYS: stream; ARGV: group. The oldest message that the group is not done with: given out and there
# still, or not given out yet.
_OLDEST = """
local groups, behind = redis.pcall('XINFO', 'GROUPS', KEYS[1]), '-'
if groups.err then return false end
for _, group in ipairs(groups) do
  local facts = {}
  for k = 1, #group, 2 do facts[group[k]] = group[k + 1] end
  if facts.name == ARGV[1] then
    behind = '(' .. facts['last-delivered-id']
    for _, one in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 10)) do
      if #redis.call('XRANGE', KEYS[1], one[1], one[1]) == 1 then return one[1] end
    end
  end
end
local first = redis.call('XRANGE', KEYS[1], behind, '+', 'COUNT', 1)[1]
return first and first[1]
"""
# KEYS: seen, ranking, ended, events, outcomes; ARGV: moment, kept events, model, kept outcomes (""
# where another model's worker tells them), then what rooms' keys begin with.
_SWEEP = """
local gone = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[1], 'LIMIT', 0, 100)
for _, room in ipairs(gone) do
  for k = 1, 3 do redis.call('ZREM', KEYS[k], room) end
  for k = 5, #ARGV do redis.call('DEL', ARGV[k] .. room) end
  if ARGV[4] ~= '' then
    redis.call('XADD', KEYS[5], 'NOMKSTREAM', 'MAXLEN', '~', ARGV[4], '*', 'end', room)
  end
  redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[2], '*', 'kind', 'end', 'room', room, 'model',
    ARGV[3], 'data', cjson.encode({room_id = room, reason = 'idle'}))
end
return #gone
"""


@dataclass(frozen=True, kw_only=True)
class QueueFacts:
    """What waits in Redis, for metrics."""

    waiting: int = 0
    """Messages that the current model is not done with, in all partitions."""
    waiting_bytes: int = 0
    oldest_s: float = 0.0
    """How long the oldest of them has waited, by Redis' clock; 0 where none waits."""
    rejected: int = 0
    """Messages that were put aside."""


class RedisStore:
    """Rooms that workers keep in Redis: those of the current model, whichever that is by now.

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
        self._sweep, self._room, self._place = script(_SWEEP), script(_ROOM), script(_HAS_PLACE)
        self._scores, self._some_scores = script(_SCORES), script(_SOME_SCORES)
        self._oldest = script(_OLDEST)
        self._adding = adding_script(client)

    @property
    def current(self) -> str:
        """Id of the model that scores now; "": none does yet."""
        return (self._client.get(self._keys.current) or b"").decode(errors="replace")

    def scores(self, room_ids: Sequence[str] | None = None) -> Scores:
        """Latest scores, of some rooms or of all; rooms without one are left out."""
        keys, prefix = [self._keys.current], self._keys.prefix
        found: dict[str, tuple[bytes | None, bytes | None]] = {}
        model = b""
        if room_ids is None:
            model, flat, ended_flat = self._scores(keys=keys, args=[prefix])
            ended = dict(zip(ended_flat[::2], ended_flat[1::2], strict=True))
            pairs = zip(flat[::2], flat[1::2], strict=True)
            found = {name.decode(): (score, ended.get(name)) for name, score in pairs}
        else:
            for start in range(0, len(room_ids), _AT_ONCE):
                names = room_ids[start : start + _AT_ONCE]
                now, *both = self._some_scores(keys=keys, args=[prefix, *names])
                if model not in (b"", now):  # another became current meanwhile: all from it
                    return self.scores(room_ids)
                model = now
                found.update(zip(names, zip(*both, strict=True), strict=False))
        scores = {
            name: RoomScore(score=float(score), ended_at=float(ended_at))
            for name, (score, ended_at) in found.items()
            if score is not None and ended_at is not None
        }
        return Scores(scores, model.decode(errors="replace"))

    def has_place(self, room_id: str, most: int) -> bool:
        """Whether a room is live, or there are fewer than `most`."""
        args = [self._keys.prefix, most, room_id]
        return bool(self._place(keys=[self._keys.current], args=args))

    def room(self, room_id: str, model: str | None = None) -> LiveRoom | None:
        """One room."""
        return self.rooms([room_id], model)[0]

    def rooms(self, room_ids: Sequence[str], model: str | None = None) -> list[LiveRoom | None]:
        """Several rooms as one model has scored them; None for those that are not there.

        Args:
            room_ids: which.
            model: its id; None: the current one's.
        """
        model = self.current if model is None else model
        if not model:
            return [None] * len(room_ids)
        keys, pipe = self._keys.of(model), self._client.pipeline(transaction=False)
        for room_id in room_ids:
            self._room(keys=[keys.room(room_id), keys.curve(room_id)], client=pipe)
        return [None if one is None else _room(*one) for one in answers_of(pipe)]

    def queue(self) -> QueueFacts:
        """What waits."""
        keys = self._keys.of(self.current or "none")
        pipe = self._client.pipeline(transaction=False)
        for partition in range(self.partitions):
            stream = keys.stream(partition)
            pipe.xlen(stream)
            pipe.zcard(keys.done(partition))
            pipe.get(keys.bytes(partition))
            pipe.get(keys.done_bytes(partition))
            self._oldest(keys=[stream], args=[keys.model], client=pipe)
        pipe.time()
        pipe.xlen(keys.rejected)
        *rows, (seconds, micros), rejected = pipe.execute()
        counts, sizes = rows[::5], [int(size or 0) for size in rows[2::5]]
        done, done_sizes = rows[1::5], [int(size or 0) for size in rows[3::5]]
        firsts = [message_id(id)[0] for id in rows[4::5] if id]
        return QueueFacts(
            waiting=max(0, sum(counts) - sum(done)),
            waiting_bytes=max(0, sum(sizes) - sum(done_sizes)),
            oldest_s=max(0.0, seconds + micros / 1e6 - min(firsts) / 1000) if firsts else 0.0,
            rejected=rejected,
        )

    def add(
        self, room_id: str, fields: Fields, record: LogRecord | None = None, **limits: int
    ) -> bool:
        """Put a message into its room's stream, whatever number of partitions there is by now.

        Returns:
            Of `add_fields`.

        Raises:
            StreamFullError: too much waits.
            InvalidResponse: their number changes again and again; an error of Redis, so that
                callers wait for its end.
        """
        for _ in range(MOVES):
            try:
                return add_fields(
                    self._client,
                    self._keys,
                    self.partitions,
                    room_id,
                    fields,
                    adding=self._adding,
                    record=record,
                    **limits,
                )
            except PartitionsMovedError as moved:
                self.partitions = moved.count
        raise always_moving()

    def thumbnail(self, room_id: str) -> bytes | None:
        """The room's latest thumbnail."""
        data: bytes | None = self._client.get(self._keys.thumbnail(room_id))
        return data

    def end(self, room_id: str) -> bool:
        """Forget a room, once a worker has come to it; whether there is one now."""
        model, found = self.current, 0
        if model:
            keys = self._keys.of(model)
            found = self._client.exists(keys.room(room_id), keys.state(room_id))
        self.add(room_id, end_fields(room_id))
        return bool(found)

    def forget_idle(self, before: float, *, shared: bool = True) -> int:
        """Forget the model's rooms without a segment since `before` (Leases.now); 100 at most.

        Args:
            before: seconds on that clock.
            shared: what all models share of them too.

        Returns:
            How many were forgotten.
        """
        keys = self._keys
        names = [keys.seen, keys.ranking, keys.ended, keys.events, keys.outcomes]
        common = [keys.inputs(""), keys.thumbnail(""), keys.waiting("")] if shared else []
        kinds = [*keys.of_room(""), *common]
        args = [before, EVENTS_KEPT, keys.model, OUTCOMES_KEPT if shared else "", *kinds]
        count: int = self._sweep(keys=names, args=args)
        return count


def answers_of(pipe: Any) -> list[Any]:
    """What a pipeline's reads find; None where a key holds a value of another kind: a damaged one.

    Raises:
        RedisError: as of the first command that failed otherwise.
    """
    answers = pipe.execute(raise_on_error=False)
    for error in answers:
        if isinstance(error, RedisError) and not str(error).startswith("WRONGTYPE"):
            raise error
    return [None if isinstance(one, RedisError) else one for one in answers]


def score_commands(
    keys: Keys,
    room: LiveRoom,
    now: float,
    event: dict[str, Any],
    *,
    begins: bool = False,
    whole: bool = False,
    thumbnail: bytes | None = None,
    shared: bool = True,
) -> list[Command]:
    """What keeps a room's new score: its last point, what is shown, its place in the ranking.

    Args:
        keys: names of the keys, the model's among them.
        room: with the score.
        now: of Leases.now.
        event: what is told of it.
        begins: whether the room begins anew with it: what is known of it is another's.
        whole: whether the model has just begun it, with points of another one.
        thumbnail: came with the segment.
        shared: whether what all models share of it (its thumbnail) is this worker's to keep.
    """
    room_id, anew = room.room_id, whole or len(room.curve) == 1
    about = {field.name: getattr(room, field.name) for field in fields(LiveRoom)}
    about |= {"curve": (), "shares": shares_out(room.shares)}
    commands: list[Command] = []
    if begins:
        if shared:
            commands += [("DEL", keys.thumbnail(room_id)), _end_of_outcomes(keys, room_id)]
        commands.append(event_command(keys, "end", room_id, {"room_id": room_id, "reason": "anew"}))
    commands.append(("SET", keys.room(room_id), json.dumps(about)))
    if anew:
        commands.append(("DEL", keys.curve(room_id)))
    points = room.curve if anew else room.curve[-1:]
    commands += [
        ("RPUSH", keys.curve(room_id), *(_point(room, *point) for point in points)),
        ("LTRIM", keys.curve(room_id), -CURVE_KEPT, -1),
        ("ZADD", keys.ranking, repr(room.score), room_id),
        ("ZADD", keys.ended, repr(room.ended_at), room_id),
        ("ZADD", keys.seen, repr(now), room_id),
        event_command(keys, "score", room_id, event),
    ]
    if thumbnail is not None and shared:
        commands.append(("SET", keys.thumbnail(room_id), thumbnail))
    return commands


def _point(room: LiveRoom, index: int, score: float) -> str:
    """A point of a curve; one of another model is marked, for models are compared by their own."""
    return f"{index} {score!r}" + ("" if room.model_of(index) == room.model else " *")


def end_commands(
    keys: Keys, room_id: str, id: bytes = b"", *, shared: bool = True
) -> list[Command]:
    """What forgets a room.

    Args:
        keys: names of the keys, the model's among them.
        room_id: of the room.
        id: of the message that says so: newer inputs are of another room of that name.
        shared: what all models share of it too.
    """
    common = [keys.thumbnail(room_id), keys.waiting(room_id)] if shared else []
    return [
        ("DEL", *keys.of_room(room_id), *common),
        *([("END_INPUTS", id, keys.inputs(room_id))] if id else []),
        *([_end_of_outcomes(keys, room_id)] if shared else []),
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
        "model": keys.model,
        "data": json.dumps(data, allow_nan=False, ensure_ascii=False),
        "request_id": request_id,
    }
    return append_command(keys.events, EVENTS_KEPT, EVENTS_BYTES, fields)


def outcomes_command(keys: Keys, **fields: str) -> Command:
    """What adds an entry to the stream of outcomes (redis/outcomes.py)."""
    return append_command(keys.outcomes, OUTCOMES_KEPT, OUTCOMES_BYTES, fields)


def _end_of_outcomes(keys: Keys, room_id: str) -> Command:
    """What parts a room's outcomes from those of another one of its name, where there are any."""
    name, stream, *rest = outcomes_command(keys, end=room_id)
    return (name, stream, "NOMKSTREAM", *rest)


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
        pairs = [point.removesuffix(b" *").split() for point in curve]
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
