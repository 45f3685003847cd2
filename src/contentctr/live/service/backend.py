"""Behind the service: rooms in this process's memory, scored by its own model."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from contentctr.live.engine import Engine, RoomsFullError, StreamerChangedError, parts_by_run
from contentctr.live.exposition import TOO_FAR, TOO_MANY
from contentctr.live.known_rooms import LiveRoom, MemoryStore, Shown
from contentctr.live.outcomes import Outcome
from contentctr.live.ranking import Scores
from contentctr.live.scorer_segments import LiveSegment, RawSegment
from contentctr.live.service.background import Background, Lag
from contentctr.live.service.batching import Batcher
from contentctr.live.service.events import EventLog
from contentctr.live.service.keeping import Keeper, State
from contentctr.live.service.keys import ANYONE, Caller
from contentctr.live.service.metrics import Metrics
from contentctr.live.service.models import Models
from contentctr.live.service.observed import Observed
from contentctr.live.service.owners import Owners
from contentctr.live.service.schemas import room_event
from contentctr.live.service.scoring import Done, Item, Scoring, Switched
from contentctr.live.shares import SegmentShares
from contentctr.live.standing import Standing

if TYPE_CHECKING:
    from contentctr.live.encoding import LiveEncoder  # brings what opens recordings


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of a posted segment."""

    status: Literal["scored", "repeated", "late", "early", "queued"]
    target_index: int
    score: float | None
    shares: SegmentShares | None
    room: LiveRoom | None
    """The room with this score; None if it has none, or has ended meanwhile."""
    model: str | None = None
    """Id of the model that made the score; None: it is not known yet."""


def _weight(item: Item) -> int:
    """Pictures to encode: a batch of many of them would hold everybody else up."""
    return max(1, len(item.segment.pictures)) if isinstance(item.segment, RawSegment) else 1


class Backend(Protocol):
    """What the service asks of what is behind it."""

    events: EventLog
    metrics: Metrics
    observed: Observed

    @property
    def model(self) -> str:
        """Id of the model that scores now; "": none is known yet."""

    def rollout(self) -> dict[str, Any] | None:
        """The models of workers, as RolloutOut; None: no workers score."""

    @property
    def ready(self) -> bool:
        """Whether segments are accepted."""

    @property
    def busy(self) -> bool:
        """Whether a segment would be refused now, whatever it is."""

    async def start(self) -> None:
        """Begin."""

    async def stop(self) -> None:
        """Finish what was accepted, and end."""

    async def submit(
        self, segment: LiveSegment | RawSegment, shown: Shown, caller: Caller = ANYONE
    ) -> Answer:
        """Have a segment scored."""

    async def scores(self, room_ids: Sequence[str]) -> Scores:
        """Latest scores of some rooms, all of one model."""

    async def standing(self) -> Standing:
        """Where all rooms stand."""

    async def rooms(
        self, room_ids: Sequence[str], model: str | None = None
    ) -> list[LiveRoom | None]:
        """Several, as a model has scored them (None: the current); None: it is not there."""

    async def thumbnail(self, room_id: str) -> bytes | None:
        """A room's latest thumbnail."""

    async def end(self, room_id: str, caller: Caller = ANYONE) -> bool:
        """Forget a room; whether there was one."""

    async def observe(self, outcomes: Sequence[Outcome]) -> dict[str, int]:
        """Take what came of some segments; how many became what (Observed.sort)."""


class LocalBackend:
    """The embedded default: one process, no Redis.

    Args:
        engine: scores; owned from now on by this backend's thread.
        encoder: encodes posted frames and texts; owned likewise.
        queue_size: segments that wait at most.
        wait_s: seconds that a batch stays open for more.
        forget_after_s: seconds without a segment after which a room has ended.
        clock: monotonic seconds: a wall clock that is set would end all rooms.
        keeper: keeps the rooms, so that the next process goes on with them.
        report: told what the operator should know of models, a sentence each.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        encoder: LiveEncoder | None = None,
        queue_size: int = 512,
        wait_s: float = 0.002,
        forget_after_s: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
        keeper: Keeper | None = None,
        report: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.events, self.metrics, self.store = EventLog(), Metrics(), MemoryStore()
        self.engine = engine
        """What scores, as the event loop knows it: it changes with all rooms in one step."""
        self._scoring, self._keeper, self._owners = (
            Scoring(engine, encoder, keeper),
            keeper,
            Owners(),
        )
        self._forget_after_s, self._clock = forget_after_s, clock
        self._standing: Standing | None = None
        self._coming: Counter[str] = Counter()
        """Segments of each room that are on their way."""
        self._batcher: Batcher[Item, Done] = Batcher(
            self._scoring.work,
            batch_size=engine.scorer.batch_size,
            weigh=_weight,
            wait_s=wait_s,
            queue_size=queue_size,
            deliver=self._deliver,
        )
        self._sweeper = Background("the sweep of silent rooms", self._sweep)
        self._lag = Lag()
        self._watch = Background("the watch of the event loop", self._lag.watch)
        self.observed = Observed(self.metrics, engine.config.data.horizon)
        self.observed.watch_drift(lambda: self.engine)
        gauge = self.metrics.gauge
        gauge("rooms", "Live rooms.", lambda: len(self.store))
        gauge("waiting_segments", "Segments that wait.", lambda: len(self._batcher))
        gauge("loop_lag_seconds", "Longest delay of the event loop.", lambda: self._lag.worst)
        gauge("listeners", "Open event streams.", lambda: self.events.listeners)
        if keeper is not None:
            text = "Whether rooms are kept on the disk: 1, or 0 where that fails."
            gauge("state_kept", text, lambda: keeper.state == "kept")
        self.metrics.model(engine.model_id)
        name = "" if keeper is None else keeper.name
        self.models = Models(self._scoring, self._batcher.run, self._switched, report, name)
        self._candidate = Background("the candidate", self.models.follow)

    @property
    def model(self) -> str:
        """See Backend."""
        return self.engine.model_id

    def rollout(self) -> dict[str, Any] | None:
        """See Backend."""
        return None

    @property
    def ready(self) -> bool:
        """See Backend."""
        whole = self._batcher.running and self._sweeper.healthy
        return whole and not self.events.closed

    @property
    def busy(self) -> bool:
        """See Backend."""
        return self._batcher.full or not self._batcher.running

    @property
    def state(self) -> State:
        """Whether rooms outlive the process."""
        return "none" if self._keeper is None else self._keeper.state

    async def start(self) -> None:
        """See Backend."""
        now = self._clock()
        for room_id, known in (await self._batcher.run(self._scoring.start)).items():
            self.store.touch(room_id, now)
            if known.room is not None:
                self.store.keep(known.room, known.thumbnail)
            if known.owner is not None:
                self._owners.keep(room_id, known.owner)
        self._batcher.start()
        self._sweeper.start()
        self._watch.start()
        self._candidate.start()

    async def stop(self) -> None:
        """See Backend."""
        await self._candidate.stop()
        await self._sweeper.stop()
        await self._watch.stop()
        await self._batcher.stop(self._scoring.stop)
        self.events.close()

    async def submit(
        self, segment: LiveSegment | RawSegment, shown: Shown, caller: Caller = ANYONE
    ) -> Answer:
        """See Backend.

        Raises:
            BusyError: too many wait, or the service ends.
            RoomsFullError: a new room, and there are as many as there, or of one key, may be.
            NotOwnerError: the room is another's.
            StreamerChangedError: the room has another streamer.
            InputError: the segment is not what the model takes.
        """
        room, limit = self.store.room(segment.room_id), self.engine.scorer.max_rooms
        if room is None and len(self.store) >= limit:
            raise RoomsFullError(f"there may be at most {limit} live rooms")
        if room is not None and room.streamer_id != segment.streamer_id:
            raise StreamerChangedError(
                f"room {segment.room_id!r}: streamer_id must be {room.streamer_id!r}, as in its "
                f"first segment, not {segment.streamer_id!r}"
            )
        self._owners.claim(segment.room_id, caller)
        self._coming[segment.room_id] += 1
        try:
            owner = self._owners.of(segment.room_id)
            done = await self._batcher.submit(Item(segment, shown, owner))
        finally:
            self._arrived(segment.room_id, caller)
        return Answer(
            status=done.taken.scored.status,
            target_index=done.taken.scored.target_index,
            score=done.taken.scored.score,
            shares=done.taken.shares,
            room=self.store.room(segment.room_id),
            model=done.model,
        )

    def _arrived(self, room_id: str, caller: Caller) -> None:
        """A room that has come about stays its owner's; one that did not is nobody's again."""
        self._coming[room_id] -= 1
        coming = self._coming[room_id] > 0
        if not coming:
            del self._coming[room_id]
        if self.store.seen(room_id) is not None:
            self._owners.keep(room_id, caller.name)  # it may have ended, and begun again, meanwhile
        elif not coming:
            self._owners.release(room_id)

    async def scores(self, room_ids: Sequence[str]) -> Scores:
        """See Backend."""
        return Scores(self.store.scores(room_ids), self.model)

    async def standing(self) -> Standing:
        """See Backend."""
        if self._standing is None:
            self._standing = Standing(self.store.scores(), self.engine.ranking, self.model)
        return self._standing

    async def rooms(
        self, room_ids: Sequence[str], model: str | None = None
    ) -> list[LiveRoom | None]:
        """See Backend; there is one model here at a time."""
        return [self.store.room(room_id) for room_id in room_ids]

    async def thumbnail(self, room_id: str) -> bytes | None:
        """See Backend."""
        return self.store.thumbnail(room_id)

    async def end(self, room_id: str, caller: Caller = ANYONE) -> bool:
        """See Backend.

        Raises:
            NotOwnerError: the room is another's.
            BusyError: scoring hangs, or the service ends; the room may end later.
        """
        self._owners.require(room_id, caller)
        return await self._batcher.answer(lambda: self._end(room_id, "ended"))

    async def observe(self, outcomes: Sequence[Outcome]) -> dict[str, int]:
        """See Backend.

        Raises:
            BusyError: what waits for rooms cannot be kept now; it may be told again.
        """
        known = {one.room_id: self.store.room(one.room_id) for one in outcomes}
        rooms = {room_id: [room] for room_id, room in known.items() if room is not None}
        found = self.observed.sort(outcomes, rooms)
        if found.late:
            gone = await self._batcher.ask(lambda: self._scoring.wait_for_next(found.late))
            self.metrics.late_counts.labels(TOO_MANY).inc(gone)
        self.observed.log.add(found.new, time.time())
        return found.counts

    def _deliver(self, items: list[Item], outcomes: Sequence[Done | Exception]) -> None:
        """In the loop's thread: keep new scores in the order of their numbers, and tell of them."""
        self.metrics.batches.observe(len(items))
        now = self._clock()
        while self._scoring.went_back:
            self._switched(self._scoring.went_back.pop(0))
        parts = parts_by_run([item.segment for item in items])
        for item, done in ((items[k], outcomes[k]) for part in parts for k in part):
            if not isinstance(done, Done):
                self.metrics.segments.labels("refused").inc()
                continue
            scored = done.taken.scored
            self.metrics.segments.labels(scored.status).inc()
            self.metrics.late_counts.labels(TOO_FAR).inc(scored.late_counts)
            if scored.status == "early":
                self.store.touch(scored.room_id, now)  # no score is told of it; it is there, though
            if scored.status != "scored":
                continue
            assert done.room is not None
            if done.anew:
                about = {"room_id": scored.room_id, "reason": "anew"}
                self.events.append("end", scored.room_id, about)
                self.observed.log.forget(scored.room_id)
            self.store.keep(done.room, item.shown.thumbnail, now)
            self.events.append("score", scored.room_id, room_event(done.room))
            self._standing = None

    def _switched(self, found: Switched) -> None:
        """In the loop's thread, in one step: every room is what the new model says of it."""
        self.engine, self._standing = found.engine, None
        for room in found.rooms.values():
            self.store.keep(room, None)
        for room_id in found.unscored:
            self.store.unlist(room_id)
        self.metrics.model(found.engine.model_id)
        self.models.switched(found)
        self.events.reset()

    async def _end(self, room_id: str, reason: Literal["ended", "idle"]) -> bool:
        await self._batcher.run(lambda: self._scoring.forget(room_id))
        told = self.store.room(room_id) is not None
        found = self.store.end(room_id)
        self._owners.release(room_id)
        self.observed.log.forget(room_id)
        self._standing = None
        if told:
            self.events.append("end", room_id, {"room_id": room_id, "reason": reason})
        return found

    async def _sweep(self) -> None:
        """End rooms that send nothing any more."""
        while True:
            await asyncio.sleep(min(self._forget_after_s / 4, 10.0))
            since = self._clock() - self._forget_after_s
            for room_id in self.store.idle_since(since):
                seen = self.store.seen(room_id)
                if seen is not None and seen < since:  # not heard of while others were ended
                    await self._end(room_id, "idle")
