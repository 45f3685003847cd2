"""Time of `models.dtw`: the numba kernel against anti-diagonals in torch and a plain loop.

    python benchmarks/dtw.py [--rounds 10]

Forward and backward, float32, on the CPU. In every round each candidate has its turn of a few runs,
so that all meet the same machine. The first run of a turn finds the caches full of another's data
("cold", the median); the others find the matrices near, as training does, where a matrix product
has just written them. Ratios are of the least times of the latter. The kernel runs on one thread,
torch on its default number. The loop over all cells of all matrices, on torch's scalars, is timed
on a few of them and extrapolated. Exits with 1 if the kernel is under 20 times the anti-diagonals.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch starts its threads

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from contentctr.models.dtw import dtw, dtw_anti_diagonal

WANTED = 20.0
RUNS_IN_A_TURN = 6
LOOP_SAMPLES = {20: 4, 192: 1}


@dataclass
class Times:
    """Seconds of each run: the first of a turn, and the others."""

    cold: list[float] = field(default_factory=list)
    warm: list[float] = field(default_factory=list)


def plain_loop(cost_NM: Tensor) -> Tensor:
    """Eq. 7 cell by cell on tensors, differentiated by autograd."""
    N, M = cost_NM.shape
    total: dict[tuple[int, int], Tensor] = {}
    for i in range(N):
        for j in range(M):
            before = [(i - 1, j - 1), (i - 1, j), (i, j - 1)]
            known = [total[cell] for cell in before if cell in total]
            total[i, j] = cost_NM[i, j] + torch.stack(known).min() if known else cost_NM[i, j]
    return total[N - 1, M - 1]


def interleave(
    candidates: dict[str, Callable[[], Tensor]], cost: Tensor, rounds: int
) -> dict[str, Times]:
    """Value and gradient of each candidate, in turn, `rounds` times after a round to warm up."""
    times = {name: Times() for name in candidates}
    for number in range(rounds + 1):
        for name, function in candidates.items():
            for run in range(RUNS_IN_A_TURN):
                cost.grad = None
                start = time.perf_counter()
                d = function()
                d.backward(torch.ones_like(d))
                seconds = time.perf_counter() - start
                if number > 0:
                    (times[name].warm if run else times[name].cold).append(seconds)
    return times


def add_rows(table: Table, title: str, times: dict[str, Times]) -> None:
    """One row a candidate, with its least time over that of the first."""
    reference = min(next(iter(times.values())).warm)
    for name, one in times.items():
        least = min(one.warm)
        columns = [f"{least * 1e3:,.2f}", f"{median(one.warm) * 1e3:,.2f}"]
        columns.append(f"{median(one.cold) * 1e3:,.2f}" if one.cold else "")
        table.add_row(title, name, *columns, f"{least / reference:,.1f}")
        title = ""
    table.add_section()


def time_loop(cost_BNM: Tensor, samples: int) -> Times:
    """What the plain loop would take for all matrices, from `samples` of them."""
    cost = cost_BNM.detach()[:samples].clone().requires_grad_()
    start = time.perf_counter()
    torch.stack([plain_loop(matrix) for matrix in cost]).sum().backward()
    return Times(warm=[(time.perf_counter() - start) * len(cost_BNM) / samples])


def compare_backends(table: Table, samples: int, size: int, rounds: int) -> float:
    """Kernel, anti-diagonals and loop; returns the least time of the second over the first's."""
    cost = torch.rand(samples, size, size, requires_grad=True)
    torch.testing.assert_close(dtw(cost), dtw_anti_diagonal(cost))
    candidates = {
        "numba kernel": lambda: dtw(cost, backend="numba"),
        "anti-diagonals, torch": lambda: dtw_anti_diagonal(cost),
    }
    times = interleave(candidates, cost, rounds)
    looped = LOOP_SAMPLES[size]
    times[f"loop over all cells, extrapolated from {looped}"] = time_loop(cost, looped)
    add_rows(table, f"{samples} x {size} x {size}", times)
    return min(times["anti-diagonals, torch"].warm) / min(times["numba kernel"].warm)


def compare_columns(table: Table, samples: int, orders: int, size: int, rounds: int) -> None:
    """Shuffled columns read inside the kernel, against a copy of the matrix for each order."""
    cost = torch.rand(samples, size, size, requires_grad=True)
    columns = torch.rand(samples, orders, size).argsort(-1)
    index = columns[:, :, None].expand(-1, -1, size, -1)

    def materialised() -> Tensor:
        copies = cost[:, None].expand(-1, orders, -1, -1).gather(3, index)
        return dtw(copies.flatten(0, 1), backend="numba").view(samples, orders)

    candidates = {
        "numba, columns inside": lambda: dtw(cost, columns, backend="numba"),
        "numba, columns copied": materialised,
        "anti-diagonals, torch": lambda: dtw_anti_diagonal(cost, columns),
    }
    torch.testing.assert_close(materialised(), dtw(cost, columns))
    title = f"{samples} x {orders} orders x {size} x {size}"
    add_rows(table, title, interleave(candidates, cost, rounds))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    torch.manual_seed(0)
    start = time.perf_counter()
    dtw(torch.rand(1, 2, 2, requires_grad=True)).sum().backward()
    first = time.perf_counter() - start

    table = Table("matrices", "implementation", "least ms", "median ms", "cold ms", "ratio")
    ratios = [
        compare_backends(table, 432, 20, rounds),
        compare_backends(table, 72, 192, rounds),
    ]
    compare_columns(table, 48, 9, 20, rounds)
    Console(width=110).print(table)
    print(f"first call in float32: {first:.2f} s (it compiles, or loads what an earlier one kept)")
    print(f"torch threads: {torch.get_num_threads()}; kernel: 1")
    found = " and ".join(f"{ratio:.1f}" for ratio in ratios)
    print(f"numba is {found} times the anti-diagonals (wanted: {WANTED:.0f})")
    return 0 if min(ratios) >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
