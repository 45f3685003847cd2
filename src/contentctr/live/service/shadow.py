"""A candidate in the embedded service: it scores what the model scores, and only that is told."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from contentctr.live.agreement import Agreement, agreement_of
from contentctr.live.engine import Engine
from contentctr.live.service.scoring import Run, Scoring
from contentctr.live.service.warm import Warm

LOOK_S = 1.0
"""Seconds between two times that a candidate sees what has come."""


class Shadow:
    """A candidate that is led along for as long as it is one. For the event loop.

    Args:
        engine: the candidate.
        scoring: of the scorer's thread.
        run: does something there.
    """

    def __init__(self, engine: Engine, scoring: Scoring, run: Run) -> None:
        self.warm, self._scoring, self._run = Warm(engine), scoring, run
        self.agreement: Agreement | None = None
        self._one_at_a_time = asyncio.Lock()
        self._over = False

    async def follow(self) -> None:
        """See what comes, until it is over.

        Raises:
            Exception: what the candidate raises.
        """
        thread = ThreadPoolExecutor(1, thread_name_prefix="candidate")
        try:
            while not self._over:
                async with self._one_at_a_time:
                    await self._look(thread)
                await asyncio.sleep(LOOK_S)
        finally:
            thread.shutdown(wait=False, cancel_futures=True)

    async def _look(self, thread: ThreadPoolExecutor) -> None:
        loop, warm = asyncio.get_running_loop(), self.warm
        todo = await self._run(lambda: self._scoring.behind(warm))
        await loop.run_in_executor(thread, warm.lead, todo)
        pairs = await self._run(lambda: self._scoring.compare(warm))
        rooms = [[pair] for pair in pairs]  # only each room's last segment is compared
        found = await loop.run_in_executor(thread, agreement_of, rooms)
        self.agreement = found if rooms else None

    async def end(self) -> Warm:
        """It is a candidate no more; the model, which nobody else leads along from now on."""
        async with self._one_at_a_time:
            self._over = True
        return self.warm
