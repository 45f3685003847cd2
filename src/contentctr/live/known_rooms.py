"""What is known of the live rooms: latest score, recent curve, what to show. In memory; no I/O.

Rooms that workers and services share are kept by redis/store.py, by the same `with_score`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

from contentctr.live.ranking import RoomScore
from contentctr.live.shares import SegmentShares
from contentctr.score.highlights import highlight_mask

CURVE_KEPT = 240
"""Scores of a room that are kept: two hours of 30 s."""
COMMENTS_KEPT = 10
MODELS_KEPT = 4
"""Changes of model in a room's curve that are remembered."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What came with a segment to be shown, and is not read by the model."""

    ended_at: float
    """When the segment ended, Unix seconds."""
    title: str = ""
    comments: tuple[str, ...] = ()
    thumbnail: bytes | None = None
    """A JPEG or PNG."""


@dataclass(frozen=True, kw_only=True)
class LiveRoom:
    """A room as of its last scored segment."""

    room_id: str
    streamer_id: str
    title: str
    index: int
    target_index: int
    score: float
    ended_at: float
    shares: SegmentShares | None
    comments: tuple[str, ...]
    thumbnail_index: int | None
    """The segment that the thumbnail came with; None: there is none."""
    run: str = ""
    """Of its source; with a new one it began anew."""
    models: tuple[tuple[int, str], ...] = ()
    """(index, id) of the first segment of the curve that each model scored, oldest first."""
    curve: tuple[tuple[int, float], ...]
    """(index, score) of the kept segments, oldest first."""

    @cached_property
    def highlights(self) -> list[bool]:
        """Which points of the curve are highlights, by the rule of score/highlights.py."""
        mask: list[bool] = highlight_mask([score for _, score in self.curve]).tolist()
        return mask

    @property
    def model(self) -> str:
        """The id of the model that made the score; "": it is not known."""
        return self.models[-1][1] if self.models else ""

    def model_of(self, index: int) -> str:
        """The id of the model that scored a segment of the curve; "": it is not known."""
        return next((name for first, name in reversed(self.models) if first <= index), "")


@dataclass(frozen=True, kw_only=True)
class NewScore:
    """A segment that was scored, for the store."""

    room_id: str
    streamer_id: str
    index: int
    target_index: int
    score: float
    shares: SegmentShares | None
    shown: Shown
    run: str = ""
    """Of the segment's source; "": none is named, and it is the room's."""
    model: str = ""
    """Id of the model that made the score."""


def begins_anew(room: LiveRoom | None, new: NewScore) -> bool:
    """Whether a score is the first of another run: what is known of the room is then another's."""
    return room is not None and bool(new.run) and new.run != room.run


def with_model(
    models: tuple[tuple[int, str], ...], index: int, model: str
) -> tuple[tuple[int, str], ...]:
    """A room's models once segment `index`, its last, is scored by a model."""
    if models and models[-1][1] == model:
        return models
    return (*models, (index, model))[-MODELS_KEPT:]


def with_points_before(room: LiveRoom, before: LiveRoom | None) -> LiveRoom:
    """A room that a model has just begun, with the points that another one made before it.

    Args:
        room: with the model's first score.
        before: the room as the other model has scored it; None: it has not.
    """
    first = room.curve[0][0]
    points = () if before is None else tuple(p for p in before.curve if p[0] < first)
    if before is None or not points or before.run != room.run:
        return room
    models = (one for one in before.models if one[0] < first)
    return replace(
        room,
        models=(*models, *room.models)[-MODELS_KEPT:],
        curve=(*points, *room.curve)[-CURVE_KEPT:],
    )


def with_score(room: LiveRoom | None, new: NewScore) -> LiveRoom:
    """The room after one more score."""
    if begins_anew(room, new):
        room = None
    curve = () if room is None else room.curve
    comments = () if room is None else room.comments
    models = () if room is None else room.models
    shown = new.shown
    return LiveRoom(
        room_id=new.room_id,
        streamer_id=new.streamer_id,
        title=shown.title or ("" if room is None else room.title),
        run=new.run or ("" if room is None else room.run),
        models=with_model(models, new.index, new.model),
        index=new.index,
        target_index=new.target_index,
        score=new.score,
        ended_at=shown.ended_at,
        shares=new.shares,
        comments=(*comments, *shown.comments)[-COMMENTS_KEPT:],
        thumbnail_index=new.index
        if shown.thumbnail is not None
        else (None if room is None else room.thumbnail_index),
        curve=(*curve, (new.index, new.score))[-CURVE_KEPT:],
    )


class MemoryStore:
    """Rooms in this process's memory. For one thread."""

    def __init__(self) -> None:
        self._rooms: dict[str, LiveRoom] = {}
        self._scores: dict[str, RoomScore] = {}
        self._thumbnails: dict[str, bytes] = {}
        self._seen: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._rooms)

    def keep(self, room: LiveRoom, thumbnail: bytes | None, now: float | None = None) -> None:
        """A room as it is now, heard of at `now`; without a thumbnail, with the one it has."""
        self._rooms[room.room_id] = room
        self._scores[room.room_id] = RoomScore(score=room.score, ended_at=room.ended_at)
        if room.thumbnail_index is None:
            self._thumbnails.pop(room.room_id, None)
        elif thumbnail is not None:
            self._thumbnails[room.room_id] = thumbnail
        if now is not None:
            self.touch(room.room_id, now)

    def touch(self, room_id: str, now: float) -> None:
        """A room was heard of, also one that has no score yet."""
        # Out and in again, so that the dictionary's order is that of the last segments.
        self._seen.pop(room_id, None)
        self._seen[room_id] = now

    def seen(self, room_id: str) -> float | None:
        """When a room was last heard of, with a score or none yet; None: there is no such room."""
        return self._seen.get(room_id)

    def idle_since(self, moment: float) -> list[str]:
        """Rooms not heard of since `moment`."""
        found = []
        for room_id, seen in self._seen.items():
            if seen >= moment:
                break
            found.append(room_id)
        return found

    def scores(self, room_ids: Sequence[str] | None = None) -> Mapping[str, RoomScore]:
        """Latest scores, of some rooms or, as they change, of all; of rooms that have one."""
        if room_ids is None:
            return MappingProxyType(self._scores)
        return {name: self._scores[name] for name in room_ids if name in self._scores}

    def room(self, room_id: str) -> LiveRoom | None:
        """One room."""
        return self._rooms.get(room_id)

    def thumbnail(self, room_id: str) -> bytes | None:
        """The room's latest thumbnail."""
        return self._thumbnails.get(room_id)

    def unlist(self, room_id: str) -> None:
        """A room that was heard of has no score any more, until its next one."""
        self._thumbnails.pop(room_id, None)
        self._scores.pop(room_id, None)
        self._rooms.pop(room_id, None)

    def end(self, room_id: str) -> bool:
        """Forget a room; whether there was one."""
        self.unlist(room_id)
        return self._seen.pop(room_id, None) is not None
