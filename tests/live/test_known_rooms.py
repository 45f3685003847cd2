"""Both stores of live rooms hold the same, by the same calls."""

import pytest

from contentctr.errors import InputError
from contentctr.live.known_rooms import (
    COMMENTS_KEPT,
    CURVE_KEPT,
    MemoryStore,
    NewScore,
    Shown,
    with_points_before,
    with_score,
)
from contentctr.live.ranking import RankSettings
from contentctr.live.redis.keys import Keys
from contentctr.live.redis.messages import connect, partition_of, settle_partitions
from contentctr.live.redis.store import RedisStore, end_commands, score_commands
from contentctr.live.shares import SegmentShares, Shares
from contentctr.live.standing import Standing
from redis_server import RedisServer

SHARES = SegmentShares(
    first=Shares(visual=0.5, text=0.3, latent=0.2), last=Shares(visual=0.1, text=0.2, latent=0.7)
)


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory):
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server.url
    server.kill()


class InMemory(MemoryStore):
    """MemoryStore, filled as a service fills it."""

    def put(self, new, now):
        room = with_score(self.room(new.room_id), new)
        self.keep(room, new.shown.thumbnail, now)
        return room


class OnRedis:
    """RedisStore, filled as a worker fills it."""

    def __init__(self, url):
        self.client, self.keys = connect(url), Keys("test", "m")
        self.client.flushall()
        self.client.set(self.keys.current, "m")
        self.store = RedisStore(self.client, self.keys, settle_partitions(self.client, self.keys))

    def __getattr__(self, name):
        return getattr(self.store, name)

    def _do(self, commands):
        for command in commands:
            self.client.execute_command(*command)

    def put(self, new, now):
        room = with_score(self.store.room(new.room_id), new)
        self._do(score_commands(self.keys, room, now, {}, thumbnail=new.shown.thumbnail))
        return room

    def end(self, room_id):
        there = self.store.end(room_id)
        self._do(end_commands(self.keys, room_id))
        return there


@pytest.fixture(params=["memory", "redis"])
def store(request):
    if request.param == "memory":
        yield InMemory()
        return
    found = OnRedis(request.getfixturevalue("redis_url"))
    yield found
    found.client.close()


def new(room="x", index=0, score=0.125, ended_at=100.0, **shown):
    return NewScore(
        room_id=room,
        streamer_id="a",
        index=index,
        target_index=index + 1,
        score=score,
        shares=SHARES,
        shown=Shown(ended_at=ended_at, **shown),
    )


def test_a_room_is_what_its_segments_said(store):
    assert store.room("x") is None and store.thumbnail("x") is None
    store.put(new(title="T", comments=("one", "two"), thumbnail=b"\x00\xff"), 1.0)
    put = store.put(new(index=2, score=1 / 3, ended_at=160.5, comments=("three",)), 2.0)
    room = store.room("x")
    assert room == put
    assert (room.title, room.comments) == ("T", ("one", "two", "three"))
    assert (room.index, room.target_index, room.score, room.ended_at) == (2, 3, 1 / 3, 160.5)
    assert (room.thumbnail_index, store.thumbnail("x")) == (0, b"\x00\xff")
    assert room.curve == ((0, 0.125), (2, 1 / 3)) and room.shares == SHARES


def test_curves_and_comments_are_bounded(store):
    for index in range(CURVE_KEPT + 5):
        store.put(new(index=index, score=index / 1000, comments=(str(index),)), 1.0)
    room = store.room("x")
    assert room.curve == tuple((k, k / 1000) for k in range(5, CURVE_KEPT + 5))
    assert len(room.comments) == COMMENTS_KEPT and room.comments[-1] == str(CURVE_KEPT + 4)


def test_scores_of_some_and_of_all(store):
    for room, score in (("x", 0.1), ("y", 1 / 3), ("z", 0.2)):
        store.put(new(room, score=score), 1.0)
    assert {r: s.score for r, s in store.scores().items()} == {"x": 0.1, "y": 1 / 3, "z": 0.2}
    assert store.scores(["y", "none"]).keys() == {"y"} and store.scores([]) == {}
    places = Standing(store.scores(), RankSettings()).page(0, 9, 110.0)
    assert [p.room_id for p in places] == ["y", "z", "x"]


def test_rooms_that_end_are_forgotten(store):
    store.put(new(thumbnail=b"p"), 1.0)
    store.put(new("y"), 1.0)
    assert store.end("x") and not store.end("x")
    assert store.room("x") is None and store.thumbnail("x") is None
    assert store.scores().keys() == {"y"}


def test_idle_rooms(redis_url):
    memory, redis = InMemory(), OnRedis(redis_url)
    for store in (memory, redis):
        for room, now in (("x", 1.0), ("y", 2.0), ("z", 3.0), ("x", 4.0)):
            store.put(new(room, thumbnail=b"p"), now)
    assert memory.idle_since(3.0) == ["y"] and set(memory.idle_since(5.0)) == {"x", "y", "z"}
    assert redis.forget_idle(3.0) == 1 and redis.scores().keys() == {"x", "z"}
    assert redis.forget_idle(5.0) == 2
    left = {key.decode() for key in redis.client.scan_iter()}
    assert left == {"test:partitions", "test:events", "test:current"}
    redis.client.close()


def test_partitions_are_settled_once(redis_url):
    with connect(redis_url) as client:
        client.flushall()
        keys = Keys("p")
        assert settle_partitions(client, keys, 8) == settle_partitions(client, keys) == 8
        with pytest.raises(InputError, match="partitions must be 8"):
            settle_partitions(client, keys, 9)
    assert [partition_of(f"room{k}", 8) for k in range(4)] == [3, 0, 7, 0]
    with pytest.raises(InputError, match="must be a Redis URL"):
        connect("http://x")


def test_a_model_that_begins_a_room_keeps_the_points_of_the_one_before():
    def scored(model, indices, run=""):
        room = None
        for index in indices:
            new = NewScore(
                room_id="x",
                streamer_id="a",
                index=index,
                target_index=index,
                score=index / 1000,
                shares=None,
                shown=Shown(ended_at=1.0),
                run=run,
                model=model,
            )
            room = with_score(room, new)
        return room

    begun = scored("new", [5])
    room = with_points_before(begun, scored("old", range(7)))  # which is further by now
    assert [index for index, _ in room.curve] == [*range(6)] and room.score == begun.score
    assert room.models == ((0, "old"), (5, "new")) and room.model == "new"
    assert [room.model_of(index) for index in (4, 5)] == ["old", "new"]
    for other in (None, scored("old", [5, 6]), scored("old", range(5), run="another stream")):
        assert with_points_before(begun, other) is begun
    long = with_points_before(scored("new", [CURVE_KEPT + 9]), scored("old", range(CURVE_KEPT + 9)))
    assert len(long.curve) == CURVE_KEPT and long.curve[-1][0] == CURVE_KEPT + 9
