"""Dynamic time warping between two sequences (Eq. 7-8): value and gradient.

Suffixes beyond those of `batch.py`: in this file N counts text positions (rows of a cost matrix), M
visual positions (columns), P = B * K sequence pairs, S steps of a path.

Two implementations give the same values and pick the same path:

- a numba kernel for the CPU. It runs on one thread, whatever torch's setting: a call takes under a
  millisecond at the paper's size, and a second thread beside a busy process costs more than it
  saves. It lets go of the GIL. The first call in each dtype compiles it (about 3 s) and keeps the
  result beside this file; where that folder is read-only, in NUMBA_CACHE_DIR or the user's cache;
  where neither can be written, it is compiled in every process.
- anti-diagonals in torch, for accelerators, differentiated by autograd.

Ties: where several cells precede a cell equally well, the diagonal one is taken, else the one above
(i - 1, j), else the one to the left (i, j - 1). So the gradient always follows one path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import numba
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Backend = Literal["auto", "numba", "torch"]
_F = TypeVar("_F", bound=Callable[..., Any])

LANES = 8
"""Pairs the kernel works on abreast: one alone waits at every cell for the cell before it. Of 1, 4,
8, 16 and 32, those from 4 to 32 are equally fast at 20 x 20, and 8 is fastest at 192 x 192. The
kernel's working memory is LANES matrices."""


def dtw(
    cost_BNM: Tensor,
    columns_BKM: Tensor | None = None,
    lengths_B: Tensor | None = None,
    *,
    backend: Backend = "auto",
) -> Tensor:
    """Minimum cumulative alignment cost C[N, M] of K column orders of each matrix (Eq. 7-8).

    The gradient is the indicator of the optimal path (at the columns it went through, before they
    were permuted) times the upstream gradient. The numba backend can be differentiated once.

    Args:
        cost_BNM: float32 or float64 costs of matching row i with column j, finite or +inf (a cell
            no path may use). Neither N nor M may be 0; B may.
        columns_BKM: int64; pair (b, k) aligns the rows with `cost_BNM[b][:, columns_BKM[b, k]]`,
            read in place by the numba backend. None is the identity alone, K = 1.
        lengths_B: int64 in [1, min(N, M)]; only the first `lengths_B[b]` rows and (permuted)
            columns of sample b take part. None is all of them.
        backend: "numba" (CPU tensors only), "torch", or "auto": numba on the CPU, else torch.

    Returns:
        d_BK of cost's dtype and device. A NaN among the cells that take part makes every result of
        its sample NaN, and NaN its gradient on the path. Where every path crosses +inf the result
        is +inf and its gradient is not defined.

    Raises:
        ValueError: A shape, dtype, device, length, column order or backend breaks the rules above.
    """
    if backend not in ("auto", "numba", "torch"):
        raise ValueError(f"backend must be 'auto', 'numba' or 'torch', got {backend!r}")
    if backend == "torch" or (backend == "auto" and cost_BNM.device.type != "cpu"):
        return dtw_anti_diagonal(cost_BNM, columns_BKM, lengths_B)
    _check(cost_BNM, columns_BKM, lengths_B)
    if cost_BNM.device.type != "cpu":
        raise ValueError(f"backend 'numba' needs cost_BNM on the CPU, got {cost_BNM.device}")
    B, N, M = cost_BNM.shape
    if columns_BKM is None:
        columns_BKM = torch.arange(M).expand(B, 1, M)
    rows_B = torch.full((B,), N) if lengths_B is None else lengths_B
    cols_B = torch.full((B,), M) if lengths_B is None else lengths_B
    d_BK: Tensor
    if torch.is_grad_enabled() and cost_BNM.requires_grad:
        d_BK = _NumbaDtw.apply(cost_BNM, columns_BKM, rows_B, cols_B)  # type: ignore[no-untyped-call]
    else:
        d_BK, _, _ = _run_kernel(cost_BNM, columns_BKM, rows_B, cols_B, with_path=False)
    return d_BK


def dtw_anti_diagonal(
    cost_BNM: Tensor, columns_BKM: Tensor | None = None, lengths_B: Tensor | None = None
) -> Tensor:
    """`dtw` in torch operations: N + M - 1 steps, each over all cells of an anti-diagonal at once.

    Permuted matrices are materialised. Picks by comparison instead of `torch.minimum`, which would
    split the gradient at ties. Arguments, result and errors are those of `dtw`.
    """
    _check(cost_BNM, columns_BKM, lengths_B)
    B, N, M = cost_BNM.shape
    K = 1 if columns_BKM is None else columns_BKM.shape[1]
    nan_B1 = _has_nan(cost_BNM, lengths_B)[:, None]
    cost_PNM = _permute(cost_BNM, columns_BKM, lengths_B).reshape(B * K, N, M)
    diagonals = _anti_diagonals(cost_PNM)
    if lengths_B is None:
        d_BK = diagonals[-1][:, -1].reshape(B, K)
    else:
        last_P = (lengths_B - 1).repeat_interleave(K)
        pair_P = torch.arange(B * K, device=cost_BNM.device)
        d_BK = torch.stack(diagonals)[2 * last_P, pair_P, last_P].reshape(B, K)
    # A factor, not a `where` on the result: the gradient must become NaN for these samples alone.
    return d_BK * torch.where(nan_B1, torch.nan, 1.0).to(d_BK.dtype)


def dtw_path(cost_NM: Tensor) -> list[tuple[int, int]]:
    """Optimal path of one cost matrix as (row, column) pairs, from (0, 0) to (N - 1, M - 1).

    Args:
        cost_NM: float32 or float64, as in `dtw`; moved to the CPU.

    Raises:
        ValueError: The matrix is not 2-D, is empty, holds a NaN or has another dtype.
    """
    if cost_NM.ndim != 2:
        raise ValueError(f"cost_NM must have 2 dimensions, got shape {tuple(cost_NM.shape)}")
    cost_1NM = cost_NM.detach().cpu()[None]
    _check(cost_1NM, None, None)
    if bool(torch.isnan(cost_1NM).any()):
        raise ValueError(f"cost_NM must hold no NaN, got {int(torch.isnan(cost_1NM).sum())}")
    _, N, M = cost_1NM.shape
    _, path_PS, steps_P = _run_kernel(
        cost_1NM,
        torch.arange(M).expand(1, 1, M),
        torch.full((1,), N),
        torch.full((1,), M),
        with_path=True,
    )
    cells = path_PS[0, : steps_P[0]][::-1].tolist()
    return [divmod(cell, M) for cell in cells]


def _check(cost_BNM: Tensor, columns_BKM: Tensor | None, lengths_B: Tensor | None) -> None:
    """Raise the ValueErrors of `dtw`."""
    shape = tuple(cost_BNM.shape)
    if len(shape) != 3 or shape[1] < 1 or shape[2] < 1:
        raise ValueError(f"cost_BNM must have shape (B, N >= 1, M >= 1), got {shape}")
    if cost_BNM.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"cost_BNM must be float32 or float64, got {cost_BNM.dtype}")
    B, N, M = shape
    if lengths_B is not None:
        _check_index("lengths_B", lengths_B, cost_BNM)
        if tuple(lengths_B.shape) != (B,):
            raise ValueError(f"lengths_B must have shape ({B},), got {tuple(lengths_B.shape)}")
        bad_B = (lengths_B < 1) | (lengths_B > min(N, M))
        if bool(bad_B.any()):
            b = int(bad_B.nonzero()[0])
            rule = f"must be in [1, {min(N, M)}]"
            raise ValueError(f"lengths_B[{b}] {rule}, got {int(lengths_B[b])}")
    if columns_BKM is not None:
        _check_index("columns_BKM", columns_BKM, cost_BNM)
        given = tuple(columns_BKM.shape)
        if len(given) != 3 or given[0] != B or given[1] < 1 or given[2] != M:
            raise ValueError(f"columns_BKM must have shape ({B}, K >= 1, {M}), got {given}")
        _check_orders(columns_BKM, lengths_B)


def _check_index(name: str, index: Tensor, cost_BNM: Tensor) -> None:
    """Raise unless `index` is int64 on the cost's device."""
    if index.dtype != torch.int64:
        raise ValueError(f"{name} must be int64, got {index.dtype}")
    if index.device != cost_BNM.device:
        raise ValueError(f"{name} must be on cost_BNM's {cost_BNM.device}, got {index.device}")


def _check_orders(columns_BKM: Tensor, lengths_B: Tensor | None) -> None:
    """Raise unless each column order begins with a permutation; the kernel reads by these."""
    B, K, M = columns_BKM.shape
    cols_B = torch.full((B,), M) if lengths_B is None else lengths_B.cpu().contiguous()
    pair = int(_find_bad_order(columns_BKM.cpu().contiguous().numpy(), cols_B.numpy()))
    if pair >= 0:
        b, k = divmod(pair, K)
        length = int(cols_B[b])
        got = columns_BKM[b, k, :length].tolist()
        rule = f"must begin with a permutation of 0 .. {length - 1}"
        raise ValueError(f"columns_BKM[{b}, {k}] {rule}, got {got}")


def _permute(cost_BNM: Tensor, columns_BKM: Tensor | None, lengths_B: Tensor | None) -> Tensor:
    """cost_BKNM with its columns in each order; those behind the length are arbitrary."""
    B, N, M = cost_BNM.shape
    if columns_BKM is None:
        return cost_BNM[:, None]
    if lengths_B is not None:
        behind_BM = torch.arange(M, device=cost_BNM.device) >= lengths_B[:, None]
        columns_BKM = columns_BKM.masked_fill(behind_BM[:, None], 0)
    K = columns_BKM.shape[1]
    index_BKNM = columns_BKM[:, :, None].expand(B, K, N, M)
    return cost_BNM[:, None].expand(B, K, N, M).gather(3, index_BKNM)


def _has_nan(cost_BNM: Tensor, lengths_B: Tensor | None) -> Tensor:
    """Whether a cell that takes part is NaN: bool, B."""
    nan_BNM = torch.isnan(cost_BNM.detach())
    if lengths_B is not None:
        length_B1 = lengths_B[:, None]
        row_BN = torch.arange(cost_BNM.shape[1], device=cost_BNM.device) < length_B1
        col_BM = torch.arange(cost_BNM.shape[2], device=cost_BNM.device) < length_B1
        nan_BNM = nan_BNM & row_BN[:, :, None] & col_BM[:, None]
    return nan_BNM.flatten(1).any(1)


def _anti_diagonals(cost_PNM: Tensor) -> list[Tensor]:
    """Cumulative costs C of Eq. 7: element s holds C[i, s - i] at [p, i], +inf off the matrix."""
    P, N, M = cost_PNM.shape
    # Rows padded to M + N and cut to M + N - 1 shift row i to the right by i.
    flat_PX = torch.nn.functional.pad(cost_PNM, (0, N), value=torch.inf).flatten(1)
    skewed_PNS = flat_PX[:, : N * (M + N - 1)].reshape(P, N, M + N - 1)
    cost_SPN = skewed_PNS.permute(2, 0, 1).contiguous().unbind(0)
    wall_P1 = cost_PNM.new_full((P, 1), torch.inf)
    diagonals = [cost_SPN[0]]
    diagonal_PN = wall_P1.expand(P, N)
    for cost_PN in cost_SPN[1:]:
        left_PN = diagonals[-1]
        up_PN = torch.cat((wall_P1, left_PN[:, :-1]), 1)
        best_PN = torch.where(up_PN < diagonal_PN, up_PN, diagonal_PN)
        best_PN = torch.where(left_PN < best_PN, left_PN, best_PN)
        diagonals.append(cost_PN + best_PN)
        diagonal_PN = up_PN
    return diagonals


class _NumbaDtw(torch.autograd.Function):
    """The kernel as one autograd node: forward finds the paths, backward adds along them."""

    @staticmethod
    def forward(
        ctx: Any, cost_BNM: Tensor, columns_BKM: Tensor, rows_B: Tensor, cols_B: Tensor
    ) -> Tensor:
        d_BK, ctx.path_PS, ctx.steps_P = _run_kernel(
            cost_BNM, columns_BKM, rows_B, cols_B, with_path=True
        )
        ctx.shape = cost_BNM.shape
        ctx.save_for_backward(d_BK)
        return d_BK

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BK: Tensor) -> tuple[Tensor, None, None, None]:
        (d_BK,) = ctx.saved_tensors
        grad_BNM = torch.empty(ctx.shape, dtype=d_BK.dtype)
        _add_along_paths(
            grad_BNM.flatten(1).numpy(),
            grad_BK.flatten().numpy(),
            d_BK.view(-1).numpy(),
            ctx.path_PS,
            ctx.steps_P,
        )
        return grad_BNM, None, None, None


def _run_kernel(
    cost_BNM: Tensor, columns_BKM: Tensor, rows_B: Tensor, cols_B: Tensor, *, with_path: bool
) -> tuple[Tensor, npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Call `_align` on contiguous arrays, so that it is compiled once a dtype.

    Returns:
        d_BK; path_PS, the flat cells of each path from its end to its start; steps_P, their number.
    """
    B, N, M = cost_BNM.shape
    K = columns_BKM.shape[1]
    d_BK = torch.empty(B, K, dtype=cost_BNM.dtype)
    path_PS = np.empty((B * K if with_path else 0, N + M - 1), np.int32)
    steps_P = np.zeros(B * K, np.int64)
    _align(
        cost_BNM.detach().contiguous().numpy(),
        columns_BKM.contiguous().numpy(),
        rows_B.contiguous().numpy(),
        cols_B.contiguous().numpy(),
        d_BK.view(-1).numpy(),
        path_PS,
        steps_P,
    )
    return d_BK, path_PS, steps_P


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
def _align(
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
def _add_along_paths(
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
def _find_bad_order(columns_BKM: npt.NDArray[np.int64], cols_B: npt.NDArray[np.int64]) -> int:
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
