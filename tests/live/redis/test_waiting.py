"""Counts that came back go with their room's next segment: never lost, never read twice."""

import asyncio
import json
from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import generate_latest

from contentctr.live.outcomes import LateCounts, Outcome
from contentctr.live.redis.backend import RedisBackend
from contentctr.live.redis.keys import Keys
from contentctr.live.redis.messages import StreamFullError, partition_of, segment_fields
from contentctr.live.redis.rejected import replay_rejected
from contentctr.live.redis.store import RedisStore
from contentctr.live.redis.waiting import WaitingCounts
from contentctr.live.service.schemas import CountsIn
from contentctr.store.statistics import COLUMNS, LATEST
from live_redis import (
    KEYS,
    MODEL,
    OTHER,
    PARTITIONS,
    SHOWN,
    curves,
    drain,
    make_other,
    make_worker,
    require_same,
    segment,
)
from live_service import MORE, N, V, make_engine


@pytest.fixture
def store(client):
    return RedisStore(client, KEYS, PARTITIONS)


@pytest.fixture
def waiting(client):
    return WaitingCounts(client, KEYS, 60)


def late(number, room="x", run="", **counts):
    return LateCounts(room_id=room, run=run, number=number, counts=counts)


def put(store, index, room="x", **changes):
    fields = segment_fields(replace(segment(room, index), **changes), SHOWN)
    store.add(room, fields)


def kept(client, room="x"):
    return {k.decode(): v.decode() for k, v in client.hgetall(KEYS.waiting(room)).items()}


def offline(steps, engine=None):
    """The curve of room x of segments {number: counts of earlier ones}."""
    scorer = (engine or make_engine(max_rooms=64, sizes=MORE)).scorer
    made = {index: replace(segment("x", index), earlier=told) for index, told in steps.items()}
    return {"x": [(index, scorer.score([one])[0].score) for index, one in made.items()]}


def test_they_are_read_with_the_next_segment_and_not_twice(client, store, waiting):
    worker = make_worker(client)
    put(store, 0)
    drain(worker)
    waiting.put([late(0, exits=3), late(0, exits=4), late(0, room="y", exits=9)])
    waiting.put([late(0, enters=7), late(2, exits=5)])  # of a number what came first stays
    put(store, 1)
    assert kept(client) == {"run": "", "2": '{"exits":5}'} and kept(client, "y")
    put(store, 2)
    put(store, 3, earlier={2: {"exits": 1, "enters": 2}, 1: {"follows": 1}})
    assert kept(client) == {"run": ""}
    drain(worker)
    told = {0: None, 1: {0: {"exits": 3}}, 2: None}
    told[3] = {2: {"exits": 5, "enters": 2}, 1: {"follows": 1}}
    require_same(curves(client, ["x"]), expected := offline(told))
    assert abs(expected["x"][-1][1] - offline(dict.fromkeys(told))["x"][-1][1]) > 1e-4
    assert client.ttl(KEYS.waiting("x")) > 0


def test_a_post_that_is_made_again_neither_loses_nor_doubles_them(client, store, waiting):
    worker = make_worker(client)
    put(store, 0)
    drain(worker)
    waiting.put([late(0, exits=3)])
    put(store, 1)  # takes them; its answer is lost
    put(store, 1)
    drain(worker)
    assert kept(client) == {"run": ""} or not kept(client)
    waiting.put([late(0, enters=8), late(1, exits=6)])
    put(store, 1)  # the client's third try takes what the next segment should have
    put(store, 0)
    assert kept(client) == {"run": "", "1": '{"exits":6}'}
    drain(worker)
    all_of_them = {"run": "", "0": '{"enters":8}', "1": '{"exits":6}'}
    assert kept(client) == all_of_them
    put(store, 2, visual=np.zeros(V + 1, np.float16))  # refused
    assert kept(client) == {"run": ""}
    drain(worker)
    assert kept(client) == all_of_them
    put(store, 2)
    drain(worker)
    assert client.xlen(KEYS.rejected) == 1
    told = {0: None, 1: {0: {"exits": 3}}, 2: {0: {"enters": 8}, 1: {"exits": 6}}}
    require_same(curves(client, ["x"]), offline(told))
    # One that was put aside is put back with what it brought, which is known by now.
    waiting.put([late(2, exits=1)])
    assert len(replay_rejected(client, KEYS)[0]) == 1
    assert kept(client)["2"] == '{"exits":1}'
    drain(worker)
    put(store, 3)
    drain(worker)
    require_same(curves(client, ["x"]), offline({**told, 3: {2: {"exits": 1}}}))


def test_what_gives_way_as_too_many_wait_again_is_counted(client, store, waiting):
    worker = make_worker(client)
    put(store, 100)
    drain(worker)
    waiting.put([late(98, exits=3), late(99, exits=3)])
    put(store, 100)  # takes both, and is a segment that is known
    assert waiting.put(late(number, exits=1) for number in range(101, 100 + LATEST)) == 0
    drain(worker)
    assert len(kept(client)) == 1 + LATEST and "98" not in kept(client)
    told = generate_latest(worker.health.registry).decode()
    assert 'contentctr_worker_late_counts_total{reason="too_many"} 1.0' in told
    assert 'contentctr_worker_late_counts_total{reason="too_far"} 0.0' in told


def test_a_message_that_cannot_be_read_leaves_them_to_the_next(client, store, waiting):
    worker = make_worker(client)
    put(store, 0, run="one")
    drain(worker)
    for run, wait_on in (("two", False), ("one", True), ("", True)):
        waiting.put([late(0, run="one", exits=3)])
        fields = segment_fields(replace(segment("x", 1), run=run), SHOWN)
        store.add("x", {**fields, "outcomes": '{"0":{"exits":3}}', "has_speech": "damaged"})
        client.delete(KEYS.waiting("x"))
        drain(worker)
        assert kept(client) == ({"run": "one", "0": '{"exits":3}'} if wait_on else {})
    put(store, 1, run="one")
    drain(worker)
    assert client.xlen(KEYS.rejected) == 3
    require_same(curves(client, ["x"]), offline({0: None, 1: {0: {"exits": 3}}}))
    # Of a room that is not there, and counts that are damaged too, nothing waits.
    for room, outcomes in (("y", '{"0":{"exits":3}}'), ("x", "{")):
        fields = segment_fields(segment(room, 2), SHOWN)
        store.add(room, {**fields, "outcomes": outcomes, "has_speech": "damaged"})
    drain(worker)
    assert client.xlen(KEYS.rejected) == 5
    assert not kept(client, "y") and kept(client) in ({}, {"run": "one"})


def test_a_stream_without_room_leaves_them_waiting(client, store, waiting):
    waiting.put([late(0, exits=3)])
    store.add("x", segment_fields(segment("x", 1), SHOWN))
    before = client.get(KEYS.bytes(partition_of("x", PARTITIONS)))
    waiting.put([late(1, exits=3)])
    with pytest.raises(StreamFullError):
        store.add("x", segment_fields(segment("x", 2), SHOWN), max_count=1)
    assert client.hexists(KEYS.waiting("x"), "1")
    assert client.get(KEYS.bytes(partition_of("x", PARTITIONS))) == before
    worker = make_worker(client)
    drain(worker)
    # What the script added to the message is in its size too.
    assert client.get(KEYS.bytes(partition_of("x", PARTITIONS))) is None


def test_every_model_reads_the_same(client, store, waiting):
    """A candidate beside the current one, and workers that make rooms of their inputs."""
    workers = [make_worker(client), make_worker(client, engine=make_other())]
    told = {}
    for index in range(2 * N):
        put(store, index)
        told[index] = {index - 1: {"exits": index}} if index else None
        for worker in workers:
            worker._beat()
            drain(worker)
        waiting.put([late(index, exits=index + 1)])
        if index == N + 2:  # its state is gone: the room is made of its inputs
            client.delete(KEYS.state("x"), KEYS.of(OTHER).state("x"))
            for worker in workers:
                worker._begin_again()
    engines = {MODEL: None, OTHER: make_other()}
    for model, engine in engines.items():
        [room] = store.rooms(["x"], model)
        points = offline(told, engine)["x"]
        # A candidate's curve begins where it came.
        require_same({"x": list(room.curve)}, {"x": points[-len(room.curve) :]})
        assert len(room.curve) >= 2 * N - 1


def test_a_candidate_that_comes_later_is_primed_with_them(client, store, waiting):
    current = make_worker(client)
    told = {}
    for index in range(2 * N):
        put(store, index)
        told[index] = {index - 1: {"exits": index}} if index else None
        drain(current)
        waiting.put([late(index, exits=index + 1)])
    candidate = make_worker(client, engine=make_other())
    candidate._beat()
    drain(candidate)
    [room] = store.rooms(["x"], OTHER)
    assert room.score == pytest.approx(offline(told, make_other())["x"][-1][1], abs=1e-6)
    assert kept(client)  # the candidate takes nothing
    put(store, 2 * N)
    for worker in (current, candidate):
        drain(worker)
    told[2 * N] = {2 * N - 1: {"exits": 2 * N}}
    for model, engine in {MODEL: None, OTHER: make_other()}.items():
        [room] = store.rooms(["x"], model)
        assert room.score == pytest.approx(offline(told, engine)["x"][-1][1], abs=1e-6)


@pytest.mark.parametrize("way", ["end", "end before", "idle", "run"])
def test_they_are_of_one_room_and_run(client, store, waiting, way):
    worker = make_worker(client)
    put(store, 5, run="one")
    drain(worker)
    waiting.put([late(5, run="one", exits=3)])
    if way == "end":
        store.end("x")
        waiting.put([late(5, run="one", exits=3)])  # told before the worker has come to it
        drain(worker)
    elif way == "end before":
        store.end("x")
    elif way == "idle":
        worker._store.forget_idle(worker._leases.now() + 1)
        worker._rooms.clear()
    put(store, 6, run="two" if way == "run" else "one")
    drain(worker)
    require_same(curves(client, ["x"]), offline({6: None}))
    if way == "run":
        assert kept(client)["run"] == "one"
        waiting.put([late(6, run="two", exits=1)])
        assert kept(client) == {"run": "two", "6": '{"exits":1}'}
        put(store, 4, run="one")  # late, and takes nothing of the other run
        assert "6" in kept(client)
    else:
        assert not kept(client)


def test_they_are_bounded_and_a_damaged_key_is_mended(client, store, waiting):
    client.set(KEYS.waiting("x"), "damaged")
    put(store, 0)
    worker = make_worker(client)
    drain(worker)
    assert waiting.put([late(k, exits=1) for k in range(3 * LATEST)]) == 2 * LATEST
    assert set(kept(client)) == {"run", *map(str, range(2 * LATEST, 3 * LATEST))}
    # Every column of every segment still makes a message that is taken.
    client.delete(KEYS.waiting("x"))
    whole = dict.fromkeys(COLUMNS, 2**32 - 1)
    assert waiting.put([late(k, **whole) for k in range(1, LATEST + 1)]) == 0
    put(store, 49, earlier={k: {"exits": 1} for k in range(1, LATEST + 1)})
    drain(worker)
    assert client.xlen(KEYS.rejected) == 0 and not client.hexists(KEYS.waiting("x"), "1")
    assert [index for index, _ in curves(client, ["x"])["x"]] == [0, 49]
    assert set(whole) == set(CountsIn.model_fields)
    client.hset(KEYS.waiting("x"), mapping={"run": "", "5": "{", "7": "{}"})
    put(store, 50)  # is put aside with what it brought
    put(store, 51)
    drain(worker)
    assert client.xlen(KEYS.rejected) == 1
    assert [index for index, _ in curves(client, ["x"])["x"]] == [0, 49, 51]


def test_outcomes_wait_for_their_rooms(client, store):
    worker = make_worker(client)
    put(store, 0)
    drain(worker)
    backend = RedisBackend(client, horizon=0, keys=Keys(), partitions=PARTITIONS)
    counts = {"viewers": 50, "clickers": 5}
    came = [
        Outcome(room_id=room, target_index=index, weight=50.0, value=0.1, counts=counts)
        for room, index in (("x", 0), ("x", 1), ("x", 0), ("gone", 0), ("x", 99))
    ]
    came.append(Outcome(room_id="x", target_index=0, weight=1.0, value=0.5))
    found = asyncio.run(backend.observe(came))
    assert found["for_statistics"] == 2 and found["taken"] == 1
    assert {k: json.loads(v) for k, v in kept(client).items() if k != "run"} == {
        "0": counts,
        "1": counts,
    }
    assert asyncio.run(backend.observe(came[:1]))["for_statistics"] == 0  # it has come before
    assert not client.exists(KEYS.waiting("gone"))
    put(store, 1)
    put(store, 2)
    drain(worker)
    # Viewers of both segments came with these: what is known stays.
    require_same(curves(client, ["x"]), offline({0: None, 1: None, 2: None}))
