"""The rooms that a worker has in memory, as they are in Redis: loaded, made anew, forgotten."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contentctr.errors import InputError
from contentctr.live.engine import Engine
from contentctr.live.inputs import RoomInput, from_bytes, next_input, take_over
from contentctr.live.known_rooms import LiveRoom
from contentctr.live.redis.keys import Keys
from contentctr.live.redis.messages import Message, message_id
from contentctr.live.redis.store import Command, RedisStore, answers_of
from contentctr.live.scorer_segments import LiveSegment, Runs

_LOOKED_AT = 4
"""Inputs of a room among which the one is looked for where its model stands."""


@dataclass(kw_only=True)
class Working:
    """A room in memory."""

    partition: int
    room: LiveRoom | None
    """None: it has no score yet."""
    last: RoomInput | None
    """Its last segment as models take it; None: none is known."""
    used: float
    """When it last had a message, on the monotonic clock."""
    stood: Runs | None = None
    """The room's runs where its inputs are not known and its state is: what was made of none would
    be another room's inputs, for all models."""

    def next_input(self, segment: LiveSegment) -> RoomInput | None:
        """What a segment that was taken is as an input; None: it is not known."""
        if self.stood is None:
            self.last = next_input(self.last, segment)
        elif self.stood.begin_anew(segment.run):
            runs, self.stood = self.stood.then(segment.run), None
            self.last = RoomInput(segment=segment, first=int(segment.index), runs=runs)
        return self.last


class WorkingRooms:
    """Rooms of the worker's partitions; those unused longest make place for others.

    A room's state in Redis is the model's own. Where it is missing, damaged, or behind the room's
    inputs (another model's worker had the room meanwhile), it is made from these.

    Args:
        client: of `connect`.
        engine: whose rooms these are; its `max_rooms` is how many are kept.
        keys: names of the keys, the model's among them.
        store: reads rooms.
        forget_after_s: seconds after which Redis may have forgotten a room that is not heard of.
        report: told what becomes of damaged ones.
    """

    def __init__(
        self,
        client: Any,
        engine: Engine,
        keys: Keys,
        store: RedisStore,
        forget_after_s: float,
        report: Callable[[str], None],
    ) -> None:
        self._client, self._engine, self._keys, self._store = client, engine, keys, store
        self._forget_after_s, self._report = forget_after_s, report
        self._rooms: OrderedDict[str, Working] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rooms)

    def __contains__(self, room_id: str) -> bool:
        return room_id in self._rooms

    def __getitem__(self, room_id: str) -> Working:
        return self._rooms[room_id]

    def load(self, partition: int, messages: Sequence[Message]) -> None:
        """Have the rooms of some messages in memory, as they were before these.

        Args:
            partition: theirs.
            messages: of segments; no more than `max_rooms` rooms.
        """
        firsts: dict[str, Message] = {}
        for message in messages:
            firsts.setdefault(message.room_id, message)
        now = time.monotonic()
        for room_id, message in firsts.items():
            kept = self._rooms.get(room_id)
            if kept is None:
                continue
            # Redis may have forgotten it too; and a gap may be a message that this model, while
            # it was the candidate, did not get.
            if now - kept.used > self._forget_after_s or self._is_ahead(message):
                self.forget(room_id)
            else:
                kept.used = now
                self._rooms.move_to_end(room_id)
        new = {room_id: m.id for room_id, m in firsts.items() if room_id not in self._rooms}
        self.make_place(len(new), firsts)
        self._find_last([room_id for room_id in firsts if room_id not in new])
        if new:
            self._load(partition, new, now)

    def _find_last(self, room_ids: Sequence[str]) -> None:
        """Look again for the inputs of rooms in memory whose are not known."""
        lost = [room_id for room_id in room_ids if self[room_id].stood is not None]
        for room_id, entries in self.inputs(dict.fromkeys(lost), _LOOKED_AT).items():
            for entry in entries:
                if self._stands_at(room_id, entry):
                    self[room_id].last, self[room_id].stood = entry, None

    def make_place(self, count: int, needed: Iterable[str] = ()) -> None:
        """Let the rooms go that were unused longest, until there is place for `count` more."""
        while len(self._rooms) > self._engine.scorer.max_rooms - count:
            oldest = next(iter(self._rooms))
            assert oldest not in needed, "max_rooms must be at least the batch size"
            self.forget(oldest)

    def take_over(
        self, partition: int, rooms: Mapping[str, Sequence[RoomInput]]
    ) -> dict[str, float]:
        """Make rooms' states from their last inputs; there must be place for them.

        Returns:
            The score of each room's last segment; those that have none are left out.
        """
        found: dict[str, float] = {}
        for part in ([*rooms], *([room_id] for room_id in rooms)):
            left = [r for r in part if r not in self._rooms or self._rooms[r].last is None]
            if not left:
                continue
            try:
                results = take_over(self._engine.scorer, [rooms[room_id] for room_id in left])
            except InputError as error:  # each alone tells whose it is
                if len(part) == 1:
                    self._report(f"room {part[0]}: its window begins anew: {error}")
                continue
            for result in results:
                if result.score is not None:
                    found[result.room_id] = result.score
                self.put(result.room_id, partition, None, rooms[result.room_id][-1])
        return found

    def put(
        self, room_id: str, partition: int, room: LiveRoom | None, last: RoomInput | None
    ) -> None:
        """Have a room in memory of which the scorer knows."""
        now = time.monotonic()
        self._rooms[room_id] = Working(partition=partition, room=room, last=last, used=now)

    def forget(self, room_id: str) -> None:
        """Let a room go."""
        self._engine.scorer.forget(room_id)
        self._rooms.pop(room_id, None)

    def drop(self, partition: int) -> None:
        """Forget a partition's rooms: they are another worker's."""
        for room_id in [r for r, k in self._rooms.items() if k.partition == partition]:
            self.forget(room_id)

    def clear(self) -> None:
        """Forget all."""
        for room_id in list(self._rooms):
            self.forget(room_id)

    def inputs(
        self, befores: Mapping[str, bytes | None], count: int | None = None
    ) -> dict[str, list[RoomInput]]:
        """The last inputs of rooms, oldest first; those behind a damaged one alone, if any are.

        Args:
            befores: of each room the id of a message; only inputs of older ones. None: all.
            count: so many at most of each, of the newest; None: all that are kept.
        """
        pipe = self._client.pipeline(transaction=False)
        for room_id in befores:
            pipe.lrange(self._keys.inputs(room_id), 0 if count is None else -count, -1)
        return {
            room_id: self._read(room_id, entries or [], before)
            for (room_id, before), entries in zip(befores.items(), answers_of(pipe), strict=True)
        }

    def _read(
        self, room_id: str, entries: Sequence[bytes], before: bytes | None
    ) -> list[RoomInput]:
        found: list[RoomInput] = []
        older: list[RoomInput] = []
        limit = None if before is None else message_id(before)
        for entry in entries:
            name, _, data = entry.partition(b" ")
            try:
                if limit is not None and message_id(name) >= limit:
                    break
                found.append(from_bytes(data))
            except (InputError, ValueError) as error:
                self._report(f"room {room_id}: an input is damaged: {error}")
                older, found = found or older, []
        return found or older

    def _load(self, partition: int, new: Mapping[str, bytes], now: float) -> None:
        states = self._client.mget([self._keys.state(room_id) for room_id in new])
        rooms = self._store.rooms(list(new), self._keys.model)
        for room_id, state in zip(new, states, strict=True):
            if state is not None:
                try:
                    self._engine.scorer.restore(state)
                except InputError as error:  # no reason to end: there are its inputs
                    self._report(f"room {room_id}: its state is made anew: {error}")
        newest = self.inputs(dict.fromkeys(new), 2)  # one more, if the newest is damaged
        for room_id, entries in newest.items():
            last = entries[-1] if entries and self._stands_at(room_id, entries[-1]) else None
            self.put(room_id, partition, None, last)
        unsure = {r: new[r] for r, entries in newest.items() if entries and not self[r].last}
        behind: dict[str, list[RoomInput]] = {}
        for room_id, entries in self.inputs(unsure).items():
            if entries and self._stands_at(room_id, entries[-1], or_behind=True):
                self[room_id].last = entries[-1]
            elif entries:
                behind[room_id] = entries
        if behind:
            self.take_over(partition, behind)
        for room_id, room in zip(new, rooms, strict=True):
            kept, stand = self[room_id], self._engine.scorer.stand(room_id)
            kept.room, kept.used = room, now
            kept.stood = stand[1] if stand is not None and kept.last is None else None

    def _stands_at(self, room_id: str, entry: RoomInput, *, or_behind: bool = False) -> bool:
        """Whether the scorer has seen a room up to an input; or further, as one was damaged."""
        stand, index = self._engine.scorer.stand(room_id), int(entry.segment.index)
        if stand is None or stand[1] != entry.runs:
            return False
        return stand[0] == index or or_behind and stand[0] > index

    def _is_ahead(self, message: Message) -> bool:
        """Whether a segment is not the next one of its room."""
        stand = self._engine.scorer.stand(message.room_id)
        return stand is None or message.segment is None or int(message.segment.index) > stand[0] + 1


def state_commands(
    keys: Keys, room_id: str, state: bytes, forget_after_s: int | None
) -> list[Command]:
    """What keeps a room's state.

    Args:
        keys: names of the keys, the model's among them.
        room_id: of the room.
        state: of RoomScorer.save.
        forget_after_s: a room that has no score yet is in no list of rooms: it must end by itself
            after so many seconds. None: it has one.
    """
    ends = () if forget_after_s is None else ("EX", forget_after_s)
    return [("SET", keys.state(room_id), state, *ends)]
