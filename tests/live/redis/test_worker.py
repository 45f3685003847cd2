"""Workers on Redis streams: every segment once, whatever dies."""

import dataclasses
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from contentctr.live.known_rooms import Shown
from contentctr.live.redis.backend import RedisBackend
from contentctr.live.redis.leases import Leases, LostLeaseError
from contentctr.live.redis.messages import (
    connect,
    end_fields,
    partition_of,
    read_message,
    segment_fields,
    settle_partitions,
)
from contentctr.live.redis.store import RedisStore
from contentctr.live.redis.worker import MAX_DELIVERIES
from contentctr.live.scorer_segments import LiveSegment
from contentctr.live.service.app import create_app
from contentctr.live.service.server import make_server, serving
from live_redis import (
    KEYS,
    MODEL,
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
    wait_for,
)
from live_service import MORE, N, V, make_engine, make_picture, make_post


def test_a_message_is_the_segment():
    for values in (np.float16, np.float32):
        one = segment("x", 4)
        one = dataclasses.replace(
            one,
            visual=one.visual.astype(values) / values(3),
            text=None,
            sound=one.sound.astype(values),
            has_speech=False,
            has_comments=False,
            earlier={3: {"viewers": 4, "clickers": np.int64(1)}, 0: {}},
        )
        shown = Shown(ended_at=1.5, title="t", comments=("a", "\u4f60"), thumbnail=make_picture())
        fields = {
            k.encode(): v if isinstance(v, bytes) else str(v).encode()
            for k, v in segment_fields(one, shown, request_id="q").items()
        }
        message = read_message(b"1-0", fields)
        assert message.shown == shown and message.request_id == "q"
        for field in dataclasses.fields(LiveSegment):
            got, expected = getattr(message.segment, field.name), getattr(one, field.name)
            if field.name in ("visual", "sound"):
                assert got.dtype == values and (got == expected).all()
            else:
                assert got == expected, field.name


def test_scores_are_the_offline_ones_in_any_batching(client):
    rooms = {f"r{k}": range(k, 3 * N) for k in range(6)}
    for index in range(3 * N):
        for room in rooms:
            if index in rooms[room]:
                add(client, room, index)
    worker = make_worker(client)
    drain(worker)
    require_same(curves(client, rooms), offline(rooms))
    assert left(client) == [0] * PARTITIONS
    pending = [client.xpending(KEYS.stream(p), MODEL)["pending"] for p in range(PARTITIONS)]
    assert pending == [0] * PARTITIONS
    scores = RedisStore(client, KEYS, PARTITIONS).scores()
    top = client.zrange(KEYS.ranking, 0, 0, desc=True)[0].decode()
    assert top == max(scores, key=lambda room: scores[room].score)


def test_repeats_change_nothing_and_ends_forget(client):
    worker = make_worker(client)
    for index in (0, 1, 1, 0, 2, 2):
        add(client, "x", index)
    drain(worker)
    require_same(curves(client, ["x"]), offline({"x": range(3)}))
    client.xadd(KEYS.stream(partition_of("x", PARTITIONS)), end_fields("x"))
    add(client, "x", 0)
    drain(worker)
    require_same(curves(client, ["x"]), offline({"x": [0]}))
    client.xadd(KEYS.stream(partition_of("x", PARTITIONS)), end_fields("x"))
    drain(worker)
    assert RedisStore(client, KEYS, PARTITIONS).scores() == {}
    assert not any(client.exists(key) for key in KEYS.of_room("x"))


def test_another_worker_goes_on_where_one_died(client):
    rooms = {f"r{k}": range(2 * N) for k in range(5)}
    for index in range(N):
        for room in rooms:
            add(client, room, index)
    first = make_worker(client, lease_s=1.0)
    first.turn()
    for partition in first._leases.owned:  # messages that it took, and never finished
        first._leases.read(partition, 3)
    taken = sum(client.xpending(KEYS.stream(p), MODEL)["pending"] for p in range(PARTITIONS))
    assert taken > 0
    for index in range(N, 2 * N):
        for room in rooms:
            add(client, room, index)
    second = make_worker(client, lease_s=1.0)
    drain(second)
    assert second._leases.owned == []  # the first is not known to be dead yet
    time.sleep(1.1)
    for _ in range(60):
        second.turn()
        if sum(left(client)) == 0:
            break
        time.sleep(0.1)
    require_same(curves(client, rooms), offline(rooms))
    first.turn()  # it was held up, not dead: nothing it does counts
    require_same(curves(client, rooms), offline(rooms))


def test_with_look_ahead_a_room_without_a_score_yet_is_kept_and_ends_by_itself(client):
    def make():
        sizes = {"sound": True, "horizon": -3}
        return make_engine(max_rooms=64, sizes=sizes, model_id=MODEL)

    scorer = make().scorer
    expected = [scorer.score([segment("x", index)])[0].score for index in range(6)]
    assert expected[:3] == [None] * 3
    worker = make_worker(client, engine=make())
    for index in range(3):
        add(client, "x", index)
    drain(worker)
    assert RedisStore(client, KEYS, PARTITIONS).scores() == {}
    assert 0 < client.ttl(KEYS.state("x")) <= 600
    assert 600 < client.ttl(KEYS.inputs("x")) <= 1200
    worker._begin_again()  # another one goes on
    for index in range(3, 6):
        add(client, "x", index)
    drain(worker)
    found = curves(client, ["x"])["x"]
    assert [index for index, _ in found] == [3, 4, 5]
    np.testing.assert_allclose([score for _, score in found], expected[3:], atol=1e-6)
    assert client.ttl(KEYS.state("x")) == -1
    assert 600 < client.ttl(KEYS.inputs("x")) <= 1200  # anew with each segment


def test_two_workers_share_the_partitions(client):
    first, second = make_worker(client), make_worker(client)
    first.turn()
    assert first._leases.owned == [0, 1, 2, 3]
    for worker in (second, first, second):
        worker._beat()
    assert sorted(first._leases.owned + second._leases.owned) == [0, 1, 2, 3]
    assert len(first._leases.owned) == 2
    rooms = {f"r{k}": range(N) for k in range(6)}
    for index in range(N):
        for room in rooms:
            add(client, room, index)
    drain(first)
    assert 0 < sum(left(client)) < 6 * N
    drain(second)
    require_same(curves(client, rooms), offline(rooms))
    second.run(lambda: True)  # leaves
    first._beat()
    assert first._leases.owned == [0, 1, 2, 3]


def test_leases_of_before_redis_failed_are_given_up_beyond_a_fair_share(client):
    settle_partitions(client, KEYS, PARTITIONS)
    first, second = (Leases(client, KEYS, PARTITIONS, name, 5.0) for name in ("first", "second"))
    assert first.balance()[0] == [0, 1, 2, 3]
    first._tokens.clear()  # Redis was away when they were to be given up, and has them again
    assert second.balance() == ([], [])
    assert first.balance() == ([0, 1], [])
    assert second.balance() == ([2, 3], [])


def test_a_worker_without_its_lease_can_do_nothing(client):
    make_worker(client)
    first = Leases(client, KEYS, PARTITIONS, "first", 5.0)
    first.balance()
    add(client, "x", 0)
    partition = partition_of("x", PARTITIONS)
    client.set(KEYS.lease(partition), "another's")
    for use in (
        lambda: first.read(partition, 10),
        lambda: first.claim(partition),
        lambda: first.commit(partition, [("SET", "mine", "1")]),
    ):
        first._tokens[partition] = "old"
        with pytest.raises(LostLeaseError):
            use()
    assert client.get("mine") is None
    assert client.xpending(KEYS.stream(partition), MODEL)["pending"] == 0
    first._tokens[partition] = "old"
    first.release(partition)
    assert client.get(KEYS.lease(partition)) == b"another's"


def test_more_rooms_than_are_kept_in_memory(client):
    rooms = {f"r{k}": range(N) for k in range(20)}
    for index in range(N):
        for room in rooms:
            add(client, room, index)
    worker = make_worker(client, max_rooms=8)
    drain(worker)
    require_same(curves(client, rooms), offline(rooms))
    assert len(worker._rooms) == len(worker._engine.scorer) == 8


def test_bad_messages_are_put_aside(client):
    worker = make_worker(client)
    stream = KEYS.stream(partition_of("x", PARTITIONS))
    good = segment_fields(segment("x", 1), SHOWN)
    nan = np.full(V, np.nan, np.float32).tobytes()
    for change in (
        {"index": "-1"},
        {"index": "9" * 30},
        {"visual": b"abc"},
        {"counts": "{"},
        {"counts": "[]"},
        {"counts": '{"likes": -1}'},
        {"earlier": "[]"},
        {"earlier": '{"0": 1}'},
        {"earlier": '{"-1": {}}'},
        {"earlier": '{"1": {"likes": 1}}'},
        {"earlier": '{"0": {"coins": 1}}'},
        {"outcomes": json.dumps({k: {} for k in range(97)})},
        {"shown": "{"},
        {"shown": "[]"},
        {"visual": nan, "visual_type": "f4"},
        {"text": b"ab"},
        {"room": b"\xff"},
        {"streamer": "other"},
        {"visual_type": "f8"},
        {"room": "a/../b"},
        {"room": "x" * 129},
        {"streamer": "s" * 257},
        {"shown": json.dumps({"ended_at": 1, "title": "t" * 201})},
        {"shown": json.dumps({"ended_at": 1, "comments": ["c"] * 201})},
        {"shown": json.dumps({"ended_at": 1, "comments": ["c" * 501]})},
        {"shown": json.dumps({"ended_at": 1, "comments": [{}]})},
        {"thumbnail": b"<svg/>"},
        {"thumbnail": make_picture(size=(1281, 720))},
    ):
        add(client, "x", 0)
        client.xadd(stream, {**good, **change})
    client.xadd(stream, {"nothing": "here"})
    add(client, "x", 1)
    drain(worker)
    require_same(curves(client, ["x"]), offline({"x": [0, 1]}))
    assert client.xlen(KEYS.rejected) == 29 and left(client) == [0] * PARTITIONS
    reasons = [fields[b"reason"].decode() for _, fields in client.xrange(KEYS.rejected)]
    assert "'index'" in reasons[0] and all(reasons)


def test_a_message_that_kills_its_workers_is_put_aside(client):
    class Killer:
        def __init__(self):
            self.engine = make_engine(max_rooms=64, sizes=MORE, model_id=MODEL)

        def __getattr__(self, name):
            return getattr(self.engine, name)

        def take(self, segments):
            if any(s.index == 3 for s in segments):
                raise MemoryError
            return self.engine.take(segments)

    for index in range(6):
        add(client, "x", index)
    died = 0
    for _ in range(MAX_DELIVERIES + 2):
        worker = make_worker(client, engine=Killer())
        try:
            drain(worker)
        except MemoryError:
            died += 1
        worker._leases.leave()
    assert died == MAX_DELIVERIES
    require_same(curves(client, ["x"]), offline({"x": [0, 1, 2, 4, 5]}))
    assert client.xlen(KEYS.rejected) == 1


def test_rooms_without_segments_end_by_themselves(client):
    worker = make_worker(client, forget_after_s=0.3)
    add(client, "x", 0)
    drain(worker)
    time.sleep(0.4)
    worker._beat()
    assert RedisStore(client, KEYS, PARTITIONS).scores() == {}
    add(client, "x", 0)  # another room of that name
    drain(worker)
    require_same(curves(client, ["x"]), offline({"x": [0]}))


def start(server):
    script = Path(__file__).parents[2] / "support" / "live_worker.py"
    return subprocess.Popen(
        [sys.executable, str(script), server.url, "1.0"], stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_a_killed_worker_and_a_killed_redis(server, client):
    rooms = {f"r{k}": range(60) for k in range(20)}
    expected = offline(rooms)
    workers = [start(server) for _ in range(2)]
    try:
        wait_for(lambda: client.hlen(KEYS.workers) == 2)
        for index in range(30):
            for room in rooms:
                add(client, room, index)
        wait_for(lambda: 0 < sum(left(client)) < 500)
        workers[0].send_signal(signal.SIGKILL)
        wait_for(lambda: sum(left(client)) < 100)
        server.kill()
        time.sleep(0.5)
        server.start()
        for index in range(30, 60):
            for room in rooms:
                add(client, room, index)
        wait_for(lambda: sum(left(client)) == 0)
        require_same(curves(client, rooms), expected)
        workers[1].send_signal(signal.SIGTERM)
        assert workers[1].wait(10) == 0
        assert client.hlen(KEYS.workers) <= 1  # the killed one may not have lapsed
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def test_the_service_over_redis(client, server):
    import threading

    import httpx

    engine = make_engine(sizes=MORE)
    stopped = []
    worker = make_worker(connect(server.url), poll_s=0.01)
    backend = RedisBackend(connect(server.url), horizon=0, partitions=PARTITIONS, wait_s=3.0)
    app = create_app(backend, engine)
    thread = threading.Thread(target=worker.run, args=(lambda: stopped,))
    with httpx.Client() as http, serving(make_server(app, backend, port=0)) as url:
        thread.start()
        try:
            wait_for(lambda: http.get(f"{url}/readyz").status_code == 200)
            plain = make_engine(sizes=MORE)
            for index in range(3):
                one = segment("x", index)
                heard = None if one.sound is None else one.sound.astype(float).tolist()
                said = None if one.words is None else one.words.astype(float).tolist()
                more = {"counts": one.counts, "sound": heard, "words": said}
                body = make_post("x", index, title="X", **more)
                answer = http.post(f"{url}/v1/segments", json=body).json()
                values = {k: np.array(body[k], np.float32) for k in ("visual", "text")}
                [taken] = plain.score([dataclasses.replace(one, **values, has_comments=False)])
                assert answer["status"] == "scored"
                assert abs(answer["score"] - taken.scored.score) <= 1e-6
                assert [p["index"] for p in answer["curve"]] == list(range(index + 1))
            again = http.post(f"{url}/v1/segments", json=make_post("x", 2)).json()
            assert (again["status"], again["score"]) == ("repeated", answer["score"])
            other = make_post("x", 3, streamer_id="b")
            refused = http.post(f"{url}/v1/segments", json=other)
            assert refused.status_code in (409, 422) and "'a'" in refused.json()["detail"]
            assert http.get(f"{url}/v1/rooms").json()["rooms"][0]["title"] == "X"
            assert http.delete(f"{url}/v1/rooms/x").status_code == 204
            wait_for(lambda: http.get(f"{url}/v1/rooms").json()["total"] == 0)
            kinds = [event.kind for event in backend.events._events]
            assert kinds == ["score"] * 3 + ["end"]
        finally:
            stopped.append(1)
            thread.join()
        backend._wait_s = 0.05
        queued = http.post(f"{url}/v1/segments", json=make_post("y", 0))
        assert queued.status_code == 202 and queued.json()["status"] == "queued"
    worker._client.close()
    backend._client.close()
