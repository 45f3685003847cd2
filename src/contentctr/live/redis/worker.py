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

A worker's model is current, or the candidate, or stands by (redis/models.py); what is said above
holds for each model alone. Rooms are kept in memory while a worker has their partition
(redis/working_rooms.py); Redis has the same.
"""

from __future__ import annotations

import math
import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redis.exceptions import ConnectionError, RedisError, TimeoutError

from contentctr.errors import InputError
from contentctr.live.engine import Engine, Taken
from contentctr.live.exposition import TOO_FAR, TOO_MANY
from contentctr.live.inputs import to_bytes
from contentctr.live.known_rooms import (
    LiveRoom,
    NewScore,
    begins_anew,
    with_points_before,
    with_score,
)
from contentctr.live.redis.health import WorkerHealth
from contentctr.live.redis.keys import Keys
from contentctr.live.redis.leases import Done, Entries, Leases, LostLeaseError
from contentctr.live.redis.messages import (
    MOVES,
    Message,
    PartitionsMovedError,
    always_moving,
    read_message,
    settle_partitions,
)
from contentctr.live.redis.models import Role
from contentctr.live.redis.places import WorkerPlace
from contentctr.live.redis.priming import Priming
from contentctr.live.redis.rejected import rejected_command
from contentctr.live.redis.rollout import ROLLOUT_S, Rollout, gauges, look
from contentctr.live.redis.store import (
    Command,
    RedisStore,
    end_commands,
    event_command,
    score_commands,
)
from contentctr.live.redis.waiting import put_back_command
from contentctr.live.redis.working_rooms import WorkingRooms, state_commands
from contentctr.live.service.schemas import room_event, shares_out
from contentctr.printing import say

CAREFUL_AFTER = 3
"""Messages that were given out more often are taken one by one: one may kill its worker."""
MAX_DELIVERIES = 10
"""A message that was given out more often did so: it is put aside."""
Report = Callable[[str], None]


class Worker:
    """One of any number of workers on the same streams.

    Args:
        client: of `connect`.
        engine: scores; its `max_rooms` is how many rooms are kept in memory.
        keys: names of the keys; None: with the usual prefix.
        partitions: of a new installation; None: as it is, or PARTITIONS.
        lease_s: seconds after which a worker that is silent loses its partitions: much longer than
            a batch takes.
        poll_s: seconds between two looks at streams that were empty.
        forget_after_s: seconds without a segment after which a room has ended.
        report: told in a line what it does.

    Raises:
        InputError: another number of partitions is wanted than there is, or the model can never
            stand in for the current one.
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
        report: Report = say,
    ) -> None:
        self._client, self._engine = client, engine
        self._keys = (keys or Keys()).of(engine.model_id)
        self._lease_s, self._poll_s, self._forget_after_s = lease_s, poll_s, forget_after_s
        self._report = report
        self.name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        if engine.scorer.max_rooms < engine.scorer.batch_size:
            raise InputError(
                f"max_rooms must be at least the batch size, {engine.scorer.batch_size}, not "
                f"{engine.scorer.max_rooms}"
            )
        self.health = WorkerHealth(lease_s)
        self.health.watch_drift(lambda: engine)
        self._rollout, self._next_look = Rollout(), 0.0
        self.health.rollout(gauges(lambda: self._rollout))
        self._place = WorkerPlace(client, engine, self._keys, lease_s, forget_after_s, report)
        self._settle(settle_partitions(client, self._keys, partitions))
        self._left: dict[int, Entries] = {}
        """Messages that earlier workers left undone."""
        self._careful: set[int] = set()
        self._interrupted: set[int] = set()
        """Partitions whose messages this worker had when Redis failed."""
        self._next_beat = 0.0

    def run(self, stopped: Callable[[], object]) -> None:
        """Work until `stopped()`; then finish the batch in hand and give the partitions up.

        Whatever Redis refuses (its memory is full, it is a replica after a failover, its disk has
        failed, it is loading, a group is gone), it is waited for: a worker that ended would have
        to be started again by somebody.
        """
        trouble = ""
        while not stopped():
            try:
                worked = self.turn()
            except RedisError as error:
                found = _kind_of(error)
                if found != trouble:
                    self._report(f"{found}; trying again")
                trouble = found
                self.health.redis_failed(found)
                self._begin_again()
                time.sleep(min(1.0, self._lease_s / 4))
                continue
            if trouble:
                self._report("Redis takes commands again")
            trouble = ""
            self.health.turned(len(self._leases.owned), len(self._rooms))
            if not worked:
                time.sleep(self._poll_s)
        try:
            self._leases.leave()
        except RedisError:
            self._report("Redis does not answer: the leases will lapse by themselves")

    def _settle(self, partitions: int) -> None:
        client, engine, keys = self._client, self._engine, self._keys
        self._store = store = RedisStore(client, keys, partitions)
        self._leases = Leases(client, keys, partitions, self.name, self._lease_s)
        self._rooms = WorkingRooms(client, engine, keys, store, self._forget_after_s, self._report)
        self._priming = Priming(client, engine, keys, store, self._rooms)

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
                if commands := self._priming.step(partition, self._leases.now):
                    self._leases.commit(partition, commands)
                    count += 1
            except LostLeaseError:
                self._drop(partition)
                self._report(f"partition {partition} is another worker's now")
            if time.monotonic() >= self._next_beat:
                self._beat()
        return count

    def _beat(self) -> None:
        before, role = self._place.role, self._place.take()
        self.health.placed(self._keys.model, role)
        if role == "standby":
            if before != role:
                self._leases.leave()
                self._left.clear()
                self._rooms.clear()
        else:
            self._share()
            self._look(role)
        self._next_beat = time.monotonic() + self._lease_s / 4

    def _look(self, role: Role) -> None:
        """How the candidate stands, for who reads its workers' metrics."""
        if role != "candidate":
            self._rollout, self._next_look = Rollout(), 0.0
        elif time.monotonic() >= self._next_look:
            self._rollout = look(self._client, self._keys, self._store)
            self._next_look = time.monotonic() + ROLLOUT_S

    def _share(self) -> None:
        """Have a fair share of the partitions."""
        for _ in range(MOVES):
            try:
                got, gone = self._leases.balance()
                break
            except PartitionsMovedError as moved:
                self._report(f"there are {moved.count} partitions now, as Redis says")
                self._begin_again()
                self._settle(moved.count)
        else:
            raise always_moving()
        for partition in gone:
            self._drop(partition)
        for partition in got:
            again = partition in self._interrupted
            self._left[partition] = self._leases.claim(partition, again=again)
            self._interrupted.discard(partition)
            self._put_killer_aside(partition)
        if got and self._place.role == "candidate":
            self._priming.begin(self._place.places.current, got)
        if got or gone:
            self._report(f"{self.name}: partitions {self._leases.owned}")
        idle = self._leases.now() - self._forget_after_s
        self._store.forget_idle(idle, shared=self._place.role == "current")

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
            self._reject(partition, id, fields, f"given out {counts[id]} times without an outcome")
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
                self._reject(partition, id, fields, str(error), self._put_back_unread(fields))
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
        self._rooms.load(partition, messages)
        segments = [message.segment for message in messages if message.segment is not None]
        outcomes = self._engine.take(segments)
        before = self._rooms_before(messages)
        now = self._leases.now()
        commands: list[Command] = []
        touched: set[str] = set()
        for place, taken in outcomes:
            message = messages[place]
            if not isinstance(taken, Taken) or taken.scored.status in ("repeated", "late"):
                commands += self._put_back(self._rooms[message.room_id].room, message.fields)
            if not isinstance(taken, Taken):
                commands += self._rejection(partition, message.id, message.fields, str(taken))
                self.health.segments.labels("refused").inc()
                continue
            self.health.segments.labels(taken.scored.status).inc()
            self.health.late_counts.labels(TOO_FAR).inc(taken.scored.late_counts)
            if taken.scored.status in ("scored", "early"):
                touched.add(message.room_id)  # of an early one no score is told; it is seen, though
                commands += self._input(message)
            if taken.scored.status == "scored":
                commands += self._new_score(message, taken, now, before.get(message.room_id))
            if message.request_id:
                commands.append(self._outcome(message, taken))
        for room_id in touched:
            unlisted = self._rooms[room_id].room is None
            expiry = math.ceil(self._forget_after_s) if unlisted else None
            state = self._engine.scorer.save([room_id])
            commands += state_commands(self._keys, room_id, state, expiry)
            # Of one that is listed the new run may have no score yet: it is seen all the same.
            commands.append(("ZADD", self._keys.seen, "XX", repr(now), room_id))
        self._commit(partition, commands, Done.of(*((m.id, m.fields) for m in messages)))

    def _input(self, message: Message) -> list[Command]:
        """What keeps a segment that was taken, unless another model's worker has kept it."""
        assert message.segment is not None
        last = self._rooms[message.room_id].next_input(message.segment)
        if last is None:
            return []
        key, count = self._keys.inputs(message.room_id), self._place.inputs_kept
        # It outlasts the room's own end: what no list knows of must end by itself.
        seconds = math.ceil(2 * self._forget_after_s)
        begins = int(last.begins)
        return [("KEEP_INPUT", message.id, key, begins, count, seconds, to_bytes(last))]

    def _rooms_before(self, messages: Sequence[Message]) -> dict[str, LiveRoom | None]:
        """Rooms that this model has no score of so far, as the other one has scored them."""
        places = self._place.places
        other = places.candidate if self._place.role == "current" else places.current
        names = {m.room_id for m in messages if self._rooms[m.room_id].room is None}
        if not other or not names:
            return {}
        return dict(zip(names, self._store.rooms(list(names), other), strict=True))

    def _put_back(self, room: LiveRoom | None, fields: Mapping[bytes, bytes]) -> list[Command]:
        """What has counts wait on that came with a segment of a room which takes none."""
        if room is None or self._place.role != "current":
            return []
        seconds = math.ceil(2 * self._forget_after_s)
        command = put_back_command(self._keys, fields, room.run, seconds)
        return [] if command is None else [command]

    def _put_back_unread(self, fields: Mapping[bytes, bytes]) -> list[Command]:
        """The same of a message that cannot be read; its counts may be whole."""
        if b"outcomes" not in fields:
            return []
        [room] = self._store.rooms([fields.get(b"room", b"").decode(errors="replace")])
        return self._put_back(room, fields)

    def _new_score(
        self, message: Message, taken: Taken, now: float, before: LiveRoom | None
    ) -> list[Command]:
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
            run=message.segment.run,
            model=self._keys.model,
        )
        kept = self._rooms[message.room_id]
        begins = begins_anew(kept.room, new)
        whole, room = kept.room is None, with_score(kept.room, new)
        kept.room = room = with_points_before(room, before) if whole else room
        return score_commands(
            self._keys,
            room,
            now,
            room_event(room),
            begins=begins,
            whole=whole,
            thumbnail=message.shown.thumbnail,
            shared=self._place.role == "current",
        )

    def _outcome(self, message: Message, taken: Taken) -> Command:
        data = {
            "status": taken.scored.status,
            "target_index": taken.scored.target_index,
            "score": taken.scored.score,
            "shares": shares_out(taken.shares),
        }
        return event_command(self._keys, "outcome", message.room_id, data, message.request_id)

    def _reject(
        self,
        partition: int,
        id: bytes,
        fields: Mapping[bytes, bytes],
        reason: str,
        beside: Sequence[Command] = (),
    ) -> None:
        """Put a message aside by a commit of its own, with other commands in it."""
        commands = [*beside, *self._rejection(partition, id, fields, reason)]
        self.health.segments.labels("refused").inc()
        self._commit(partition, commands, Done.of((id, fields)))

    def _commit(self, partition: int, commands: Sequence[Command], done: Done) -> None:
        gave_way = self._leases.commit(partition, commands, done)
        self.health.late_counts.labels(TOO_MANY).inc(gave_way)

    def _rejection(
        self, partition: int, id: bytes, fields: Mapping[bytes, bytes], reason: str
    ) -> list[Command]:
        """What puts a message aside, with the reason, and tells who waits for its outcome."""
        self._report(f"partition {partition}: message {id.decode()} refused: {reason}")
        commands = [rejected_command(self._keys, partition, id, fields, reason)]
        request_id = fields.get(b"request_id", b"").decode(errors="replace")
        if request_id:
            name = fields.get(b"room", b"").decode(errors="replace")
            data = {"status": "refused", "detail": reason}
            commands.append(event_command(self._keys, "outcome", name, data, request_id))
        return commands

    def _end(self, partition: int, message: Message) -> None:
        shared = self._place.role == "current"
        commands = end_commands(self._keys, message.room_id, message.id, shared=shared)
        self._leases.commit(partition, commands, Done.of((message.id, message.fields)))
        self._rooms.forget(message.room_id)

    def _drop(self, partition: int) -> None:
        """Forget a partition's rooms: they are another worker's."""
        self._left.pop(partition, None)
        self._priming.drop(partition)
        self._rooms.drop(partition)

    def _begin_again(self) -> None:
        """Forget everything and begin again from what Redis knows."""
        self._rooms.clear()
        self._left.clear()
        self._interrupted.update(self._leases.owned)
        for partition in self._leases.owned:
            try:
                self._leases.release(partition)
            except RedisError:
                continue  # it lapses by itself
        self._leases.watch.reset()
        self._next_beat = 0.0


def _kind_of(error: RedisError) -> str:
    """What is wrong with Redis, without numbers and places that change from time to time."""
    if isinstance(error, ConnectionError | TimeoutError):
        return f"Redis does not answer ({type(error).__name__})"
    # The client takes the codes that it knows off the text, and has a class for each.
    word = str(error).split(" ")[0]
    return f"Redis refuses commands ({word[:40] if word.isupper() else type(error).__name__})"
