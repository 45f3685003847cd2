"""Which workers live: told by their rows in Redis, which change with every heartbeat."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from contentctr.files import parse_json
from contentctr.live.redis.keys import Keys

_LONGEST_LEASE_S = 3600.0
"""A row that says more is not one of ours."""


@dataclass(frozen=True, kw_only=True)
class LiveWorker:
    """A worker that lives."""

    name: str
    partitions: tuple[int, ...]
    """Those that it has, as of its last heartbeat."""


@dataclass(kw_only=True)
class _Seen:
    row: bytes
    at: float
    """When the row was first seen as it is, on the watcher's clock."""
    lease_s: float
    worker: LiveWorker


class WorkerWatch:
    """Tells living workers from dead ones, for a service's readiness or for other workers.

    A worker lives if its row has changed within its lease, by the monotonic clock of whoever looks:
    no jump of Redis' clock or of any machine's ends a worker, or keeps a dead one alive. At the
    first look every row counts as alive. So look often: each second or so.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, _Seen] = {}

    def look(self, client: Any, keys: Keys) -> list[LiveWorker]:
        """The workers that live now, by what Redis says."""
        return self.note(client.hgetall(keys.workers))

    def note(self, rows: Mapping[bytes, bytes]) -> list[LiveWorker]:
        """The workers that live now, by their rows."""
        now, seen = self._clock(), dict[str, _Seen]()
        for key, row in rows.items():
            name = key.decode(errors="replace")
            before = self._seen.get(name)
            if before is not None and before.row == row:
                seen[name] = before
            elif (found := _read_row(name, row)) is not None:
                seen[name] = _Seen(row=row, at=now, lease_s=found[1], worker=found[0])
        self._seen = seen
        return [one.worker for one in seen.values() if now - one.at <= one.lease_s]

    def dead(self) -> dict[str, bytes]:
        """Rows of workers that have been dead for as long as a lease, as of the last look."""
        now = self._clock()
        return {name: one.row for name, one in self._seen.items() if now - one.at > 2 * one.lease_s}

    def reset(self) -> None:
        """Begin anew: what was not seen while Redis was away is nobody's fault."""
        self._seen.clear()


def row_of(beat: int, lease_s: float, partitions: list[int]) -> str:
    """A worker's row."""
    return json.dumps({"beat": beat, "lease_s": lease_s, "partitions": partitions})


def _read_row(name: str, row: bytes) -> tuple[LiveWorker, float] | None:
    """The worker and its lease in seconds; None where the row is not one of ours."""
    try:
        values = parse_json(row)
        lease_s = float(values["lease_s"])
        partitions = tuple(int(partition) for partition in values["partitions"])
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
    if not 0 < lease_s <= _LONGEST_LEASE_S:
        return None
    return LiveWorker(name=name, partitions=partitions), lease_s
