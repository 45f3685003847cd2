"""A candidate's scores of rooms that were live before it came, made from their last inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from contentctr.live.engine import Engine
from contentctr.live.known_rooms import LiveRoom, with_points_before
from contentctr.live.redis.keys import Keys
from contentctr.live.redis.messages import partition_of
from contentctr.live.redis.store import Command, RedisStore, score_commands
from contentctr.live.redis.working_rooms import WorkingRooms, state_commands
from contentctr.live.service.schemas import room_event


class Priming:
    """Rooms of the current model that this one has no score of, a few at a time.

    A room's score is that of its last segment. What is still in the stream for this model comes
    behind it, so only inputs of older messages are taken.

    Args:
        client: of `connect`.
        engine: with the candidate.
        keys: names of the keys, the candidate's among them.
        store: reads rooms.
        rooms: the worker's.
    """

    def __init__(
        self, client: Any, engine: Engine, keys: Keys, store: RedisStore, rooms: WorkingRooms
    ) -> None:
        self._client, self._engine, self._keys = client, engine, keys
        self._store, self._rooms = store, rooms
        self._left: dict[int, list[str]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._left.values()))

    def begin(self, current: str, partitions: Sequence[int]) -> None:
        """Look for the rooms of partitions that the worker has got.

        Args:
            current: id of the current model.
            partitions: which.
        """
        self._current = current
        self._left.update({partition: [] for partition in partitions})
        names = [self._keys.of(current).ranking, self._keys.ranking]
        for member in self._client.zdiff(names):
            room_id = member.decode()
            partition = partition_of(room_id, self._store.partitions)
            if partition in partitions:
                self._left[partition].append(room_id)

    def drop(self, partition: int) -> None:
        """A partition is another worker's."""
        self._left.pop(partition, None)

    def step(self, partition: int, clock: Callable[[], float]) -> list[Command]:
        """What keeps the scores of a partition's next few rooms; empty where none is left."""
        left = self._left.get(partition, [])
        size = self._engine.scorer.batch_size
        names = [room_id for room_id in left[:size] if room_id not in self._rooms]
        self._left[partition] = left[size:]
        if not names:
            return []
        oldest = self._client.xrange(self._keys.stream(partition), "-", "+", 1)
        before = oldest[0][0] if oldest else None
        inputs = self._rooms.inputs(dict.fromkeys(names, before))
        # Behind the inputs: so their curves reach as far at least.
        theirs = dict(zip(names, self._store.rooms(names, self._current), strict=True))
        there = {room_id: inputs[room_id] for room_id in names if inputs[room_id]}
        self._rooms.make_place(len(there))
        scores = self._rooms.take_over(partition, there)
        commands: list[Command] = []
        now = clock()
        for room_id in there:
            shown = theirs[room_id]
            if room_id in scores and shown is not None:
                commands += self._commands(room_id, shown, scores[room_id], now)
            else:
                self._rooms.forget(room_id)
        return commands

    def _commands(self, room_id: str, shown: LiveRoom, score: float, now: float) -> list[Command]:
        kept = self._rooms[room_id]
        assert kept.last is not None
        index = int(kept.last.segment.index)
        seconds = self._engine.spec.segment_seconds
        room = replace(
            shown,
            index=index,
            target_index=index + self._engine.scorer.horizon,
            score=score,
            ended_at=shown.ended_at + seconds * (index - shown.index),
            models=((index, self._keys.model),),
            shares=None,
            curve=((index, score),),
        )
        run = kept.last.segment.run
        kept.room = room = with_points_before(room, shown if run in ("", shown.run) else None)
        state = self._engine.scorer.save([room_id])
        return [
            *score_commands(self._keys, room, now, room_event(room), whole=True, shared=False),
            *state_commands(self._keys, room_id, state, None),
        ]
