"""One clock of all services on a Redis: the ages of scores are the same, whichever is asked."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError

from contentctr.live.clocks import SteadyClock
from contentctr.live.redis.keys import Keys

_STEP_S = 1.0
"""What an answer may be late by is no step of Redis' clock."""


class RedisClock(SteadyClock):
    """Unix seconds as Redis has them, without the steps by which its clock was set since.

    A clock of each process's own goes on from the wall clock at its start: one that was started
    after a step would find the scores that came by another's an hour old. Services that run see a
    step and note it in Redis, and one that starts leaves it out too, as long as rooms are live.

    Args:
        client: of `connect`.
        keys: names of the keys.
        wall: this machine's Unix seconds, which clients are believed to have.
        monotonic: seconds.
    """

    def __init__(
        self,
        client: Any,
        keys: Keys,
        *,
        wall: Callable[[], float] = lambda: time.time(),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(wall, monotonic)
        self._client, self._keys = client, keys
        model = (client.get(keys.current) or b"").decode(errors="replace")
        if model and client.exists(keys.of(model).ranking):
            self._step_s = _number(client.get(keys.clock_step))
        else:  # no score is there whose age could jump
            self._step_s = 0.0
            client.delete(keys.clock_step)
        self._begin = self._redis_s() - self._step_s - monotonic()

    def look(self) -> None:
        """Note a step of Redis' clock, for those that start after it."""
        step_s = self._redis_s() - self()
        if abs(step_s - self._step_s) > _STEP_S:
            with suppress(RedisError):  # it is full: tried again at the next look
                self._client.set(self._keys.clock_step, repr(step_s))
                self._step_s = step_s

    def _redis_s(self) -> float:
        seconds, micros = self._client.time()
        return float(seconds + micros / 1e6)


def _number(value: bytes | None) -> float:
    try:
        return float(value or 0)
    except ValueError:
        return 0.0
