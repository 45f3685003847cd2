"""Our numbers of a table beside the paper's, and what can be said of their order."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from contentctr.files import read_json
from contentctr.metrics.ctr import kendall_tau
from contentctr.reproduce.rows import Metric, Reference, Row, Run, Table
from contentctr.reproduce.study import Study

Verdict = Literal["same", "opposite", "close", "unknown"]


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

    row: Row | Reference
    metrics: Mapping[int, Mapping[str, float | None]]
    """By seed; a seed whose run is missing is not there."""

    def spread(self, metric: Metric) -> Spread:
        """A metric over the seeds at which it is there and defined."""
        found = (block.get(metric.key) for _, block in sorted(self.metrics.items()))
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
    """The rows of a table with our numbers, from saved files alone.

    References do not depend on the model; they are those of each seed's first finished run. One
    that no run has is left out.
    """
    runs = {row: evaluations(study, row.run) for row in table.trained}
    first: dict[int, dict[str, Any]] = {}
    for found in runs.values():
        first = {**found, **first}
    rows = []
    for row in table.rows:
        if isinstance(row, Row):
            blocks = {
                seed: {**found["metrics"], **_at_the_top(found)}
                for seed, found in runs[row].items()
            }
        else:
            blocks = {
                seed: found["references"][row.name]
                for seed, found in sorted(first.items())
                if row.name in found["references"]
            }
            if not blocks:
                continue
        rows.append(Measured(row=row, metrics=_chosen(blocks, table.metrics)))
    return rows


def _at_the_top(found: Mapping[str, Any]) -> dict[str, Any]:
    """What metrics.json says of the model itself."""
    return {name: found[name] for name in ("parameters",) if name in found}


def _chosen(
    blocks: Mapping[int, Mapping[str, Any]], metrics: Sequence[Metric]
) -> dict[int, dict[str, float | None]]:
    return {
        seed: {metric.key: block.get(metric.key) for metric in metrics}
        for seed, block in blocks.items()
    }


def difference(a: Measured, b: Measured, metric: Metric) -> Spread:
    """A - b of a metric, paired over the seeds that both have."""
    pairs = [
        (a.metrics[seed].get(metric.key), b.metrics[seed].get(metric.key))
        for seed in sorted(a.metrics.keys() & b.metrics.keys())
    ]
    return Spread(values=tuple(x - y for x, y in pairs if x is not None and y is not None))


def ours_of(rows: Sequence[Measured], table: Table) -> Measured:
    """The row that differences are taken to."""
    return next(m for m in rows if isinstance(m.row, Row) and m.row.run == table.task.ours)


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


def agreement(rows: Sequence[Measured], metric: Metric) -> Agreement:
    """Compare the order of our rows in a metric with the paper's, where the paper has them."""
    pairs: dict[Verdict, list[tuple[str, str]]] = {
        "same": [],
        "opposite": [],
        "close": [],
        "unknown": [],
    }
    numbered = [(m.row.paper[metric.key], m) for m in rows if metric.key in m.row.paper]
    for first, second in itertools.combinations(numbered, 2):
        (high, a), (low, b) = (first, second) if first[0] > second[0] else (second, first)
        if high > low:
            pairs[verdict(high - low, difference(a, b, metric))].append((a.row.label, b.row.label))
    both = [(p, m.spread(metric).mean) for p, m in numbered]
    both = [(p, mean) for p, mean in both if not math.isnan(mean)]
    tau = kendall_tau([p for p, _ in both], [mean for _, mean in both]) if both else math.nan
    return Agreement(pairs=pairs, tau=tau, rows=len(both))


def against_floor(
    rows: Sequence[Measured], floor: Measured, metric: Metric
) -> dict[Verdict, list[str]]:
    """Which of the paper's models are above a row ("same") that they must beat, and which not.

    Args:
        rows: of the table.
        floor: the row to beat.
        metric: higher is better.

    Returns:
        Labels by verdict, as for a paper in which each of them is above the floor.
    """
    found: dict[Verdict, list[str]] = {"same": [], "opposite": [], "close": [], "unknown": []}
    for m in rows:
        if metric.key in m.row.paper:
            found[verdict(1.0, difference(m, floor, metric))].append(m.row.label)
    return found
