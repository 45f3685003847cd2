"""Values in Redis that are none of ours, or damaged: no worker and no service ends by them."""

import json
import socket
import threading
import time

import pytest
from redis.exceptions import InvalidResponse

from contentctr.errors import InputError
from contentctr.live.redis import health
from contentctr.live.redis.beats import WorkerWatch
from contentctr.live.redis.messages import (
    connect,
    eviction_warning,
    partition_of,
    read_message,
    segment_fields,
    settle_partitions,
)
from contentctr.live.redis.store import RedisStore
from live_redis import (
    KEYS,
    PARTITIONS,
    SHOWN,
    add,
    curves,
    drain,
    left,
    make_worker,
    offline,
    require_same,
    segment,
)


@pytest.mark.parametrize("ended_at", ["NaN", "Infinity", "-1", "1e12", "9" * 400, "[]", "1e999"])
def test_a_moment_that_is_none_is_put_aside(client, ended_at):
    worker = make_worker(client)
    fields = segment_fields(segment("r", 0), SHOWN)
    client.xadd(
        KEYS.stream(partition_of("r", PARTITIONS)),
        {**fields, "shown": f'{{"ended_at": {ended_at}}}'},
    )
    add(client, "r", 1)
    drain(worker)
    assert client.xlen(KEYS.rejected) == 1 and not any(left(client))
    assert [index for index, _ in curves(client, ["r"])["r"]] == [1]
    with pytest.raises(InputError, match="ended_at"):
        read_message(
            b"1-0",
            {b"room": b"r", b"streamer": b"", b"index": b"0"}
            | {k.encode(): b"0" for k in ("has_speech", "has_comments")}
            | {b"shown": b'{"ended_at": 1e400}'},
        )


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: c.set(KEYS.room("r"), b"\xff{"),
        lambda c: c.set(KEYS.room("r"), "[" * 100_000),
        lambda c: c.set(KEYS.room("r"), json.dumps({"room_id": "r"})),
        lambda c: (c.delete(KEYS.room("r")), c.lpush(KEYS.room("r"), "x")),
        lambda c: c.rpush(KEYS.curve("r"), "x y"),
        lambda c: c.rpush(KEYS.curve("r"), "3 nan"),
        lambda c: (c.delete(KEYS.curve("r")), c.set(KEYS.curve("r"), "x")),
        lambda c: c.delete(KEYS.curve("r")),
        lambda c: c.set(KEYS.state("r"), b"x"),
        lambda c: (c.delete(KEYS.state("r")), c.lpush(KEYS.state("r"), "x")),
    ],
)
def test_a_damaged_room_begins_anew_and_the_others_go_on(client, damage):
    first = make_worker(client)
    for room in ("r", "s"):
        add(client, room, 0)
    drain(first)
    first._leases.leave()
    damage(client)
    assert RedisStore(client, KEYS, PARTITIONS).rooms(["s"])[0] is not None
    second = make_worker(client)
    for room in ("r", "s"):
        add(client, room, 1)
    drain(second)
    assert not any(left(client)) and client.xlen(KEYS.rejected) == 0
    found = curves(client, ["r", "s"])
    assert found["r"][-1][0] == 1
    require_same({"s": found["s"]}, offline({"s": [0, 1]}))


@pytest.mark.parametrize("value", ["x", "-1", "0", "1.5", "1000000000", "9" * 400])
def test_a_number_of_partitions_that_is_none_is_waited_for(client, value):
    worker = make_worker(client)
    client.set(KEYS.partitions, value)
    for work in (
        worker._beat,
        lambda: add(client, "r", 0),
        lambda: settle_partitions(client, KEYS),
    ):
        with pytest.raises(InvalidResponse, match="partitions must be 1 to"):
            work()


@pytest.mark.parametrize("row", ["[" * 100_000, "x", '{"lease_s": 1e400, "partitions": []}'])
def test_rows_of_workers_that_are_none(row):
    rows = [row, '{"lease_s": 5, "partitions": [1e400]}', '{"lease_s": %s, "partitions": []}']
    for k, one in enumerate(rows):
        text = one % ("9" * 400) if "%s" in one else one
        assert WorkerWatch().note({b"w%d" % k: text.encode()}) == []


def test_heads_that_drip_do_not_keep_a_supervisor_from_a_workers_health(monkeypatch):
    monkeypatch.setattr(health, "_TIMEOUT_S", 0.2)
    monkeypatch.setattr(health, "_MOST_AT_ONCE", 1)
    with health.health_server(health.WorkerHealth(5.0), "127.0.0.1", 0) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=5) as one:
            ended = threading.Event()

            def drip():
                try:
                    for byte in b"GET /healthz HTTP/1.1\r\nx: " + b"y" * 100:
                        one.sendall(bytes([byte]))
                        time.sleep(0.05)
                except OSError:
                    ended.set()

            thread = threading.Thread(target=drip)
            thread.start()
            thread.join(10)
            assert ended.is_set()


def test_a_redis_that_throws_keys_away_is_warned_of(client):
    assert eviction_warning(client) is None
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert "allkeys-lru" in eviction_warning(client)
    finally:
        client.config_set("maxmemory-policy", "noeviction")
    with connect("redis://127.0.0.1:1") as away:
        assert eviction_warning(away) is None
