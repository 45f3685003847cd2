"""Simulated rooms that go live: posted to a running service, in real or fast time.

Each room posts a segment every segment length divided by the speed, until it ends and another
room takes its place. At the beginning the rooms have been live for a while, so that there are
curves to see. Features are the simulator's own (simulate/features.py), so only a model of
simulated rooms of the same settings can read them.
"""

from __future__ import annotations

import base64
import dataclasses
import heapq
import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from contentctr.errors import InputError
from contentctr.live.watch.client import Client, base64_of
from contentctr.simulate.features import RoomFeatures, SimulatedEncoders
from contentctr.simulate.mechanism import (
    MISSING,
    SEGMENT_SECONDS,
    SimulatedRoom,
    SimulatorConfig,
    draw_room,
    stream,
)
from contentctr.simulate.scenes import draw_frame, draw_look
from contentctr.simulate.tables import ACTIVITIES

LONGEST_PAST = 40
"""Segments that a room may have been live for at the beginning."""


@dataclass(frozen=True, kw_only=True)
class LiveSettings:
    """What goes live, and how fast."""

    simulator: SimulatorConfig
    """Settings of the rooms that the service's model was trained on."""
    first_room: int
    """Index of the first room, past those that the model was trained on."""
    rooms: int = 12
    """Rooms that are live at once."""
    speed: float = 30.0
    """Segments come so many times faster than in real time; 1: one in 30 s."""

    def __post_init__(self) -> None:
        for name, value in (("rooms", self.rooms), ("speed", self.speed)):
            if not 0 < value < float("inf"):
                raise InputError(f"{name} must be above 0, not {value!r}")


@dataclass(order=True)
class _Turn:
    """A room, and when its next segment ends."""

    due: float
    number: int
    segments: Iterator[dict[str, Any]] = field(compare=False)
    room_id: str = field(compare=False)


def play_rooms(
    client: Client,
    settings: LiveSettings,
    *,
    stopped: Callable[[], bool],
    report: Callable[[str], None] = print,
) -> int:
    """Post simulated rooms until `stopped`.

    Args:
        client: of the service.
        settings: what goes live.
        stopped: whether to end, looked at several times a second.
        report: told when the service does not answer, and when it does again.

    Returns:
        Segments that were posted.

    Raises:
        InputError: the service cannot be reached, its model is not one of simulated rooms, or it
            refuses a segment.
    """
    stage = _Stage(client, settings)
    turns = stage.first_turns()
    posted = 0
    while not stopped():
        turn = turns[0]
        wait = turn.due - time.time()
        if wait > 0:
            time.sleep(min(wait, 0.1))
            continue
        segment = next(turn.segments, None)
        if segment is None:
            heapq.heapreplace(turns, stage.replace(turn))
            continue
        # A segment of the past is caught up with in a moment: nobody would see its picture.
        thumbnail = None if wait < -2 * stage.interval else segment["thumbnail"]()
        segment = {**segment, "thumbnail": thumbnail, "ended_at": turn.due}
        if client.post("/v1/segments", segment, stopped=stopped, report=report) is None:
            break
        posted += 1
        heapq.heapreplace(turns, dataclasses.replace(turn, due=turn.due + stage.interval))
    return posted


class _Stage:
    """Lets rooms come and go."""

    def __init__(self, client: Client, settings: LiveSettings) -> None:
        self._client, self._settings = client, settings
        self._encoders = _encoders(settings.simulator, client.get("/v1/info"))
        self._rng = np.random.default_rng(settings.simulator.seed)
        self._entered = 0
        self.interval = SEGMENT_SECONDS / settings.speed

    def first_turns(self) -> list[_Turn]:
        """A heap of the rooms that have been live for a while."""
        longest = min(LONGEST_PAST, self._settings.simulator.min_segments)
        turns = []
        for _ in range(self._settings.rooms):
            past = int(self._rng.integers(longest))
            turns.append(self._enter(time.time() + (self._rng.random() - past) * self.interval))
        heapq.heapify(turns)
        return turns

    def replace(self, turn: _Turn) -> _Turn:
        """The room has ended: the next one begins."""
        self._client.delete(f"/v1/rooms/{turn.room_id}")
        return self._enter(turn.due + self._rng.random() * self.interval)

    def _enter(self, due: float) -> _Turn:
        """A room that is new to the service, even if one of its name was there before."""
        number, config = self._entered, self._settings.simulator
        self._entered += 1
        room = draw_room(config, self._settings.first_room + number)
        self._client.delete(f"/v1/rooms/{room.room_id}")
        segments = live_segments(config, room, self._encoders.encode(room))
        return _Turn(due, number, segments, room.room_id)


def _encoders(config: SimulatorConfig, info: dict[str, Any]) -> SimulatedEncoders:
    if not info.get("simulated") or info["segment_seconds"] != SEGMENT_SECONDS:
        raise InputError(
            "the service's model must be one of simulated rooms: no other reads their features"
        )
    return SimulatedEncoders(config, visual_dim=info["visual_dim"], text_dim=info["text_dim"])


def live_segments(
    config: SimulatorConfig, room: SimulatedRoom, features: RoomFeatures
) -> Iterator[dict[str, Any]]:
    """The room's segments as bodies of /v1/segments, but `thumbnail` is a function to make it."""
    look = draw_look(config, room)
    rng = stream(config, "pictures", room.index)
    for s in range(room.num_segments):
        has_speech, has_comments = bool(features.has_speech_S[s]), bool(features.has_comments_S[s])

        def thumbnail(shown: int = int(room.shown_SF[s, -1])) -> str | None:
            if not room.has_video or shown == MISSING:
                return None
            file = io.BytesIO()
            draw_frame(look, shown, rng).save(file, "JPEG", quality=75)
            return base64.b64encode(file.getvalue()).decode()

        yield {
            "room_id": room.room_id,
            "streamer_id": room.streamer.streamer_id,
            "index": s,
            "visual": base64_of(features.visual_SV[s] if features.has_visual_S[s] else None),
            "text": base64_of(features.text_ST[s] if has_speech or has_comments else None),
            "has_speech": has_speech,
            "has_comments": has_comments,
            "counts": {
                "viewers": int(room.viewers_S[s]),
                "clickers": int(room.clickers_S[s]),
                **{name: int(counts_S[s]) for name, counts_S in room.counts.items()},
            },
            "title": ACTIVITIES[int(room.activity_S[s])].capitalize(),
            "comments": [line[:500] for line in features.comments_S[s].splitlines()],
            "thumbnail": thumbnail,
        }
