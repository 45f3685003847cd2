"""Two models on one Redis: one is served, one scores in the shadow, and they change places."""

import asyncio
import dataclasses
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from contentctr.errors import InputError
from contentctr.live.inputs import from_bytes
from contentctr.live.redis import leases, models, places
from contentctr.live.redis.backend import RedisBackend
from contentctr.live.redis.keys import Keys
from contentctr.live.redis.messages import connect, end_fields, partition_of, segment_fields
from contentctr.live.redis.models import Models, Places
from contentctr.live.redis.places import SPARE_INPUTS
from contentctr.live.redis.rollout import go_back, look, promote
from contentctr.live.redis.store import RedisStore
from contentctr.live.service.app import create_app
from contentctr.live.service.server import make_server, serving
from live_redis import (
    KEYS,
    MODEL,
    OTHER,
    PARTITIONS,
    SHOWN,
    add,
    curves,
    drain,
    left,
    make_other,
    make_worker,
    offline,
    own_curve,
    require_same,
    segment,
    wait_for,
)
from live_service import MORE, SPEC, N, make_engine, make_post

THEIRS = Keys(model=OTHER)


@pytest.fixture
def store(client):
    return RedisStore(client, KEYS, PARTITIONS)


def put(client, rooms, indices):
    for index in indices:
        for room in rooms:
            add(client, room, index)


def of(store, rooms, model):
    found = store.rooms(list(rooms), model)
    return {room: own_curve(r) for room, r in zip(rooms, found, strict=True)}


def from_place(expected, found):
    """What is expected of rooms, from the first segment that was found."""
    return {room: expected[room][found[room][0][0] :] for room in expected}


@pytest.mark.parametrize("members", [1, 2])
def test_a_candidate_scores_in_the_shadow_and_takes_the_place_in_one_step(client, store, members):
    rooms, said = [f"r{k}" for k in range(5)], []
    first = make_worker(client)
    put(client, rooms, range(2 * N))
    drain(first)
    second = make_worker(client, engine=make_other(members=members), report=said.append)
    put(client, rooms[:3], range(2 * N, 2 * N + 2))  # of some the next ones wait already
    second._beat()
    assert any(f"model {OTHER} is the candidate beside {MODEL}" in line for line in said)
    drain(first)
    assert store.scores().model == MODEL and store.queue().waiting == 0
    assert look(client, KEYS, store).behind == 6
    drain(second)
    mine = offline({room: range(2 * N + 6) for room in rooms})
    theirs = offline({room: range(2 * N + 6) for room in rooms}, make_other(members=members))
    # Of every room there is a score, and all are those of a model that saw it from its start.
    found = of(store, rooms, OTHER)
    for room in rooms:
        span = (2 * N, 2 * N + 2) if room in rooms[:3] else (2 * N - 1, 2 * N)
        require_same({room: found[room]}, {room: theirs[room][slice(*span)]})
    assert curves(client, rooms).keys() == store.scores().keys() and not any(left(client))
    put(client, rooms[3:], range(2 * N, 2 * N + 2))
    put(client, rooms, range(2 * N + 2, 2 * N + 4))
    drain(second)  # the candidate may be the faster one
    drain(first)
    seen = look(client, KEYS, store)
    assert (seen.current, seen.candidate, seen.without, seen.behind) == (MODEL, OTHER, 0, 0)
    gaps = [
        abs(dict(mine[room])[index] - score)
        for room, curve in of(store, rooms, OTHER).items()
        for index, score in curve
    ]
    both = seen.agreement
    assert (both.rooms, both.segments) == (5, len(gaps)) and -1 < both.tau < 1
    assert both.mean == pytest.approx(sum(gaps) / len(gaps), rel=1e-3)
    assert both.largest == pytest.approx(max(gaps), rel=1e-3)
    promote(client, KEYS, store)
    assert store.scores().model == OTHER and store.scores().keys() == set(rooms)
    assert {room.model for room in store.rooms(rooms)} == {OTHER}
    # The points of the model before stay, and say whose they are.
    for room in store.rooms(rooms):
        begun = own_curve(room)[0][0]
        require_same({"": list(room.curve[:begun])}, {"": mine[room.room_id][:begun]})
        assert room.models == ((0, MODEL), (begun, OTHER)) and len(room.curve) == 2 * N + 4
    put(client, rooms, range(2 * N + 4, 2 * N + 6))
    for worker in (first, second):
        worker._beat()
        drain(worker)
    found = curves(client, rooms)
    require_same(found, from_place(theirs, found))
    require_same(of(store, rooms, MODEL), mine)  # it goes on in the shadow
    assert [first._place.role, second._place.role] == ["candidate", "current"]
    assert all(client.llen(KEYS.inputs(room)) == N + SPARE_INPUTS for room in rooms)
    go_back(client, KEYS, store)
    assert store.scores().model == MODEL
    assert client.xlen(KEYS.rejected) == 0 and not any(left(client))


def test_what_a_candidate_has_made_is_gone_once_it_is_dropped(client, store):
    rooms, said = [f"r{k}" for k in range(6)], []
    first, second = make_worker(client), make_worker(client, engine=make_other())
    second._report = second._place._report = said.append
    put(client, rooms, range(3))
    for worker in (first, second, first):
        drain(worker)
    put(client, rooms, range(3, 6))
    drain(first)  # these wait for the candidate alone
    before = look(client, KEYS, store)
    assert before.behind == 18 == sum(left(client)) and store.queue().waiting_bytes == 0
    Models(client, KEYS).drop(OTHER)
    assert not any(left(client)) and not list(client.scan_iter(f"*{OTHER}*"))
    drain(second)  # it has nothing any more, and comes to know
    second._beat()
    assert second._place.role == "standby" and "stands by" in said[-1]
    put(client, rooms, range(6, 9))
    drain(second)
    drain(first)
    require_same(curves(client, rooms), offline({room: range(9) for room in rooms}))
    assert not any(left(client)) and not list(client.scan_iter(f"*model:{OTHER}*"))
    again = make_worker(client, engine=make_other())  # somebody wants it back
    drain(again)
    assert again._place.role == "candidate" and look(client, KEYS, store).without == 0
    with pytest.raises(InputError, match="no other model was current before"):
        go_back(client, KEYS, store)
    with pytest.raises(InputError, match="changed their places"):
        Models(client, KEYS).drop(MODEL)


def test_a_candidate_that_falls_behind_costs_the_others_nothing(client, store, monkeypatch):
    monkeypatch.setattr(leases, "MAX_BEHIND", 5)
    rooms = ["r0", "r1", "r2", "r3"]
    first, second = make_worker(client), make_worker(client, engine=make_other())
    put(client, rooms, range(N))
    for worker in (first, second, first):
        drain(worker)
    for index in range(N, 3 * N):
        put(client, rooms, [index])
        drain(first)
    waiting = sum(left(client))
    assert 5 <= waiting <= 5 * PARTITIONS and store.queue().waiting == 0
    found = look(client, KEYS, store)
    assert found.missed == 4 * 2 * N - waiting and found.behind == waiting
    drain(second)
    monkeypatch.undo()
    put(client, rooms, range(3 * N, 3 * N + 3))
    drain(first)
    drain(second)
    assert not any(left(client))
    theirs = of(store, rooms, OTHER)
    whole = offline({room: range(3 * N + 3) for room in rooms}, make_other())
    for room in rooms:
        indices = [index for index, _ in theirs[room]]
        assert indices == sorted(set(indices)) and indices[-1] == 3 * N + 2
        # Inputs of the last N segments are kept: with them the window is whole again.
        require_same({room: theirs[room][-4:]}, {room: whole[room][-4:]})
    require_same(curves(client, rooms), offline({room: range(3 * N + 3) for room in rooms}))


def test_a_model_behind_the_kept_inputs_writes_none_that_are_wrong(client):
    first, second = make_worker(client), make_worker(client, engine=make_other())
    put(client, ["x"], range(2))
    for worker in (first, second, first, second):
        drain(worker)
    put(client, ["x"], range(2, 3 * N))
    drain(first)  # and the kept inputs are all newer than where the other stands
    second._begin_again()
    put(client, ["x"], range(3 * N, 3 * N + 3))
    drain(second)  # which comes to the room first now
    put(client, ["x"], range(3 * N + 3, 3 * N + 6))
    for worker in (first, second, second):
        drain(worker)
    inputs = [from_bytes(e.partition(b" ")[2]) for e in client.lrange(KEYS.inputs("x"), 0, -1)]
    assert len(inputs) >= N and {one.first for one in inputs} == {0}
    whole = offline({"x": range(3 * N + 6)})
    require_same(curves(client, ["x"]), whole)
    assert second._rooms["x"].last is not None  # it has found the inputs again
    client.delete(KEYS.state("x"))
    put(client, ["x"], [3 * N + 6])
    first._leases.leave()
    drain(make_worker(client))
    require_same(
        {"x": curves(client, ["x"])["x"][-1:]}, {"x": offline({"x": range(3 * N + 7)})["x"][-1:]}
    )


def test_inputs_are_kept_for_a_candidate_of_a_longer_window(client):
    sizes = {**MORE, "window_len": 2 * N}
    first = make_worker(client)
    second = make_worker(client, engine=make_engine(sizes=sizes, model_id=OTHER))
    for worker in (first, second, first):
        worker._beat()
    put(client, ["x"], range(3 * N))
    drain(first)
    assert client.llen(KEYS.inputs("x")) == 2 * N + SPARE_INPUTS


def test_a_candidate_without_workers_is_dropped_by_itself(client, store, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(places.time, "monotonic", lambda: now[0])
    first, second = make_worker(client), make_worker(client, engine=make_other())
    for worker in (first, second, first):
        worker._beat()
    second._leases.leave()
    beats(first, now, 590.0)
    assert look(client, KEYS, store).candidate == OTHER
    beats(first, now, 20.0)
    assert look(client, KEYS, store).candidate == ""


def beats(worker, now, seconds):
    """The worker's heartbeats of so many seconds on a clock that stands."""
    for _ in range(round(seconds / worker._lease_s)):
        now[0] += worker._lease_s
        worker._beat()


def test_a_dropped_models_keys_are_deleted_whoever_is_killed(client, store, monkeypatch):
    monkeypatch.setattr(models, "_AT_ONCE", 10)
    monkeypatch.setattr(models, "_ROUNDS", 1)
    first, second = make_worker(client), make_worker(client, engine=make_other())
    put(client, [f"r{k}" for k in range(20)], range(2))
    for worker in (first, second, first, second):
        drain(worker)
    Models(client, KEYS).begin_drop(OTHER)  # and whoever did that is killed
    pattern = f"*model:{OTHER}:*"
    before = len(list(client.scan_iter(pattern)))
    first._beat()
    assert 0 < len(list(client.scan_iter(pattern))) < before
    again = make_worker(client, engine=make_other())
    again._beat()
    assert again._place.role == "standby"  # its new keys would go with the old ones
    third = make_worker(client)  # goes on
    for _ in range(100):
        third._beat()
    assert not list(client.scan_iter(pattern)) and not client.exists(KEYS.to_delete)
    again._beat()
    assert again._place.role == "candidate"


def test_where_all_workers_begin_with_another_model_it_takes_the_place(client, store, monkeypatch):
    now, said, rooms = [1000.0], [], ["x", "y", "z"]
    monkeypatch.setattr(places.time, "monotonic", lambda: now[0])
    first = make_worker(client)
    put(client, rooms, range(N))
    drain(first)
    first._leases.leave()
    second = make_worker(client, engine=make_other(), report=said.append)
    second._beat()
    put(client, rooms, range(N, N + 2))
    score = client.zscore(KEYS.ranking, "x")
    beats(second, now, 30.0)
    assert store.current == MODEL  # not yet: its workers may come again
    beats(second, now, 10.0)
    assert store.current == MODEL and "3 live rooms" in said[-1]  # it has scored nothing so far
    assert sum("has no worker" in line for line in said) == 1
    drain(second)
    assert client.zscore(KEYS.ranking, "x") == score  # nothing was scored by the other
    beats(second, now, 5.0)
    assert store.scores().model == OTHER and store.scores().keys() == set(rooms)
    assert any(f"no worker for 45 s: model {OTHER} takes its place" in line for line in said)
    assert second._place.role == "current"
    put(client, rooms, [N + 2])
    drain(second)
    found = curves(client, rooms)
    whole = offline({room: range(N + 3) for room in rooms}, make_other())
    require_same(found, from_place(whole, found))
    beats(second, now, 610.0)
    assert look(client, KEYS, store).candidate == "" and not any(left(client))


def test_a_model_whose_redis_was_away_is_not_replaced(client, store, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(places.time, "monotonic", lambda: now[0])
    first, second = make_worker(client), make_worker(client, engine=make_other())
    for worker in (first, second):
        worker._beat()
    now[0] += 3600.0
    second._beat()
    assert store.current == MODEL
    beats(second, now, 15.0)
    first._beat()
    beats(second, now, 25.0)
    assert store.current == MODEL


def test_a_room_that_only_the_absent_model_knows_keeps_the_place_for_a_time(
    client, store, monkeypatch
):
    now = [1000.0]
    monkeypatch.setattr(places.time, "monotonic", lambda: now[0])
    first = make_worker(client)
    put(client, ["x", "y"], range(2))
    drain(first)
    first._leases.leave()
    second = make_worker(client, engine=make_other())
    second._beat()
    client.xadd(KEYS.stream(partition_of("x", PARTITIONS)), end_fields("x"))
    drain(second)
    beats(second, now, 590.0)
    assert store.current == MODEL
    beats(second, now, 20.0)
    assert store.current == OTHER


def test_the_oldest_that_waits_is_the_current_models(client, store):
    assert store.queue().oldest_s == 0
    first, second = make_worker(client), make_worker(client, engine=make_other())
    for worker in (first, second):
        worker._beat()
    old, partition = int(client.time()[0]) - 1000, partition_of("x", PARTITIONS)
    stream = KEYS.stream(partition)
    for k, age in enumerate((0, 100, 200, 300)):
        fields = segment_fields(segment("x", k), SHOWN)
        client.xadd(stream, fields, id=f"{1000 * (old + age)}-0")
    assert store.queue().oldest_s == pytest.approx(1000, abs=5)
    first._engine.scorer.batch_size = 1
    first._work(partition)  # the first one waits for the candidate alone from here on
    assert store.queue().oldest_s == pytest.approx(900, abs=5)
    first._leases.read(partition, 1)  # given out, and not done with
    assert store.queue().oldest_s == pytest.approx(900, abs=5)
    first._leases.release(partition)
    first._beat()
    drain(first)
    assert store.queue().oldest_s == 0 and client.xlen(stream) == 4


def test_what_is_refused_beside_a_promotion_is_told_and_put_aside_once(client, store):
    first, second = make_worker(client), make_worker(client, engine=make_other())
    put(client, ["x"], [0])
    for worker in (first, second):
        drain(worker)
    stream = KEYS.stream(partition_of("x", PARTITIONS))
    bad = segment_fields(segment("x", 1), SHOWN, request_id="waits") | {"index": "-1"}
    client.xadd(stream, bad)
    promote(client, KEYS, store, force=True)  # and neither worker knows so far
    for worker in (second, first):
        worker._next_beat = float("inf")
        drain(worker)
    told = [f for _, f in client.xrange(KEYS.events) if f.get(b"request_id") == b"waits"]
    assert [fields[b"model"].decode() for fields in told] == [OTHER, MODEL]
    assert client.xlen(KEYS.rejected) == 1 and not any(left(client))
    client.xadd(stream, bad)
    drain(second)  # it is current
    go_back(client, KEYS, store, force=True)
    drain(first)  # now this one is, and comes to it
    assert client.xlen(KEYS.rejected) == 2


def test_what_the_candidate_refuses_before_a_promotion_and_the_other_after_it_is_put_aside(
    client, store
):
    first, second = make_worker(client), make_worker(client, engine=make_other())
    put(client, ["x"], [0])
    for worker in (first, second):
        drain(worker)
    partition = partition_of("x", PARTITIONS)
    client.xadd(KEYS.stream(partition), segment_fields(segment("x", 1), SHOWN) | {"index": "-1"})
    drain(second)  # the candidate
    assert client.xlen(KEYS.rejected) == 0
    promote(client, KEYS, store, force=True)
    drain(first)
    assert client.xlen(KEYS.rejected) == 1 and not any(left(client))
    assert not client.exists(KEYS.of(OTHER).refused(partition))
    go_back(client, KEYS, store, force=True)
    # What the candidate alone refuses was taken, and is not put aside.
    take = second._engine.take
    second._engine.take = lambda found: [(k, InputError("so")) for k in range(len(found))]
    put(client, ["x"], [1, 2])
    drain(second)
    assert client.scard(KEYS.of(OTHER).refused(partition)) == 2
    drain(first)
    put(client, ["x"], [3])
    drain(first)
    drain(second)
    second._engine.take = take
    assert client.xlen(KEYS.rejected) == 1 and not any(left(client))
    assert not list(client.scan_iter("*:refused:*"))
    # A candidate that is dropped leaves nothing.
    second._engine.take = lambda found: [(k, InputError("so")) for k in range(len(found))]
    put(client, ["x"], [4])
    drain(second)
    Models(client, KEYS).drop(OTHER)
    assert not list(client.scan_iter("*:refused:*"))


def test_a_look_that_is_older_than_the_switch_changes_nothing(server, client):
    client.set(KEYS.current, MODEL)
    with connect(server.url) as theirs:
        backend = RedisBackend(theirs, horizon=0, partitions=PARTITIONS)
        queue, looked = backend._store.queue, threading.Event()

        async def scenario():
            loop = asyncio.get_running_loop()

            def slow():
                client.set(KEYS.current, OTHER)
                loop.call_soon_threadsafe(backend._switch, OTHER)
                looked.set()
                return queue()

            backend._store.queue = slow
            watch = asyncio.create_task(backend._watch())
            await asyncio.to_thread(looked.wait, 5)
            await asyncio.sleep(0.3)
            watch.cancel()

        asyncio.run(scenario())
    assert backend.model == OTHER


def test_rooms_end_for_both_models(client, store):
    first, second = make_worker(client), make_worker(client, engine=make_other())
    put(client, ["x", "y"], range(3))
    for worker in (first, second, first, second):
        drain(worker)
    client.xadd(KEYS.stream(partition_of("x", PARTITIONS)), end_fields("x"))
    put(client, ["x"], range(2))
    drain(first)
    assert client.llen(KEYS.inputs("x")) == 2
    drain(second)
    assert client.llen(KEYS.inputs("x")) == 2  # of the new room, not ended by the old one's end
    whole = offline({"x": range(2), "y": range(3)}, make_other())
    found = of(store, ["x", "y"], OTHER)
    require_same(found, {"x": whole["x"], "y": whole["y"][-len(found["y"]) :]})
    require_same(curves(client, ["x"]), offline({"x": range(2)}))


def test_a_candidate_that_is_not_ready_is_not_promoted(client, store, monkeypatch):
    monkeypatch.setattr("contentctr.live.redis.rollout._WAIT_S", 0.0)
    first = make_worker(client)
    put(client, ["x", "y"], range(2))
    drain(first)
    with pytest.raises(InputError, match="there is no candidate"):
        promote(client, KEYS, store)
    second = make_worker(client, engine=make_other())
    second._beat()
    with pytest.raises(InputError, match="2 live rooms, '[xy]' one of them, have no score"):
        promote(client, KEYS, store)
    second._leases.leave()
    with pytest.raises(InputError, match="has no worker"):
        promote(client, KEYS, store)
    second._beat()
    drain(second)
    put(client, ["x"], range(2, 4))
    drain(first)
    monkeypatch.setattr("contentctr.live.redis.rollout.MOST_BEHIND_S", -1.0)
    with pytest.raises(InputError, match="2 segments to score"):
        promote(client, KEYS, store)
    promote(client, KEYS, store, force=True)
    assert store.scores().keys() == {"x", "y"} and store.scores().model == OTHER
    with pytest.raises(InputError, match="changed their places"):
        Models(client, KEYS).promote(Places(current=MODEL, candidate=OTHER))


def test_a_third_model_stands_by_and_one_of_other_features_is_refused(client):
    said = []
    first, second = make_worker(client), make_worker(client, engine=make_other())
    for worker in (first, second):
        worker._beat()
    third = make_engine(sizes=MORE, model_id="cccccccccccc")
    third = make_worker(client, engine=third, report=said.append)
    add(client, "x", 0)
    drain(third)
    assert third._place.role == "standby" and client.hlen(KEYS.of("cccccccccccc").workers) == 0
    assert said == [
        f"model cccccccccccc stands by: {MODEL} is current, and {OTHER} the candidate; it scores "
        "nothing"
    ]
    wide = dataclasses.replace(SPEC, visual_dim=9)
    with pytest.raises(InputError, match="model dddddddddddd: cannot .*visual_dim must be 9, not"):
        make_worker(client, engine=make_engine(spec=wide, model_id="dddddddddddd"))
    ahead = make_engine(sizes={"horizon": 1}, model_id="eeeeeeeeeeee")
    with pytest.raises(InputError, match="predicts something else .*horizon must be 0, not 1"):
        make_worker(client, engine=ahead)


def test_another_models_state_is_no_reason_to_die(client):
    """Ten deaths put good segments aside before models had keys of their own."""
    first = make_worker(client)
    put(client, ["x"], range(N))
    drain(first)
    first._leases.leave()
    foreign = make_other().scorer
    foreign.score([])
    for key in (KEYS.state("x"), THEIRS.state("x")):
        client.set(key, client.get(KEYS.state("x")))
    Models(client, KEYS).join(OTHER, "{}", first=False, fits=MODEL)
    promote(client, KEYS, RedisStore(client, KEYS, PARTITIONS), force=True)
    second = make_worker(client, engine=make_other())
    put(client, ["x"], range(N, 2 * N))
    drain(second)
    found = curves(client, ["x"])
    require_same(found, from_place(offline({"x": range(2 * N)}, make_other()), found))
    assert len(found["x"]) == N and client.xlen(KEYS.rejected) == 0


def test_where_redis_lost_all_the_model_that_was_current_comes_first(server, client):
    with connect(server.url) as theirs:
        first, second = make_worker(theirs), make_worker(theirs, engine=make_other())
        for worker in (first, second):
            worker._beat()
        client.flushall()
        second._beat()
        assert client.get(KEYS.current) is None
        first._beat()
        second._beat()
        assert client.get(KEYS.current) == MODEL.encode()
        assert client.get(KEYS.candidate) == OTHER.encode()


def test_who_waits_is_answered_by_the_model_that_takes_the_place(server, client, store):
    first, second = make_worker(client), make_worker(client, engine=make_other())
    for worker in (first, second):
        worker._beat()
    backend = RedisBackend(connect(server.url), horizon=0, partitions=PARTITIONS, wait_s=20.0)
    app = create_app(backend, make_engine(sizes=MORE))
    with serving(make_server(app, backend, port=0)) as url, ThreadPoolExecutor(1) as thread:
        wait_for(lambda: httpx.get(f"{url}/v1/info").json()["model"] == MODEL)
        post = thread.submit(
            lambda: httpx.post(f"{url}/v1/segments", json=make_post("x", 0), timeout=30)
        )
        wait_for(lambda: any(left(client)))
        drain(second)  # the current model's workers do not come to it
        wait_for(lambda: backend._outcomes)
        assert not post.done()
        promote(client, KEYS, store, force=True)
        answer = post.result(20).json()
        assert (answer["status"], answer["model"], len(answer["curve"])) == ("scored", OTHER, 1)
        assert httpx.get(f"{url}/v1/rooms").json()["rooms"][0]["score"] == answer["score"]
        assert [event.kind for event in backend.events._events] == ["reset"]
        add(client, "x", 1)
        drain(first)  # in the shadow by now: nobody is told
        drain(second)
        wait_for(lambda: len(backend.events._events) == 2)
        told = json.loads(backend.events._events[1].data)
        assert (told["model"], told["index"]) == (OTHER, 1)
    backend._client.close()
