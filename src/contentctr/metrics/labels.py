"""Metrics of a target that says yes or no of a segment, however rare the yes is.

Positive is a segment whose target is above 0: a label's share of it, where labels are spans.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from contentctr.metrics.average_precision import average_precision
from contentctr.metrics.ctr import Floats, finite_vector, hits_at_top, mean_over_groups

TOPS = (10, 30, 100)
"""Precision is taken among so many best segments, and among as many as are positive."""


def label_summary(scores: ArrayLike, targets: ArrayLike, groups: ArrayLike) -> dict[str, Any]:
    """Every metric of a label, ready for JSON.

    Args:
        scores: shape (M,).
        targets: shape (M,), 0 where the label is not.
        groups: shape (M,), the room of each sample.

    Returns:
        `average_precision` over all samples, `average_precision_in_rooms` (the mean over rooms
        that have a positive), `roc_auc`, `base_rate` (what both precisions are by chance; 0.5 is
        ROC AUC's), `precision_at` (by number of best segments; `positives`: as many as there are),
        and `positives`. None where undefined.
    """
    scores_M, targets_M = finite_vector(scores, "scores"), finite_vector(targets, "targets")
    positive_M = targets_M > 0
    positives = int(positive_M.sum())
    inside = mean_over_groups(lambda s, y: average_precision(y > 0, s), scores_M, targets_M, groups)
    tops = {str(k): k for k in TOPS if k <= len(scores_M)} | {"positives": positives}
    return {
        "average_precision": _or_none(average_precision(positive_M, scores_M)),
        "average_precision_in_rooms": _or_none(inside.mean),
        "roc_auc": _or_none(roc_auc(scores_M, targets_M)),
        "base_rate": positives / len(scores_M) if len(scores_M) else None,
        "precision_at": {
            name: hits_at_top(scores_M, positive_M, k) / k if k else None
            for name, k in tops.items()
        },
        "positives": positives,
        "rooms_with_positives": inside.defined,
    }


def roc_auc(scores_M: Floats, targets_M: Floats) -> float:
    """Chance that a positive is scored above a negative, ties counting half; NaN without either."""
    positive_M = targets_M > 0
    yes, no = int(positive_M.sum()), int((~positive_M).sum())
    if not yes or not no:
        return math.nan
    # The Mann-Whitney statistic from ranks, as SciPy and scikit-learn have it.
    rank_M = rankdata(scores_M)
    return float((np.sum(rank_M[positive_M]) - yes * (yes + 1) / 2) / (yes * no))


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
