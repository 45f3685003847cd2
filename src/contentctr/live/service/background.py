"""Work behind the requests, which must go on as long as the service does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

_LOG = logging.getLogger("contentctr.service")
_LONGEST_WAIT_S = 30.0


class Background:
    """A task without an end: one that dies is logged, makes this unhealthy, and begins anew.

    Args:
        name: of the work, for the log.
        work: the work; returns only where it is meant to end.
        wait_s: seconds until it begins anew; twice as many after each death in a row.
    """

    def __init__(self, name: str, work: Callable[[], Awaitable[None]], wait_s: float = 1.0) -> None:
        self._name, self._work, self._first_wait_s = name, work, wait_s
        self._task: asyncio.Task[None] | None = None
        self.healthy = False
        self.deaths = 0

    def start(self) -> None:
        """Begin; needs a running event loop."""
        self.healthy = True
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def stop(self) -> None:
        """End it now."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self.healthy = False

    async def join(self) -> None:
        """Wait for the end of work that is told to end."""
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        wait_s, loop = self._first_wait_s, asyncio.get_running_loop()
        while True:
            begun = loop.time()
            try:
                await self._work()
                break
            except Exception:
                self.healthy = False
                self.deaths += 1
                _LOG.exception("%s died; it begins anew in %g s", self._name, wait_s)
            await asyncio.sleep(wait_s)
            lived = loop.time() - begun > 2 * _LONGEST_WAIT_S
            wait_s = self._first_wait_s if lived else min(2 * wait_s, _LONGEST_WAIT_S)
            self.healthy = True
        self.healthy = False


class Lag:
    """How late the event loop comes: what one request takes from all others.

    Args:
        every_s: seconds between two looks.
    """

    def __init__(self, every_s: float = 0.1) -> None:
        self._every_s, self._worst = every_s, [0.0, 0.0]

    @property
    def worst(self) -> float:
        """The longest delay, seconds, of the last ten to twenty seconds."""
        return max(self._worst)

    async def watch(self) -> None:
        """The work of a Background."""
        loop = asyncio.get_running_loop()
        while True:
            end = loop.time() + 10.0
            while (now := loop.time()) < end:
                await asyncio.sleep(self._every_s)
                self._worst[1] = max(self._worst[1], loop.time() - now - self._every_s)
            self._worst = [self._worst[1], 0.0]
