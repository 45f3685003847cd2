"""What is usual in a recording, and how far something rises above it.

Shape suffix: T steps of STEP_S, as in all files of this folder.
"""

from __future__ import annotations

import math

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]

STEP_S = 5.0
"""A row of the rule's curve."""
AROUND = 1
"""Steps on either side that a step's counts look at: 15 s in all, as long as a moment in chat."""
USUAL_S = 1200.0
"""What is usual is the median over so long a time around."""
GREETING_S = 60.0
"""Chats greet and part so long: the median of this time stands for what was before or after."""


def count_steps(duration_s: float) -> int:
    """T of a recording; the last step may end with it."""
    return max(math.ceil(duration_s / STEP_S - 1e-9), 1)


def step_spans(duration_s: float) -> list[tuple[float, float]]:
    """Start and end of each step in seconds."""
    starts = (STEP_S * t for t in range(count_steps(duration_s)))
    return [(start_s, min(start_s + STEP_S, duration_s)) for start_s in starts]


def usual(now_T: Floats, *, greeting: bool = False) -> Floats:
    """The running median, of what there is of USUAL_S around each step.

    Args:
        now_T: finite.
        greeting: whether the first and last GREETING_S go on before and after the recording, so
            that everybody's hello and goodbye are nothing unusual.
    """
    half, edge = round(USUAL_S / STEP_S / 2), round(GREETING_S / STEP_S)
    padded = now_T
    # Of less than three greetings, there is hardly anything between them.
    if greeting and len(now_T) >= 3 * edge:
        before, after = np.median(now_T[:edge]), np.median(now_T[-edge:])
        padded = np.concatenate([np.full(half, before), now_T, np.full(half, after)])
    series = pl.Series(padded, dtype=pl.Float64)
    found = series.rolling_median(2 * half + 1, min_samples=1, center=True).to_numpy()
    start = (len(padded) - len(now_T)) // 2
    return np.asarray(found[start : start + len(now_T)], np.float64)


def rise(now_T: Floats, usual_T: Floats, enough: float) -> Floats:
    """How far counts rise above what is usual, in [0, 1): 1 - (usual + enough) / (now + enough).

    Without `enough`, twice the usual is 1/2 and four times 3/4; with it, small counts say little.

    Args:
        now_T: counts, 0 or more.
        usual_T: of `usual`.
        enough: a count that says something.
    """
    return np.maximum(1 - (usual_T + enough) / (now_T + enough), 0.0)
