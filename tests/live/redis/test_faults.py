"""Workers when Redis refuses, forgets, is full, or its clock jumps."""

import time

import pytest
from redis.exceptions import InvalidResponse, OutOfMemoryError, ResponseError

from contentctr.errors import InputError
from contentctr.live.redis.leases import Leases
from contentctr.live.redis.messages import (
    PARTITIONS,
    connect,
    partition_of,
    segment_fields,
    settle_partitions,
)
from contentctr.live.redis.places import SPARE_INPUTS
from contentctr.live.redis.store import RedisStore
from live_redis import (
    KEYS,
    MODEL,
    SHOWN,
    add,
    curves,
    drain,
    left,
    make_worker,
    offline,
    require_same,
    segment,
    wait_for,
    working,
)
from live_service import N, make_picture

OURS = 4


@pytest.fixture
def client(server):
    with connect(server.url) as found:
        found.config_set("maxmemory", 0)
        found.config_set("min-replicas-to-write", 0)
        found.replicaof("NO", "ONE")
        found.flushall()
        yield found
        found.config_set("maxmemory", 0)
        found.replicaof("NO", "ONE")


def refuse_by_readonly(client):
    client.replicaof("127.0.0.1", 1)
    return lambda: client.replicaof("NO", "ONE")


def refuse_by_replicas(client):
    client.config_set("min-replicas-to-write", 1)
    return lambda: client.config_set("min-replicas-to-write", 0)


def refuse_by_group(client):
    for partition in range(OURS):
        client.xgroup_destroy(KEYS.stream(partition), MODEL)
    return lambda: None


@pytest.mark.parametrize("refuse", [refuse_by_readonly, refuse_by_replicas, refuse_by_group])
def test_a_worker_outlasts_what_redis_refuses(server, client, refuse):
    said = []
    rooms = {f"r{k}": range(2 * N) for k in range(4)}
    options = {"lease_s": 1.0, "poll_s": 0.01, "report": said.append}
    with connect(server.url) as theirs, working(make_worker(theirs, **options)):
        for index in range(N):
            for room in rooms:
                add(client, room, index)
        wait_for(lambda: sum(left(client)) == 0)
        allow = refuse(client)
        wait_for(lambda: any("trying again" in line for line in said))
        time.sleep(0.7)
        allow()
        for index in range(N, 2 * N):
            for room in rooms:
                add(client, room, index)
        wait_for(lambda: sum(left(client)) == 0, 15)
        require_same(curves(client, rooms), offline(rooms))
        assert sum("trying again" in line for line in said) == 1, said
        assert "Redis takes commands again" in said
        assert client.xlen(KEYS.rejected) == 0


def test_a_full_redis_is_read_and_drained(server, client):
    rooms = {f"r{k}": range(N) for k in range(4)}
    with connect(server.url) as theirs:
        worker = make_worker(theirs, lease_s=1.0, poll_s=0.01)
        for index in range(N):
            for room in rooms:
                add(client, room, index)
        client.config_set("maxmemory", "100kb")  # less than an empty one takes
        with pytest.raises(OutOfMemoryError):
            client.set("x", "y")
        store = RedisStore(client, KEYS, OURS)
        assert store.scores() == {} and store.rooms(["r0"]) == [None]
        assert settle_partitions(client, KEYS) == OURS
        with working(worker):
            wait_for(lambda: sum(left(client)) == 0, 15)
        require_same(curves(client, rooms), offline(rooms))
        assert store.scores().keys() == store.scores(list(rooms)).keys() == rooms.keys()


def test_a_failing_redis_puts_no_message_aside(client):
    worker = make_worker(client, lease_s=1.0)
    worker.turn()
    for index in range(3):
        add(client, "x", index)
    commit, partition = worker._leases.commit, partition_of("x", OURS)

    def fail(*arguments):
        raise ResponseError("MISCONF Redis is configured to save RDB snapshots")

    for _ in range(15):
        worker._leases.commit = fail
        with pytest.raises(ResponseError):
            drain(worker)
        worker._leases.commit = commit
        worker._begin_again()
    counts = worker._leases.deliveries(partition).values()
    assert set(counts) == {1}
    drain(worker)
    require_same(curves(client, ["x"]), offline({"x": range(3)}))


def test_lost_data_brings_no_other_number_of_partitions(client):
    many = make_worker(client, partitions=OURS * 2, lease_s=1.0)
    many.turn()
    service = RedisStore(client, KEYS, OURS * 2)
    client.flushall()
    many._beat()  # it says the number again before anybody's default can take its place
    assert settle_partitions(client, KEYS) == OURS * 2
    client.flushall()
    assert settle_partitions(client, KEYS) == PARTITIONS  # one with the default was the first
    rooms = {f"r{k}": range(3) for k in range(12)}
    for index in range(3):
        for room in rooms:
            fields = segment_fields(segment(room, index), SHOWN)
            service.add(room, fields)
    assert service.partitions == PARTITIONS
    waiting = [client.xlen(KEYS.stream(p)) for p in range(PARTITIONS)]
    assert sum(waiting) == 36 and sum(waiting[OURS * 2 :]) > 0
    many._begin_again()
    drain(many)
    require_same(curves(client, rooms), offline(rooms))
    client.flushall()
    service.add("r0", segment_fields(segment("r0", 0), SHOWN))  # says it with the first message
    assert settle_partitions(client, KEYS) == PARTITIONS


def test_a_partition_is_bounded_by_bytes(client):
    from contentctr.live.redis.messages import StreamFullError, add_fields, size_of

    settle_partitions(client, KEYS, OURS)
    fields = {**segment_fields(segment("x", 0), SHOWN), "thumbnail": b"\xff" * 1000}
    limit = {"max_bytes": 5000, "max_count": 100}
    with pytest.raises(StreamFullError, match="bytes of the room's partition wait"):
        for k in range(100):
            add_fields(client, KEYS, OURS, "x", {**fields, "index": k}, **limit)
    partition = partition_of("x", OURS)
    entries = client.xrange(KEYS.stream(partition))
    assert 2 <= len(entries) == k <= 4
    assert int(client.get(KEYS.bytes(partition))) == sum(size_of(f) for _, f in entries) <= 5000
    worker = make_worker(client)
    client.xadd(KEYS.stream(partition), {"nobody": "counted it"})
    worker.turn()
    assert client.get(KEYS.bytes(partition)) is None  # nothing waits: nothing is carried along
    add_fields(client, KEYS, OURS, "x", {**fields, "index": 200, "thumbnail": b"p" * 9000}, **limit)
    with pytest.raises(StreamFullError):
        add_fields(client, KEYS, OURS, "x", {**fields, "index": 201}, **limit)
    assert RedisStore(client, KEYS, OURS).queue().waiting_bytes > 9000


def test_streams_that_are_told_from_are_bounded_by_bytes(client):
    from contentctr.live.redis.store import append_command

    def append(count, kept, kept_bytes, text):
        pipe = client.pipeline(transaction=False)
        for _ in range(count):
            pipe.execute_command(*append_command("s", kept, kept_bytes, {"a": text}))
        pipe.execute()

    append(300, 1000, 100_000, "x" * 10_000)
    assert client.xlen("s") <= 12  # "~" leaves a node more
    append(3000, 1000, 100_000_000, "x")
    assert 1000 <= client.xlen("s") <= 1200


def test_what_was_put_aside_is_whole_and_can_be_played_again(client):
    from contentctr.live.redis.rejected import list_rejected, replay_rejected

    worker = make_worker(client)
    add(client, "x", 0)
    bad = segment("x", 1, streamer="somebody else")
    service = RedisStore(client, KEYS, OURS)
    fields = segment_fields(bad, SHOWN, request_id="q1")
    service.add("x", fields)
    drain(worker)
    [one] = list_rejected(client, KEYS)
    assert (one.room_id, one.index) == ("x", "1") and "streamer_id" in one.reason
    assert one.fields[b"visual"] == fields["visual"] and one.fields[b"room"] == b"x"
    client.delete(
        *KEYS.of_room("x"), KEYS.inputs("x")
    )  # its room has ended: now the streamer is no fault
    worker._rooms.forget("x")
    assert replay_rejected(client, KEYS, ["1-1"]) == ([], ["1-1"])
    back, unknown = replay_rejected(client, KEYS)
    assert [r.id for r in back] == [one.id] and unknown == []
    assert list(list_rejected(client, KEYS)) == []
    drain(worker)
    [room] = service.rooms(["x"])
    assert room.streamer_id == "somebody else" and [index for index, _ in room.curve] == [1]


def jump(client, seconds):
    """Redis' clock jumps: since the last look more, or less, has passed on it."""
    client.hincrbyfloat(KEYS.clock, "wall", -seconds)


@pytest.mark.parametrize("seconds", [3600.0, -3600.0])
def test_a_jump_of_redis_clock_ends_nothing(client, seconds):
    worker = make_worker(client, forget_after_s=600.0)
    for index in range(3):
        add(client, "x", index)
    drain(worker)
    before = worker._leases.now()
    jump(client, seconds)
    worker._beat()
    after = worker._leases.now()
    assert 0 <= after - before <= 5.5
    assert RedisStore(client, KEYS, OURS).scores().keys() == {"x"}
    other = make_worker(client)  # a jump makes nobody dead
    other._beat()
    worker._beat()
    assert len(worker._leases.owned) == len(other._leases.owned) or worker._leases.owned
    add(client, "x", 3)
    worker._beat()
    drain(worker)
    drain(other)
    require_same(curves(client, ["x"]), offline({"x": range(4)}))


def test_who_lives_is_told_by_change_alone(client):
    from contentctr.live.redis.beats import WorkerWatch, row_of

    now = [0.0]
    watch = WorkerWatch(lambda: now[0])

    def living(beats):
        rows = {name.encode(): row_of(beat, 2.0, [1]).encode() for name, beat in beats.items()}
        return {worker.name for worker in watch.note(rows)}

    assert living({"a": 1, "b": 1}) == {"a", "b"}
    now[0] = 1.5
    assert living({"a": 2, "b": 1}) == {"a", "b"}
    now[0] = 3.0
    assert living({"a": 2, "b": 1}) == {"a"} and not watch.dead()
    now[0] = 4.5
    assert living({"a": 3, "b": 1}) == {"a"} and watch.dead().keys() == {"b"}
    assert living({"a": 3, "b": 2}) == {"a", "b"}  # it was held up
    watch.reset()
    now[0] = 100.0
    assert living({"a": 3, "b": 2}) == {"a", "b"}
    junk = (b"{", b"[]", b"[" * 100_000, b'{"lease_s": 1e9, "partitions": []}', b'{"lease_s": "x"}')
    assert watch.note({b"\xff%d" % k: row for k, row in enumerate(junk)}) == []


def test_a_worker_follows_partitions_that_move_again_and_again(client, monkeypatch):
    worker, counts = make_worker(client), [OURS + 1, OURS + 2, OURS + 3]
    beat = Leases._say_alive

    def moving(leases):
        if counts:
            client.set(KEYS.partitions, counts.pop(0))
        return beat(leases)

    monkeypatch.setattr(Leases, "_say_alive", moving)
    worker._beat()
    assert worker._leases.owned == [*range(OURS + 3)]
    counts += [20 + k for k in range(20)]
    with pytest.raises(InvalidResponse, match="changed 10 times"):  # which `run` waits for
        worker._beat()


def test_a_worker_tells_its_health(server, client):
    import httpx

    from contentctr.live.redis.health import health_server

    with connect(server.url) as theirs:
        worker = make_worker(theirs, lease_s=1.0, poll_s=0.01)
        with health_server(worker.health, "127.0.0.1", 0) as url, httpx.Client() as http:
            assert http.get(f"{url}/readyz").status_code == 503
            with pytest.raises(InputError, match="cannot listen"):
                with health_server(worker.health, "127.0.0.1", int(url.rpartition(":")[2])):
                    pass
            with working(worker):
                for index in range(3):
                    add(client, "x", index)
                add(client, "x", 2)
                wait_for(lambda: http.get(f"{url}/readyz").status_code == 200)
                wait_for(lambda: sum(left(client)) == 0)
                assert http.get(f"{url}/healthz").text == "ok\n"
                text = http.get(f"{url}/metrics").text
                assert 'contentctr_worker_segments_total{status="scored"} 3.0' in text
                assert "contentctr_worker_partitions 4.0" in text
                assert f'contentctr_worker_model{{model="{MODEL}",role="current"}} 1.0' in text
                assert "contentctr_worker_candidate 0.0" in text
                assert http.get(f"{url}/else").status_code == 404
                allow = refuse_by_replicas(client)
                wait_for(lambda: http.get(f"{url}/readyz").status_code == 503)
                assert "NOREPLICAS" in http.get(f"{url}/readyz").text
                allow()
                wait_for(lambda: http.get(f"{url}/readyz").status_code == 200)


@pytest.mark.parametrize("inputs", ["whole", "one damaged", "gone", "no list"])
def test_a_room_whose_state_is_damaged_goes_on_from_its_inputs(client, inputs):
    said = []
    worker = make_worker(client)
    for index in range(2 * N):
        add(client, "x", index)
    drain(worker)
    worker.run(lambda: True)  # leaves
    client.set(KEYS.state("x"), b"\x00" * 40)
    assert client.llen(KEYS.inputs("x")) == N + SPARE_INPUTS
    if inputs == "one damaged":
        client.lset(KEYS.inputs("x"), 4, b"1-1 x")
    elif inputs != "whole":
        client.delete(KEYS.inputs("x"))
    if inputs == "no list":
        client.set(KEYS.inputs("x"), "x")
    worker = make_worker(client, report=said.append)
    for index in range(2 * N, 3 * N):
        add(client, "x", index)
    add(client, "y", 0)
    drain(worker)
    assert any("room x: its state is made anew" in line for line in said)
    found, expected = curves(client, ["x", "y"]), offline({"x": range(3 * N)})["x"]
    assert [index for index, _ in found["x"]] == [*range(3 * N)] and len(found["y"]) == 1
    assert client.llen(KEYS.inputs("x")) >= N and client.xlen(KEYS.rejected) == 0
    if inputs == "whole":
        require_same({"x": found["x"]}, {"x": expected})
    elif inputs == "one damaged":  # once the window is whole; statistics come with the inputs
        require_same({"x": found["x"][-5:]}, {"x": expected[-5:]})
        assert found["x"][2 * N] != expected[2 * N]
    else:
        require_same({"x": found["x"][-N:]}, offline({"x": range(2 * N, 3 * N)}))


@pytest.mark.parametrize("state", ["whole", "damaged"])
def test_of_inputs_whose_newest_is_damaged_the_older_ones_stay(client, state):
    worker = make_worker(client)
    for index in range(2 * N):
        add(client, "x", index)
    drain(worker)
    worker.run(lambda: True)
    client.lset(KEYS.inputs("x"), -1, client.lindex(KEYS.inputs("x"), -1)[:40])
    if state == "damaged":
        client.set(KEYS.state("x"), b"x")
    for index in range(2 * N, 4 * N):
        add(client, "x", index)
    drain(make_worker(client))
    found, expected = curves(client, ["x"])["x"], offline({"x": range(4 * N)})["x"]
    if state == "whole":
        require_same({"x": found}, {"x": expected})
    else:  # one segment is missing, and not the whole window
        without = [*range(2 * N - 1), *range(2 * N, 4 * N)]
        require_same({"x": found[2 * N :]}, {"x": offline({"x": without})["x"][2 * N - 1 :]})
    assert client.llen(KEYS.inputs("x")) == N + SPARE_INPUTS


def test_a_source_that_is_started_again_begins_its_room_anew(client):
    import dataclasses

    worker = make_worker(client)
    service = RedisStore(client, KEYS, OURS)

    def put(index, run, **shown):
        one = dataclasses.replace(segment("x", index), run=run)
        service.add("x", segment_fields(one, dataclasses.replace(SHOWN, **shown)))

    for index in range(5):
        put(index, "one", thumbnail=make_picture())
    put(0, "two")
    put(5, "one")
    drain(worker)
    require_same(curves(client, ["x"]), offline({"x": [0]}))
    assert service.rooms(["x"])[0].run == "two" and service.thumbnail("x") is None
    worker = make_worker(client)  # another goes on with what Redis knows
    worker._leases._client.delete(*(KEYS.lease(p) for p in range(OURS)))
    put(6, "one")
    put(1, "two")
    drain(worker)
    require_same(curves(client, ["x"]), offline({"x": [0, 1]}))
    kinds = [fields[b"kind"] for _, fields in client.xrange(KEYS.events)]
    assert kinds == [b"model"] + [b"score"] * 5 + [b"end"] + [b"score"] * 2
