"""Items of an iterator that a thread in the background makes before they are asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def made_ahead(items: Iterator[T], count: int) -> Iterator[Iterator[T]]:
    """The same items in the same order, up to `count` of them made in advance by one thread.

    On leaving, the thread has ended, whether all items were taken or not. An exception of `items`
    is raised where its item would have been given.

    Args:
        items: only the thread touches it.
        count: 0: none are made in advance, and there is no thread.

    Yields:
        The iterator.
    """
    if not count:
        yield items
        return
    pool = ThreadPoolExecutor(1, "ahead")

    def make() -> tuple[T] | None:
        for item in items:
            return (item,)
        return None

    try:
        waiting = deque(pool.submit(make) for _ in range(count))
        yield _taken(waiting, lambda: pool.submit(make))
    finally:
        pool.shutdown(cancel_futures=True)


def _taken(
    waiting: deque[Future[tuple[T] | None]], submit: Callable[[], Future[tuple[T] | None]]
) -> Iterator[T]:
    while (made := waiting.popleft().result()) is not None:
        waiting.append(submit())
        yield made[0]
