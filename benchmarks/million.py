"""A million rooms at once: what each part takes of one, and the arithmetic. Numbers are simulated.

    OMP_NUM_THREADS=1 python -u benchmarks/million.py [--rooms 2000] [--segments 12] [--paper]

Room ids are drawn from a million; features are random, as stored ones are (2 x 1,024, float16), and
a Redis of this run's own holds them. Four parts:

1. A worker takes --segments segments of each of --rooms rooms: segments a second of its core, of
   Redis' core, and memory of a room in both, once as many inputs are kept as are (the window's
   and two more: 10, with the paper's 22). The recipe `live`, or with --paper the paper's sizes
   with a decoder that looks back.
2. The longest curve that is kept, in Redis.
3. The ranking of a million rooms, really: read from Redis, sorted, and a page of it.
4. An event, as every service takes it.

The last table multiplies: a million rooms have 33,333 segments of 30 s a second. Only part 3 is
measured at that size; the rest is extrapolated from --rooms, as if nothing else were
shared. Encoders, HTTP and the network are not in it (docs/operating.md).
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from contentctr.batch import DataSpec, Vocabulary
from contentctr.config import Config
from contentctr.live.engine import Engine
from contentctr.live.known_rooms import CURVE_KEPT, Shown
from contentctr.live.ranking import RankSettings
from contentctr.live.redis.backend import RedisBackend
from contentctr.live.redis.keys import Keys
from contentctr.live.redis.messages import add_segment, connect, settle_partitions
from contentctr.live.redis.store import RedisStore
from contentctr.live.redis.worker import Worker
from contentctr.live.scorer_segments import LiveSegment
from contentctr.live.standing import Standing
from contentctr.models.registry import build_model
from contentctr.recipes import live, paper
from contentctr.store.statistics import WIDTH
from worker import Redis

MILLION, SEGMENT_S, WIDE = 1_000_000, 30.0, 1024
KEYS, MODEL = Keys("million", "model"), "model"
KNOWN = Vocabulary(streamers=[f"s{k}" for k in range(1000)])


def config_of(of_paper: bool) -> Config:
    if not of_paper:
        return live()
    config = paper()
    model = dataclasses.replace(config.model, decoder_lookback="7,7,8")
    return dataclasses.replace(config, model=model)


def make_engine(config: Config, rooms: int) -> Engine:
    torch.manual_seed(0)
    spec = DataSpec(visual_dim=WIDE, text_dim=WIDE, statistics_dim=WIDTH)
    model = build_model(config, spec, KNOWN).eval()
    return Engine(
        model, config, spec, KNOWN, max_rooms=max(rooms, 64), shares=False, model_id=MODEL
    )


def rss() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def redis_cpu(client) -> float:
    found = client.info("cpu")
    return float(found["used_cpu_user"] + found["used_cpu_sys"])


def redis_bytes(client) -> int:
    return int(client.info("memory")["used_memory"])


def send(client, partitions: int, names: list[str], index: int, features) -> None:
    for k, name in enumerate(names):
        segment = LiveSegment(
            room_id=name,
            streamer_id=KNOWN.streamers[k % 1000],
            index=index,
            visual=features[k % len(features), 0],
            text=features[k % len(features), 1],
            has_speech=True,
            has_comments=True,
            counts={"viewers": 40, "clickers": k % 5, "comment_count": 3},
        )
        shown = Shown(ended_at=30.0 * index, title="a title", comments=("hello",))
        add_segment(client, KEYS, partitions, segment, shown)


def through_a_worker(client, options) -> dict[str, float]:
    """Part 1: what a segment and a room take."""
    rng = np.random.default_rng(0)
    names = [f"room{k:07d}" for k in rng.choice(MILLION, options.rooms, replace=False)]
    features = rng.standard_normal((256, 2, WIDE)).astype(np.float16)
    engine = make_engine(config_of(options.paper), options.rooms)
    partitions = settle_partitions(client, KEYS)
    worker = Worker(client, engine, keys=KEYS, report=lambda line: None)
    redis_before, own_before = redis_bytes(client), rss()
    own_s = redis_s = wall_s = 0.0
    for index in range(options.segments):
        send(client, partitions, names, index, features)
        start, own, theirs = time.perf_counter(), time.process_time(), redis_cpu(client)
        while worker.turn():
            pass
        if index:  # the first loads every room, and compiles
            wall_s += time.perf_counter() - start
            own_s += time.process_time() - own
            redis_s += redis_cpu(client) - theirs
    taken = options.rooms * (options.segments - 1)
    client.delete(KEYS.events)  # bounded by itself, and no room's
    state = len(engine.scorer.save([names[0]]))
    return {
        "segments/s of a worker's core": taken / own_s,
        "segments/s, wall, beside its Redis": taken / wall_s,
        "segments/s of Redis' core": taken / max(redis_s, 1e-9),
        "bytes of a room's state": state,
        "bytes of a room in Redis": (redis_bytes(client) - redis_before) / options.rooms,
        "bytes of a room in the worker": max(0, rss() - own_before) / options.rooms,
    }


def whole_curve(client) -> float:
    """Part 2: bytes of a curve of two hours."""
    name = KEYS.curve("whole")
    client.rpush(name, *(f"{k} {0.1 + k / 1e5!r}" for k in range(CURVE_KEPT)))
    return float(client.memory_usage(name, samples=0))


def ranking(client) -> dict[str, float]:
    """Part 3: a million rooms, ranked."""
    rng = np.random.default_rng(1)
    client.set(KEYS.current, MODEL)
    before, scores = redis_bytes(client), rng.uniform(size=MILLION)
    for start in range(0, MILLION, 10_000):
        pipe = client.pipeline(transaction=False)
        rows = range(start, start + 10_000)
        pipe.zadd(KEYS.ranking, {f"room{k:07d}": float(scores[k]) for k in rows})
        for key in (KEYS.ended, KEYS.seen):
            pipe.zadd(key, {f"room{k:07d}": 1000.0 + k % 30 for k in rows})
        pipe.execute()
    found = {"bytes of a room's places in Redis": (redis_bytes(client) - before) / MILLION}
    theirs, start = redis_cpu(client), time.process_time()
    rooms = RedisStore(client, KEYS, 16).scores()
    found["core s of a service to read all scores"] = time.process_time() - start
    found["core s of Redis to tell them, nothing else done"] = redis_cpu(client) - theirs
    start = time.process_time()
    standing = Standing(rooms, RankSettings(segment_seconds=SEGMENT_S))
    found["core s to make the ranking"] = time.process_time() - start
    start = time.process_time()
    standing.page(0, 50, 1030.0)
    found["core s for a page of it"] = time.process_time() - start
    return found


def event(client) -> float:
    """Part 4: events a second that one service takes."""
    client.delete(KEYS.events)
    backend = RedisBackend(client, horizon=0, keys=KEYS)
    point = '{"index": 7, "score": 0.123456, "highlight": false}'
    data = (
        '{"room_id": "room0000001", "streamer_id": "s1", "title": "a title", "index": 7, '
        '"target_index": 7, "score": 0.123456, "ended_at": 1000.0, "highlight": false, '
        f'"shares": null, "thumbnail": null, "comments": ["hello"], "curve": [{point}]}}'
    )
    backend.model = MODEL
    fields = {b"kind": b"score", b"room": b"room0000001", b"data": data.encode()}
    fields[b"model"] = MODEL.encode()
    count, start = 20_000, time.process_time()
    for _ in range(count):
        backend._pass_on(fields)
    return count / (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rooms", type=int, default=2000)
    parser.add_argument("--segments", type=int, default=12)
    parser.add_argument("--paper", action="store_true")
    options = parser.parse_args()
    assert shutil.which("redis-server"), "redis-server is not installed"
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        redis = Redis(folder)
        redis.start(sync="everysec")
        try:
            client = connect(redis.url, timeout_s=120)
            found = told(through_a_worker(client, options))
            found |= told({"bytes of a whole curve in Redis": whole_curve(client)})
            found |= told({"events/s of a service's core": event(client)})
            print_million(found)
            client.flushall()
            told(ranking(client))
        finally:
            redis.kill()


def told(found: dict[str, float]) -> dict[str, float]:
    """The same, printed."""
    for name, value in found.items():
        print(f"{name:50} {value:,.3f}" if value < 10 else f"{name:50} {value:,.0f}")
    return found


def print_million(found: dict[str, float]) -> None:
    """The arithmetic."""
    rate = MILLION / SEGMENT_S
    in_redis = found["bytes of a room in Redis"] + found["bytes of a whole curve in Redis"]
    rows = {
        "cores of workers": rate / found["segments/s of a worker's core"],
        "GB in the workers": found["bytes of a room in the worker"] * MILLION / 1e9,
        "cores of Redis": rate / found["segments/s of Redis' core"],
        "GB in Redis": in_redis * MILLION / 1e9,
        "cores of each service, for events alone": rate / found["events/s of a service's core"],
    }
    print(f"a million rooms, {rate:,.0f} segments a second (extrapolated):")
    for name, value in rows.items():
        print(f"  {name:48} {value:,.1f}")


if __name__ == "__main__":
    main()
