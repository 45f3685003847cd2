"""Dynamic time warping between two sequences (Eq. 7-8): value and gradient.

Suffixes beyond those of `batch.py`: in this file N counts text positions (rows of a cost matrix), M
visual positions (columns), P = B * K sequence pairs, S steps of a path.

Two implementations give the same values and pick the same path:

- a numba kernel for the CPU (dtw_kernel.py). It runs on one thread, whatever torch's setting: a
  call takes under a millisecond at the paper's size, and a second thread beside a busy process
  costs more than it saves. It lets go of the GIL. The first call in each dtype compiles it (about
  3 s) and keeps the result beside its file; where that folder is read-only, in NUMBA_CACHE_DIR or
  the user's cache; where neither can be written, it is compiled in every process.
- anti-diagonals in torch, for accelerators, differentiated by autograd.

Ties: where several cells precede a cell equally well, the diagonal one is taken, else the one above
(i - 1, j), else the one to the left (i, j - 1). So the gradient always follows one path.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Backend = Literal["auto", "numba", "torch"]


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
    from contentctr.models.dtw_kernel import find_bad_order

    pair = int(find_bad_order(columns_BKM.cpu().contiguous().numpy(), cols_B.numpy()))
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
        from contentctr.models.dtw_kernel import add_along_paths

        add_along_paths(
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
    """Call `align` on contiguous arrays, so that it is compiled once a dtype.

    Returns:
        d_BK; path_PS, the flat cells of each path from its end to its start; steps_P, their number.
    """
    # Here, for it brings numba (55 MB): what only uses a model, the service above all, has no need.
    from contentctr.models.dtw_kernel import align

    B, N, M = cost_BNM.shape
    K = columns_BKM.shape[1]
    d_BK = torch.empty(B, K, dtype=cost_BNM.dtype)
    path_PS = np.empty((B * K if with_path else 0, N + M - 1), np.int32)
    steps_P = np.zeros(B * K, np.int64)
    align(
        cost_BNM.detach().contiguous().numpy(),
        columns_BKM.contiguous().numpy(),
        rows_B.contiguous().numpy(),
        cols_B.contiguous().numpy(),
        d_BK.view(-1).numpy(),
        path_PS,
        steps_P,
    )
    return d_BK, path_PS, steps_P
