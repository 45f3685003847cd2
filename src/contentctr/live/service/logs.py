"""The process' log: a line that comes again and again is counted, not written."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable

LOGGERS = ("uvicorn.error", "asyncio", "contentctr.service")
"""Whose lines others can cause, as often as they like."""


class Repeats(logging.Filter):
    """Lets a line through once in `every_s`; the next one says how many were not written.

    Args:
        every_s: seconds.
        kinds: different lines that are remembered.
        clock: seconds.
    """

    def __init__(
        self,
        every_s: float = 10.0,
        *,
        kinds: int = 200,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.unwritten = 0
        """Lines that were counted only."""
        self._every_s, self._kinds, self._clock = every_s, kinds, clock
        self._seen: OrderedDict[tuple[object, ...], tuple[float, int]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging."""
        key, now = _kind(record), self._clock()
        then, count = self._seen.get(key, (now - self._every_s, 0))
        if now - then < self._every_s:
            self._seen[key] = (then, count + 1)
            self.unwritten += 1
            return False
        if count:
            record.msg = f"{record.getMessage().rstrip()} ({count} more such lines since the last)"
            record.args = None
        self._seen[key] = (now, 0)
        self._seen.move_to_end(key)
        if len(self._seen) > self._kinds:
            self._seen.popitem(last=False)
        return True


def count_repeats() -> Repeats:
    """One filter of the service's loggers, in place of an earlier server's."""
    found = Repeats()
    for name in LOGGERS:
        logger = logging.getLogger(name)
        for old in [f for f in logger.filters if isinstance(f, Repeats)]:
            logger.removeFilter(old)
        logger.addFilter(found)
    return found


def _kind(record: logging.LogRecord) -> tuple[object, ...]:
    """What lines have in common that say the same: not the numbers and names in them."""
    place: tuple[object, ...] = ()
    if record.exc_info and record.exc_info[1] is not None:
        error, trace = record.exc_info[1], record.exc_info[2]
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = (type(error), None if trace is None else trace.tb_lineno)
    return (record.name, record.levelno, str(record.msg).partition("\n")[0][:200], *place)
