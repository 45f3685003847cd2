"""What a pre-trained streamer table is judged by: held-out clicks, and neighbours of one type.

Shape suffixes: M impressions, U streamers, D width of a vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contentctr.metrics.ctr import log_loss

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
SMOOTHING = 20
"""Impressions at the mean rate that popularity adds to each streamer's own."""
RANDOM_TABLES = 20
_BLOCK = 1024


def area_under_curve(scores_M: Floats, clicked_M: Bools) -> float:
    """Area under the ROC curve: share of (clicked, not clicked) pairs in order, ties half.

    Args:
        scores_M: finite scores.
        clicked_M: bool.

    Returns:
        In [0, 1]; NaN without a click, or without anything else.
    """
    positives = int(clicked_M.sum())
    negatives = len(clicked_M) - positives
    if not positives or not negatives:
        return float("nan")
    _, group_M, count_G = np.unique(scores_M, return_inverse=True, return_counts=True)
    mean_rank_G = np.cumsum(count_G) - (count_G - 1) / 2
    rank_sum = float(mean_rank_G[group_M][clicked_M].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def click_metrics(scores_M: Floats, clicked_M: Bools) -> dict[str, float | None]:
    """Area under the curve and log loss in nats; None where undefined."""
    found = {
        "auc": area_under_curve(scores_M, clicked_M),
        "log_loss": log_loss(scores_M, clicked_M.astype(np.float64)),
    }
    return {name: None if np.isnan(value) else value for name, value in found.items()}


def popularity(streamer_M: NDArray[np.int64], clicked_M: Bools, num_streamers: int) -> Floats:
    """Click rate of each streamer's row [1 + U], smoothed; row 0, unknown, has the mean rate.

    Args:
        streamer_M: rows, 0 to num_streamers, of training impressions.
        clicked_M: bool.
        num_streamers: U.
    """
    size = num_streamers + 1
    shown_U = np.bincount(streamer_M, minlength=size)
    clicks_U = np.bincount(streamer_M, weights=clicked_M, minlength=size)
    mean = float(clicked_M.mean())
    rate_U: Floats = (clicks_U + SMOOTHING * mean) / (shown_U + SMOOTHING)
    rate_U[0] = mean
    return rate_U


def nearest_neighbour_purity(vectors_UD: NDArray[np.floating], types: Sequence[str]) -> float:
    """Share of streamers whose nearest neighbour by cosine is of their type.

    Args:
        vectors_UD: two vectors or more; one of zeros is like no other.
        types: U texts.
    """
    assert len(vectors_UD) == len(types) >= 2, (vectors_UD.shape, len(types))
    norm_U1 = np.linalg.norm(vectors_UD, axis=1, keepdims=True)
    unit_UD = vectors_UD / np.where(norm_U1 > 0, norm_U1, 1)
    kind_U = np.unique(np.array(types), return_inverse=True)[1]
    same = 0
    for first in range(0, len(unit_UD), _BLOCK):
        cosine = unit_UD[first : first + _BLOCK] @ unit_UD.T
        rows = np.arange(len(cosine))
        cosine[rows, first + rows] = -np.inf
        same += int((kind_U[cosine.argmax(axis=1)] == kind_U[first + rows]).sum())
    return same / len(unit_UD)


def table_purity(
    ids: Sequence[str], vectors_UD: NDArray[np.floating], types: Mapping[str, str]
) -> dict[str, Any]:
    """Purity of a table, and the mean over random tables of its shape, for known types alone."""
    known = [row for row, name in enumerate(ids) if name in types]
    if len(known) < 2:
        return {"streamers": len(known), "table": None, "random": None}
    kinds = [types[ids[row]] for row in known]
    shape = (len(known), vectors_UD.shape[1])
    random = [
        nearest_neighbour_purity(np.random.default_rng(seed).standard_normal(shape), kinds)
        for seed in range(RANDOM_TABLES)
    ]
    table = nearest_neighbour_purity(vectors_UD[known], kinds)
    return {"streamers": len(known), "table": table, "random": float(np.mean(random))}
