"""A model that is led along: it sees what rooms sent, so that it could serve them. No I/O."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace

from contentctr.errors import InputError
from contentctr.live.engine import Engine, Taken
from contentctr.live.inputs import RoomInput, take_over
from contentctr.live.known_rooms import LiveRoom, with_model
from contentctr.live.shares import SegmentShares

_ROOMS = 16
"""Rooms whose windows are computed in one call: the batches between must not wait for more."""


@dataclass(frozen=True)
class Latest:
    """A room's last score."""

    score: float
    target_index: int
    shares: SegmentShares | None


class Warm:
    """An engine beside the one that serves. For one thread at a time.

    Args:
        engine: the model.
        fed: each room's last input that it has seen.
        rooms: what it said of them.
    """

    def __init__(
        self,
        engine: Engine,
        fed: Mapping[str, RoomInput] | None = None,
        rooms: Mapping[str, LiveRoom] | None = None,
    ) -> None:
        self.engine = engine
        self._fed = dict(fed or {})
        self.latest = {
            room_id: Latest(room.score, room.target_index, room.shares)
            for room_id, room in (rooms or {}).items()
        }

    def behind(self, rooms: Mapping[str, Sequence[RoomInput]]) -> list[list[RoomInput]]:
        """What it has not seen of rooms: their last inputs, or only those that are new."""
        found = []
        for room_id, inputs in rooms.items():
            if self._fed.get(room_id) is inputs[-1]:
                continue
            wanted = list(inputs)
            for place, one in enumerate(wanted):
                if one is self._fed.get(room_id):
                    wanted = wanted[place + 1 :]
                    break
            else:
                self.forget(room_id)  # what it knows is too old, or of another run
            found.append(wanted)
        return found

    def lead(self, rooms: Sequence[Sequence[RoomInput]]) -> None:
        """See what `behind` found.

        Raises:
            InputError: the model does not take it, or gives no finite score.
        """
        for start in range(0, len(rooms), _ROOMS):
            part = rooms[start : start + _ROOMS]
            new = [inputs for inputs in part if inputs[0].segment.room_id not in self._fed]
            old = [inputs for inputs in part if inputs[0].segment.room_id in self._fed]
            last = [inputs[-1].segment for inputs in (*new, *old)]
            scored = take_over(self.engine.scorer, new) if new else []
            if old:
                found = self.engine.scorer.score([i.segment for inputs in old for i in inputs])
                by_room = {one.room_id: one for one in found}  # in order: the last one stays
                scored = [*scored, *(by_room[inputs[0].segment.room_id] for inputs in old)]
            for inputs, taken in zip(
                (*new, *old), self.engine.with_shares(last, scored), strict=True
            ):
                assert isinstance(taken, Taken)
                self._see(inputs[-1], taken)

    def _see(self, last: RoomInput, taken: Taken) -> None:
        room_id, score = last.segment.room_id, taken.scored.score
        self._fed[room_id] = last
        if score is None:
            self.latest.pop(room_id, None)
            return
        if not math.isfinite(score):
            raise InputError(f"model {self.engine.model_id}: room {room_id!r} has no finite score")
        self.latest[room_id] = Latest(score, taken.scored.target_index, taken.shares)

    def latest_of(self, room_id: str, last: RoomInput) -> Latest | None:
        """A room's last score, if it is of that input."""
        return self.latest.get(room_id) if self._fed.get(room_id) is last else None

    def room(self, room: LiveRoom) -> LiveRoom | None:
        """A room, with the last score as this model gives it; None: it gives none yet."""
        latest = self.latest.get(room.room_id)
        if latest is None:
            return None
        return replace(
            room,
            score=latest.score,
            target_index=latest.target_index,
            shares=latest.shares,
            models=with_model(room.models, room.index, self.engine.model_id),
            curve=(*room.curve[:-1], (room.index, latest.score)),
        )

    def forget(self, room_id: str) -> None:
        """A room has ended."""
        self._fed.pop(room_id, None)
        self.latest.pop(room_id, None)
        self.engine.scorer.forget(room_id)

    def keep_only(self, rooms: Container[str]) -> None:
        """Forget all rooms but these."""
        for room_id in [room_id for room_id in self._fed if room_id not in rooms]:
            self.forget(room_id)
