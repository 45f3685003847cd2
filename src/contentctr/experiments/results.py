"""Our numbers of a table beside the paper's, and what can be said of their order."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from contentctr.experiments.plan import OURS, Row, Run, Table
from contentctr.experiments.study import Study
from contentctr.files import read_json
from contentctr.metrics import kendall_tau

Verdict = Literal["same", "opposite", "close", "unknown"]
METRICS = ("kendall_tau", "kendall_tau_in_rooms", "mean_ratio")


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Numbers of several seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Their mean; NaN without any."""
        return statistics.fmean(self.values) if self.values else math.nan

    @property
    def deviation(self) -> float:
        """Sample standard deviation (over n - 1); NaN for fewer than two."""
        return statistics.stdev(self.values) if len(self.values) > 1 else math.nan

    @property
    def error(self) -> float:
        """Standard error of the mean; NaN for fewer than two."""
        return self.deviation / math.sqrt(len(self.values)) if self.values else math.nan


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A row with what was measured for it."""

    row: Row
    metrics: Mapping[int, Mapping[str, float | None]]
    """By seed; a seed whose run is missing is not there."""

    def spread(self, name: str) -> Spread:
        """A metric over the seeds at which it is there and defined."""
        found = (block.get(name) for _, block in sorted(self.metrics.items()))
        return Spread(values=tuple(value for value in found if value is not None))


def evaluations(study: Study, run: Run) -> dict[int, dict[str, Any]]:
    """metrics.json of every finished seed of a run."""
    jobs = {seed: study.job(run, seed) for seed in study.seeds}
    return {
        seed: read_json(job.evaluation / "metrics.json")
        for seed, job in jobs.items()
        if job.finished
    }


def measure(study: Study, table: Table) -> list[Measured]:
    """The rows of a table with our numbers, from saved files alone."""
    return [
        Measured(
            row=row,
            metrics={
                seed: {name: found["metrics"][name] for name in METRICS}
                for seed, found in evaluations(study, row.run).items()
            },
        )
        for row in table.rows
    ]


def difference(a: Measured, b: Measured, name: str = "kendall_tau") -> Spread:
    """A - b of a metric, paired over the seeds that both have."""
    pairs = [
        (a.metrics[seed].get(name), b.metrics[seed].get(name))
        for seed in sorted(a.metrics.keys() & b.metrics.keys())
    ]
    return Spread(values=tuple(x - y for x, y in pairs if x is not None and y is not None))


def ours_of(rows: Sequence[Measured]) -> Measured:
    """The row that differences are taken to."""
    return next(row for row in rows if row.row.run == OURS)


def verdict(paper: float, ours: Spread) -> Verdict:
    """Whether our difference has the sign of the paper's.

    Args:
        paper: the paper's difference, not 0.
        ours: the same of ours, paired over seeds.

    Returns:
        `unknown` with fewer than two seeds; `close` where the mean lies within two standard
        errors of 0; else `same` or `opposite`.
    """
    if len(ours.values) < 2:
        return "unknown"
    if abs(ours.mean) <= 2 * ours.error:
        return "close"
    return "same" if (ours.mean > 0) == (paper > 0) else "opposite"


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How the order of our rows goes with the paper's."""

    pairs: Mapping[Verdict, Sequence[tuple[str, str]]]
    """Pairs of labels that the paper orders, the paper's better one first."""
    tau: float
    """Kendall's tau between the paper's numbers and our means; NaN where undefined."""
    rows: int
    """Rows that have both."""


def agreement(rows: Sequence[Measured]) -> Agreement:
    """Compare the order of Kendall's tau in our rows with the paper's."""
    pairs: dict[Verdict, list[tuple[str, str]]] = {
        "same": [], "opposite": [], "close": [], "unknown": [],
    }  # fmt: skip
    numbered = [(m.row.tau, m) for m in rows if m.row.tau is not None]
    for first, second in itertools.combinations(numbered, 2):
        (high, a), (low, b) = (first, second) if first[0] > second[0] else (second, first)
        if high > low:
            pairs[verdict(high - low, difference(a, b))].append((a.row.label, b.row.label))
    both = [(p, m.spread("kendall_tau").mean) for p, m in numbered]
    both = [(p, mean) for p, mean in both if not math.isnan(mean)]
    tau = kendall_tau([p for p, _ in both], [mean for _, mean in both]) if both else math.nan
    return Agreement(pairs=pairs, tau=tau, rows=len(both))
