"""Requests that wait are computed together, by one thread that owns the model."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from contentctr.live.service.background import Background

In = TypeVar("In")
Out = TypeVar("Out")
T = TypeVar("T")
_LOG = logging.getLogger("contentctr.service")


class BusyError(Exception):
    """As much waits as may wait; or no more is accepted, as the service ends."""


@dataclass(frozen=True)
class _Waiting(Generic[In, Out]):
    item: In
    future: asyncio.Future[Out]
    since: float


class Batcher(Generic[In, Out]):
    """A bounded queue in front of `work`, which gets what has come meanwhile.

    A batch begins with the first item that waits, and is closed when it is full or `wait_s` later;
    while one is computed the next gathers, so under load batches are large without any wait.

    Args:
        work: computes items, in a thread of its own; an exception among what it returns is the
            outcome of that item alone. One that it raises is the outcome of all.
        batch_size: weight of the items computed at once, which one item alone may exceed.
        weigh: an item's weight: about how long it takes, in the time of a small one.
        wait_s: seconds that a batch stays open for more.
        queue_size: items that wait at most; one more is refused.
        max_wait_s: an item that has waited longer is refused instead of computed: its client is
            told in bounded time, and may have given up.
        stuck_s: once a batch takes longer, all who wait are refused, and more is accepted only
            when it is done: a thread that hangs must hold no client, nor seem ready.
        deliver: told of every batch's items and outcomes, in the loop's thread, before those who
            wait are; also of items whose client has gone.
    """

    def __init__(
        self,
        work: Callable[[list[In]], Sequence[Out | Exception]],
        *,
        batch_size: int = 64,
        weigh: Callable[[In], int] = lambda item: 1,
        wait_s: float = 0.002,
        queue_size: int = 512,
        max_wait_s: float = 10.0,
        stuck_s: float = 60.0,
        deliver: Callable[[list[In], Sequence[Out | Exception]], None] | None = None,
    ) -> None:
        self._work, self._deliver = work, deliver
        self._batch_size, self._weigh, self._wait_s = batch_size, weigh, wait_s
        self._queue: asyncio.Queue[_Waiting[In, Out] | None] = asyncio.Queue()
        self._queue_size, self._max_wait_s = queue_size, max_wait_s
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scorer")
        self._batches = Background("scoring", self._run)
        self._open, self._stuck_s, self._stuck = False, stuck_s, False

    def __len__(self) -> int:
        """Items that wait."""
        return self._queue.qsize()

    @property
    def full(self) -> bool:
        """Whether one more would be refused."""
        return len(self) >= self._queue_size

    @property
    def running(self) -> bool:
        """Whether items are accepted and computed."""
        return self._open and self._batches.healthy and not self._stuck

    def start(self) -> None:
        """Accept items; needs a running event loop."""
        self._batches.start()
        self._open = True

    async def stop(self, last: Callable[[], Any] = lambda: None) -> None:
        """Accept no more, and finish what was accepted; `last` is what the thread does then."""
        self._open = False
        self._queue.put_nowait(None)
        await self._batches.join()
        await self.run(last)
        self._thread.shutdown()

    async def submit(self, item: In) -> Out:
        """Wait for the item's outcome.

        Raises:
            BusyError: it was not accepted.
        """
        if not self.running:
            raise BusyError("the service is not accepting segments now")
        if self.full:
            raise BusyError(f"{self._queue_size} segments wait already")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Out] = loop.create_future()
        self._queue.put_nowait(_Waiting(item, future, loop.time()))
        return await future

    async def run(self, work: Callable[[], T]) -> T:
        """Something else in the thread that owns the model, between two batches."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def ask(self, work: Callable[[], T]) -> T:
        """As `run`, for a client, who waits as in `answer`."""
        return await self.answer(lambda: self.run(work))

    async def answer(self, work: Callable[[], Awaitable[T]]) -> T:
        """What takes the thread, for a client, who waits no longer than for a batch.

        It may be done behind that, but then whole.

        Raises:
            BusyError: nothing is accepted now, or the batch before takes too long.
        """
        if not self.running:
            raise BusyError("the service is not accepting anything now")
        try:
            return await asyncio.wait_for(asyncio.shield(work()), self._stuck_s)
        except TimeoutError:
            raise BusyError(f"scoring takes longer than {self._stuck_s:g} s") from None

    async def _run(self) -> None:
        while (first := await self._queue.get()) is not None:
            batch = [first]
            try:
                await self._gather(batch)
                batch = self._in_time(batch)
                if batch:
                    await self._compute(batch)
            except Exception as error:  # whoever waits is told, before this begins anew
                for waiting in batch:
                    if not waiting.future.done():
                        waiting.future.set_exception(error)
                raise

    async def _compute(self, batch: list[_Waiting[In, Out]]) -> None:
        items = [waiting.item for waiting in batch]
        outcomes: Sequence[Out | Exception]
        loop = asyncio.get_running_loop()
        alarm = loop.call_later(self._stuck_s, self._refuse_all, batch)
        try:
            outcomes = await loop.run_in_executor(self._thread, self._work, items)
            if self._deliver is not None:
                self._deliver(items, outcomes)
        except Exception as error:  # a fault of ours: the next batch may do better
            outcomes = [error] * len(batch)
        finally:
            alarm.cancel()
            self._stuck = False
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if waiting.future.done():  # its client has gone
                continue
            if isinstance(outcome, Exception):
                waiting.future.set_exception(outcome)
            else:
                waiting.future.set_result(outcome)

    def _refuse_all(self, batch: list[_Waiting[In, Out]]) -> None:
        """The batch is not done in time: its items may have an outcome yet, but nobody waits."""
        if not self._open:  # what was accepted is finished, however long it takes
            return
        self._stuck = True
        late = list(batch)
        while not self._queue.empty():
            if (waiting := self._queue.get_nowait()) is not None:
                late.append(waiting)
        reason = f"scoring takes longer than {self._stuck_s:g} s"
        _LOG.error("%s: segments are refused until it goes on", reason)
        for waiting in late:
            if not waiting.future.done():
                waiting.future.set_exception(BusyError(reason))

    def _in_time(self, batch: list[_Waiting[In, Out]]) -> list[_Waiting[In, Out]]:
        """The batch without what has waited too long, which is refused; not once it all ends."""
        limit = asyncio.get_running_loop().time() - self._max_wait_s
        late = [waiting for waiting in batch if self._open and waiting.since < limit]
        for waiting in late:
            if not waiting.future.done():
                waiting.future.set_exception(
                    BusyError(f"it has waited for {self._max_wait_s:g} s in vain")
                )
        return [waiting for waiting in batch if waiting not in late]

    async def _gather(self, batch: list[_Waiting[In, Out]]) -> None:
        """Add to the batch's first item what waits already, or comes in a moment."""
        weight = self._weigh(batch[0].item)
        if self._queue.empty() and self._wait_s:
            await asyncio.sleep(self._wait_s)
        while weight < self._batch_size and not self._queue.empty():
            waiting = self._queue.get_nowait()
            if waiting is None:  # the end is near: it stays in the queue
                self._queue.put_nowait(None)
                break
            batch.append(waiting)
            weight += self._weigh(waiting.item)
