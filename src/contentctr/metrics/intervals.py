"""How far a metric would move with other rooms: bootstrap over rooms.

Segments of a room resemble each other, so rooms are drawn, not segments: a draw counts each room
as often as it came up among as many draws with replacement as there are rooms. Nothing is computed
anew in a draw: tau's pairs are counted once for each two rooms, and a draw weighs the counts.

Shape suffixes: M samples, G rooms, D draws.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from contentctr.metrics.ctr import Floats, kendall_tau

Ints = NDArray[np.int64]
DRAWS = 1000
CONFIDENCE = 0.95
LEAST_ROOMS = 5
"""Fewer say too little of other rooms for any interval."""
_MOST_SAMPLES = 40_000
"""Pairs of so many samples take a second; of more, each room's are thinned out evenly."""
_MOST_ROOMS = 1000
"""More are drawn in so many groups: as good an interval, and a matrix that fits the memory."""


class RoomDraws:
    """Draws of the same rooms, for every predictor the same, so that differences can be taken.

    Args:
        rooms: shape (M,), the room of each sample, text or integers.
        draws: D.
        seed: of the draws.
    """

    def __init__(self, rooms: ArrayLike, *, draws: int = DRAWS, seed: int = 0) -> None:
        names, room_M = np.unique(np.asarray(rooms), return_inverse=True)
        generator = np.random.default_rng(seed)
        self.num_rooms = len(names)
        groups = min(self.num_rooms, _MOST_ROOMS)
        group_G = generator.permutation(self.num_rooms) % groups if groups else room_M[:0]
        self.room_M: Ints = room_M
        self.group_G: Ints = group_G
        chances = np.full(groups, 1 / max(groups, 1))
        self.weight_DG = generator.multinomial(groups, chances, draws).astype(np.float64)
        self._kept_M = _thinned(room_M)

    def kendall_tau(self, scores_M: Floats, targets_M: Floats) -> Floats:
        """Tau-b over all samples in every draw, [D]; NaN where it is undefined.

        Copies of one sample are tied with each other, in both numbers. With S the sum of a pair's
        agreement (1, -1, 0) over the samples of two rooms, and w how often each room was drawn,
        half of w'Sw is the draw's concordant less its discordant pairs; and likewise for pairs
        that are not tied.
        """
        kept_M, weight_DG = self._kept_M, self.weight_DG
        group_M = self.group_G[self.room_M[kept_M]]
        order_M = np.argsort(group_M, kind="stable")
        first_G1 = np.searchsorted(group_M[order_M], np.arange(weight_DG.shape[1] + 1))
        ranks = [
            np.unique(x[kept_M][order_M], return_inverse=True)[1] for x in (scores_M, targets_M)
        ]
        agree_GG, x_GG, y_GG = _pairs(ranks[0], ranks[1], first_G1)
        agree_D, x_D, y_D = (
            np.einsum("dg,dg->d", weight_DG @ pairs_GG, weight_DG)
            for pairs_GG in (agree_GG, x_GG, y_GG)
        )
        norm_D = np.sqrt(x_D) * np.sqrt(y_D)
        return _ratio(agree_D, norm_D)

    def mean(self, values_M: Floats) -> Floats:
        """Mean over all samples in every draw, [D]."""
        group_M, groups = self.group_G[self.room_M], self.weight_DG.shape[1]
        sums_G = np.bincount(group_M, values_M, groups)
        counts_G = np.bincount(group_M, minlength=groups)
        return _ratio(self.weight_DG @ sums_G, self.weight_DG @ counts_G)

    def kendall_tau_in_rooms(self, scores_M: Floats, targets_M: Floats) -> Floats:
        """Mean over rooms of the tau inside a room, in every draw, [D]."""
        value_R = np.full(self.num_rooms, np.nan)
        order_M = np.argsort(self.room_M, kind="stable")
        borders = np.flatnonzero(np.diff(self.room_M[order_M])) + 1
        for room, rows in enumerate(np.split(order_M, borders)):
            value_R[room] = kendall_tau(scores_M[rows], targets_M[rows])
        known_R = ~np.isnan(value_R)
        groups = self.weight_DG.shape[1]
        sums_G = np.bincount(self.group_G[known_R], value_R[known_R], groups)
        counts_G = np.bincount(self.group_G[known_R], minlength=groups)
        sums_D, counts_D = self.weight_DG @ sums_G, self.weight_DG @ counts_G
        return _ratio(sums_D, counts_D)

    def average_precision(self, scores_M: Floats, targets_M: Floats) -> Floats:
        """Average precision over all samples in every draw, [D]; positives are targets above 0."""
        order_M = np.argsort(-scores_M, kind="stable")
        sorted_M = scores_M[order_M]
        # Samples of equal score come in together: only the last of them is a point of the curve.
        ends_M = np.append(sorted_M[1:] != sorted_M[:-1], True)[: len(order_M)]
        group_M = self.group_G[self.room_M[order_M]]
        found_D: Floats = _precisions(self.weight_DG, group_M, (targets_M > 0)[order_M], ends_M)
        return found_D


def interval(values_D: Floats, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """The middle `confidence` of the draws; None where a tenth of them or more is undefined."""
    known = values_D[~np.isnan(values_D)]
    if not len(known) or len(known) < 0.9 * len(values_D):
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(known, (tail, 1 - tail)).tolist()
    return low, high


def _ratio(above_D: Floats, below_D: Floats) -> Floats:
    """NaN where there is nothing to divide by."""
    found_D: Floats = np.divide(
        above_D, below_D, out=np.full(len(above_D), np.nan), where=below_D > 0
    )
    return found_D


def _thinned(room_M: Ints) -> Ints:
    """Which samples' pairs are counted: all, or every k-th of each room."""
    step = math.ceil(len(room_M) / _MOST_SAMPLES)
    if step <= 1:
        return np.arange(len(room_M))
    order_M = np.argsort(room_M, kind="stable")
    first_R = np.flatnonzero(np.diff(room_M[order_M], prepend=-1))
    place_M = np.arange(len(room_M)) - np.repeat(first_R, np.diff(first_R, append=len(room_M)))
    return np.sort(order_M[place_M % step == 0])


@numba.njit(cache=True, nogil=True)
def _pairs(x_M: Ints, y_M: Ints, first_G1: Ints) -> tuple[Floats, Floats, Floats]:
    """Of the pairs between two groups' samples, each [G, G] and symmetric.

    Returns:
        Concordant less discordant pairs; pairs not tied in x; pairs not tied in y. Inside a group
        every pair counts twice, as it does between two copies of it.
    """
    groups = len(first_G1) - 1
    agree = np.zeros((groups, groups))
    untied_x = np.zeros((groups, groups))
    untied_y = np.zeros((groups, groups))
    for a in range(groups):
        for b in range(a, groups):
            both, in_x, in_y = 0, 0, 0
            for i in range(first_G1[a], first_G1[a + 1]):
                x, y = x_M[i], y_M[i]
                for k in range(first_G1[b], first_G1[b + 1]):
                    dx = (x > x_M[k]) - (x < x_M[k])
                    dy = (y > y_M[k]) - (y < y_M[k])
                    both += dx * dy
                    in_x += dx * dx
                    in_y += dy * dy
            for p, q in ((a, b), (b, a)):
                agree[p, q], untied_x[p, q], untied_y[p, q] = both, in_x, in_y
    return agree, untied_x, untied_y


@numba.njit(cache=True, nogil=True)
def _precisions(
    weight_DG: Floats, group_M: Ints, positive_M: NDArray[np.bool_], ends_M: NDArray[np.bool_]
) -> Floats:
    """Weighted average precision of each draw, [D], from samples by falling score."""
    found_D = np.full(len(weight_DG), np.nan)
    for d in range(len(weight_DG)):
        seen = hits = counted = area = 0.0
        for m in range(len(group_M)):
            weight = weight_DG[d, group_M[m]]
            seen += weight
            hits += weight * positive_M[m]
            if ends_M[m] and seen > 0:
                area += (hits - counted) * hits / seen
                counted = hits
        if hits > 0:
            found_D[d] = area / hits
    return found_D
