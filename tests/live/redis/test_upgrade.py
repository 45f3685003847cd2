"""A fleet under load gets another model: no error, nothing lost or scored twice, no mixed list."""

import contextlib
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import pytest

from contentctr.live.redis.backend import RedisBackend
from contentctr.live.redis.messages import connect
from contentctr.live.redis.rollout import Rollout, look, promote
from contentctr.live.redis.store import RedisStore
from contentctr.live.scorer_segments import LiveSegment
from contentctr.live.service.app import create_app
from contentctr.live.service.server import make_server, serving
from contentctr.live.service.settings import ServiceSettings
from live_redis import (
    KEYS,
    MODEL,
    OTHER,
    PARTITIONS,
    make_other,
    make_worker,
    own_curve,
    wait_for,
    working,
)
from live_service import MORE, make_engine, make_post


class Load:
    """Posts segments of rooms in turn, and reads lists beside it."""

    def __init__(self, url, rooms, length):
        self.url, self.rooms, self.length = url, [f"r{k}" for k in range(rooms)], length
        self.posted, self.statuses, self.models = 0, Counter(), Counter()
        self.mixed, self.without, self.faults, self.seconds = [], 0, [], []
        self.seen = set()
        self._ended = threading.Event()

    def post(self):
        with httpx.Client(base_url=self.url, timeout=30) as http:
            for index in range(self.length):
                for room in self.rooms:
                    start = time.perf_counter()
                    answer = http.post("/v1/segments", json=make_post(room, index))
                    self.seconds.append(time.perf_counter() - start)
                    self.statuses[answer.status_code, answer.json().get("status")] += 1
                    self.posted += 1

    def read(self):
        names = {"candidates": [{"room_id": room, "base": {}} for room in self.rooms]}
        with httpx.Client(base_url=self.url, timeout=30) as http:
            most = 0
            while not self._ended.wait(0.03):
                rooms = http.get("/v1/rooms", params={"limit": 500})
                ranks = http.post("/v1/rank", json=names)
                self.statuses[rooms.status_code, "list"] += 1
                self.statuses[ranks.status_code, "rank"] += 1
                found, ranked = rooms.json(), ranks.json()
                if {room["model"] for room in found["rooms"]} - {found["model"]}:
                    self.mixed.append(found)
                for answer, rows in ((found, found["rooms"]), (ranked, ranked["ranking"])):
                    self.seen |= {(answer["model"], row["room_id"], row["score"]) for row in rows}
                self.models[found["model"]] += 1
                self.without += len(found["rooms"]) < most  # a room that had a score has none
                most = max(most, len(found["rooms"]))

    @contextlib.contextmanager
    def running(self):
        threads = [threading.Thread(target=self._run, args=(f,)) for f in (self.post, self.read)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            threads[0].join(300)
            self._ended.set()
            threads[1].join(30)
        assert not self.faults, self.faults

    def _run(self, work):
        try:
            work()
        except BaseException as error:
            self.faults.append(error)


def expected(engine, rooms, length):
    """Scores of the posts by one scorer that sees all."""
    found = {}
    for room in rooms:
        found[room] = []
        for index in range(length):
            post = make_post(room, index)
            values = {k: np.array(post[k], np.float32) for k in ("visual", "text")}
            flags = {k: post[k] for k in ("streamer_id", "has_speech", "has_comments")}
            one = LiveSegment(room_id=room, index=index, **values, **flags)
            found[room].append(engine.scorer.score([one])[0].score)
    return found


@contextlib.contextmanager
def threads_of(server, model):
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            client = stack.enter_context(connect(server.url))
            engine = make_other() if model == OTHER else None
            worker = make_worker(client, engine=engine, lease_s=1.0, poll_s=0.01)
            stack.enter_context(working(worker))
        yield


@contextlib.contextmanager
def processes_of(server, model):
    script = Path(__file__).parents[2] / "support" / "live_worker.py"
    words = [sys.executable, str(script), server.url, "1.0", *(["other"] if model == OTHER else [])]
    found = [subprocess.Popen(words, stderr=subprocess.DEVNULL) for _ in range(2)]
    try:
        yield
        for one in found:
            one.terminate()
        assert [one.wait(20) for one in found] == [0, 0]
    finally:
        for one in found:
            one.kill()
            one.wait()


def roll(server, client, rooms, length, workers):
    """Two workers of one model, then two of another, which is promoted; then the first two end."""
    store = RedisStore(client, KEYS, PARTITIONS)
    backend = RedisBackend(connect(server.url), horizon=0, partitions=PARTITIONS, wait_s=10.0)
    app = create_app(backend, make_engine(sizes=MORE), ServiceSettings(rate=0))
    with serving(make_server(app, backend, port=0)) as url, contextlib.ExitStack() as first:
        first.enter_context(workers(server, MODEL))
        wait_for(lambda: backend.ready)
        load = Load(url, rooms, length)
        with contextlib.ExitStack() as second, load.running():
            wait_for(lambda: load.posted > rooms * length / 4, 300)
            second.enter_context(workers(server, OTHER))
            wait_for(lambda: look(client, KEYS, store, compare=False).candidate == OTHER)
            wait_for(lambda: load.posted > rooms * length / 2, 300)
            found = look(client, KEYS, store)
            promote(client, KEYS, store)
            wait_for(lambda: load.posted > rooms * length * 5 / 8, 300)
            first.close()
            wait_for(lambda: load.posted == rooms * length, 300)
            told = httpx.get(f"{url}/v1/models").json()
            assert told.keys() == Rollout().facts().keys()
            assert httpx.get(f"{url}/v1/info").json()["model"] == OTHER
            assert (
                f'contentctr_model_info{{model="{OTHER}"}} 1.0' in httpx.get(f"{url}/metrics").text
            )
            wait_for(lambda: store.queue().waiting == 0)
            time.sleep(0.3)
    backend._client.close()
    return load, found


def require_whole(load, store):
    """What the rollout must have shown."""
    assert {status for status, _ in load.statuses} <= {200, 202}, load.statuses
    assert load.statuses[200, "repeated"] == load.statuses[200, "late"] == 0
    assert not load.mixed and not load.without and load.models.keys() <= {"", MODEL, OTHER}
    assert load.models[MODEL] and load.models[OTHER]
    before, after = (store.rooms(load.rooms, model) for model in (MODEL, OTHER))
    mine = expected(make_engine(sizes=MORE, max_rooms=64), load.rooms, load.length)
    theirs = expected(make_other(), load.rooms, load.length)
    for one, two in zip(before, after, strict=True):
        first, second = dict(own_curve(one)), dict(own_curve(two))
        assert [index for index, _ in two.curve] == [*range(load.length)]  # with the other's before
        assert first.keys() | second.keys() == set(range(load.length))  # none lost
        assert sorted(second) == [*range(min(second), load.length)]
        for curve, whole in ((first, mine), (second, theirs)):
            gaps = [abs(score - whole[one.room_id][index]) for index, score in curve.items()]
            assert max(gaps) <= 1e-6
    whole = {MODEL: mine, OTHER: theirs}
    for model, room, score in load.seen - {(m, r, None) for m in ("", *whole) for r in load.rooms}:
        assert min(abs(score - other) for other in whole[model][room]) <= 1e-6, (model, room)


def test_a_fleet_gets_another_model_under_load(server, client):
    load, found = roll(server, client, 4, 24, threads_of)
    require_whole(load, RedisStore(client, KEYS, PARTITIONS))
    assert found.agreement.segments and client.xlen(KEYS.rejected) == 0


@pytest.mark.slow
def test_a_larger_fleet_gets_another_model_under_load(server, client):
    load, found = roll(server, client, 30, 80, processes_of)
    require_whole(load, RedisStore(client, KEYS, PARTITIONS))
    assert found.agreement.rooms == 30 and client.xlen(KEYS.rejected) == 0
    took = np.sort(load.seconds)
    print(f"\n{load.posted} posts, {dict(load.statuses)}, lists by {dict(load.models)}")
    print(f"posts, ms: median {1e3 * np.median(took):.1f}, 99% {1e3 * np.quantile(took, 0.99):.0f}")
    print(f"longest {took[-1]:.2f} s; before the switch: {found}")
