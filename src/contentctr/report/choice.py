"""Which of many curves a page shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def best_median_worst(ranked: Sequence[T], most: int, alone: str) -> list[tuple[str, T]]:
    """Up to `most` of them, each with its label.

    Best, median (the better of two middle ones) and worst come first, then others evenly spread
    over the ranks.

    Args:
        ranked: from the best down.
        most: at least 1.
        alone: label where there is one only.
    """
    n = len(ranked)
    labels: dict[int, str] = {}
    for place, name in ((0, "Best"), ((n - 1) // 2, "Median"), (n - 1, "Worst")):
        if n:
            labels.setdefault(place, f"{name} of {n:,}" if n > 1 else alone)
    others = [place for place in range(n) if place not in labels]
    extra = min(max(0, most - len(labels)), len(others))
    for i in np.linspace(0, len(others) - 1, extra).round().astype(int).tolist():
        labels[others[i]] = f"Rank {others[i] + 1:,} of {n:,}"
    return [(label, ranked[place]) for place, label in labels.items()][:most]
