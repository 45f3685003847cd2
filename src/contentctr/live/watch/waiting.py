"""How a watched room is waited for: when it counts as over, and what the user is told meanwhile."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

TOLD_S = 5.0
"""Silence of a file after which the user is told, once, when it will be over."""


class SourceBrokenError(Exception):
    """What is watched broke off: its end cannot be read."""


class Waiting:
    """Patience with what is watched, and when it was last needed.

    Args:
        idle_s: seconds without anything new after which a file is finished.
        poll_s: seconds between two looks.
        stopped: whether to wait for nothing any more.
        report: given each line that the user should see.
    """

    def __init__(
        self,
        *,
        idle_s: float = 60.0,
        poll_s: float = 0.2,
        stopped: Callable[[], object] = lambda: False,
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.idle_s, self.poll_s, self.report = idle_s, poll_s, report
        self._stopped, self._told = stopped, False
        self.why = ""
        """Why the room is over, as far as what is watched says it; for the user."""
        self.last = -math.inf
        """When there was last nothing new; what came before was there already."""

    @property
    def stopped(self) -> bool:
        """Whether the user wants an end."""
        return bool(self._stopped())

    def note(self) -> None:
        """There is nothing new now."""
        self.last = time.monotonic()

    def pause(self) -> None:
        """Wait for a moment, there being nothing new."""
        time.sleep(self.poll_s)
        self.note()

    def until(self, ready: Callable[[], bool]) -> bool:
        """Wait until something is there; False if it has not come for `idle_s`."""
        begin = time.monotonic()
        while not ready():
            silent_s = time.monotonic() - begin
            if silent_s >= self.idle_s or self.stopped:
                self.why = f"nothing new came for {self.idle_s:g} s"
                return False
            if silent_s >= TOLD_S and not self._told:
                self._told = True
                self.report(f"nothing new comes; done after {self.idle_s:g} s of that (--idle)")
            self.pause()
        return True

    def settled(self, moment: float) -> bool:
        """Wait until a moment has passed; False if the user wants an end before."""
        while (rest := moment - time.monotonic()) > 0:
            if self.stopped:
                return False
            time.sleep(min(rest, self.poll_s))
        return True
