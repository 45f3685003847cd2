"""Metrics of predicted against true targets.

All take every sample at once, so no number depends on a batch size or on the order of the samples.
`mean_over_groups` takes one of them inside every room; `summary` is the block of metrics.json.

Shape suffixes, beside those of batch.py: M samples, C calibration bins.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import kendalltau

Floats = NDArray[np.float64]
_ROUNDING = 1e-9
"""0.1 * 30 is a little above 3 in floating point; the top of 30 is 3 all the same."""


def kendall_tau(x: ArrayLike, y: ArrayLike) -> float:
    """Kendall's tau-b (Eq. 15), SciPy's.

    Args:
        x: numbers of shape (M,).
        y: numbers of shape (M,).

    Returns:
        Tau in [-1, 1]; NaN where it is undefined: fewer than two samples, or x or y constant.

    Raises:
        ValueError: other shapes, or a number that is not finite.
    """
    x_M, y_M = finite_vector(x, "x"), finite_vector(y, "y")
    _same_length(x_M, "x", y_M, "y")
    # SciPy warns of fewer than two; of a constant it says NaN by itself.
    return float(kendalltau(x_M, y_M).statistic) if len(x_M) > 1 else math.nan


@dataclass(frozen=True)
class GroupMean:
    """A mean over the groups in which a metric is defined."""

    mean: float
    """NaN where it is defined in none."""
    defined: int
    """Groups that the mean is over."""
    undefined: int
    """Groups that the mean leaves out."""


def mean_over_groups(
    metric: Callable[[Floats, Floats], float],
    scores: ArrayLike,
    targets: ArrayLike,
    groups: ArrayLike,
) -> GroupMean:
    """Mean over groups (rooms) of a metric inside a group.

    Args:
        metric: of the scores and targets of one group; NaN where it is undefined.
        scores: shape (M,).
        targets: shape (M,).
        groups: shape (M,), the room of each sample, text or integers.

    Raises:
        ValueError: other shapes, or a number that is not finite.
    """
    scores_M, targets_M = finite_vector(scores, "scores"), finite_vector(targets, "targets")
    groups_M = np.asarray(groups)
    _same_length(scores_M, "scores", targets_M, "targets")
    _same_length(scores_M, "scores", groups_M, "groups")
    _, group_M = np.unique(groups_M, return_inverse=True)
    # By score and target too: so no metric can tell, by a last bit, in which order samples came.
    order_M = np.lexsort((targets_M, scores_M, group_M))
    borders = np.flatnonzero(np.diff(group_M[order_M])) + 1
    rooms = np.split(order_M, borders) if len(order_M) else []
    values = [metric(scores_M[rows], targets_M[rows]) for rows in rooms]
    defined = [value for value in values if not math.isnan(value)]
    mean = math.fsum(defined) / len(defined) if defined else math.nan
    return GroupMean(mean, len(defined), len(values) - len(defined))


def log_loss(scores: ArrayLike, targets: ArrayLike) -> float:
    """Mean of `log_losses`; NaN without samples."""
    return _mean(log_losses(scores, targets))


def log_losses(scores: ArrayLike, targets: ArrayLike) -> Floats:
    """Cross-entropy of each soft label (Eq. 6), in nats, [M].

    Scores are held one float64 epsilon away from 0 and 1, as scikit-learn does, so that a
    saturated sigmoid costs 36 and not infinity.

    Args:
        scores: shape (M,), in [0, 1].
        targets: shape (M,), in [0, 1].
    """
    scores_M, targets_M = _shares(scores, "scores"), _shares(targets, "targets")
    _same_length(scores_M, "scores", targets_M, "targets")
    tiny = np.finfo(np.float64).eps
    clipped_M = np.clip(scores_M, tiny, 1 - tiny)
    found_M: Floats = -(targets_M * np.log(clipped_M) + (1 - targets_M) * np.log1p(-clipped_M))
    return found_M


def mean_ratio(scores: ArrayLike, targets: ArrayLike) -> tuple[float, int]:
    """Mean of s / y over samples with y > 0 (Table 4), and their number; NaN without any."""
    scores_M, targets_M = finite_vector(scores, "scores"), _shares(targets, "targets")
    _same_length(scores_M, "scores", targets_M, "targets")
    positive_M = targets_M > 0
    return _mean(scores_M[positive_M] / targets_M[positive_M]), int(positive_M.sum())


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Mean score against mean target in C bins of (nearly) equal count, by rising score."""

    mean_score_C: Floats
    mean_target_C: Floats
    count_C: NDArray[np.int64]
    error: float
    """Expected calibration error: mean over samples of a bin's |mean score - mean target|."""


def calibration(
    scores: ArrayLike, targets: ArrayLike, bins: int = 10, weights: ArrayLike | None = None
) -> Calibration:
    """How far predicted values are from true ones on average, bin by bin.

    Equal scores never fall into two bins, so the result does not depend on the samples' order;
    with many ties, or fewer samples than bins, there are fewer bins.

    Args:
        scores: shape (M,).
        targets: shape (M,).
        bins: C, at least 1.
        weights: shape (M,), above 0, of the samples in every mean (say, viewers); None: all equal.
            The bins' borders ignore them.
    """
    scores_M, targets_M = finite_vector(scores, "scores"), finite_vector(targets, "targets")
    _same_length(scores_M, "scores", targets_M, "targets")
    weights_M = np.ones_like(scores_M) if weights is None else finite_vector(weights, "weights")
    _same_length(scores_M, "scores", weights_M, "weights")
    if bins < 1:
        raise ValueError(f"bins must be at least 1, not {bins}")
    if (weights_M <= 0).any():
        raise ValueError(f"weights must be above 0, not {weights_M.min()}")
    order_M = np.argsort(scores_M, kind="stable")
    ranked_M = scores_M[order_M]
    if not len(ranked_M):
        empty = np.zeros(0)
        return Calibration(
            mean_score_C=empty,
            mean_target_C=empty,
            count_C=np.zeros(0, dtype=np.int64),
            error=math.nan,
        )
    nominal_C = ranked_M[len(ranked_M) * np.arange(bins) // bins]
    begins_C = np.unique(np.searchsorted(ranked_M, nominal_C, side="left"))
    weight_C = np.add.reduceat(weights_M[order_M], begins_C)
    score_C = np.add.reduceat((weights_M * scores_M)[order_M], begins_C) / weight_C
    target_C = np.add.reduceat((weights_M * targets_M)[order_M], begins_C) / weight_C
    return Calibration(
        mean_score_C=score_C,
        mean_target_C=target_C,
        count_C=np.diff(np.append(begins_C, len(ranked_M))),
        error=float(np.sum(weight_C * np.abs(score_C - target_C)) / weight_C.sum()),
    )


def precision_at_top(scores: ArrayLike, targets: ArrayLike, share: float = 0.1) -> float:
    """Share of a room's predicted top that is in its true top.

    The top of a room of M samples is k = ceil(share M) of them. True side: every sample whose
    target is at least the k-th highest is in the top, so ties with the k-th are. Predicted side:
    see `hits_at_top`; a constant predictor gets what chance gives.

    Args:
        scores: shape (M,), M at least 1.
        targets: shape (M,).
        share: of a room that is its top, in (0, 1).

    Returns:
        In [0, 1]; NaN where all samples are in the true top (all targets equal, or one sample).
    """
    scores_M, targets_M = finite_vector(scores, "scores"), finite_vector(targets, "targets")
    k = top_size(len(scores_M), share)
    true_top_M = targets_M >= np.sort(targets_M)[-k]
    return math.nan if true_top_M.all() else hits_at_top(scores_M, true_top_M, k) / k


def top_size(count: int, share: float) -> int:
    """How many of `count` samples are the top `share` of them: rounded up, at least 1."""
    assert 0 < share <= 1, share
    return max(1, math.ceil(share * count - _ROUNDING))


def hits_at_top(scores_M: Floats, positive_M: NDArray[np.bool_], k: int) -> float:
    """Positives among the k samples of highest score.

    Samples tied at the k-th score share the places left for them, which is the expectation over
    random orders.
    """
    cut = np.sort(scores_M)[-k]
    above_M, tied_M = scores_M > cut, scores_M == cut
    places = (k - above_M.sum()) / tied_M.sum()
    return float(positive_M[above_M].sum() + places * positive_M[tied_M].sum())


def summary(
    scores: ArrayLike,
    targets: ArrayLike,
    groups: ArrayLike,
    *,
    bins: int = 10,
    share: float = 0.1,
) -> dict[str, Any]:
    """Every metric with its counts, ready for JSON: the block `metrics` of metrics.json.

    Args:
        scores: shape (M,), in [0, 1].
        targets: shape (M,), in [0, 1].
        groups: shape (M,), the room of each sample.
        bins: of the calibration.
        share: of a room that is its top.

    Returns:
        `kendall_tau`, `kendall_tau_in_rooms`, `log_loss`, `mean_ratio`, `calibration_error`,
        `precision_at_top` (numbers, None where undefined), `calibration` (a list of bins:
        mean_score, mean_target, count), `top_share`, and `counts`: over how many samples or rooms
        each is taken, and how many rooms are undefined.

    Raises:
        ValueError: a score or target is not finite or outside [0, 1], or shapes differ.
    """
    scores_M, targets_M = _shares(scores, "scores"), _shares(targets, "targets")
    tau = mean_over_groups(kendall_tau, scores_M, targets_M, groups)
    precision = mean_over_groups(
        partial(precision_at_top, share=share), scores_M, targets_M, groups
    )
    ratio, positive = mean_ratio(scores_M, targets_M)
    table = calibration(scores_M, targets_M, bins)
    return {
        "kendall_tau": _or_none(kendall_tau(scores_M, targets_M)),
        "kendall_tau_in_rooms": _or_none(tau.mean),
        "log_loss": _or_none(log_loss(scores_M, targets_M)),
        "mean_ratio": _or_none(ratio),
        "calibration_error": _or_none(table.error),
        "precision_at_top": _or_none(precision.mean),
        "top_share": share,
        "calibration": [
            {"mean_score": float(s), "mean_target": float(y), "count": int(c)}
            for s, y, c in zip(table.mean_score_C, table.mean_target_C, table.count_C, strict=True)
        ],
        "counts": {
            "samples": len(scores_M),
            "rooms": tau.defined + tau.undefined,
            "samples_with_positive_target": positive,
            "rooms_with_tau": tau.defined,
            "rooms_without_tau": tau.undefined,
            "rooms_with_top": precision.defined,
            "rooms_without_top": precision.undefined,
        },
    }


def finite_vector(values: ArrayLike, name: str) -> Floats:
    """`values` as float64 of shape (M,), all finite.

    Raises:
        ValueError: they are not; names them, and the entry.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension, not the shape {array.shape}")
    finite = np.isfinite(array)
    if not finite.all():
        at = int(np.argmin(finite))
        raise ValueError(f"{name} must be finite, not {array[at]} (entry {at})")
    return array


def _shares(values: ArrayLike, name: str) -> Floats:
    array = finite_vector(values, name)
    outside = (array < 0) | (array > 1)
    if outside.any():
        at = int(np.argmax(outside))
        raise ValueError(f"{name} must lie in [0, 1], not {array[at]} (entry {at})")
    return array


def _same_length(a: NDArray[Any], a_name: str, b: NDArray[Any], b_name: str) -> None:
    if a.shape != b.shape:
        raise ValueError(f"{a_name} and {b_name} must be as long, not {a.shape} and {b.shape}")


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else math.nan


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
