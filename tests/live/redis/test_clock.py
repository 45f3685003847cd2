"""Services of one Redis agree on the ages of scores, whatever clock is set."""

import pytest

from contentctr.live.redis.clock import RedisClock
from live_redis import KEYS, MODEL


class Stepped:
    """A client of a Redis whose clock was set."""

    def __init__(self, client):
        self._client, self.step_s = client, 0

    def __getattr__(self, name):
        return getattr(self._client, name)

    def time(self):
        seconds, micros = self._client.time()
        return seconds + self.step_s, micros


@pytest.mark.parametrize("step_s", [3600, -3600])
def test_a_service_that_starts_after_a_step_agrees_with_those_before(client, step_s):
    redis = Stepped(client)
    client.set(KEYS.current, MODEL)
    client.zadd(KEYS.ranking, {"x": 0.1})
    first = RedisClock(redis, KEYS)
    seconds, micros = client.time()
    assert abs(first() - (seconds + micros / 1e6)) < 1
    first.look()
    assert client.get(KEYS.clock_step) is None
    redis.step_s = step_s
    first.look()
    # The new one's machine has another time too: only what clients say is read by that.
    second = RedisClock(redis, KEYS, wall=lambda: 77.0)
    assert abs(second() - first()) < 1
    assert abs(second.of(67.0) - (second() - 10)) < 1
    second.look()
    third = RedisClock(redis, KEYS)
    assert abs(third() - first()) < 1
    client.delete(KEYS.ranking)  # no room is live: it is the time that Redis says
    fourth = RedisClock(redis, KEYS)
    assert abs(fourth() - first() - step_s) < 1 and client.get(KEYS.clock_step) is None
    client.zadd(KEYS.ranking, {"x": 0.1})
    client.set(KEYS.clock_step, b"junk")
    assert abs(RedisClock(redis, KEYS)() - fourth()) < 1
