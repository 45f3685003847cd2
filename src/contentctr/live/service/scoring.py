"""What the scorer's thread does and knows: the model, each room's last inputs, what it last said.

All of it is that thread's alone; `Done` and `Switched` carry to the event loop what changed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from contentctr.errors import InputError
from contentctr.live.engine import Engine, Refused, Taken, parts_by_run
from contentctr.live.inputs import RoomInput, next_input
from contentctr.live.known_rooms import LiveRoom, NewScore, Shown, begins_anew, with_score
from contentctr.live.outcomes import LateCounts
from contentctr.live.scorer_segments import VALUES, Counts, LiveSegment, RawSegment
from contentctr.live.service.keeping import Keeper
from contentctr.live.service.kept_rooms import Known
from contentctr.live.service.warm import Warm
from contentctr.store.statistics import LATEST

if TYPE_CHECKING:
    from contentctr.live.encoding import LiveEncoder  # brings what opens recordings

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Item:
    """A posted segment."""

    segment: LiveSegment | RawSegment
    shown: Shown
    owner: str | None = None
    """Of its room, as far as there is one."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """What became of an item."""

    taken: Taken
    room: LiveRoom | None
    """The room after it; None where it has no score yet."""
    model: str
    """Id of the model."""
    anew: bool = False
    """Whether the room began anew with it."""


@dataclass(frozen=True, kw_only=True)
class Switched:
    """Another model serves: what every room is by it."""

    engine: Engine
    rooms: dict[str, LiveRoom]
    unscored: list[str]
    """Rooms that began anew and have no score of their run so far; what was told is of the one
    before, by the model before."""
    reason: str
    """A sentence."""
    back: bool = False
    """Whether the one before serves again, because the other failed."""


class Run(Protocol):
    """Does something in the thread that owns the model, between two batches."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]:
        """What came of it."""
        ...


class Scoring:
    """Scores batches, and keeps what is needed to go on with them, or with another model.

    Args:
        engine: the model that serves.
        encoder: encodes posted frames and texts.
        keeper: of the state on the disk; None: nothing outlives the process.
    """

    def __init__(
        self, engine: Engine, encoder: LiveEncoder | None = None, keeper: Keeper | None = None
    ) -> None:
        self.engine = engine
        self.previous: Warm | None = None
        """The model that served before, to go back to."""
        self._name_before = ""
        self.rooms: dict[str, Known] = {}
        self.went_back: list[Switched] = []
        """Told with the next batch."""
        self._encoder, self._keeper = encoder, keeper

    def start(self) -> dict[str, Known]:
        """Go on with the rooms that were kept; all of them."""
        if self._keeper is not None:
            self.rooms = self._keeper.start(self.engine)
            if self._encoder is not None:
                for room_id, known in self.rooms.items():
                    self._encoder.remember(room_id, known.inputs[-1].runs, known.comments)
        return self.rooms

    def stop(self) -> None:
        """Nothing more comes."""
        if self._keeper is not None:
            self._keeper.close(self.rooms, self.engine)

    def work(self, items: Sequence[Item]) -> Sequence[Done | Exception]:
        """Encode what is to be encoded, score all, and keep it before anybody is told."""
        raws = [item.segment for item in items if isinstance(item.segment, RawSegment)]
        encoded = iter(self._encoder.encode(raws) if self._encoder is not None and raws else [])
        segments = [
            item.segment if isinstance(item.segment, LiveSegment) else next(encoded)
            for item in items
        ]
        segments = self._with_waiting(segments)
        outcomes = self._score(segments)
        done: dict[int, Done | Exception] = {}
        for place in (place for part in parts_by_run(segments) for place in part):
            outcome = outcomes[place]
            done[place] = (
                self._take(items[place], segments[place], outcome)
                if isinstance(outcome, Taken)
                else outcome
            )
        if self._keeper is not None:
            self._keeper.flush(self.rooms, self.engine)
        return [done[place] for place in range(len(items))]

    def wait_for_next(self, late: Sequence[LateCounts]) -> int:
        """Keep what has become known of rooms' segments, until they have their next ones.

        Returns:
            How many segments' counts are gone, as too many wait.
        """
        gone = 0
        for one in late:
            known = self.rooms.get(one.room_id)
            if known is None or known.inputs[-1].runs.current != one.run:
                continue  # the room has ended, or begun anew, meanwhile
            known.waiting.setdefault(one.number, one.counts)
            if len(known.waiting) > LATEST:
                del known.waiting[min(known.waiting)]
                gone += 1
            if self._keeper is not None:
                self._keeper.waits(one.room_id)
        if self._keeper is not None:
            self._keeper.flush(self.rooms, self.engine)
        return gone

    def _with_waiting(self, segments: Sequence[LiveSegment]) -> list[LiveSegment]:
        """Segments that their rooms have not had yet, with the counts that wait for them."""
        found, left = list(segments), dict[str, dict[int, Counts]]()
        for place in (place for part in parts_by_run(segments) for place in part):
            segment = segments[place]
            known = self.rooms.get(segment.room_id)
            if known is None or not known.waiting:
                continue
            last = known.inputs[-1]
            same = segment.run in ("", last.runs.current)
            if not same or segment.index <= last.segment.index:
                continue
            waiting = left.setdefault(segment.room_id, dict(known.waiting))
            # Of one that is counted before it comes, the next one tells.
            numbers = [number for number in waiting if number < segment.index]
            if numbers:
                earlier = dict(segment.earlier or {})
                for number in numbers:
                    earlier[number] = {**earlier.get(number, {}), **waiting.pop(number)}
                found[place] = replace(segment, earlier=earlier)
        return found

    def _score(self, segments: Sequence[LiveSegment]) -> Sequence[Taken | Refused]:
        try:
            return self.engine.score(segments)
        except Exception as error:
            if self.previous is None:
                raise
            # What was taken so far is in its rooms alone, and these are given up.
            self.switch(self.previous, reason=f"{type(error).__name__}: {error}"[:200], back=True)
            return self.engine.score(segments)

    def _take(self, item: Item, segment: LiveSegment, taken: Taken) -> Done:
        """A segment that the model took: with all that is known of its room."""
        scored, room_id = taken.scored, segment.room_id
        known = self.rooms.get(room_id)
        if scored.status not in ("scored", "early"):
            room = None if known is None else known.room
            return Done(taken=taken, room=room, model=self.engine.model_id)
        given = next_input(None if known is None else known.inputs[-1], _compact(segment))
        if known is None:
            kept = deque[RoomInput](maxlen=self.engine.scorer.window_len)
            known = self.rooms[room_id] = Known(inputs=kept, owner=item.owner)
        elif given.begins:
            known.inputs.clear()
            known.comments.clear()
            known.waiting.clear()
        known.inputs.append(given)
        for number in known.waiting.keys() & (segment.earlier or {}).keys():
            del known.waiting[number]
            if self._keeper is not None:
                self._keeper.waits(room_id)
        if isinstance(item.segment, RawSegment) and self.engine.spec.comment_lag:
            known.comments[segment.index] = item.segment.comments
            oldest = segment.index - self.engine.scorer.window_len
            known.comments = {k: text for k, text in known.comments.items() if k > oldest}
        anew = self._show(item, known, taken) if scored.score is not None else False
        if self._keeper is not None:
            self._keeper.changed(room_id, whole=given.begins)
        return Done(taken=taken, room=known.room, model=self.engine.model_id, anew=anew)

    def _show(self, item: Item, known: Known, taken: Taken) -> bool:
        """Keep a new score; whether the room began anew with it."""
        scored = taken.scored
        assert scored.score is not None
        new = NewScore(
            room_id=scored.room_id,
            streamer_id=item.segment.streamer_id,
            index=scored.index,
            target_index=scored.target_index,
            score=scored.score,
            shares=taken.shares,
            shown=item.shown,
            run=item.segment.run,
            model=self.engine.model_id,
        )
        anew = begins_anew(known.room, new)
        if anew or item.shown.thumbnail is not None:
            known.thumbnail = item.shown.thumbnail
            if self._keeper is not None:
                self._keeper.changed(scored.room_id, thumbnail=True)
        known.room = with_score(known.room, new)
        return anew

    def forget(self, room_id: str) -> None:
        """A room has ended."""
        if self._encoder is not None:
            self._encoder.forget(room_id)
        self.engine.scorer.forget(room_id)
        if self.previous is not None:
            self.previous.forget(room_id)
        if self.rooms.pop(room_id, None) is not None and self._keeper is not None:
            self._keeper.ended(room_id)
            self._keeper.flush(self.rooms, self.engine)

    def behind(self, warm: Warm) -> list[list[RoomInput]]:
        """What a model that is led along has not seen yet, room by room."""
        warm.keep_only(self.rooms)
        return warm.behind({room_id: known.inputs for room_id, known in self.rooms.items()})

    def compare(self, warm: Warm) -> list[tuple[float, float]]:
        """Last score of each room, by the model and by one that is led along as far."""
        return [
            (known.room.score, latest.score)
            for room_id, known in self.rooms.items()
            if known.room is not None
            if (latest := warm.latest_of(room_id, known.inputs[-1])) is not None
        ]

    def switch(self, warm: Warm, *, reason: str, name: str = "", back: bool = False) -> Switched:
        """Let another model serve, in one step; what is left to be led along is led along here.

        Args:
            warm: with the model.
            reason: a sentence.
            name: the model's, as it was asked for; "": the one given at the start.
            back: whether it is `previous`, as the other has failed.

        Raises:
            InputError: it does not take what the rooms sent. Then nothing has changed.
        """
        warm.lead(self.behind(warm))
        before = {i: known.room for i, known in self.rooms.items() if known.room is not None}
        unscored = [i for i, room in before.items() if _waits(self.rooms[i], room, warm)]
        rooms = {
            room_id: _require(warm.room(room), room)
            for room_id, room in before.items()
            if room_id not in unscored
        }
        last = {room_id: known.inputs[-1] for room_id, known in self.rooms.items()}
        # One that failed is not gone back to.
        self.previous = None if back else Warm(self.engine, last, before)
        self.engine = warm.engine
        for room_id, known in self.rooms.items():
            known.room = rooms.get(room_id)
            known.inputs = deque(known.inputs, maxlen=self.engine.scorer.window_len)
        for room_id in unscored:
            self.rooms[room_id].thumbnail = None
        if self._keeper is not None:
            name, self._name_before = (self._name_before if back else name), self._keeper.name
            self._keeper.all_changed(self.rooms, name)  # written with the batches that come
            self._keeper.flush(self.rooms, self.engine)
        found = Switched(
            engine=self.engine, rooms=rooms, unscored=unscored, reason=reason, back=back
        )
        if back:
            self.went_back.append(found)
        return found


def _compact(segment: LiveSegment) -> LiveSegment:
    """The segment in half the memory, where float16 holds its features' bits: most come so."""
    found = {}
    for name in VALUES:
        values = getattr(segment, name)
        if values is not None and values.dtype != np.float16:
            half = values.astype(np.float16)
            if np.array_equal(half, values):
                found[name] = half
    return replace(segment, **found) if found else segment


def _waits(known: Known, room: LiveRoom, warm: Warm) -> bool:
    """Whether a model that looks ahead has no score of the room's run yet."""
    run = known.inputs[-1].runs.current
    return bool(run) and run != room.run and warm.room(room) is None


def _require(room: LiveRoom | None, before: LiveRoom) -> LiveRoom:
    """A room that had a score has one."""
    if room is None:
        raise InputError(f"room {before.room_id!r}: has a score, and would have none")
    return room
