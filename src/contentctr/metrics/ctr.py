"""Metrics of predicted against true targets, in NumPy and numba alone.

All take every sample at once, so no number depends on a batch size or on the order of the samples.

Shape suffixes, beside those of batch.py: M samples, W windows, C calibration bins.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contentctr.metrics.kendall import tau_of_rows, tau_of_sorted

Floats = NDArray[np.float64]


def kendall_tau(x: ArrayLike, y: ArrayLike) -> float:
    """Kendall's tau-b (Eq. 15), by merge sort in O(n log n).

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
    order_M = np.argsort(x_M)
    return float(tau_of_sorted(x_M[order_M], y_M[order_M]))


def kendall_tau_rows(x_WN: ArrayLike, y_WN: ArrayLike, mask: ArrayLike | None = None) -> Floats:
    """Kendall's tau-b of each row, in one parallel loop; quadratic in N, so made for windows.

    Args:
        x_WN: numbers of shape (W, N).
        y_WN: numbers of shape (W, N).
        mask: bool of shape (W, N), which entries count; the others may be NaN. None: all.

    Returns:
        Shape (W,), tau in [-1, 1]; NaN where a row's tau is undefined.

    Raises:
        ValueError: shapes that differ, or a number that counts and is not finite.
    """
    x = np.ascontiguousarray(x_WN, dtype=np.float64)
    y = np.ascontiguousarray(y_WN, dtype=np.float64)
    use = np.ones(x.shape, dtype=np.bool_) if mask is None else np.ascontiguousarray(mask)
    if x.ndim != 2 or x.shape != y.shape or x.shape != use.shape or use.dtype != np.bool_:
        raise ValueError(
            "x_WN, y_WN and mask must be of one shape (W, N), mask of bool, not "
            f"{x.shape}, {y.shape}, {use.shape} of {use.dtype}"
        )
    for name, values in (("x_WN", x), ("y_WN", y)):
        bad = use & ~np.isfinite(values)
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise ValueError(
                f"{name} must be finite, not {values[row, column]} at [{row}, {column}]"
            )
    taus: Floats = tau_of_rows(x, y, use)
    return taus


def kendall_tau_by_group(
    scores: ArrayLike, targets: ArrayLike, groups: ArrayLike
) -> tuple[float, int, int]:
    """Mean over groups (rooms) of the tau inside a group.

    Args:
        scores: shape (M,).
        targets: shape (M,).
        groups: shape (M,), the room of each sample, text or integers.

    Returns:
        The mean over groups whose tau is defined (NaN if there are none), their number, and the
        number of groups whose tau is undefined, which the mean leaves out.
    """
    taus = [kendall_tau(s, y) for s, y in _by_group(scores, targets, groups)]
    return _mean_of_defined(taus)


def log_loss(scores: ArrayLike, targets: ArrayLike) -> float:
    """Mean cross-entropy of soft labels (Eq. 6), in nats; NaN without samples.

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
    return _mean(-(targets_M * np.log(clipped_M) + (1 - targets_M) * np.log1p(-clipped_M)))


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


def precision_at_top(
    scores: ArrayLike, targets: ArrayLike, groups: ArrayLike, share: float = 0.1
) -> tuple[float, int, int]:
    """Share of a group's (room's) predicted top that is in its true top, meaned over groups.

    The top of a room of n samples is k = ceil(share n) of them. True side: every sample whose
    target is at least the k-th highest is in the top, so ties with the k-th are. Predicted side:
    samples tied at the k-th score share the places left for them, which is the expectation over
    random orders; so a constant predictor gets what chance gives. A room all of whose samples are
    in its true top (all targets equal, or one sample) is undefined.

    Args:
        scores: shape (M,).
        targets: shape (M,).
        groups: shape (M,).
        share: of a room that is its top, in (0, 1).

    Returns:
        The mean over defined rooms (NaN if there are none), their number, and the number of
        undefined rooms, which the mean leaves out.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must be in (0, 1), not {share}")
    return _mean_of_defined([_top_hits(s, y, share) for s, y in _by_group(scores, targets, groups)])


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
    in_rooms, tau_rooms, no_tau_rooms = kendall_tau_by_group(scores_M, targets_M, groups)
    precision, top_rooms, no_top_rooms = precision_at_top(scores_M, targets_M, groups, share)
    ratio, positive = mean_ratio(scores_M, targets_M)
    table = calibration(scores_M, targets_M, bins)
    return {
        "kendall_tau": _or_none(kendall_tau(scores_M, targets_M)),
        "kendall_tau_in_rooms": _or_none(in_rooms),
        "log_loss": _or_none(log_loss(scores_M, targets_M)),
        "mean_ratio": _or_none(ratio),
        "calibration_error": _or_none(table.error),
        "precision_at_top": _or_none(precision),
        "top_share": share,
        "calibration": [
            {"mean_score": float(s), "mean_target": float(y), "count": int(c)}
            for s, y, c in zip(table.mean_score_C, table.mean_target_C, table.count_C, strict=True)
        ],
        "counts": {
            "samples": len(scores_M),
            "rooms": tau_rooms + no_tau_rooms,
            "samples_with_positive_target": positive,
            "rooms_with_tau": tau_rooms,
            "rooms_without_tau": no_tau_rooms,
            "rooms_with_top": top_rooms,
            "rooms_without_top": no_top_rooms,
        },
    }


def _top_hits(scores_M: Floats, targets_M: Floats, share: float) -> float:
    # 0.1 * 30 is a little above 3 in floating point; the top of 30 is 3 all the same.
    k = max(1, math.ceil(share * len(scores_M) - 1e-9))
    true_top_M = targets_M >= np.sort(targets_M)[-k]
    if true_top_M.all():
        return math.nan
    cut = np.sort(scores_M)[-k]
    above_M, tied_M = scores_M > cut, scores_M == cut
    places = (k - above_M.sum()) / tied_M.sum()
    return float((true_top_M[above_M].sum() + places * true_top_M[tied_M].sum()) / k)


def _by_group(
    scores: ArrayLike, targets: ArrayLike, groups: ArrayLike
) -> Iterator[tuple[Floats, Floats]]:
    """Scores and targets of each group, by rising group."""
    scores_M, targets_M = finite_vector(scores, "scores"), finite_vector(targets, "targets")
    groups_M = np.asarray(groups)
    _same_length(scores_M, "scores", targets_M, "targets")
    _same_length(scores_M, "scores", groups_M, "groups")
    _, group_M = np.unique(groups_M, return_inverse=True)
    order_M = np.argsort(group_M, kind="stable")
    borders = np.flatnonzero(np.diff(group_M[order_M])) + 1
    for rows in np.split(order_M, borders) if len(order_M) else []:
        yield scores_M[rows], targets_M[rows]


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


def _mean_of_defined(values: list[float]) -> tuple[float, int, int]:
    defined = [v for v in values if not math.isnan(v)]
    mean = math.fsum(defined) / len(defined) if defined else math.nan
    return mean, len(defined), len(values) - len(defined)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
