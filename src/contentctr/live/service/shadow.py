"""A candidate in the embedded service: it scores what the model scores, and only that is told."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from contentctr.live.engine import Engine
from contentctr.live.service.scoring import Run, Scoring
from contentctr.live.service.warm import Warm

LOOK_S = 1.0
"""Seconds between two times that a candidate sees what has come."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Scores of two models for the rooms' last segments."""

    rooms: int
    """That both have scored."""
    segments: int
    """As many: only each room's last one is compared."""
    tau: float | None
    """Kendall's, between the two rankings; None: fewer than two rooms, or all scores are equal."""
    mean: float
    """Absolute difference of two scores, on average."""
    largest: float


def agreement(pairs: Sequence[tuple[float, float]]) -> Agreement | None:
    """How far two models agree; None where there is nothing to compare.

    Args:
        pairs: score of one and of the other, of each room.
    """
    if not pairs:
        return None
    # SciPy's statistics are slow to load, and needed only where there is a candidate.
    from contentctr.metrics.ctr import kendall_tau

    gaps = [abs(one - other) for one, other in pairs]
    tau = kendall_tau(*zip(*pairs, strict=True)) if len(pairs) > 1 else math.nan
    return Agreement(
        rooms=len(pairs),
        segments=len(pairs),
        tau=None if math.isnan(tau) else tau,
        mean=sum(gaps) / len(gaps),
        largest=max(gaps),
    )


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
        compare: Callable[[Sequence[tuple[float, float]]], Agreement | None] = agreement
        self.agreement = await loop.run_in_executor(thread, compare, pairs)

    async def end(self) -> Warm:
        """It is a candidate no more; the model, which nobody else leads along from now on."""
        async with self._one_at_a_time:
            self._over = True
        return self.warm
