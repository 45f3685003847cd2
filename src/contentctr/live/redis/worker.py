"""The stream worker: segments from Redis streams to scores in Redis, by any number of workers.

What makes every segment count once:

- order: a partition has one worker at a time, which takes its messages in the stream's order, and
  those that a worker before it left undone first.
- one step: a segment's score, its room's state, the ranking and the acknowledgement of its message
  are kept by one script, or none of them is. So a message that is still there was never scored,
  and the state in Redis is exactly that of the messages that are gone.
- fencing: the script does nothing for a worker that has lost its lease (redis/leases.py). One that
  cannot know whether its commit was done (the connection broke) forgets all it has in memory, and
  begins again from Redis.
- repeats: a segment that is put into the stream twice is known by its number (RoomScorer).

Rooms are kept in memory while a worker has their partition; Redis has the same.
"""

from __future__ import annotations

import math
import os
import socket
import sys
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.exceptions import BusyLoadingError, ConnectionError, ResponseError, TimeoutError

from contentctr.errors import InputError
from contentctr.live.engine import Engine, Taken
from contentctr.live.known_rooms import LiveRoom, NewScore, with_score
from contentctr.live.redis.leases import Entries, Leases, LostLeaseError
from contentctr.live.redis.messages import GROUP, Keys, Message, read_message, settle_partitions
from contentctr.live.redis.store import (
    REJECTED_KEPT,
    Command,
    RedisStore,
    append_command,
    end_commands,
    event_command,
    score_commands,
)
from contentctr.live.service.schemas import room_event, shares_out

CAREFUL_AFTER = 3
"""Messages that were given out more often are taken one by one: one may kill its worker."""
MAX_DELIVERIES = 10
"""A message that was given out more often did so: it is put aside."""
_DOWN = (ConnectionError, TimeoutError, BusyLoadingError)
Report = Callable[[str], None]


def _print_line(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@dataclass(kw_only=True)
class _Kept:
    """A room in memory."""

    partition: int
    room: LiveRoom | None
    """None: it has no score yet."""
    used: float
    """When it last had a message, on the monotonic clock."""


class Worker:
    """One of any number of workers on the same streams.

    Args:
        client: of `connect`.
        engine: scores; its `max_rooms` is how many rooms are kept in memory.
        keys: names of the keys.
        partitions: of a new installation; None: as it is, or PARTITIONS.
        lease_s: seconds after which a worker that is silent loses its partitions: much longer than
            a batch takes.
        poll_s: seconds between two looks at streams that were empty.
        forget_after_s: seconds without a segment after which a room has ended.
        report: told in a line what it does.

    Raises:
        InputError: another number of partitions is wanted than there is.
    """

    def __init__(
        self,
        client: Any,
        engine: Engine,
        *,
        keys: Keys | None = None,
        partitions: int | None = None,
        lease_s: float = 10.0,
        poll_s: float = 0.1,
        forget_after_s: float = 600.0,
        report: Report = _print_line,
    ) -> None:
        self._client, self._engine, self._keys = client, engine, keys or Keys()
        self._lease_s, self._poll_s, self._forget_after_s = lease_s, poll_s, forget_after_s
        self._report = report
        self.name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        if engine.scorer.max_rooms < engine.scorer.batch_size:
            raise InputError(
                f"max_rooms must be at least the batch size, {engine.scorer.batch_size}, not "
                f"{engine.scorer.max_rooms}"
            )
        count = settle_partitions(client, self._keys, partitions)
        self._store = RedisStore(client, self._keys, count)
        self._leases = Leases(client, self._keys, count, self.name, lease_s)
        self._rooms: OrderedDict[str, _Kept] = OrderedDict()
        self._left: dict[int, Entries] = {}
        """Messages that earlier workers left undone."""
        self._careful: set[int] = set()
        self._next_beat = 0.0

    def run(self, stopped: Callable[[], object]) -> None:
        """Work until `stopped()`; then finish the batch in hand and give the partitions up."""
        while not stopped():
            try:
                if not self.turn():
                    time.sleep(self._poll_s)
            except _DOWN as error:
                self._report(f"Redis does not answer ({error}); trying again")
                self._forget_all()
                time.sleep(min(1.0, self._lease_s / 4))
        try:
            self._leases.leave()
        except _DOWN:
            self._report("Redis does not answer: the leases will lapse by themselves")

    def turn(self) -> int:
        """One batch of each of the worker's partitions; how many messages were taken."""
        if time.monotonic() >= self._next_beat:
            self._beat()
        count = 0
        for partition in self._leases.owned:
            if partition not in self._leases.owned:  # given up in a beat meanwhile
                continue
            try:
                count += self._work(partition)
            except LostLeaseError:
                self._drop(partition)
                self._report(f"partition {partition} is another worker's now")
            if time.monotonic() >= self._next_beat:
                self._beat()
        return count

    def _beat(self) -> None:
        got, gone = self._leases.balance()
        for partition in gone:
            self._drop(partition)
        for partition in got:
            self._left[partition] = self._leases.claim(partition)
            self._put_killer_aside(partition)
        if got or gone:
            self._report(f"{self.name}: partitions {self._leases.owned}")
        self._store.forget_idle(self._leases.now() - self._forget_after_s)
        self._next_beat = time.monotonic() + self._lease_s / 4

    def _put_killer_aside(self, partition: int) -> None:
        self._careful.discard(partition)
        left = self._left[partition]
        if not left:
            return
        counts = self._leases.deliveries(partition)
        if any(counts.get(id, 0) > CAREFUL_AFTER for id, _ in left):
            self._careful.add(partition)
        # The oldest is the one that was tried; those behind it were given out with it.
        id, fields = left[0]
        if counts.get(id, 0) > MAX_DELIVERIES:
            reason = f"given out {counts[id]} times without an outcome"
            self._leases.commit(partition, self._rejection(partition, id, fields, reason))
            del left[0]

    def _work(self, partition: int) -> int:
        left = self._left.get(partition)
        size = 1 if left and partition in self._careful else self._engine.scorer.batch_size
        if left:
            entries, self._left[partition] = left[:size], left[size:]
        else:
            entries = self._leases.read(partition, size)
        messages: list[Message] = []
        for id, fields in entries:
            try:
                message = read_message(id, fields)
            except InputError as error:
                self._leases.commit(partition, self._rejection(partition, id, fields, str(error)))
                continue
            if message.segment is None:  # what comes after a room's end is another room
                self._score(partition, messages)
                self._end(partition, message)
                messages = []
            else:
                messages.append(message)
        self._score(partition, messages)
        return len(entries)

    def _score(self, partition: int, messages: Sequence[Message]) -> None:
        """Score segments, and keep everything in one step."""
        if not messages:
            return
        self._load(partition, list(dict.fromkeys(message.room_id for message in messages)))
        segments = [message.segment for message in messages if message.segment is not None]
        outcomes = self._engine.score(segments)
        now = self._leases.now()
        commands: list[Command] = []
        touched: set[str] = set()
        pairs = zip(messages, outcomes, strict=True)
        for message, taken in sorted(pairs, key=_segment_index):
            if not isinstance(taken, Taken):
                fields = {b"room": message.room_id.encode()}
                commands += self._rejection(
                    partition, message.id, fields, str(taken), request_id=message.request_id
                )
                continue
            if taken.scored.status in ("scored", "early"):
                touched.add(message.room_id)  # of an early one no score is told; it is seen, though
            if taken.scored.status == "scored":
                commands += self._new_score(message, taken, now)
            elif message.request_id:
                commands.append(self._outcome(message, taken))
            commands += self._done(partition, message.id)
        for room_id in touched:
            state = self._engine.scorer.save([room_id])
            # A room that has no score yet is in no list of rooms: it must end by itself.
            unlisted = self._rooms[room_id].room is None
            expiry = ("EX", math.ceil(self._forget_after_s)) if unlisted else ()
            commands.append(("SET", self._keys.state(room_id), state, *expiry))
        self._leases.commit(partition, commands)

    def _new_score(self, message: Message, taken: Taken, now: float) -> list[Command]:
        assert message.segment is not None and message.shown is not None
        assert taken.scored.score is not None
        new = NewScore(
            room_id=message.room_id,
            streamer_id=message.segment.streamer_id,
            index=taken.scored.index,
            target_index=taken.scored.target_index,
            score=taken.scored.score,
            shares=taken.shares,
            shown=message.shown,
        )
        kept = self._rooms[message.room_id]
        kept.room = room = with_score(kept.room, new)
        commands = score_commands(self._keys, room, message.shown.thumbnail, now, room_event(room))
        if message.request_id:
            commands.append(self._outcome(message, taken))
        return commands

    def _outcome(self, message: Message, taken: Taken) -> Command:
        data = {
            "status": taken.scored.status,
            "target_index": taken.scored.target_index,
            "score": taken.scored.score,
            "shares": shares_out(taken.shares),
        }
        return event_command(self._keys, "outcome", message.room_id, data, message.request_id)

    def _done(self, partition: int, id: bytes) -> list[Command]:
        stream = self._keys.stream(partition)
        return [("XACK", stream, GROUP, id), ("XDEL", stream, id)]

    def _rejection(
        self,
        partition: int,
        id: bytes,
        fields: dict[bytes, bytes],
        reason: str,
        request_id: str = "",
    ) -> list[Command]:
        """Put a message aside, with the reason."""
        self._report(f"partition {partition}: message {id.decode()} put aside: {reason}")
        room = fields.get(b"room", b"")[:200]
        aside = append_command(self._keys.rejected, REJECTED_KEPT, {"room": room, "reason": reason})
        commands = [aside, *self._done(partition, id)]
        if request_id:
            name = room.decode(errors="replace")
            data = {"status": "refused", "detail": reason}
            commands.append(event_command(self._keys, "outcome", name, data, request_id))
        return commands

    def _end(self, partition: int, message: Message) -> None:
        done = self._done(partition, message.id)
        self._leases.commit(partition, [*end_commands(self._keys, message.room_id), *done])
        self._forget(message.room_id)

    def _load(self, partition: int, room_ids: Sequence[str]) -> None:
        """Have rooms in memory as they are in Redis; those unused longest make place."""
        now = time.monotonic()
        for room_id in room_ids:
            kept = self._rooms.get(room_id)
            if kept is not None and now - kept.used > self._forget_after_s:
                self._forget(room_id)  # Redis may have forgotten it too
            elif kept is not None:
                kept.used = now
                self._rooms.move_to_end(room_id)
        new = [room_id for room_id in room_ids if room_id not in self._rooms]
        spare = self._engine.scorer.max_rooms - len(new)
        while len(self._rooms) > spare:
            oldest = next(iter(self._rooms))
            assert oldest not in room_ids, "max_rooms must be at least the batch size"
            self._forget(oldest)
        if not new:
            return
        states = self._client.mget([self._keys.state(room_id) for room_id in new])
        rooms = self._store.rooms(new)
        for room_id, state, room in zip(new, states, rooms, strict=True):
            if state is not None:
                self._engine.scorer.restore(state)
            self._rooms[room_id] = _Kept(partition=partition, room=room, used=now)

    def _forget(self, room_id: str) -> None:
        self._engine.scorer.forget(room_id)
        self._rooms.pop(room_id, None)

    def _drop(self, partition: int) -> None:
        """Forget a partition's rooms: they are another worker's."""
        self._left.pop(partition, None)
        for room_id in [r for r, k in self._rooms.items() if k.partition == partition]:
            self._forget(room_id)

    def _forget_all(self) -> None:
        """Begin again from what Redis knows."""
        for room_id in list(self._rooms):
            self._forget(room_id)
        self._left.clear()
        for partition in self._leases.owned:
            try:
                self._leases.release(partition)
            except (*_DOWN, ResponseError):
                continue  # it lapses by itself
        self._next_beat = 0.0


def _segment_index(pair: tuple[Message, object]) -> int:
    segment = pair[0].segment
    assert segment is not None
    return int(segment.index)
