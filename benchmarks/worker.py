"""Two workers on 20,000 segments; one is killed, and Redis is killed once: every score still once.

    OMP_NUM_THREADS=1 python -u benchmarks/worker.py [--segments 20000] [--rooms 200]

Redis runs with its append-only file, synced at every write, on a free port. After a quarter of the
segments one worker gets SIGKILL, and a third one begins; after half, Redis gets SIGKILL, stays away
for two seconds and is started again on its file. The producer repeats what it could not be sure
of. In the end every segment must have exactly one score, equal to the offline window's to 1e-6
(score.rooms.score_segments). A tiny model with random weights: what is tested is the streams.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import Counter

import numpy as np
import polars as pl
import torch
from redis.exceptions import RedisError

from contentctr.batch import DataSpec, Vocabulary
from contentctr.config import COUNT_COLUMNS, Config, DataConfig, ModelConfig
from contentctr.live.engine import Engine
from contentctr.live.known_rooms import Shown
from contentctr.live.redis import store as redis_store
from contentctr.live.redis.keys import Keys
from contentctr.live.redis.messages import add_segment, connect, settle_partitions
from contentctr.live.redis.worker import Worker
from contentctr.live.scorer_segments import LiveSegment
from contentctr.models.registry import build_model
from contentctr.score.rooms import score_segments
from contentctr.store.rooms import SEGMENTS_SCHEMA
from contentctr.windows.segment_data import from_arrays

V = T = 16
SPEC, KNOWN = DataSpec(visual_dim=V, text_dim=T), Vocabulary(streamers=["a", "b"])
CONFIG = Config(
    data=DataConfig(window_len=20),
    model=ModelConfig(
        d_model=16, num_heads=2, perceiver_layers=2, decoder_layers=3, streamer_dim=4, rotary=True
    ),
)
KEYS = Keys("bench", "tiny")


def make_model() -> torch.nn.Module:
    torch.manual_seed(0)
    model = build_model(CONFIG, SPEC, KNOWN)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0 if parameter.ndim > 1 else 1.0)
    return model.eval()


def work(url: str) -> None:
    torch.set_num_threads(1)
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
    engine = Engine(make_model(), CONFIG, SPEC, KNOWN, max_rooms=1024, model_id=KEYS.model)
    # As under a supervisor: with few segments Redis may be away as the third worker begins.
    worker = until_done(
        lambda: Worker(
            connect(url),
            engine,
            keys=KEYS,
            lease_s=2.0,
            poll_s=0.02,
            report=lambda line: print(f"  {line}", flush=True),
        )
    )
    worker.run(lambda: ended)


class Redis:
    """A server of this run's own."""

    def __init__(self, folder: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url, self.folder = f"redis://127.0.0.1:{self.port}/0", folder

    def start(self, sync: str = "always") -> None:
        """Start it on the file that it had, and wait until it answers."""
        self.process = subprocess.Popen(
            [
                "redis-server",
                "--port",
                str(self.port),
                "--save",
                "",
                "--appendonly",
                "yes",
                "--appendfsync",
                sync,
                "--dir",
                self.folder,
            ],
            stdout=subprocess.DEVNULL,
        )
        while True:
            try:
                connect(self.url).ping()
                return
            except RedisError:
                time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()


def until_done(work):
    """What `work` returns, tried again until Redis answers: an answer may have been lost."""
    while True:
        try:
            return work()
        except RedisError:
            time.sleep(0.1)


def make_data(rooms: int, length: int):
    """The segments in arrays, and as offline data."""
    rng = np.random.default_rng(0)
    count = rooms * length
    visual, text = (rng.standard_normal((count, n)).astype(np.float16) for n in (V, T))
    flags = rng.random((3, count)) > 0.3
    rows = [
        {
            "room_id": f"room{s // length:04d}",
            "streamer_id": "ab"[(s // length) % 2],
            "segment": s % length,
            "start_s": 30.0 * (s % length),
            "end_s": 30.0 * (s % length + 1),
            "speech": "",
            "comments": "",
            "viewers": 0,
            "clickers": 0,
            "ctr": None,
            **dict.fromkeys(COUNT_COLUMNS, 0),
            "target": 0.5,
            "split": "test",
        }
        for s in range(count)
    ]
    table = pl.DataFrame(rows, schema=SEGMENTS_SCHEMA)
    return table, visual, text, flags


def offline(table, visual, text, flags) -> np.ndarray:
    """The offline windows' scores of all segments."""
    data = from_arrays(
        table,
        KNOWN,
        horizon=0,
        has_visual_S=torch.from_numpy(flags[0]),
        has_speech_S=torch.from_numpy(flags[1]),
        has_comments_S=torch.from_numpy(flags[2]),
        visual_SV=torch.from_numpy(visual),
        text_ST=torch.from_numpy(text),
    )
    return score_segments(make_model(), data, window_len=20, horizon=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--segments", type=int, default=20_000)
    parser.add_argument("--rooms", type=int, default=200)
    options = parser.parse_args()
    assert shutil.which("redis-server"), "redis-server is not installed"
    torch.set_num_threads(1)
    length = options.segments // options.rooms
    assert length <= redis_store.CURVE_KEPT
    arrays = make_data(options.rooms, length)
    expected = offline(*arrays)
    with tempfile.TemporaryDirectory() as folder:
        redis = Redis(folder)
        redis.start()
        context = multiprocessing.get_context("spawn")
        workers = [context.Process(target=work, args=(redis.url,)) for _ in range(3)]
        try:
            run(redis, workers, arrays, expected, options.rooms, length)
        finally:
            for one in workers:
                if one.pid is not None:
                    one.kill()
            redis.kill()


def make_segment(table, visual, text, flags, row: int) -> LiveSegment:
    return LiveSegment(
        room_id=table["room_id"][row],
        streamer_id=table["streamer_id"][row],
        index=table["segment"][row],
        visual=visual[row] if flags[0, row] else None,
        text=text[row] if flags[1, row] or flags[2, row] else None,
        has_speech=bool(flags[1, row]),
        has_comments=bool(flags[2, row]),
    )


def run(redis, workers, arrays, expected, rooms: int, length: int) -> None:
    client = connect(redis.url)
    partitions = settle_partitions(client, KEYS)
    for one in workers[:2]:
        one.start()
    while until_done(lambda: client.hlen(KEYS.workers)) < 2:
        time.sleep(0.1)
    total, start, events = rooms * length, time.perf_counter(), Counter()
    for moment in range(length):
        for room in range(rooms):
            segment = make_segment(*arrays, room * length + moment)
            shown = Shown(ended_at=float(moment))
            until_done(lambda: add_segment(client, KEYS, partitions, segment, shown))  # noqa: B023
        sent = (moment + 1) * rooms
        while until_done(lambda: waiting(client, partitions)) > 20 * rooms:
            time.sleep(0.05)
        if sent >= total / 4 and not events["worker"]:
            events["worker"] = 1
            print(f"{sent} sent, {waiting(client, partitions)} wait: SIGKILL for a worker")
            os.kill(workers[0].pid, signal.SIGKILL)
            workers[2].start()
        if sent >= total / 2 and not events["redis"]:
            events["redis"] = 1
            print(f"{sent} sent, {waiting(client, partitions)} wait: SIGKILL for Redis")
            redis.kill()
            time.sleep(2)
            redis.start()
    while until_done(lambda: waiting(client, partitions)):
        time.sleep(0.1)
    print(f"all done in {time.perf_counter() - start:.0f} s")
    check(client, arrays[0]["room_id"], expected, rooms, length)


def waiting(client, partitions: int) -> int:
    return sum(client.xlen(KEYS.stream(p)) for p in range(partitions))


def check(client, names, expected, rooms: int, length: int) -> None:
    store = redis_store.RedisStore(client, KEYS, settle_partitions(client, KEYS))
    worst, once = 0.0, 0
    for room in range(rooms):
        found = store.room(names[room * length])
        indices = [index for index, _ in found.curve]
        once += sum(count == 1 for count in Counter(indices).values())
        assert indices == list(range(length)), (found.room_id, indices)
        scores = np.array([score for _, score in found.curve])
        worst = max(worst, np.abs(scores - expected[room * length : (room + 1) * length]).max())
    rejected = client.xlen(KEYS.rejected)
    print(
        f"{once:,} of {rooms * length:,} segments have exactly one score; largest difference "
        f"from the offline scores {worst:.1e}; {rejected} messages put aside"
    )
    assert once == rooms * length and worst <= 1e-6 and not rejected


if __name__ == "__main__":
    main()
