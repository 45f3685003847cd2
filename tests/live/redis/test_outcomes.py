"""Outcomes over Redis: every service tells the same, also one that starts later."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from contentctr.live.outcomes import Joined, Outcome, OutcomeLog
from contentctr.live.redis.backend import RedisBackend
from contentctr.live.redis.keys import Keys
from contentctr.live.redis.messages import end_fields, partition_of, segment_fields
from contentctr.live.redis.outcomes import OutcomeStream
from contentctr.live.redis.rollout import look
from contentctr.live.redis.store import RedisStore
from live_redis import (
    KEYS,
    MODEL,
    OTHER,
    PARTITIONS,
    SHOWN,
    add,
    drain,
    make_other,
    make_worker,
    segment,
    wait_for,
)
from live_service import make_post
from redis_service import over_redis, working


def joined(target, value=0.25):
    outcome = Outcome(room_id="r", target_index=target, weight=4.0, value=value)
    return Joined(outcome=outcome, scores=(("m", 0.1),), run="x")


def test_all_services_tell_what_one_was_told(server, client):
    with (
        working(server.url),
        over_redis(server.url) as (one, _),
        over_redis(server.url) as (two, other),
    ):
        wait_for(lambda: one.get("/readyz").status_code == 200)
        posted = one.post("/v1/segments", json=make_post("r1", 3))
        assert posted.json()["status"] == "scored"
        body = {"outcomes": [{"room_id": "r1", "index": 3, "viewers": 50, "clickers": 5}]}
        assert one.post("/v1/outcomes", json=body).json()["taken"] == 1
        wait_for(lambda: bool(other.observed.log.summary(0.0)), 10)
        assert two.post("/v1/outcomes", json=body).json()["repeated"] == 1
        [model] = two.get("/v1/outcomes").json()["models"]
        assert model["hour"]["segments"] == 1 and model["model_id"]
        assert np.isclose(model["hour"]["predicted"], posted.json()["score"])
        with over_redis(server.url) as (later, third):
            wait_for(lambda: bool(third.observed.log.summary(0.0)), 10)
            assert later.get("/v1/outcomes").json()["models"] == [model]


def test_two_services_that_are_told_at_once_count_it_once(client):
    logs = [OutcomeLog(), OutcomeLog()]
    streams = [OutcomeStream(client, KEYS, log) for log in logs]
    for stream in streams:
        stream.append([joined(k) for k in range(120)])  # neither has read the other's
    for stream, log in zip(streams, logs, strict=True):
        assert stream.read() == 0
        assert log.summary(0.0)["m"]["day"].segments == 120
    assert client.xlen(KEYS.outcomes) == 6


@pytest.mark.parametrize("way", ["end", "idle", "run"])
def test_a_service_that_starts_again_knows_which_rooms_have_ended(client, way):
    worker, stream = make_worker(client), KEYS.stream(partition_of("r", PARTITIONS))

    def put(run):
        client.xadd(stream, segment_fields(replace(segment("r", 0), run=run), SHOWN))
        drain(worker)

    living = RedisBackend(client, horizon=0, keys=Keys(), partitions=PARTITIONS)
    came = [Outcome(room_id="r", target_index=0, weight=10.0, value=0.1)]
    put("one")
    assert asyncio.run(living.observe(came))["taken"] == 1
    if way == "end":
        client.xadd(stream, end_fields("r"))
    elif way == "idle":
        worker._store.forget_idle(worker._leases.now() + 1)
        worker._rooms.clear()
    put("two" if way == "run" else "one")
    assert asyncio.run(living.observe(came))["taken"] == 1  # it is another room's
    assert asyncio.run(living.observe(came))["repeated"] == 1
    later = RedisBackend(client, horizon=0, keys=Keys(), partitions=PARTITIONS)
    assert asyncio.run(later.observe(came))["repeated"] == 1
    for backend in (living, later):
        assert backend.observed.log.summary(0.0)[MODEL]["day"].segments == 2


def test_what_is_none_of_ours_is_passed_over(client):
    log = OutcomeLog()
    stream = OutcomeStream(client, KEYS, log)
    bad = ["", "{}", "[[1]]", '[["r", 1, -1, 0.5, "", []]]', '[["r", 1, 1, 2, "", []]]']
    bad += ['[["r", 1e999, 1, 0.5, "", []]]', '[["r", 1, 1, 0.5, "", [["m", NaN]]]]']
    bad += ['[["r", 1, 1, 0.5, "", [["m"]]]]', '[["r", 1, 1, 0.5, "", 7]]']
    for data in bad:
        client.xadd(KEYS.outcomes, {"data": data})
    client.xadd(KEYS.outcomes, {"other": "x"})
    stream.append([joined(0)])
    assert stream.read() == len(bad) + 1 - 1  # an empty object holds no outcome, and no fault
    assert log.summary(0.0)["m"]["day"].segments == 1


def test_a_candidates_scores_are_held_to_outcomes_before_it_serves(client):
    store = RedisStore(client, KEYS, PARTITIONS)
    workers = [make_worker(client), make_worker(client, engine=make_other())]
    for index in range(3):
        for room in ("x", "y"):
            add(client, room, index)
        for worker in workers:
            worker._beat()
            drain(worker)
    backend = RedisBackend(client, horizon=0, keys=Keys(), partitions=PARTITIONS)
    backend._rollout = look(client, KEYS, store)
    came = [
        Outcome(room_id=room, target_index=index, weight=10.0, value=0.1 * index)
        for room in ("x", "y")
        for index in range(3)
    ]
    assert asyncio.run(backend.observe(came))["taken"] == 6
    found = backend.observed.log.summary(0.0)
    assert list(found) == [OTHER, MODEL]
    for model, spans in found.items():
        scores = [score for room in store.rooms(["x", "y"], model) for _, score in room.curve]
        assert spans["day"].segments == len(scores) >= 4
        assert np.isclose(spans["day"].predicted, np.mean(scores))
    assert found[MODEL]["day"].predicted != found[OTHER]["day"].predicted
