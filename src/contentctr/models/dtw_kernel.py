"""The numba kernel of `dtw` (dtw.py, whose suffixes are meant); imported with its first use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
import numpy.typing as npt

_F = TypeVar("_F", bound=Callable[..., Any])

LANES = 8
"""Pairs the kernel works on abreast: one alone waits at every cell for the cell before it. Of 1, 4,
8, 16 and 32, those from 4 to 32 are equally fast at 20 x 20, and 8 is fastest at 192 x 192. The
kernel's working memory is LANES matrices."""


def _kernel(function: _F) -> _F:
    """Compile with numba, and keep the result wherever a cache can be written."""
    njit: Any = numba.njit
    try:
        compiled = njit(cache=True, nogil=True)(function)
    except RuntimeError:
        # Neither this folder nor the user's cache can be written: compile in every process.
        compiled = njit(nogil=True)(function)
    return compiled  # type: ignore[no-any-return]


@_kernel
def align(
    cost_BNM: npt.NDArray[Any],
    columns_BKM: npt.NDArray[np.int64],
    rows_B: npt.NDArray[np.int64],
    cols_B: npt.NDArray[np.int64],
    d_P: npt.NDArray[Any],
    path_PS: npt.NDArray[np.int32],
    steps_P: npt.NDArray[np.int64],
) -> None:
    """Fill d_P, and path_PS and steps_P if path_PS has rows, LANES pairs at a time."""
    B, N, M = cost_BNM.shape
    K = columns_BKM.shape[1]
    # Lanes without a pair, and columns behind a pair's length, read cells that nothing depends on.
    columns_ML = np.zeros((M, LANES), np.int64)
    start_ML = np.zeros((M, LANES), np.uint64)
    total_NML = np.full((N + 1, M + 1, LANES), np.inf, cost_BNM.dtype)
    total_NML[0, 0] = 0
    for first in range(0, B * K, LANES):
        last = min(first + LANES, B * K)
        for pair in range(first, last):
            b, k, lane = pair // K, pair % K, pair - first
            for j in range(M):
                columns_ML[j, lane] = columns_BKM[b, k, j] if j < cols_B[b] else 0
                start_ML[j, lane] = np.uint64(b * N * M + columns_ML[j, lane])
        _accumulate(cost_BNM.ravel(), start_ML, total_NML)
        for pair in range(first, last):
            rows, cols, lane = rows_B[pair // K], cols_B[pair // K], pair - first
            d_P[pair] = total_NML[rows, cols, lane]
            for i in range(rows):
                if np.isnan(total_NML[i + 1, cols, lane]):
                    d_P[pair] = np.nan
            if len(path_PS):
                steps_P[pair] = _trace(total_NML, columns_ML, lane, rows, cols, path_PS[pair])


@_kernel
def _accumulate(
    cost_X: npt.NDArray[Any], start_ML: npt.NDArray[np.uint64], total_NML: npt.NDArray[Any]
) -> None:
    """C of Eq. 7 for LANES pairs, behind one row and one column of walls.

    A NaN cost makes C NaN from its cell to the end of its row, and no further for certain.

    Args:
        cost_X: All costs, flat.
        start_ML: Where in it a lane's column j has its cell of row 0.
        total_NML: C[i, j] goes to [i + 1, j + 1]; row 0 and column 0 are +inf, but 0 at [0, 0].
    """
    M = len(start_ML)
    for i in range(total_NML.shape[0] - 1):
        row = np.uint64(i * M)  # unsigned: numba checks signed ones for counting from the end
        for j in range(M):
            # A fixed count of plain selects, which the compiler turns into vector instructions.
            for lane in range(LANES):
                best = total_NML[i, j, lane]
                up = total_NML[i, j + 1, lane]
                left = total_NML[i + 1, j, lane]
                best = up if up < best else best
                best = best if best < left else left  # a NaN on the left stays
                total_NML[i + 1, j + 1, lane] = cost_X[start_ML[j, lane] + row] + best


@_kernel
def _trace(
    total_NML: npt.NDArray[Any],
    columns_ML: npt.NDArray[np.int64],
    lane: int,
    rows: int,
    cols: int,
    path_S: npt.NDArray[np.int32],
) -> int:
    """Write the flat cells of a lane's optimal path, last first, and return their number."""
    M = len(columns_ML)
    i, j, steps = rows - 1, cols - 1, 0
    while i > 0 or j > 0:
        path_S[steps] = i * M + columns_ML[j, lane]
        steps += 1
        # Walls are left out by index: a total of +inf or NaN must not lead through them.
        if i == 0:
            j -= 1
        elif j == 0:
            i -= 1
        else:
            diagonal, up = total_NML[i, j, lane], total_NML[i, j + 1, lane]
            if total_NML[i + 1, j, lane] < (up if up < diagonal else diagonal):
                j -= 1
            elif up < diagonal:
                i -= 1
            else:
                i -= 1
                j -= 1
    path_S[steps] = columns_ML[0, lane]
    return steps + 1


@_kernel
def add_along_paths(
    grad_BX: npt.NDArray[Any],
    grad_P: npt.NDArray[Any],
    d_P: npt.NDArray[Any],
    path_PS: npt.NDArray[np.int32],
    steps_P: npt.NDArray[np.int64],
) -> None:
    """Set grad_BX to each pair's upstream gradient at the cells of its path, summed."""
    grad_BX[:] = 0  # here and not by torch, which would wake its threads for it
    K = len(grad_P) // max(len(grad_BX), 1)
    for pair in range(len(grad_P)):
        grad = d_P[pair] if np.isnan(d_P[pair]) else grad_P[pair]
        for step in range(steps_P[pair]):
            grad_BX[pair // K, path_PS[pair, step]] += grad


@_kernel
def find_bad_order(columns_BKM: npt.NDArray[np.int64], cols_B: npt.NDArray[np.int64]) -> int:
    """The first pair b * K + k whose order does not begin with a permutation, or -1."""
    B, K, M = columns_BKM.shape
    seen_by_M = np.full(M, -1, np.int64)
    for pair in range(B * K):
        b, k = divmod(pair, K)
        for j in range(cols_B[b]):
            column = columns_BKM[b, k, j]
            if column < 0 or column >= cols_B[b] or seen_by_M[column] == pair:
                return pair
            seen_by_M[column] = pair
    return -1
