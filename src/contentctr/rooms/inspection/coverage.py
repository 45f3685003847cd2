"""Where in time something is there, as spans or as counts, in cells of equal length."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from contentctr.rooms.inspection.facts import Floats, Inspection

_NARROW_S = 5.0
_MARGIN = 0.25
"""Rows further outside of the room than this share of it do not stretch the picture of it."""


class Spans:
    """Stretches of time, put together from pieces that come in order but for some disorder.

    Args:
        gap_s: the longest pause that parts no two pieces.
    """

    def __init__(self, gap_s: float) -> None:
        self.found: list[tuple[float, float]] = []
        self._gap_s = gap_s

    def add(self, start_s: float, end_s: float) -> None:
        """Take a piece."""
        if self.found and start_s <= self.found[-1][1] + self._gap_s:
            first_s, last_s = self.found[-1]
            self.found[-1] = min(first_s, start_s), max(last_s, end_s)
        else:
            self.found.append((start_s, end_s))


def without(
    spans: Iterable[tuple[float, float]], holes: Iterable[tuple[float, float]]
) -> list[tuple[float, float]]:
    """The spans, less the holes."""
    left = list(spans)
    for begin_s, end_s in holes:
        left = [
            (a, b)
            for start, stop in left
            for a, b in ((start, min(stop, begin_s)), (max(start, end_s), stop))
            if b > a
        ]
    return left


def time_range(found: Inspection) -> tuple[float, float]:
    """From when to when a picture of the room goes: all of it, and rows a little outside.

    Where no length is known, from the first row (or 0) to the last.
    """
    spans = [part.span_s for part in found.parts]
    firsts = [span[0] for span in spans if span is not None]
    lasts = [span[1] for span in spans if span is not None]
    length_s = found.duration_s
    if length_s is None:
        last_s = max(lasts, default=1.0)
        first_s = min(firsts, default=0.0)
        # A log by itself may begin hours after the start that it counts from.
        first_s = first_s if first_s < 0 or first_s > (last_s - first_s) else 0.0
        return first_s, max(last_s, first_s + 1.0)
    begin_s = max(min([0.0, *firsts]), -_MARGIN * length_s)
    return begin_s, min(max([length_s, *lasts]), (1 + _MARGIN) * length_s)


def span_cells(
    spans: Iterable[tuple[float, float]], begin_s: float, end_s: float, cells: int
) -> Floats:
    """The share of each cell that spans cover, in [0, 1]; shape (cells,)."""
    edges = np.linspace(begin_s, end_s, cells + 1)
    pairs = np.array(list(spans), dtype=np.float64).reshape(-1, 2)
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    covered = np.zeros(cells + 1)
    # Overlaps count once: what was covered up to each edge, by spans cut to what is new in them.
    reached = np.concatenate(([-np.inf], np.maximum.accumulate(pairs[:, 1])))[:-1]
    starts = np.maximum(pairs[:, 0], reached)
    for start, stop in zip(starts, pairs[:, 1], strict=True):
        if stop > start:
            covered += np.clip(edges, start, stop) - start
    return np.clip(np.diff(covered) / np.maximum(np.diff(edges), 1e-9), 0.0, 1.0)


def count_cells(times_s: Floats, begin_s: float, end_s: float, cells: int) -> Floats:
    """How many times lie in each cell; shape (cells,).

    Narrow cells share theirs with their neighbours: whole seconds would beat against them.
    """
    counts, _ = np.histogram(times_s, bins=cells, range=(begin_s, end_s))
    if (end_s - begin_s) / cells >= _NARROW_S:
        return counts.astype(np.float64)
    padded = np.pad(counts.astype(np.float64), 1, mode="edge")
    return np.asarray(padded[:-2] / 4 + padded[1:-1] / 2 + padded[2:] / 4)
