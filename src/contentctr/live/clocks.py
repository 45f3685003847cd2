"""A clock of Unix seconds on which no time is ever set: ages by it are ages."""

from __future__ import annotations

import time
from collections.abc import Callable

_STEP_S = 1.0
"""What two clocks of one machine differ by less than is no step."""


class SteadyClock:
    """Unix seconds as of its making, and since then what the monotonic clock says.

    Where the wall clock is set, scores grow neither older nor younger by it.

    Args:
        wall: Unix seconds, which may be set.
        monotonic: seconds, which may not.
    """

    def __init__(
        self,
        wall: Callable[[], float] = lambda: time.time(),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._begin = wall() - monotonic()

    def __call__(self) -> float:
        """Now."""
        return self._begin + self._monotonic()

    def of(self, unix_s: float) -> float:
        """A moment by the wall clock as it goes now, on this clock."""
        step_s = self._wall() - self()
        return unix_s - step_s if abs(step_s) > _STEP_S else unix_s
