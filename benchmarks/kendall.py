"""Time of Kendall's tau-b against SciPy's: one long pair of vectors, and many short windows.

    python benchmarks/kendall.py [--values 5700000] [--windows 286510]

The ratios are the result; seconds depend on the machine. SciPy's loop over windows is run on a
sample and extrapolated.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
from scipy.stats import kendalltau

from contentctr.metrics.ctr import kendall_tau, kendall_tau_rows

WINDOW_LEN = 20
SAMPLED_WINDOWS = 2_000


def best_seconds(*functions: Callable[[], object], repeats: int) -> list[float]:
    """Best time of each, taken in turns so that a busy machine slows all of them."""
    times: list[list[float]] = [[] for _ in functions]
    for function in functions:
        function()  # compiles, and warms the caches
    for _ in range(repeats):
        for function, taken in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            taken.append(time.perf_counter() - start)
    return [min(taken) for taken in times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--values", type=int, default=5_700_000)
    parser.add_argument("--windows", type=int, default=286_510)
    args = parser.parse_args()
    rng = np.random.default_rng(0)

    # Scores are all distinct; targets are clicks over viewers, with the ties that brings.
    viewers = rng.integers(10, 200, args.values)
    x = rng.beta(2, 20, args.values)
    y = rng.binomial(viewers, x) / viewers
    ours, scipys = best_seconds(lambda: kendall_tau(x, y), lambda: kendalltau(x, y), repeats=5)
    difference = abs(kendall_tau(x, y) - float(kendalltau(x, y).statistic))
    print(f"one tau of {args.values:,} pairs of values")
    print(f"  contentctr {ours:8.3f} s   SciPy {scipys:8.3f} s   ratio {ours / scipys:.3f}")
    print(f"  difference {difference:.1e}   (ratio wanted: at most 0.5)")

    x_WN = rng.beta(2, 20, (args.windows, WINDOW_LEN))
    y_WN = rng.binomial(50, x_WN) / 50
    sample = rng.choice(args.windows, min(SAMPLED_WINDOWS, args.windows), replace=False)
    (ours,) = best_seconds(lambda: kendall_tau_rows(x_WN, y_WN), repeats=5)
    start = time.perf_counter()
    expected = np.array([kendalltau(x_WN[w], y_WN[w]).statistic for w in sample])
    scipys = (time.perf_counter() - start) * args.windows / len(sample)
    difference = float(np.nanmax(np.abs(kendall_tau_rows(x_WN, y_WN)[sample] - expected)))
    print(f"tau of each of {args.windows:,} windows of {WINDOW_LEN}")
    print(
        f"  contentctr {ours:8.3f} s   SciPy {scipys:8.1f} s (extrapolated from {len(sample):,} "
        f"windows)   ratio 1/{scipys / ours:,.0f}"
    )
    print(f"  difference {difference:.1e}   (ratio wanted: under 1/500)")


if __name__ == "__main__":
    main()
