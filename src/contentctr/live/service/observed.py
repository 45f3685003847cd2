"""What came back, behind the service: joined with predictions, counted once, told to Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

from prometheus_client import Counter

from contentctr.live.engine import Engine
from contentctr.live.exposition import TOO_FAR, DriftCollector, OutcomeCollector
from contentctr.live.known_rooms import LiveRoom
from contentctr.live.outcomes import (
    Joined,
    LateCounts,
    ModelOutcomes,
    Outcome,
    OutcomeLog,
    join,
    late_counts,
)
from contentctr.live.service.metrics import Metrics

_SUMMARY_S = 10.0
"""Seconds for which a summary is told to all who ask: tau of thousands of outcomes takes long."""
STATUSES = ("taken", "repeated", "unknown", "empty")
"""What becomes of a posted outcome (Observed.sort)."""
FOR_STATISTICS = "for_statistics"
"""Beside these: how many have counts that wait for their room's next segment."""
Summary = dict[str, dict[str, ModelOutcomes]]


@dataclass(frozen=True)
class Sorted:
    """What becomes of posted outcomes."""

    new: list[Joined]
    """Those that are new, with their predictions."""
    late: list[LateCounts]
    """What the statistics of their rooms get."""
    counts: dict[str, int]
    """How many became what."""


class Observed:
    """The outcomes of one service; what a backend keeps and fills. For any number of threads.

    Args:
        metrics: told of what comes.
        horizon: from the segment of a score to the one that it predicts.
        clock: Unix seconds.
    """

    def __init__(
        self, metrics: Metrics, horizon: int, clock: Callable[[], float] = time.time
    ) -> None:
        self.log = OutcomeLog()
        self._horizon, self._clock = horizon, clock
        self._metrics, self._lock = metrics, Lock()
        self._summary: Summary = {}
        self._until = 0.0
        self._counts = Counter(
            "contentctr_outcomes",
            "Outcomes posted to this service, by what became of them.",
            ["status"],
            registry=metrics.registry,
        )
        for status in STATUSES:
            self._counts.labels(status)  # at 0: an increase from nothing would be none
        metrics.registry.register(OutcomeCollector(self.summary))

    def watch_drift(self, engine: Callable[[], Engine]) -> None:
        """Tell of the segments that an engine scores, too; of whichever it is then."""
        self._metrics.registry.register(DriftCollector(engine))

    def sort(self, outcomes: Sequence[Outcome], rooms: Mapping[str, Sequence[LiveRoom]]) -> Sorted:
        """Find what is new, and what became of all.

        Args:
            outcomes: as they were posted.
            rooms: the live ones of theirs, each as the model that serves has scored it, then as
                others have.

        Returns:
            What is new; and counts by status: "taken"; "repeated", known before; "unknown", where
            there is no score of the segment; "empty", without a viewer. Beside these, under
            FOR_STATISTICS, how many have counts for their room: also of the last two. Those too far
            from its last segment for that are counted by the metrics.
        """
        counts = dict.fromkeys(STATUSES, 0)
        new: dict[tuple[str, int], Joined] = {}
        late: dict[tuple[str, int], LateCounts] = {}
        for outcome in outcomes:
            its_rooms = rooms.get(outcome.room_id, ())
            joined = join(its_rooms, outcome, self._horizon)
            key = (outcome.room_id, outcome.target_index)
            if not outcome.weight:
                status = "empty"
            elif joined is None:
                status = "unknown"
            elif key in new or self.log.came(joined):
                status = "repeated"
            else:
                status, new[key] = "taken", joined
            counts[status] += 1
            if status != "repeated" and outcome.counts and its_rooms:
                if (told := late_counts(its_rooms, outcome)) is None:
                    self._metrics.late_counts.labels(TOO_FAR).inc()
                else:
                    late.setdefault(key, told)
        for status, count in counts.items():
            self._counts.labels(status).inc(count)
        counts[FOR_STATISTICS] = len(late)
        return Sorted(list(new.values()), list(late.values()), counts)

    def summary(self) -> Summary:
        """What is known, by model and span, of some seconds ago at most."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._summary = self.log.summary(self._clock())
                self._until = time.monotonic() + _SUMMARY_S
            return self._summary
