"""Intervals over rooms, and a page in Markdown.

A number is told with its standard error over rooms and a 95 % interval: rooms are drawn with
replacement, 10,000 times, since a room's segments are no independent samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contentctr.files import atomic
from contentctr.metrics.ctr import kendall_tau

Floats = NDArray[np.float64]
DRAWS = 10_000
LEAST_ROOMS = 5


@dataclass(frozen=True)
class Told:
    """A mean over rooms, and how sure it is."""

    mean: float
    error: float
    """Standard error over rooms."""
    low: float
    high: float
    rooms: int

    def __str__(self) -> str:
        if self.rooms < LEAST_ROOMS:
            return f"{self.mean:.3f} ({self.rooms} rooms: no interval)"
        return f"{self.mean:.3f} ± {self.error:.3f} ({self.low:.3f} to {self.high:.3f})"

    @property
    def signed(self) -> str:
        """As a difference."""
        return f"{self.mean:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


def over_rooms(values_G: Sequence[float] | Floats) -> Told:
    """The mean of one number a room; rooms where it is undefined are left out."""
    known = np.asarray(values_G, dtype=float)
    known = known[~np.isnan(known)]
    if not len(known):
        return Told(np.nan, np.nan, np.nan, np.nan, 0)
    drawn = np.random.default_rng(0).integers(0, len(known), (DRAWS, len(known)))
    low, high = np.quantile(known[drawn].mean(1), (0.025, 0.975)).tolist()
    error = float(known.std(ddof=1) / np.sqrt(len(known))) if len(known) > 1 else np.nan
    return Told(float(known.mean()), error, low, high, len(known))


def by_room(
    table: pl.DataFrame, score: str, measure: Callable[[Floats, Floats], float], target: str
) -> Floats:
    """A number for each room, in the order of the rooms' ids.

    Args:
        table: room_id, the score and the target; rows where one is null are left out.
        score: name of its column.
        measure: from scores and targets of a room.
        target: name of its column.
    """
    values = []
    for _, room in table.sort("room_id", maintain_order=True).group_by(
        "room_id", maintain_order=True
    ):
        known = room.select(
            scored=pl.col(score).cast(pl.Float64), wanted=pl.col(target).cast(pl.Float64)
        ).drop_nulls()
        values.append(measure(known["scored"].to_numpy(), known["wanted"].to_numpy()))
    return np.array(values)


def tau_in_rooms(table: pl.DataFrame, score: str, target: str = "target") -> Floats:
    """Kendall's tau inside each room."""
    return by_room(table, score, kendall_tau, target)


class Page:
    """A page in Markdown, written whole each time something is added, so that a look is possible.

    Args:
        path: of the page.
        title: its head.
    """

    def __init__(self, path: Path, title: str) -> None:
        self.path, self._parts = path, [f"# {title}"]

    def add(self, text: str) -> None:
        """A paragraph or a heading."""
        self._parts.append(text)
        with atomic(self.path) as temporary:
            temporary.write_text("\n\n".join(self._parts) + "\n", encoding="utf-8")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table."""
        lines = [head, ["---"] * len(head), *rows]
        self.add("\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines))
