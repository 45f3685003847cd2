"""dtw against hand-worked numbers, a plain loop, all paths, finite differences and itself."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

import contentctr.models.dtw_kernel
from contentctr.models.dtw import Backend, dtw, dtw_anti_diagonal, dtw_path
from contentctr.models.dtw_kernel import LANES

BACKENDS: list[Backend] = ["numba", "torch"]
HAND = [[1.0, 3.0, 9.0], [1.0, 4.0, 9.0], [5.0, 1.0, 2.0]]

Cells = list[tuple[int, int]]


def oracle(cost_NM: np.ndarray) -> tuple[float, Cells]:
    """Eq. 7-8 cell by cell, in the matrix's own precision; ties: diagonal, up, left."""
    N, M = cost_NM.shape
    total = np.zeros_like(cost_NM)
    came_from: dict[tuple[int, int], tuple[int, int]] = {}
    for i in range(N):
        for j in range(M):
            before = [(i - 1, j - 1), (i - 1, j), (i, j - 1)]
            before = [(a, b) for a, b in before if a >= 0 and b >= 0]
            if before:
                best = min(before, key=lambda cell: total[cell])  # the first of equals
                came_from[i, j] = best
                total[i, j] = cost_NM[i, j] + total[best]
            else:
                total[i, j] = cost_NM[i, j]
    path = [(N - 1, M - 1)]
    while path[-1] != (0, 0):
        path.append(came_from[path[-1]])
    return total[N - 1, M - 1], path[::-1]


def oracle_batch(
    cost_BNM: Tensor, columns_BKM: Tensor | None, lengths_B: Tensor | None, weight_BK: Tensor
) -> tuple[Tensor, Tensor]:
    """Values, and the gradient of sum(weight * value), by `oracle`."""
    B, N, M = cost_BNM.shape
    d_BK, grad_BNM = torch.zeros_like(weight_BK), torch.zeros_like(cost_BNM)
    for b in range(B):
        rows, cols = (N, M) if lengths_B is None else (int(lengths_B[b]),) * 2
        for k in range(weight_BK.shape[1]):
            order = torch.arange(cols) if columns_BKM is None else columns_BKM[b, k, :cols]
            value, path = oracle(cost_BNM[b, :rows][:, order].numpy())
            d_BK[b, k] = float(value)
            for i, j in path:
                grad_BNM[b, i, order[j]] += weight_BK[b, k]
    return d_BK, grad_BNM


def value_and_grad(
    cost: Tensor, columns: Tensor | None, lengths: Tensor | None, weight: Tensor, backend: Backend
) -> tuple[Tensor, Tensor]:
    cost = cost.clone().requires_grad_()
    d_BK = dtw(cost, columns, lengths, backend=backend)
    (grad,) = torch.autograd.grad((d_BK * weight).sum(), cost)
    return d_BK.detach(), grad


def random_orders(B: int, K: int, M: int, lengths: Tensor | None, rng: torch.Generator) -> Tensor:
    """K orders a sample, the first the identity; those behind the length must not be read."""
    columns = torch.full((B, K, M), 10**12)
    for b in range(B):
        length = M if lengths is None else int(lengths[b])
        columns[b, 0, :length] = torch.arange(length)
        for k in range(1, K):
            columns[b, k, :length] = torch.randperm(length, generator=rng)
    return columns


def all_paths(N: int, M: int) -> Iterator[Cells]:
    """Every monotone path from (0, 0) to (N - 1, M - 1)."""
    if (N, M) == (1, 1):
        yield [(0, 0)]
        return
    for n, m in ((N - 1, M - 1), (N - 1, M), (N, M - 1)):
        if n >= 1 and m >= 1:
            for path in all_paths(n, m):
                yield [*path, (N - 1, M - 1)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_hand_worked(backend: Backend) -> None:
    """C = [[1, 4, 13], [2, 5, 13], [7, 3, 5]], permuted [[9, 10, 13], [18, 10, 14], [20, 15, 11]].

    The paths: (0, 0), (1, 0), (2, 1), (2, 2), and the diagonal of columns 2, 0, 1.
    """
    cost = torch.tensor([HAND])
    columns = torch.tensor([[[0, 1, 2], [2, 0, 1]]])
    d, grad = value_and_grad(cost, columns, None, torch.tensor([[1.0, 10.0]]), backend)
    assert d.tolist() == [[5.0, 11.0]]
    assert grad.tolist() == [[[1.0, 0.0, 10.0], [11.0, 0.0, 0.0], [0.0, 11.0, 1.0]]]


def test_path_hand_worked() -> None:
    assert dtw_path(torch.tensor(HAND)) == [(0, 0), (1, 0), (2, 1), (2, 2)]
    assert dtw_path(torch.tensor([[3.0]])) == [(0, 0)]
    assert dtw_path(torch.ones(1, 3)) == [(0, 0), (0, 1), (0, 2)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("B", "N", "M", "K", "ragged"),
    [
        (1, 1, 1, None, False),
        (2, 1, 1, 2, True),
        (3, 1, 6, None, False),
        (3, 6, 1, None, False),
        (3, 4, 7, 3, False),
        (3, 7, 4, 3, False),
        (2 * LANES + 3, 5, 5, None, False),
        (LANES, 5, 5, 9, False),
        (LANES + 1, 8, 8, None, True),
        (5, 8, 8, 4, True),
        (5, 6, 9, 4, True),
        (3, 20, 20, 9, True),
    ],
)
def test_equals_oracle(
    B: int, N: int, M: int, K: int | None, ragged: bool, dtype: torch.dtype, backend: Backend
) -> None:
    rng = torch.Generator().manual_seed(B * 1000 + N * 10 + M)
    cost = torch.randn(B, N, M, dtype=dtype, generator=rng)
    lengths = torch.randint(1, min(N, M) + 1, (B,), generator=rng) if ragged else None
    columns = None if K is None else random_orders(B, K, M, lengths, rng)
    weight = torch.randn(B, K or 1, dtype=dtype, generator=rng)
    d, grad = value_and_grad(cost, columns, lengths, weight, backend)
    d_oracle, grad_oracle = oracle_batch(cost, columns, lengths, weight)
    assert d.dtype == dtype and d.shape == (B, K or 1)
    assert torch.equal(d, d_oracle)
    torch.testing.assert_close(grad, grad_oracle)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("N", "M"), [(1, 1), (1, 4), (3, 3), (4, 3), (4, 4)])
def test_brute_force(N: int, M: int, backend: Backend) -> None:
    cost = torch.randn(4, N, M, dtype=torch.float64, generator=torch.Generator().manual_seed(N))
    least = [min(sum(c[i, j] for i, j in path) for path in all_paths(N, M)) for c in cost]
    d = dtw(cost, backend=backend)
    torch.testing.assert_close(d[:, 0], torch.stack(least))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("ragged", [False, True])
def test_gradcheck(ragged: bool, backend: Backend) -> None:
    rng = torch.Generator().manual_seed(3)
    cost = torch.randn(3, 5, 5, dtype=torch.float64, generator=rng).requires_grad_()
    lengths = torch.tensor([5, 1, 3]) if ragged else None
    columns = random_orders(3, 3, 5, lengths, rng)
    assert gradcheck(lambda c: dtw(c, columns, lengths, backend=backend), (cost,))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("cost", "path"),
    [
        ([[1, 1, 1], [1, 1, 1], [1, 1, 1]], [(0, 0), (1, 1), (2, 2)]),
        ([[1, -1], [-1, 0]], [(0, 0), (0, 1), (1, 1)]),
        ([[0, 0, 0], [0, 0, 0]], [(0, 0), (0, 1), (1, 2)]),
    ],
)
def test_ties_take_one_path(cost: list[list[float]], path: Cells, backend: Backend) -> None:
    """Diagonal first, then up, then left."""
    cost_BNM = torch.tensor([cost], dtype=torch.float64)
    _, grad = value_and_grad(cost_BNM, None, None, torch.ones(1, 1), backend)
    assert grad[0].nonzero().tolist() == [list(cell) for cell in path]
    assert dtw_path(cost_BNM[0]) == path == oracle(cost_BNM[0].numpy())[1]


@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(1, 9), st.integers(1, 9), st.integers(1, LANES + 2))
def test_properties(data: st.DataObject, N: int, M: int, B: int) -> None:
    """Small whole costs, so that ties abound and sums are exact."""
    whole = st.lists(st.integers(-3, 6), min_size=B * N * M, max_size=B * N * M)
    cost = torch.tensor(data.draw(whole), dtype=torch.float64).view(B, N, M)
    ones = torch.ones(B, 1, dtype=torch.float64)
    d, grad = value_and_grad(cost, None, None, ones, "numba")
    d_torch, grad_torch = value_and_grad(cost, None, None, ones, "torch")
    assert torch.equal(d, d_torch) and torch.equal(grad, grad_torch)
    assert torch.equal((cost * grad).sum((1, 2)), d[:, 0])
    assert torch.equal(dtw(cost.transpose(1, 2)), d)
    assert torch.equal(dtw(cost.flip(1, 2)), d)
    steps = grad.sum((1, 2))
    assert bool((steps >= max(N, M)).all() and (steps <= N + M - 1).all())


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(-4, 4), st.sampled_from(BACKENDS))
def test_constant_cost_is_path_length(N: int, M: int, value: int, backend: Backend) -> None:
    """The shortest path where a step costs, the longest where it pays."""
    d = dtw(torch.full((1, N, M), float(value)), backend=backend)
    assert d.item() == value * (max(N, M) if value >= 0 else N + M - 1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_columns_equal_materialised(backend: Backend) -> None:
    rng = torch.Generator().manual_seed(5)
    cost = torch.randn(6, 7, 7, generator=rng)
    columns = random_orders(6, 4, 7, None, rng)
    built = torch.stack([cost[b][:, columns[b, k]] for b in range(6) for k in range(4)])
    d_built = dtw(built).view(6, 4)
    assert torch.equal(dtw(cost, columns, backend=backend), d_built)


@pytest.mark.parametrize("backend", BACKENDS)
def test_padding_never_matters(backend: Backend) -> None:
    """NaN behind the lengths changes neither value nor gradient."""
    rng = torch.Generator().manual_seed(6)
    cost, lengths = torch.randn(3, 6, 6, generator=rng), torch.tensor([6, 2, 4])
    padded = cost.clone()
    for b, length in enumerate(lengths.tolist()):
        padded[b, length:] = torch.nan
        padded[b, :, length:] = torch.nan
    weight = torch.ones(3, 1)
    d, grad = value_and_grad(cost, None, lengths, weight, backend)
    d_padded, grad_padded = value_and_grad(padded, None, lengths, weight, backend)
    assert torch.equal(d, d_padded) and torch.equal(grad, grad_padded)
    assert dtw(cost[1:2, :2, :2]).item() == d[1, 0].item()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cell", [(i, j) for i in range(4) for j in range(4)])
def test_nan_makes_its_sample_nan(cell: tuple[int, int], backend: Backend) -> None:
    """Wherever it is, on the path or off it; other samples are untouched."""
    cost = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(7))
    weight = torch.ones(3, 1)
    d_clean, grad_clean = value_and_grad(cost, None, None, weight, backend)
    cost[(1, *cell)] = torch.nan
    d, grad = value_and_grad(cost, None, None, weight, backend)
    assert torch.isnan(d[:, 0]).tolist() == [False, True, False]
    assert bool(torch.isnan(grad[1]).any())
    assert torch.equal(d[::2], d_clean[::2]) and torch.equal(grad[::2], grad_clean[::2])


@pytest.mark.parametrize("backend", BACKENDS)
def test_infinite_cells_are_avoided(backend: Backend) -> None:
    wall = torch.tensor([[[1.0, torch.inf, 0.0], [1.0, torch.inf, 0.0], [1.0, 1.0, 1.0]]])
    d, grad = value_and_grad(wall, None, None, torch.ones(1, 1), backend)
    assert d.item() == 4.0  # down the first column, then (2, 1) by the diagonal, then (2, 2)
    assert grad[0].nonzero().tolist() == [[0, 0], [1, 0], [2, 1], [2, 2]]
    assert dtw(torch.full((1, 2, 2), torch.inf), backend=backend).item() == torch.inf


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_samples(backend: Backend) -> None:
    cost = torch.zeros(0, 4, 4, requires_grad=True)
    columns, lengths = torch.zeros(0, 3, 4, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    d = dtw(cost, columns, lengths, backend=backend)
    d.sum().backward()
    assert d.shape == (0, 3) and cost.grad is not None and cost.grad.shape == (0, 4, 4)
    assert dtw(cost, backend=backend).shape == (0, 1)


def test_layout_does_not_matter() -> None:
    """Transposed, sliced and expanded inputs, and an expanded upstream gradient."""
    rng = torch.Generator().manual_seed(8)
    cost = torch.randn(4, 5, 6, generator=rng).transpose(1, 2)[::2].requires_grad_()
    order = torch.randperm(5, generator=rng)
    columns = order.expand(2, 3, 5)
    d = dtw(cost, columns)
    (grad,) = torch.autograd.grad(d.sum(), cost)
    weight = torch.ones(2, 3)
    d_oracle, grad_oracle = oracle_batch(cost.detach(), columns, None, weight)
    assert torch.equal(d.detach(), d_oracle) and torch.equal(grad, grad_oracle)


def test_without_gradient() -> None:
    cost = torch.rand(2, 3, 3, requires_grad=True)
    with torch.no_grad():
        d = dtw(cost)
    assert not d.requires_grad and torch.equal(d, dtw(cost).detach())


def test_second_derivative_is_refused() -> None:
    cost = torch.rand(2, 3, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.ones(2, 1, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad((dtw(cost) * weight).sum(), cost, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


GOOD = torch.zeros(2, 3, 4)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("cost", "columns", "lengths", "message"),
    [
        (torch.zeros(3, 4), None, None, r"cost_BNM must have shape .* got \(3, 4\)"),
        (torch.zeros(2, 0, 4), None, None, r"N >= 1.* got \(2, 0, 4\)"),
        (GOOD.half(), None, None, "float32 or float64, got torch.float16"),
        (GOOD, None, torch.tensor([1]), r"lengths_B must have shape \(2,\), got \(1,\)"),
        (GOOD, None, torch.tensor([1, 0]), r"lengths_B\[1\] must be in \[1, 3\], got 0"),
        (GOOD, None, torch.tensor([4, 1]), r"lengths_B\[0\] must be in \[1, 3\], got 4"),
        (GOOD, None, torch.tensor([1.0, 1.0]), "lengths_B must be int64, got torch.float32"),
        (GOOD, torch.zeros(2, 1, 4), None, "columns_BKM must be int64, got torch.float32"),
        (GOOD, torch.arange(4), None, r"columns_BKM must have shape \(2, K >= 1, 4\), got \(4,\)"),
        (GOOD, torch.tensor([[[0, 1, 2, 3]], [[0, 1, 2, 4]]]), None, r"\[1, 0\] .* 0 .. 3, got"),
        (GOOD, torch.tensor([[[0, 1, 2, -1]]] * 2), None, r"\[0, 0\] .* got \[0, 1, 2, -1\]"),
        (GOOD, torch.tensor([[[0, 1, 2, 2]]] * 2), None, r"permutation of 0 .. 3"),
        (GOOD, torch.tensor([[[0, 3, 2, 1]]] * 2), torch.tensor([1, 2]), r"\[1, 0\] .* \[0, 3\]"),
    ],
)
def test_wrong_arguments(
    cost: Tensor, columns: Tensor | None, lengths: Tensor | None, message: str, backend: Backend
) -> None:
    with pytest.raises(ValueError, match=message):
        dtw(cost, columns, lengths, backend=backend)


def test_wrong_backend_and_device() -> None:
    with pytest.raises(ValueError, match="backend must be .* got 'cuda'"):
        dtw(GOOD, backend="cuda")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs cost_BNM on the CPU, got meta"):
        dtw(GOOD.to("meta"), backend="numba")
    with pytest.raises(ValueError, match="lengths_B must be on cost_BNM's cpu, got meta"):
        dtw(GOOD, None, torch.ones(2, dtype=torch.int64, device="meta"))
    with pytest.raises(ValueError, match="cost_NM must have 2 dimensions"):
        dtw_path(GOOD)
    with pytest.raises(ValueError, match="no NaN, got 1"):
        dtw_path(torch.tensor([[0.0, torch.nan]]))


def test_auto_backend() -> None:
    """CPU tensors take the kernel, others (here: no data at all) the torch operations."""
    on_cpu = dtw(torch.rand(1, 2, 2, requires_grad=True))
    assert "NumbaDtw" in on_cpu.grad_fn.name()
    elsewhere = dtw(torch.zeros(3, 4, 5, device="meta"))
    assert elsewhere.shape == (3, 1) and elsewhere.device.type == "meta"
    assert torch.equal(dtw_anti_diagonal(torch.ones(1, 2, 3)), torch.tensor([[3.0]]))


def test_works_where_nothing_can_be_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only package and no home: files stand where the cache folders would be made."""
    (tmp_path / "__pycache__").touch()
    (tmp_path / ".cache").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    copy = tmp_path / "dtw_copy.py"
    copy.write_text(Path(contentctr.models.dtw_kernel.__file__).read_text())
    spec = importlib.util.spec_from_file_location("dtw_copy", copy)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.raises(RuntimeError, match="no locator available"):
        numba.njit(cache=True)(module.find_bad_order.py_func)
    order, length = np.array([[[1, 0, 2]]]), np.array([2])
    assert module.find_bad_order(order, length) == -1
    assert module.find_bad_order(order, length - 1) == 0
