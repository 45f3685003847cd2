"""Behind the service: rooms in Redis, which workers score."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from redis.exceptions import RedisError

from contentctr.errors import InputError
from contentctr.live.engine import RoomsFullError
from contentctr.live.exposition import TOO_MANY
from contentctr.live.known_rooms import LiveRoom, Shown
from contentctr.live.outcomes import Outcome
from contentctr.live.ranking import RankSettings, Scores
from contentctr.live.redis.beats import WorkerWatch
from contentctr.live.redis.clock import RedisClock
from contentctr.live.redis.keys import Keys
from contentctr.live.redis.messages import StreamFullError, segment_fields, settle_partitions
from contentctr.live.redis.outcomes import OutcomeStream
from contentctr.live.redis.owners import RedisOwners
from contentctr.live.redis.rollout import ROLLOUT_S, Rollout, gauges
from contentctr.live.redis.rollout import look as look_at_rollout
from contentctr.live.redis.store import QueueFacts, RedisStore
from contentctr.live.redis.waiting import WaitingCounts
from contentctr.live.scorer_segments import LiveSegment, RawSegment
from contentctr.live.service.backend import Answer
from contentctr.live.service.background import Background, Lag
from contentctr.live.service.batching import BusyError
from contentctr.live.service.events import EventLog
from contentctr.live.service.keys import ANYONE, Caller
from contentctr.live.service.metrics import Metrics
from contentctr.live.service.observed import Observed, Sorted
from contentctr.live.shares import shares_from
from contentctr.live.standing import Standing

if TYPE_CHECKING:
    from contentctr.live.encoding import LiveEncoder  # brings what opens recordings

_LOG = logging.getLogger("contentctr.service")
T = TypeVar("T")
_READ_MS = 1000
_READ_COUNT = 500
_LOOK_S = 1.0
_STANDING_S = 0.2
"""Seconds for which the ranking of all rooms is read once."""
_ENCODE_S = 10.0
"""Seconds that a post waits to be encoded."""


class RedisBackend:
    """Puts segments into the workers' streams and tells what comes of them. Any number of these.

    Args:
        client: of `connect`; used by several threads.
        horizon: of the workers' model.
        segment_seconds: likewise.
        keys: names of the keys.
        partitions: of a new installation; None: as it is.
        encoder: encodes posted frames and texts here.
        wait_s: seconds that a post waits for its score; then it is "queued".
        queue_size: messages of one partition that wait at most.
        max_rooms: live rooms.
        forget_after_s: seconds after which workers forget a silent room.
    """

    def __init__(
        self,
        client: Any,
        *,
        horizon: int,
        segment_seconds: float = 30.0,
        keys: Keys | None = None,
        partitions: int | None = None,
        encoder: LiveEncoder | None = None,
        wait_s: float = 5.0,
        queue_size: int = 10_000,
        max_rooms: int = 4096,
        forget_after_s: float = 600.0,
    ) -> None:
        self.events, self.metrics, self._lag = EventLog(), Metrics(), Lag()
        self._client, self._keys, self._encoder = client, keys or Keys(), encoder
        self._horizon, self._wait_s = horizon, wait_s
        self._queue_size, self._max_rooms = queue_size, max_rooms
        count = settle_partitions(client, self._keys, partitions)
        self._store = RedisStore(client, self._keys, count)
        self.observed = Observed(self.metrics, horizon)
        self._came_back = OutcomeStream(client, self._keys, self.observed.log)
        self._late = WaitingCounts(client, self._keys, math.ceil(2 * forget_after_s))
        self._follower = Background("the reader of outcomes", self._follow)
        self.clock = RedisClock(client, self._keys)
        """The ages of scores are by it, in all services."""
        self._owners = RedisOwners(client, self._keys, forget_after_s)
        self.model = ""
        """Id of the model whose scores are told; "": none is known yet."""
        self._switches = 0
        """How often it became another."""
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._outcomes: dict[str, dict[str, Any]] = {}
        """What each model last told of segments that are waited for, by request."""
        self._reader = Background("the reader of events", self._read)
        self._watcher = Background("the watch of the workers", self._watch)
        self._loop_watch = Background("the watch of the event loop", self._lag.watch)
        self._encoding, self._reading = asyncio.Lock(), asyncio.Lock()
        self._ranking = RankSettings(segment_seconds=segment_seconds)
        self._standing: Standing | None = None
        self._standing_until = 0.0
        self._rollout = Rollout()
        self._up = False
        self._workers, self._queue = 0, QueueFacts()
        self._add_gauges()

    def _add_gauges(self) -> None:
        gauge = self.metrics.gauge
        gauge("listeners", "Open event streams.", lambda: self.events.listeners)
        gauge("waiting_segments", "Posts that wait.", lambda: len(self._waiting))
        gauge("loop_lag_seconds", "Longest delay of the event loop.", lambda: self._lag.worst)
        gauge("workers", "Live workers.", lambda: self._workers)
        gauge("queued_messages", "Messages in the streams.", lambda: self._queue.waiting)
        gauge("queued_bytes", "Bytes of these.", lambda: self._queue.waiting_bytes)
        gauge("oldest_message_seconds", "Since the oldest came.", lambda: self._queue.oldest_s)
        gauge("rejected_messages", "Messages put aside.", lambda: self._queue.rejected)
        for name, text, value in gauges(lambda: self._rollout):
            gauge(name, text, value)

    def rollout(self) -> dict[str, Any]:
        """See Backend."""
        return self._rollout.facts()

    @property
    def ready(self) -> bool:
        """See Backend: Redis answers, and there is a worker that will score."""
        return not self.busy and self._workers > 0

    @property
    def busy(self) -> bool:
        """See Backend: what comes without a worker waits in Redis for one."""
        whole = self._reader.healthy and self._watcher.healthy
        return not (self._up and whole) or self.events.closed

    async def start(self) -> None:
        """See Backend."""
        for task in (self._reader, self._watcher, self._loop_watch, self._follower):
            task.start()

    async def stop(self) -> None:
        """See Backend: what was accepted is in Redis."""
        self.events.close()
        for task in (self._reader, self._watcher, self._loop_watch, self._follower):
            await task.stop()

    async def submit(
        self, segment: LiveSegment | RawSegment, shown: Shown, caller: Caller = ANYONE
    ) -> Answer:
        """See Backend.

        Raises:
            BusyError: too much waits, or Redis does not answer.
            RoomsFullError: a new room, and there are as many as there, or of one key, may be.
            NotOwnerError: the room is another's.
            InputError: the worker refused it.
        """
        if self.busy:
            raise BusyError("Redis does not answer, or the service ends")
        live = await self._encoded(segment)
        request_id = uuid.uuid4().hex
        waiting = self._waiting[request_id] = asyncio.get_running_loop().create_future()
        try:
            await self._redis(self._add, live, shown, request_id, caller)
            async with asyncio.timeout(self._wait_s):
                outcome = await waiting
        except TimeoutError:
            outcome = {"status": "queued"}
        finally:
            del self._waiting[request_id]
            self._outcomes.pop(request_id, None)
        self.metrics.segments.labels(outcome["status"]).inc()
        if outcome["status"] == "refused":
            raise InputError(outcome["detail"])
        return Answer(
            status=outcome["status"],
            target_index=outcome.get("target_index", live.index + self._horizon),
            score=outcome.get("score"),
            shares=shares_from(outcome.get("shares")),
            room=None
            if outcome["status"] == "queued"
            else (await self.rooms([live.room_id], outcome["model"]))[0],
            model=outcome.get("model", self.model or None),
        )

    async def scores(self, room_ids: Sequence[str]) -> Scores:
        """See Backend."""
        return await self._redis(self._store.scores, room_ids)

    async def standing(self) -> Standing:
        """See Backend: of the last `_STANDING_S`, read once for all who ask."""
        async with self._reading:
            if self._standing is None or time.monotonic() >= self._standing_until:
                self._standing = await self._redis(self._read_standing)
                self._standing_until = time.monotonic() + _STANDING_S
            return self._standing

    def _read_standing(self) -> Standing:
        scores = self._store.scores()
        return Standing(scores, self._ranking, scores.model)

    async def rooms(
        self, room_ids: Sequence[str], model: str | None = None
    ) -> list[LiveRoom | None]:
        """See Backend."""
        return await self._redis(self._store.rooms, room_ids, model)

    async def thumbnail(self, room_id: str) -> bytes | None:
        """See Backend."""
        return await self._redis(self._store.thumbnail, room_id)

    async def end(self, room_id: str, caller: Caller = ANYONE) -> bool:
        """See Backend; it takes effect once a worker has come to it."""
        return await self._redis(self._end, room_id, caller)

    async def observe(self, outcomes: Sequence[Outcome]) -> dict[str, int]:
        """See Backend: all services are told."""

        def find() -> Sorted:
            self._read_outcomes()  # of a room that has ended the outcomes are another's
            names = list(dict.fromkeys(one.room_id for one in outcomes))
            models = [None, *filter(None, [self._rollout.candidate])]
            # A candidate's scores are held to outcomes too, before anybody is shown them.
            each = zip(names, *(self._store.rooms(names, model) for model in models), strict=True)
            rooms = {name: [room for room in both if room] for name, *both in each}
            found = self.observed.sort(outcomes, rooms)
            if found.late:  # first: what is known to have come is not taken again
                gave_way = self._late.put(found.late)
                self.metrics.late_counts.labels(TOO_MANY).inc(gave_way)
            return found

        found = await self._redis(find)
        if found.new:
            await self._redis(self._came_back.append, found.new)
            await self._redis(self._read_outcomes)
        return found.counts

    def _read_outcomes(self) -> None:
        self.metrics.bad_events.inc(self._came_back.read())

    async def _follow(self) -> None:
        """Take what other services were told of outcomes."""
        while True:
            try:
                await asyncio.to_thread(self._read_outcomes)
            except RedisError:
                pass  # `_read` says so
            await asyncio.sleep(_LOOK_S)

    def _end(self, room_id: str, caller: Caller) -> bool:
        self._owners.require(room_id, caller)
        found = self._store.end(room_id)
        self._owners.release(room_id)
        return found

    async def _encoded(self, segment: LiveSegment | RawSegment) -> LiveSegment:
        if isinstance(segment, LiveSegment):
            return segment
        assert self._encoder is not None
        try:
            async with asyncio.timeout(_ENCODE_S):
                await self._encoding.acquire()
        except TimeoutError:
            raise BusyError(f"it has waited for {_ENCODE_S:g} s in vain") from None
        try:
            found = await asyncio.to_thread(self._encoder.encode, [segment])
        finally:
            self._encoding.release()
        return found[0]

    def _add(
        self, segment: LiveSegment, shown: Shown, request_id: str, caller: Caller = ANYONE
    ) -> None:
        if not self._store.has_place(segment.room_id, self._max_rooms):
            raise RoomsFullError(f"there may be at most {self._max_rooms} live rooms")
        if caller.name:  # without keys every room is everybody's
            self._owners.claim(segment.room_id, caller)
        fields = segment_fields(segment, shown, request_id=request_id)
        try:
            self._store.add(segment.room_id, fields, max_count=self._queue_size)
        except StreamFullError as error:
            raise BusyError(str(error)) from None

    async def _redis(self, work: Callable[..., T], *arguments: Any) -> T:
        try:
            return await asyncio.to_thread(work, *arguments)
        except RedisError as error:
            raise BusyError(f"Redis does not answer ({type(error).__name__})") from None

    async def _read(self) -> None:
        """Pass on what the workers tell, from now on."""
        last: bytes | None = None
        while True:
            try:
                if last is None:
                    newest = await asyncio.to_thread(
                        self._client.xrevrange, self._keys.events, "+", "-", 1
                    )
                    last = newest[0][0] if newest else b"0-0"
                    self._up = True
                found = await asyncio.to_thread(
                    self._client.xread, {self._keys.events: last}, _READ_COUNT, _READ_MS
                )
                self._up = True
            except RedisError:
                self._up = False
                await asyncio.sleep(0.5)
                continue
            for id, fields in found[0][1] if found else []:
                last = id
                try:
                    self._pass_on(fields)
                except (KeyError, TypeError, ValueError, RecursionError) as error:
                    # One that is no event of ours, or is damaged, is not the others' fault.
                    self.metrics.bad_events.inc()
                    _LOG.warning("an event in Redis is passed over (%r)", error)

    def _pass_on(self, fields: dict[bytes, bytes]) -> None:
        kind, model = fields[b"kind"].decode(), fields[b"model"].decode()
        if kind == "model":
            self._switch(model)
            return
        shown, request_id = model == self.model, fields.get(b"request_id", b"").decode()
        if not (shown or request_id in self._waiting):
            return  # the candidate's
        data = json.loads(fields[b"data"])
        if not isinstance(data, dict):
            raise ValueError("data must be a JSON object")
        if shown and kind in ("score", "end"):
            self.events.append(kind, fields[b"room"].decode(), data)
        if request_id in self._waiting:
            if "status" not in data:
                raise KeyError("status")
            # The candidate's is kept too: it may become current before the other comes to it.
            if shown or request_id not in self._outcomes:
                self._outcomes[request_id] = {**data, "model": model}
            self._answer(request_id)

    def _answer(self, request_id: str) -> None:
        """Answer one who waits, if the outcome is the current model's."""
        outcome, waiting = self._outcomes[request_id], self._waiting[request_id]
        if outcome["model"] == self.model and not waiting.done():
            waiting.set_result(outcome)

    def _switch(self, model: str) -> None:
        """Tell of another model's scores from now on."""
        if model == self.model:
            return
        before, self.model, self._standing = self.model, model, None
        self._switches += 1
        self.metrics.model(model)
        if before:
            _LOG.info("model %s is current, %s was", model, before)
            self.events.reset()  # all that listeners know is the one's before
        for request_id in list(self._outcomes):  # which the one before did not come to any more
            self._answer(request_id)

    async def _watch(self) -> None:
        """See which workers live, and what waits for them."""
        watch, watched, next_look = WorkerWatch(), "", 0.0

        def look() -> tuple[str, int, QueueFacts]:
            nonlocal watched
            if (current := self._store.current) != watched:
                watch.reset()
                watched = current
            workers = watch.look(self._client, self._keys.of(current)) if current else []
            self.clock.look()
            return current, len(workers), self._store.queue()

        while True:
            try:
                switches = self._switches
                current, self._workers, self._queue = await asyncio.to_thread(look)
                # An event that came meanwhile knows more than what was read before it.
                if current and switches == self._switches:
                    self._switch(current)
                if time.monotonic() >= next_look:
                    next_look = time.monotonic() + ROLLOUT_S
                    arguments = self._client, self._keys, self._store
                    self._rollout = await asyncio.to_thread(look_at_rollout, *arguments)
            except RedisError:
                self._workers = 0
                watch.reset()
            await asyncio.sleep(_LOOK_S)
