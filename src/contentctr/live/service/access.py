"""The access log: a line of JSON for a share of all requests, and for every fault."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable

from starlette.types import Scope

from contentctr.printing import say

_PATH = 200
"""Characters of a path that are kept."""


class AccessLog:
    """Writes what was asked for, by whom, and what became of it; never a key or a body.

    Args:
        share: of requests that are written, in [0, 1]; those with a status from 500 on all are,
            unless it is 0.
        write: told each line.
        chance: a number in [0, 1) for each request.
    """

    def __init__(
        self,
        share: float,
        *,
        write: Callable[[str], None] = say,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._share, self._write, self._chance = share, write, chance

    def note(self, scope: Scope, status: int, seconds: float) -> None:
        """One request has been answered."""
        if not self._share or (status < 500 and self._chance() >= self._share):
            return
        caller, client = scope.get("state", {}).get("caller"), scope.get("client")
        line = {
            "time": round(time.time(), 3),
            "client": client[0] if client else "",
            "key": caller.name if caller is not None else None,
            "method": scope["method"],
            "path": scope["path"][:_PATH],
            "status": status,
            "seconds": round(seconds, 4),
            "share": 1.0 if status >= 500 else self._share,
        }
        # In ASCII: nothing of a path can control a terminal, or look like another line.
        self._write(json.dumps(line))
