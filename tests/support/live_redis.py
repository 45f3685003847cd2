"""Segments for workers on Redis, and what becomes of them offline; for the tests of both."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import numpy as np
import torch

from contentctr.live.engine import Engine
from contentctr.live.known_rooms import Shown
from contentctr.live.redis.keys import Keys
from contentctr.live.redis.messages import add_segment
from contentctr.live.redis.store import RedisStore
from contentctr.live.redis.worker import Worker
from contentctr.live.scorer_segments import LiveSegment
from live_service import KNOWN, MORE, SPEC, T, V, W, X, make_engine, make_model

MODEL = "0123456789ab"
KEYS, PARTITIONS = Keys(model=MODEL), 4
SHOWN = Shown(ended_at=1000.0)


def make_worker(client, **options):
    engine = options.pop("engine", None) or make_engine(
        max_rooms=options.pop("max_rooms", 64), sizes=MORE, model_id=options.pop("model_id", MODEL)
    )
    options = {"partitions": PARTITIONS, "lease_s": 5.0, "report": lambda line: None, **options}
    return Worker(client, engine, **options)


OTHER = "ba9876543210"


def make_other():
    """An engine of another model of the same features."""
    model, config = make_model(**MORE)
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=noise))
    return Engine(model, config, SPEC, KNOWN, max_rooms=64, batch_size=8, model_id=OTHER)


def segment(room, index, streamer="a"):
    rng = np.random.default_rng([index, *room.encode()])
    values = rng.normal(size=V + T).astype(np.float16)
    return LiveSegment(
        room_id=room,
        streamer_id=streamer,
        index=index,
        visual=values[:V],
        text=values[V:],
        has_speech=True,
        has_comments=index % 2 == 0,
        sound=rng.normal(size=X).astype(np.float16) if index % 3 else None,
        words=rng.integers(0, 9, W).astype(np.float16) if index % 4 else None,
        counts={"viewers": 20, "clickers": index % 5, "likes": len(room) + index},
    )


def offline(rooms, engine=None):
    """Scores of rooms {id: indices} by one scorer, each room alone."""
    scorer = (engine or make_engine(max_rooms=64, sizes=MORE)).scorer
    return {
        room: [(index, scorer.score([segment(room, index)])[0].score) for index in indices]
        for room, indices in rooms.items()
    }


def add(client, room, index, *, partitions=PARTITIONS, **options):
    add_segment(client, KEYS, partitions, segment(room, index), SHOWN, **options)


def drain(worker):
    while worker.turn():
        pass


def curves(client, rooms):
    found = RedisStore(client, KEYS, PARTITIONS).rooms(list(rooms))
    return {room: [] if r is None else list(r.curve) for room, r in zip(rooms, found, strict=True)}


def require_same(found, expected):
    assert found.keys() == expected.keys()
    for room, points in expected.items():
        assert [index for index, _ in found[room]] == [index for index, _ in points], room
        gaps = [abs(a - b) for (_, a), (_, b) in zip(found[room], points, strict=True)]
        assert max(gaps) <= 1e-6, room


def left(client):
    return [client.xlen(KEYS.stream(p)) for p in range(PARTITIONS)]


def wait_for(condition, seconds=60):
    for _ in range(int(seconds / 0.02)):
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("did not come about")


@contextmanager
def working(worker):
    """The worker runs beside the block; it must not have ended before."""
    stopped, faults = [], []

    def run():
        try:
            worker.run(lambda: stopped)
        except BaseException as error:
            faults.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield worker
        assert not faults, faults
    finally:
        stopped.append(1)
        thread.join(20)
        assert not thread.is_alive()
