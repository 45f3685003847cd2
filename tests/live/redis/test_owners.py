"""Owners of rooms in Redis: by no clock that can be set."""

import pytest

from contentctr.live.engine import RoomsFullError
from contentctr.live.redis.owners import RedisOwners
from contentctr.live.service.keys import Caller
from contentctr.live.service.owners import NotOwnerError
from live_redis import KEYS

A, B = Caller(name="a", role="write", rooms=2), Caller(name="b", role="write", rooms=2)
ADMIN = Caller(name="root", role="admin")


@pytest.fixture
def owners(client):
    return RedisOwners(client, KEYS, 60.0)


def jump(client, seconds):
    """Redis' clock jumps: since the last look more, or less, has passed on it."""
    client.hincrbyfloat(KEYS.owners_clock, "wall", -seconds)


def test_rooms_quotas_and_admins(client, owners):
    owners.claim("1", A)
    owners.claim("1", A)
    with pytest.raises(NotOwnerError):
        owners.claim("1", B)
    owners.claim("1", ADMIN)
    with pytest.raises(NotOwnerError):
        owners.require("1", B)
    owners.claim("2", A)
    with pytest.raises(RoomsFullError):
        owners.claim("3", A)
    owners.release("1")
    owners.claim("1", B)
    owners.claim("3", A)
    for room in "123":
        owners.release(room)
    assert not client.exists(KEYS.owners, KEYS.owned_until, "contentctr:owned:a")


@pytest.mark.parametrize("seconds", [3600, -3600, 1e9, -1e9])
def test_a_jump_of_redis_clock_makes_no_room_anothers(client, owners, seconds):
    owners.claim("1", A)
    jump(client, seconds)
    with pytest.raises(NotOwnerError):
        owners.claim("1", B)
    assert client.ttl(KEYS.owners) == -1


def test_owners_of_silent_rooms_are_forgotten(client, owners):
    for room in "12":
        owners.claim(room, A)
    for _ in range(7):  # more than a minute, in steps as the clock takes them
        jump(client, 10.0)
        owners.claim("4", B)
    owners.claim("1", B)
    assert client.hgetall(KEYS.owners) == {b"4": b"b", b"1": b"b"}
    for room in "56":
        owners.claim(room, A)


def test_posts_do_not_move_the_clock_of_rooms(client, owners):
    owners.claim("1", A)  # no worker lives, so none says that rooms are still there
    assert client.exists(KEYS.owners_clock) and not client.exists(KEYS.clock)
