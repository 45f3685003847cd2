"""Kernels of Kendall's tau-b (Eq. 15), in numba; metrics.py is their face."""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

from contentctr.models.kernels import kernel

Floats = NDArray[np.float64]

_INSERTION_LENGTH = 24
"""Below this length insertion sort beats further merging."""


@kernel()
def tau_of_sorted(x_M: Floats, y_M: Floats) -> float:
    """Tau-b where x_M rises (ties in any order), NaN where undefined; sorts y_M in place."""
    n = len(x_M)
    total = n * (n - 1) // 2
    tied_x = tied_both = start = 0
    for i in range(1, n + 1):
        if i == n or x_M[i] != x_M[start]:
            if i - start > 1:
                # Inside a tie of x, rising y makes no inversion: such pairs are not discordant.
                y_M[start:i].sort()
                tied_x += (i - start) * (i - start - 1) // 2
                tied_both += _tied_pairs(y_M[start:i])
            start = i
    discordant = _sort_and_count(y_M, np.empty(n), 0, n)
    tied_y = _tied_pairs(y_M)
    if tied_x == total or tied_y == total:
        return np.nan
    difference = total - tied_x - tied_y + tied_both - 2 * discordant
    tau = difference / math.sqrt(total - tied_x) / math.sqrt(total - tied_y)
    return min(1.0, max(-1.0, tau))


@kernel()
def _tied_pairs(sorted_M: Floats) -> int:
    pairs = run = 0
    for i in range(1, len(sorted_M)):
        run = run + 1 if sorted_M[i] == sorted_M[i - 1] else 0
        pairs += run
    return pairs


@kernel("i8(f8[::1], f8[::1], i8, i8)")
def _sort_and_count(y_M: Floats, spare_M: Floats, low: int, high: int) -> int:
    """Sort y_M[low:high] in place; the number of its inversions (an earlier one is greater)."""
    inversions = 0
    if high - low <= _INSERTION_LENGTH:
        for i in range(low + 1, high):
            value, j = y_M[i], i
            while j > low and y_M[j - 1] > value:
                y_M[j] = y_M[j - 1]
                j -= 1
            y_M[j] = value
            inversions += i - j
        return inversions
    middle = (low + high) // 2
    inversions += _sort_and_count(y_M, spare_M, low, middle)
    inversions += _sort_and_count(y_M, spare_M, middle, high)
    spare_M[low:high] = y_M[low:high]
    # Merging from both ends gives the processor two chains to overlap, and needs no check of the
    # borders; no branch depends on the data, which would be mispredicted half of the time.
    left, right, left_end, right_end = low, middle, middle - 1, high - 1
    for k in range(middle - low):
        a, b = spare_M[left], spare_M[right]
        is_right = int(b < a)
        y_M[low + k] = min(a, b)
        inversions += (middle - left) * is_right
        right += is_right
        left += 1 - is_right
        a, b = spare_M[left_end], spare_M[right_end]
        is_left = int(b < a)
        y_M[high - 1 - k] = max(a, b)
        inversions += (middle - 1 - left_end) * (1 - is_left)
        left_end -= is_left
        right_end -= 1 - is_left
    if (high - low) % 2 == 1:  # one is left over, in the middle
        from_right = right <= right_end
        y_M[(low + high) // 2] = spare_M[right if from_right else left]
        inversions += (middle - left) if from_right else 0
    return inversions


@kernel(parallel=True)
def tau_of_rows(x_WN: Floats, y_WN: Floats, use_WN: NDArray[np.bool_]) -> Floats:
    """Tau-b of each row over the entries that `use_WN` marks, NaN where undefined: shape (W,)."""
    taus = np.empty(len(x_WN))
    for w in numba.prange(len(x_WN)):
        x_N, y_N = x_WN[w][use_WN[w]], y_WN[w][use_WN[w]]
        difference = untied_x = untied_y = 0
        for i in range(1, len(x_N)):
            for j in range(i):
                sign_x = (x_N[i] > x_N[j]) - (x_N[i] < x_N[j])
                sign_y = (y_N[i] > y_N[j]) - (y_N[i] < y_N[j])
                difference += sign_x * sign_y
                untied_x += sign_x * sign_x
                untied_y += sign_y * sign_y
        defined = untied_x > 0 and untied_y > 0
        taus[w] = difference / math.sqrt(untied_x) / math.sqrt(untied_y) if defined else np.nan
    return taus
