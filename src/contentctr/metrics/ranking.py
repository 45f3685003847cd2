"""Metrics of how well a room's segments are ordered: those of KuaiLive-M3's highlight benchmark.

Each is taken inside every room and then averaged over the rooms in which it is defined; how many
those are stands beside it. No number depends on the order of the samples.

Shape suffixes: M samples of all rooms, N samples of one, G groups (rooms).
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import spearmanr

from contentctr.metrics.average_precision import average_precision
from contentctr.metrics.ctr import (
    Floats,
    finite_vector,
    hits_at_top,
    kendall_tau,
    mean_over_groups,
    top_size,
)

Ints = NDArray[np.int64]

GAPS = (0.2, 0.4)
"""Kendall's tau is also taken over pairs whose true scores differ by more than these."""
TOP_SHARE = 0.5
LABEL_PERCENTILE = 70
"""Segments at or above this percentile of their room's true scores are its highlights."""
_ROUNDING = 1e-9
"""0.8 - 0.6 is a little above 0.2 in floating point."""


def f1_at_top(scores_N: Floats, labels_N: Floats, share: float = TOP_SHARE) -> float:
    """F1 of calling the top `share` of a room positive.

    Called positive are k = ceil(share * N) segments; scores tied with the k-th share the remaining
    places by expectation.

    Args:
        scores_N: finite, N at least 1.
        labels_N: 0 or 1.
        share: in (0, 1].

    Returns:
        In [0, 1]; NaN in a room without a positive.
    """
    positives = labels_N.sum()
    if not positives:
        return math.nan
    k = top_size(len(scores_N), share)
    return float(2 * hits_at_top(scores_N, labels_N > 0, k) / (k + positives))


def spearman(x_N: Floats, y_N: Floats) -> float:
    """Spearman's rho, SciPy's: the correlation of ranks, ties having their mean rank.

    Args:
        x_N: finite.
        y_N: finite.

    Returns:
        In [-1, 1]; NaN with fewer than two samples, or x or y constant.
    """
    # SciPy would say NaN too, with a warning.
    if len(x_N) < 2 or np.ptp(x_N) == 0 or np.ptp(y_N) == 0:
        return math.nan
    return float(spearmanr(x_N, y_N).statistic)


def kendall_above(scores_N: Floats, targets_N: Floats, gap: float) -> float:
    """Kendall's tau over the pairs whose targets differ by more than a gap.

    (Concordant - discordant) / pairs, a pair with equal scores being neither. A constant predictor
    then has 0, where tau-b has no value.

    Args:
        scores_N: finite.
        targets_N: finite.
        gap: at least 0.

    Returns:
        In [-1, 1]; NaN in a room without such a pair.
    """
    assert gap >= 0, gap
    # Row above column in the target, so every pair is there once. Quadratic: a room of a whole day
    # has 2,880 segments and takes 66 MB.
    pairs_NN = targets_N[:, None] - targets_N > gap + _ROUNDING * (gap > 0)
    pairs = np.count_nonzero(pairs_NN)
    concordant = np.count_nonzero(pairs_NN & (scores_N[:, None] > scores_N))
    discordant = np.count_nonzero(pairs_NN & (scores_N[:, None] < scores_N))
    return (concordant - discordant) / pairs if pairs else math.nan


def ranking_summary(
    scores: ArrayLike, targets: ArrayLike, labels: ArrayLike, groups: ArrayLike
) -> dict[str, Any]:
    """The benchmark's metrics with their counts, ready for JSON.

    Args:
        scores: shape (M,), predicted.
        targets: shape (M,), true scores in [0, 1].
        labels: shape (M,), 1 for true highlights, else 0.
        groups: shape (M,), the room of each sample, text or integers.

    Returns:
        `mean_ap` (as for PHD's users: `average_precision`), `f1_at_50`, `spearman`, `kendall`
        (tau-b), `kendall_above_0.2`, `kendall_above_0.4` (None where undefined), and `counts`:
        `rooms`, and rooms in which each is undefined.

    Raises:
        ValueError: other shapes, a number that is not finite, or a label that is not 0 or 1.
    """
    labels_M = _labels(labels)
    found = {
        "mean_ap": mean_over_groups(_average_precision, scores, labels_M, groups),
        "f1_at_50": mean_over_groups(f1_at_top, scores, labels_M, groups),
        "spearman": mean_over_groups(spearman, scores, targets, groups),
        "kendall": mean_over_groups(kendall_tau, scores, targets, groups),
        **{
            f"kendall_above_{gap}": mean_over_groups(
                partial(kendall_above, gap=gap), scores, targets, groups
            )
            for gap in GAPS
        },
    }
    rooms = found["mean_ap"].defined + found["mean_ap"].undefined
    undefined = {f"rooms_without_{name}": value.undefined for name, value in found.items()}
    means = {name: None if math.isnan(v.mean) else v.mean for name, v in found.items()}
    return {**means, "counts": {"rooms": rooms, **undefined}}


def percentile_by_room(
    values_M: Floats, first_G1: Ints, percent: float = LABEL_PERCENTILE
) -> Floats:
    """NumPy's percentile (linear) of each room, to the bit: shape [G].

    Args:
        values_M: one room after the other.
        first_G1: first sample of each room, and M; no room is empty.
        percent: in [0, 100].
    """
    group_M = np.repeat(np.arange(len(first_G1) - 1), np.diff(first_G1))
    sorted_M = values_M[np.lexsort((values_M, group_M))]
    place_G = percent / 100 * (np.diff(first_G1) - 1)
    below_G = np.floor(place_G).astype(np.int64)
    above_G = np.minimum(below_G + 1, np.diff(first_G1) - 1)
    share_G = place_G - below_G
    low_G, high_G = sorted_M[first_G1[:-1] + below_G], sorted_M[first_G1[:-1] + above_G]
    # From the nearer end, as NumPy does: so equal neighbours give themselves.
    found_G: Floats = np.where(
        share_G < 0.5,
        low_G + (high_G - low_G) * share_G,
        high_G - (high_G - low_G) * (1 - share_G),
    )
    return found_G


def _average_precision(scores_N: Floats, labels_N: Floats) -> float:
    return average_precision(labels_N, scores_N)


def _labels(values: ArrayLike) -> Floats:
    array = finite_vector(values, "labels")
    other = (array != 0) & (array != 1)
    if other.any():
        at = int(np.argmax(other))
        raise ValueError(f"labels must be 0 or 1, not {array[at]} (entry {at})")
    return array
