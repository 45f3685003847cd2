"""Metrics of how well a room's segments are ordered: those of KuaiLive-M3's highlight benchmark.

Each is taken inside every room and then averaged over the rooms in which it is defined; how many
those are stands beside it. Vectorised over rooms; no number depends on the order of the samples.

Shape suffixes: M samples, G groups (rooms).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from contentctr.metrics.ctr import finite_vector
from contentctr.metrics.kendall import tau_of_sorted

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

GAPS = (0.2, 0.4)
"""Kendall's tau is also taken over pairs whose true scores differ by more than these."""
TOP_SHARE = 0.5
LABEL_PERCENTILE = 70
"""Segments at or above this percentile of their room's true scores are its highlights."""
_ROUNDING = 1e-9
"""0.8 - 0.6 is a little above 0.2 in floating point, and 0.1 * 30 above 3."""


@dataclass(frozen=True)
class GroupMean:
    """A mean over the groups in which a metric is defined."""

    mean: float
    """NaN where it is defined in none."""
    defined: int
    undefined: int


def mean_average_precision(scores: ArrayLike, labels: ArrayLike, groups: ArrayLike) -> GroupMean:
    """Mean over rooms of average precision, as scikit-learn's: tied scores are one threshold.

    Args:
        scores: shape (M,).
        labels: shape (M,), 0 or 1.
        groups: shape (M,), the room of each sample, text or integers.

    Returns:
        The mean; undefined in rooms without a positive.

    Raises:
        ValueError: other shapes, a number that is not finite, or a label that is not 0 or 1.
    """
    sorted_ = _Sorted.of(scores, _labels(labels), groups)
    if not len(sorted_):
        return _mean_of_defined(np.empty(0))
    hits_M = _running(sorted_.targets_M, sorted_)
    # Only the last of tied scores is a threshold; what is gained there are all hits since the last.
    last_M = np.append(np.diff(sorted_.scores_M) != 0, True)
    last_M[sorted_.first_G1[1:] - 1] = True
    at = np.flatnonzero(last_M)
    before = np.append(0, hits_M[at][:-1])
    before[np.searchsorted(at, sorted_.first_G1[:-1])] = 0
    gained = (hits_M[at] - before) * hits_M[at] / (sorted_.place_M[at] + 1)
    sums_G = np.add.reduceat(gained, np.searchsorted(at, sorted_.first_G1[:-1]))
    positives_G = hits_M[sorted_.first_G1[1:] - 1]
    return _mean_of_defined(_over(sums_G, positives_G))


def f1_at_top(
    scores: ArrayLike, labels: ArrayLike, groups: ArrayLike, share: float = TOP_SHARE
) -> GroupMean:
    """Mean over rooms of the F1 of calling the top `share` of a room positive.

    Called positive are k = ceil(share * n) of a room's n segments; scores tied with the k-th share
    the remaining places by expectation.

    Args:
        scores: shape (M,).
        labels: shape (M,), 0 or 1.
        groups: shape (M,).
        share: in (0, 1].

    Returns:
        The mean; undefined in rooms without a positive.

    Raises:
        ValueError: as `mean_average_precision`, or `share` is out of range.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1], not {share}")
    sorted_ = _Sorted.of(scores, _labels(labels), groups)
    if not len(sorted_):
        return _mean_of_defined(np.empty(0))
    first_G, length_G = sorted_.first_G1[:-1], np.diff(sorted_.first_G1)
    top_G = np.maximum(np.ceil(share * length_G - _ROUNDING).astype(np.int64), 1)
    cut_M = np.repeat(sorted_.scores_M[first_G + top_G - 1], length_G)
    above_M, tied_M = sorted_.scores_M > cut_M, sorted_.scores_M == cut_M

    def total(values_M: NDArray[Any]) -> Floats:
        sums: Floats = np.add.reduceat(values_M.astype(np.float64), first_G)
        return sums

    label_M = sorted_.targets_M
    places_G = (top_G - total(above_M)) / total(tied_M)
    hits_G = total(above_M * label_M) + places_G * total(tied_M * label_M)
    positives_G = total(label_M)
    return _mean_of_defined(np.where(positives_G > 0, 2 * hits_G / (top_G + positives_G), np.nan))


def spearman_by_group(scores: ArrayLike, targets: ArrayLike, groups: ArrayLike) -> GroupMean:
    """Mean over rooms of Spearman's rho: the correlation of ranks, ties having their mean rank.

    Args:
        scores: shape (M,).
        targets: shape (M,).
        groups: shape (M,).

    Returns:
        The mean; undefined in rooms of one segment, or with constant scores or targets.

    Raises:
        ValueError: other shapes, or a number that is not finite.
    """
    sorted_ = _Sorted.of(scores, targets, groups)
    if not len(sorted_):
        return _mean_of_defined(np.empty(0))
    first_G, length_G = sorted_.first_G1[:-1], np.diff(sorted_.first_G1)
    middle_M = np.repeat((length_G - 1) / 2, length_G)
    x_M = _ranks(sorted_.scores_M, sorted_) - middle_M
    y_M = _ranks(sorted_.targets_M, sorted_) - middle_M
    xx_G, yy_G, xy_G = (np.add.reduceat(v, first_G) for v in (x_M * x_M, y_M * y_M, x_M * y_M))
    return _mean_of_defined(np.clip(_over(xy_G, np.sqrt(xx_G) * np.sqrt(yy_G)), -1, 1))


def kendall_by_group(
    scores: ArrayLike, targets: ArrayLike, groups: ArrayLike, *, gap: float | None = None
) -> GroupMean:
    """Mean over rooms of Kendall's tau.

    Without a gap, tau-b. With one, pairs whose targets differ by more than it are counted alone:
    (concordant - discordant) / pairs, a pair with equal scores being neither. A constant predictor
    then has 0, where tau-b has no value.

    Args:
        scores: shape (M,).
        targets: shape (M,).
        groups: shape (M,).
        gap: at least 0; None for tau-b over all pairs.

    Returns:
        The mean; undefined in rooms with constant scores or targets (tau-b), or without such a
        pair.

    Raises:
        ValueError: other shapes, a number that is not finite, or a gap below 0.
    """
    if gap is not None and not gap >= 0:
        raise ValueError(f"gap must be at least 0, not {gap}")
    sorted_ = _Sorted.of(scores, targets, groups)
    if gap is None:
        # tau_of_sorted wants rising scores; falling ones, negated, are.
        taus_G = _tau_of_groups(-sorted_.scores_M, -sorted_.targets_M, sorted_.first_G1)
    else:
        taus_G = _gapped_tau_of_groups(
            sorted_.scores_M, sorted_.targets_M, sorted_.first_G1, gap + _ROUNDING * (gap > 0)
        )
    return _mean_of_defined(taus_G)


def ranking_summary(
    scores: ArrayLike, targets: ArrayLike, labels: ArrayLike, groups: ArrayLike
) -> dict[str, Any]:
    """The benchmark's metrics with their counts, ready for JSON.

    Args:
        scores: shape (M,), predicted.
        targets: shape (M,), true scores in [0, 1].
        labels: shape (M,), 1 for true highlights, else 0.
        groups: shape (M,), the room of each sample.

    Returns:
        `mean_ap`, `f1_at_50`, `spearman`, `kendall`, `kendall_above_0.2`, `kendall_above_0.4`
        (None where undefined), and `counts`: `rooms`, and rooms in which each is undefined.

    Raises:
        ValueError: as the metrics.
    """
    found = {
        "mean_ap": mean_average_precision(scores, labels, groups),
        "f1_at_50": f1_at_top(scores, labels, groups),
        "spearman": spearman_by_group(scores, targets, groups),
        "kendall": kendall_by_group(scores, targets, groups),
        **{
            f"kendall_above_{gap}": kendall_by_group(scores, targets, groups, gap=gap)
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


@dataclass(frozen=True, kw_only=True)
class _Sorted:
    """Samples by group, inside a group by falling score."""

    scores_M: Floats
    targets_M: Floats
    first_G1: Ints
    place_M: Ints
    """Position inside the group, from 0."""

    def __len__(self) -> int:
        return len(self.scores_M)

    @classmethod
    def of(cls, scores: ArrayLike, targets: ArrayLike, groups: ArrayLike) -> _Sorted:
        scores_M, targets_M = finite_vector(scores, "scores"), finite_vector(targets, "targets")
        groups_M = np.asarray(groups)
        if not scores_M.shape == targets_M.shape == groups_M.shape:
            raise ValueError(
                "scores, targets and groups must be as long, not "
                f"{scores_M.shape}, {targets_M.shape} and {groups_M.shape}"
            )
        _, group_M = np.unique(groups_M, return_inverse=True)
        # Targets too: so equal samples cannot tell in which order they came.
        order_M = np.lexsort((targets_M, -scores_M, group_M))
        length_G = np.bincount(group_M)
        first_G1 = np.append(0, np.cumsum(length_G))
        return cls(
            scores_M=scores_M[order_M],
            targets_M=targets_M[order_M],
            first_G1=first_G1,
            place_M=np.arange(len(order_M)) - np.repeat(first_G1[:-1], length_G),
        )


def _running(values_M: Floats, sorted_: _Sorted) -> Floats:
    """Running sums inside each group; exact for whole numbers."""
    sums_M = np.cumsum(values_M)
    first_G = sorted_.first_G1[:-1]
    before_G = sums_M[first_G] - values_M[first_G]
    running_M: Floats = sums_M - np.repeat(before_G, np.diff(sorted_.first_G1))
    return running_M


def _ranks(values_M: Floats, sorted_: _Sorted) -> Floats:
    """Mean rank inside the group, from 0."""
    group_M = np.repeat(np.arange(len(sorted_.first_G1) - 1), np.diff(sorted_.first_G1))
    order_M = np.lexsort((values_M, group_M))
    new_M = np.append(True, np.diff(values_M[order_M]) != 0)
    new_M[sorted_.first_G1[:-1]] = True
    begins = np.flatnonzero(new_M)
    lengths = np.diff(np.append(begins, len(values_M)))
    # Groups keep their stretch when sorted, so that a place means the same before and after.
    means = sorted_.place_M[begins] + (lengths - 1) / 2
    ranks_M = np.empty(len(values_M))
    ranks_M[order_M] = np.repeat(means, lengths)
    return ranks_M


@numba.njit(cache=True, parallel=True)
def _tau_of_groups(x_M: Floats, y_M: Floats, first_G1: Ints) -> Floats:
    """Tau-b of each group, x rising inside it."""
    taus = np.empty(len(first_G1) - 1)
    for g in numba.prange(len(taus)):
        rows = slice(first_G1[g], first_G1[g + 1])
        taus[g] = tau_of_sorted(x_M[rows], y_M[rows].copy())
    return taus


@numba.njit(cache=True, parallel=True)
def _gapped_tau_of_groups(x_M: Floats, y_M: Floats, first_G1: Ints, gap: float) -> Floats:
    """(Concordant - discordant) / pairs of each group, over pairs whose y differ by over `gap`."""
    taus = np.empty(len(first_G1) - 1)
    for g in numba.prange(len(taus)):
        difference = pairs = 0
        for i in range(first_G1[g], first_G1[g + 1]):
            for j in range(first_G1[g], i):
                apart = y_M[i] - y_M[j]
                if abs(apart) > gap:
                    pairs += 1
                    sign_x = (x_M[i] > x_M[j]) - (x_M[i] < x_M[j])
                    difference += sign_x if apart > 0 else -sign_x
        taus[g] = difference / pairs if pairs else np.nan
    return taus


def _over(a_G: Floats, b_G: Floats) -> Floats:
    """A / b, NaN where b is 0."""
    ratio_G: Floats = np.divide(a_G, b_G, out=np.full(len(a_G), np.nan), where=b_G > 0)
    return ratio_G


def _mean_of_defined(values_G: Floats) -> GroupMean:
    defined = values_G[~np.isnan(values_G)]
    mean = math.fsum(defined) / len(defined) if len(defined) else math.nan
    return GroupMean(mean, len(defined), len(values_G) - len(defined))


def _labels(values: ArrayLike) -> Floats:
    array = finite_vector(values, "labels")
    other = (array != 0) & (array != 1)
    if other.any():
        at = int(np.argmax(other))
        raise ValueError(f"labels must be 0 or 1, not {array[at]} (entry {at})")
    return array
