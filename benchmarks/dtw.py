"""Time of `contentctr.dtw`: the numba kernel against anti-diagonals in torch and a plain loop.

    python benchmarks/dtw.py [--rounds 15]

Forward and backward, float32, on the CPU. Every round times each candidate once, in turn, so that
all meet the same machine; ratios are of the fastest rounds. The kernel runs on one thread, torch on
its default number. The plain loop is timed on a few matrices and extrapolated. Exits with 1 if the
kernel is under 20 times the anti-diagonals.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch starts its threads

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from contentctr.dtw import dtw, dtw_anti_diagonal

WANTED = 20.0
LOOP_SAMPLES = {20: 4, 192: 1}
Times = dict[str, list[float]]


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


def interleave(candidates: dict[str, Callable[[], Tensor]], inputs: Tensor, rounds: int) -> Times:
    """Seconds of value and gradient of each candidate, in turn, `rounds` times."""
    times: Times = {name: [] for name in candidates}
    for number in range(rounds + 2):
        for name, function in candidates.items():
            inputs.grad = None
            start = time.perf_counter()
            function().sum().backward()
            if number >= 2:  # the first two compile and warm up
                times[name].append(time.perf_counter() - start)
    return times


def add_rows(table: Table, title: str, times: Times, reference: str) -> None:
    """One row a candidate, with its time over that of `reference`."""
    for name, seconds in times.items():
        least, median = min(seconds), sorted(seconds)[len(seconds) // 2]
        ratio = least / min(times[reference])
        table.add_row(title, name, f"{least * 1e3:.2f}", f"{median * 1e3:.2f}", f"{ratio:.1f}")
        title = ""
    table.add_section()


def time_loop(cost_BNM: Tensor, samples: int) -> list[float]:
    """Seconds the plain loop would take for all matrices, from `samples` of them."""
    cost = cost_BNM.detach()[:samples].clone().requires_grad_()
    start = time.perf_counter()
    torch.stack([plain_loop(matrix) for matrix in cost]).sum().backward()
    return [(time.perf_counter() - start) * len(cost_BNM) / samples]


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
    times[f"plain loop, extrapolated from {looped}"] = time_loop(cost, looped)
    add_rows(table, f"{samples} x {size} x {size}", times, "numba kernel")
    return min(times["anti-diagonals, torch"]) / min(times["numba kernel"])


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
    times = interleave(candidates, cost, rounds)
    title = f"{samples} x {orders} orders x {size} x {size}"
    add_rows(table, title, times, "numba, columns inside")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.manual_seed(0)
    start = time.perf_counter()
    dtw(torch.rand(1, 2, 2, requires_grad=True)).sum().backward()
    first = time.perf_counter() - start

    table = Table("matrices", "implementation", "least ms", "median ms", "ratio")
    ratios = [
        compare_backends(table, 432, 20, rounds),
        compare_backends(table, 72, 192, rounds),
    ]
    compare_columns(table, 48, 9, 20, rounds)
    Console(width=100).print(table)
    print(f"first call in float32: {first:.2f} s (it compiles, or loads what an earlier one kept)")
    print(f"torch threads: {torch.get_num_threads()}; kernel: 1")
    told = " and ".join(f"{ratio:.1f}" for ratio in ratios)
    print(f"numba is {told} times the anti-diagonals (wanted: {WANTED:.0f})")
    return 0 if min(ratios) >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
