"""Sums over the last hour and the last day, in memory that does not grow. No I/O."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HOUR_S, DAY_S = 3600.0, 86_400.0
SPANS = {"hour": HOUR_S, "day": DAY_S}
"""What is told of, by name."""
_BUCKET_S = 600.0
_KEPT = int(DAY_S / _BUCKET_S)


class Rolling:
    """Vectors of one width that are summed by the time at which they came.

    The last hour is its last six buckets of ten minutes, so it is 50 to 60 minutes long.

    Args:
        width: numbers of a vector.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._buckets: dict[int, Floats] = {}
        self._newest = 0

    def add(self, values: Floats, now: float) -> None:
        """Add a vector.

        Args:
            values: [width].
            now: Unix seconds; before an earlier call's (a clock was set back) it counts as that.
        """
        bucket = max(int(now // _BUCKET_S), self._newest)
        if bucket > self._newest:
            self._newest = bucket
            self._buckets = {k: x for k, x in self._buckets.items() if k > bucket - _KEPT}
        self._buckets.setdefault(bucket, np.zeros(self._width))[:] += values

    def total(self, span_s: float, now: float) -> Floats:
        """The sum of what came in the last `span_s` seconds, [width]."""
        newest = max(int(now // _BUCKET_S), self._newest)
        first = newest - round(span_s / _BUCKET_S) + 1
        rows = [x for k, x in self._buckets.items() if k >= first]
        return np.sum(rows, axis=0) if rows else np.zeros(self._width)
