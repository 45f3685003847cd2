"""What works behind the requests: it is told when it dies, and begins anew."""

import asyncio
import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from contentctr.live.redis.keys import Keys
from contentctr.live.redis.messages import connect
from contentctr.live.service.background import Background, Lag
from contentctr.live.service.batching import Batcher, BusyError
from live_redis import wait_for
from live_service import make_post, running
from redis_server import RedisServer
from redis_service import over_redis, working


def test_work_that_dies_is_logged_and_begins_anew(caplog):
    lives = []

    async def work():
        lives.append(1)
        if len(lives) < 3:
            raise OSError("fault")
        if len(lives) == 3:
            await asyncio.Event().wait()

    async def main():
        task = Background("the work", work, wait_s=0.5)
        assert not task.healthy
        task.start()
        assert task.healthy
        while not task.deaths:
            await asyncio.sleep(0)
        assert not task.healthy and task.deaths == 1
        while len(lives) < 3:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        assert task.healthy and task.deaths == 2
        await task.stop()
        assert not task.healthy

    asyncio.run(main())
    assert [record.getMessage() for record in caplog.records][:1] == [
        "the work died; it begins anew in 0.5 s"
    ]


def test_those_who_wait_are_told_when_the_batches_die(caplog):
    async def main():
        batcher = Batcher(lambda items: items, wait_s=0)
        batcher._batches._first_wait_s = 0.5
        in_time, batcher._in_time = batcher._in_time, None
        batcher.start()
        with pytest.raises(TypeError):
            await batcher.submit(1)
        await asyncio.sleep(0)
        assert not batcher.running
        batcher._in_time = in_time
        while not batcher.running:
            await asyncio.sleep(0.01)
        assert await batcher.submit(2) == 2
        await batcher.stop()

    asyncio.run(main())


def test_while_a_batch_hangs_nobody_waits_for_it(caplog):
    free, done = threading.Event(), []

    def work(items):
        assert "hangs" not in items or free.wait(30)
        return items

    async def main():
        batcher = Batcher(work, wait_s=0, batch_size=1, stuck_s=0.05)
        batcher.start()
        try:
            async with asyncio.timeout(10):
                hung = map(batcher.submit, ("hangs", "waits"))
                asked = batcher.ask(lambda: done.append("asked"))
                found = await asyncio.gather(*hung, asked, return_exceptions=True)
            assert [type(one) for one in found] == [BusyError, BusyError, BusyError]
            assert not batcher.running and not len(batcher)
            with pytest.raises(BusyError):
                await batcher.submit("comes")
            with pytest.raises(BusyError):
                await batcher.ask(lambda: done.append("comes"))
        finally:
            free.set()
        async with asyncio.timeout(10):
            while not batcher.running:
                await asyncio.sleep(0.01)
            assert await batcher.submit("next") == "next"
            assert await batcher.ask(lambda: "told") == "told" and done == ["asked"]
            await batcher.stop()

    asyncio.run(main())
    assert "scoring takes longer than 0.05 s" in caplog.text


def test_a_room_is_ended_in_bounded_time_while_scoring_hangs():
    hangs, free = threading.Event(), threading.Event()
    with running() as (client, backend), ThreadPoolExecutor() as pool:
        plain, backend._batcher._work = backend._batcher._work, lambda items: work(items)
        backend._batcher._stuck_s = 0.3

        def work(items):
            if items[0].segment.room_id == "hangs":
                hangs.set()
                assert free.wait(30)
            return plain(items)

        for room in ("a", "b"):
            assert client.post("/v1/segments", json=make_post(room)).status_code == 200
        try:
            posted = pool.submit(client.post, "/v1/segments", json=make_post("hangs"))
            assert hangs.wait(10)
            ended = pool.submit(client.delete, "/v1/rooms/a").result(10)
            assert ended.status_code == 503 and ended.headers["retry-after"]
            assert posted.result(10).status_code == 503
            assert client.delete("/v1/rooms/b").status_code == 503  # at once, and nothing waits
        finally:
            free.set()
        wait_for(lambda: client.get("/readyz").status_code == 200, 10)
        wait_for(lambda: client.get("/v1/rooms/a").status_code == 404, 10)
        assert client.get("/v1/rooms/b").status_code == 200
        assert client.delete("/v1/rooms/b").status_code == 204


def test_a_dead_sweep_ends_readiness_until_it_sweeps_again(monkeypatch, caplog):
    with running(forget_after_s=0.2) as (client, backend):
        assert client.get("/readyz").status_code == 200
        found, backend.store.idle_since = backend.store.idle_since, None
        backend._sweeper._first_wait_s = 0.3
        wait_for(lambda: client.get("/readyz").status_code == 503, 5)
        backend.store.idle_since = found
        wait_for(lambda: client.get("/readyz").status_code == 200, 5)
        client.post("/v1/segments", json=make_post())
        wait_for(lambda: client.get("/v1/rooms").json()["total"] == 0, 5)


def test_the_delay_of_the_loop_is_measured():
    async def main():
        lag = Lag(every_s=0.01)
        task = asyncio.create_task(lag.watch())
        await asyncio.sleep(0.05)
        time.sleep(0.3)
        await asyncio.sleep(0.05)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert 0.2 < lag.worst < 2.0

    asyncio.run(main())


@pytest.fixture
def redis(tmp_path):
    server = RedisServer(tmp_path / "redis")
    yield server
    server.kill()


@pytest.mark.slow
def test_bad_events_are_passed_over(redis):
    events = Keys().events
    bad = (
        {"room": "x", "data": "{}"},
        {"kind": "score", "data": "{}"},
        {"kind": "score", "room": "x", "data": "{"},
        {"kind": "score", "room": "x", "data": "[" * 100_000},
        {"kind": "score", "room": "x", "data": "5"},
        {"kind": b"\xff", "room": "x", "data": "{}"},
        {"kind": "score", "room": "x", "data": '{"score": NaN}'},
    )
    with working(redis.url), over_redis(redis.url) as (client, backend):
        wait_for(lambda: client.get("/readyz").status_code == 200)
        with connect(redis.url) as commands:
            for fields in bad:
                commands.xadd(events, fields)
        answer = client.post("/v1/segments", json=make_post("a", 0))
        assert answer.status_code == 200 and answer.json()["status"] == "scored"
        assert client.get("/readyz").status_code == 200
        assert f"contentctr_bad_events_total {len(bad)}.0" in client.get("/metrics").text
        assert backend._reader.deaths == 0


@pytest.mark.slow
def test_a_service_is_ready_while_a_worker_lives_and_tells_what_waits(redis):
    with over_redis(redis.url, wait_s=0.1) as (client, _):
        time.sleep(1.5)
        refused = client.get("/readyz")
        assert refused.status_code == 503 and refused.headers["retry-after"]
        answer = client.post("/v1/segments", json=make_post("a", 0))
        assert (answer.status_code, answer.json()["status"]) == (202, "queued")
        wait_for(lambda: told(client, "queued_messages") == 1, 5)
        wait_for(lambda: told(client, "oldest_message_seconds") > 1, 5)
        assert told(client, "queued_bytes") > 50 and told(client, "workers") == 0
        with working(redis.url):
            wait_for(lambda: client.get("/readyz").status_code == 200, 10)
            wait_for(lambda: told(client, "queued_messages") == 0, 10)
            assert told(client, "workers") == 1 and told(client, "rejected_messages") == 0
        wait_for(lambda: client.get("/readyz").status_code == 503, 10)
        redis.kill()
        wait_for(lambda: client.post("/v1/segments", json=make_post()).status_code == 503, 10)
        redis.start()
        wait_for(lambda: client.post("/v1/segments", json=make_post("a", 1)).status_code == 202)


def told(client, name):
    text = client.get("/metrics").text
    return float(text.split(f"\ncontentctr_{name} ")[1].split("\n")[0])
