"""Statistics of earlier segments: what a room's viewers did before, beyond the paper.

One function for all: `prepare`'s table and a live room's counts go through `advance` and `token`
alike, one segment after the other. A segment's own counts are never in its token, since they hold
its label, and nothing knows the room's length (docs/decisions.md, "Statistics").

Shape suffixes as in batch.py, and: R rooms, S segments of all rooms in a row, A columns,
K means of each, C numbers of a state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contentctr.batch import IN_ROOM_SCALES
from contentctr.config import COUNT_COLUMNS, LATE_COMMENTS

Floats = NDArray[np.float64]

COLUMNS = (*COUNT_COLUMNS, "viewers", "clickers", "commenters", *LATE_COMMENTS)
"""Columns of segments.parquet that are counted on, and what a live room may tell of a segment."""
HALF_LIVES = (1, 3, 8, 20)
"""Of the exponential means, in segments."""
MEAN_HALF_LIFE = 3
"""Of the mean that the residual form starts from."""
MAX_COUNT = 2**32 - 1
"""Of a segment: what a table's column holds."""
_A = len(COLUMNS)
_PLACE = {name: place for place, name in enumerate(COLUMNS)}
_DECAY_K = np.array([*(2.0 ** (-1 / h) for h in HALF_LIVES), 1.0])
"""Of a segment's weight with every later one; the last, 1, makes the mean of all."""
_K = len(_DECAY_K)
_MEANS = len(HALF_LIVES)
_LAST, _SEEN = 2 * _K, 2 * _K + 1
STATE_SHAPE = (_A, 2 * _K + 2)
"""Of a room's state: of each column K sums, K weights, the segment before's (-1: unknown), and
which of the last LATEST segments are known, a whole number: bit 0 is of the segment before."""
LATEST = 48
"""Segments after which the counts of one may still come: bits that a state's number can hold."""
_SEGMENTS = 2.0**LATEST
WIDTH = (_A + 1) * (_MEANS + 3) + 1
"""Numbers of a token: of each column, and of the CTR, the segment before's and its means, and
whether each of the two is missing; and the number of the segment."""
_VIEWERS, _CLICKERS = COLUMNS.index("viewers"), COLUMNS.index("clickers")
_GIFTS = COLUMNS.index("gifts")
_RESIDUAL_K = HALF_LIVES.index(MEAN_HALF_LIFE)
_HALF = 0.5
"""Added to counts before their logarithm: what none of them says is not that none can be."""


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What is known of R segments before the segments that they predict."""

    values_RX: NDArray[np.float32]
    """X = WIDTH; zeros where nothing is known."""
    has_R: NDArray[np.bool_]
    """Whether anything is."""
    mean_logit_R: NDArray[np.float32]
    """Log-odds of the target's exponential mean; NaN where it is not known."""


def first_state(rooms: int) -> Floats:
    """The state of rooms that have just begun, [R, A, C]."""
    state_RAC = np.zeros((rooms, *STATE_SHAPE))
    state_RAC[..., _LAST] = -1
    return state_RAC


def advance(state_RAC: Floats, counts_RA: Floats) -> Floats:
    """The state after one more segment.

    Args:
        state_RAC: before it; left as it is.
        counts_RA: its counts; NaN where they are not known.
    """
    known_RA = ~np.isnan(counts_RA)
    # A chat tells of gifts only where it has some: that there will be one must not be known before.
    begun_R = state_RAC[:, _GIFTS, _LAST - 1] > 0
    known_RA[:, _GIFTS] &= begun_R | (counts_RA[:, _GIFTS] > 0)
    count_RA = np.where(known_RA, counts_RA, 0.0)
    after_RAC = np.empty_like(state_RAC)
    after_RAC[..., :_K] = state_RAC[..., :_K] * _DECAY_K + count_RA[..., None]
    after_RAC[..., _K:_LAST] = state_RAC[..., _K:_LAST] * _DECAY_K + known_RA[..., None]
    after_RAC[..., _LAST] = np.where(known_RA, count_RA, -1.0)
    after_RAC[..., _SEEN] = np.fmod(2 * state_RAC[..., _SEEN], _SEGMENTS) + known_RA
    return after_RAC


def skip(state_RAC: Floats, segments: int) -> Floats:
    """The state after `segments` more of which nothing is known."""
    after_RAC = state_RAC.copy()
    if segments:
        after_RAC[..., :_LAST] *= np.tile(_DECAY_K**segments, 2)
        after_RAC[..., _LAST] = -1
        after_RAC[..., _SEEN] = np.fmod(
            after_RAC[..., _SEEN] * 2.0 ** min(segments, LATEST), _SEGMENTS
        )
    return after_RAC


def add_late(state_AC: Floats, ago: int, counts_A: Floats) -> Floats:
    """The state of a room once counts of a segment are known that passed without them.

    It is what it would be had they come in time, to rounding. A count that was known before stays
    as it was. Where gifts become known late, zeros told since the first one stay unknown.

    Args:
        state_AC: of one room; left as it is.
        ago: how many segments lie between that one and the one that follows the state, below
            LATEST; 0: it is the last.
        counts_A: its counts; NaN where they are not known.
    """
    assert 0 <= ago < LATEST
    known_A = ~np.isnan(counts_A) & (np.floor(state_AC[:, _SEEN] / 2.0**ago) % 2 == 0)
    # As in `advance`: whether there was a gift in the segments before that one.
    since = (int(state_AC[_GIFTS, _SEEN]) & ((1 << ago) - 1)).bit_count()
    begun = state_AC[_GIFTS, _LAST - 1] > since
    known_A[_GIFTS] &= begun or counts_A[_GIFTS] > 0
    count_A = np.where(known_A, counts_A, 0.0)
    after_AC = state_AC.copy()
    decay_K = _DECAY_K**ago
    after_AC[:, :_K] += count_A[:, None] * decay_K
    after_AC[:, _K:_LAST] += known_A[:, None] * decay_K
    if ago == 0:
        after_AC[known_A, _LAST] = counts_A[known_A]
    after_AC[known_A, _SEEN] += 2.0**ago
    return after_AC


def statistics(
    state_RAC: Floats, number_R: NDArray[np.int64], target: str, *, scale: str
) -> Statistics:
    """What a state says of the segment that follows it.

    Args:
        state_RAC: of the segments before the predicted one.
        number_R: of the predicted segment in its room.
        target: what is predicted (DataSpec.target).
        scale: how that is brought to [0, 1] (DataSpec.target_scale).
    """
    last_RA1 = state_RAC[..., _LAST:_SEEN]
    sum_RAK, weight_RAK = state_RAC[..., :_MEANS], state_RAC[..., _K : _K + _MEANS]
    viewers_R1, clickers_R1 = last_RA1[:, _VIEWERS], last_RA1[:, _CLICKERS]
    viewers_RK, clickers_RK = sum_RAK[:, _VIEWERS], sum_RAK[:, _CLICKERS]
    parts = (
        _with_missing(np.log1p(np.maximum(last_RA1, 0)), last_RA1 >= 0),
        _with_missing(np.log1p(_ratio(sum_RAK, weight_RAK)), weight_RAK > 0),
        _with_missing(_ratio(clickers_R1, viewers_R1), (viewers_R1 > 0) & (clickers_R1 >= 0)),
        _with_missing(_ratio(clickers_RK, viewers_RK), viewers_RK > 0),
        np.log1p(number_R),
    )
    values_RX = np.concatenate([x.reshape(len(number_R), -1) for x in parts], axis=1)
    assert values_RX.shape[1] == WIDTH
    counted_R = np.any(state_RAC[..., _LAST - 1] > 0, axis=1)
    # Where nothing is counted the number still tells how far on a room is.
    has_R: NDArray[np.bool_] = counted_R | (number_R > 0)
    return Statistics(
        values_RX=np.where(has_R[:, None], values_RX, 0).astype(np.float32),
        has_R=has_R,
        mean_logit_R=_mean_logit(state_RAC, target, scale).astype(np.float32),
    )


def known_target(target: str) -> bool:
    """Whether the target of a segment is known as soon as the segment has ended."""
    return target in ("ctr", "comment_rate", *COLUMNS)


def table_statistics(table: pl.DataFrame, *, horizon: int, target: str, scale: str) -> Statistics:
    """Statistics of every segment of a table, each from its own room's earlier rows alone.

    Args:
        table: of SEGMENTS_SCHEMA; rooms stand together, their segments in order.
        horizon: which segment a row predicts (DataConfig.horizon). Only with 0 are the counts of
            the row's own segment left out: with 1 it has ended, and with look-ahead (labels alone)
            counts tell nothing that is to be predicted.
        target: what is predicted.
        scale: how that is brought to [0, 1] (DataSpec.target_scale).
    """
    counts_SA = counts_of(table)
    number_S = table["segment"].to_numpy().astype(np.int64)
    starts_R = np.flatnonzero(np.diff(table["room_id"].rle_id().to_numpy().astype(int), prepend=-1))
    length_R = np.diff(starts_R, append=len(number_S))
    found = Statistics(
        values_RX=np.zeros((len(number_S), WIDTH), np.float32),
        has_R=np.zeros(len(number_S), np.bool_),
        mean_logit_R=np.zeros(len(number_S), np.float32),
    )
    order = np.argsort(-length_R, kind="stable")  # rooms that have ended stand last
    starts_R, length_R = starts_R[order], length_R[order]
    state_RAC = first_state(len(starts_R))
    for place in range(int(length_R.max(initial=0))):
        alive = int(np.searchsorted(-length_R, -place))
        row_R = starts_R[:alive] + place
        before_RAC = state_RAC[:alive]
        state_RAC = advance(before_RAC, counts_SA[row_R])
        seen_RAC = state_RAC if horizon else before_RAC
        number_R = np.maximum(number_S[row_R] + horizon, 0)  # with look-ahead, before the first
        here = statistics(seen_RAC, number_R, target, scale=scale)
        found.values_RX[row_R] = here.values_RX
        found.has_R[row_R] = here.has_R
        found.mean_logit_R[row_R] = here.mean_logit_R
    return found


def counts_of(table: pl.DataFrame) -> Floats:
    """COLUMNS of a table, [S, A]; NaN where they are null."""
    columns = table.select(pl.col(name).cast(pl.Float64) for name in COLUMNS)
    return columns.fill_null(np.nan).to_numpy()


def counts_row(counts: Mapping[str, float] | None) -> Floats:
    """COLUMNS of one segment of a live room, [A]; NaN where they are not told."""
    counts_A = np.full(_A, np.nan)
    for name, count in (counts or {}).items():
        counts_A[_PLACE[name]] = count
    return counts_A


def _with_missing(value_RM: Floats, known_RM: NDArray[np.bool_]) -> Floats:
    """Values, 0 where they are not known, and behind them an indicator of that: one for all M."""
    return np.concatenate((np.where(known_RM, value_RM, 0), ~known_RM[..., -1:]), axis=-1)


def _ratio(a: Floats, b: Floats) -> Floats:
    """A / b; 0 where b is 0 or less."""
    out: Floats = np.divide(a, b, out=np.zeros_like(a), where=b > 0)
    return out


def _mean_logit(state_RAC: Floats, target: str, scale: str) -> Floats:
    """Log-odds of the target's exponential mean, [R]; NaN where it is not known.

    The CTR's is that of all clickers and viewers, as they weigh now. A target that is mapped to
    [0, 1] inside its room cannot be known before the room has ended: there it is the logarithm of
    the exponential mean over the mean of all segments so far, which is 0 in the middle as a rank's
    is. On the scale "odds" the target's log-odds are its logarithm less a constant, so there it is
    that of the exponential mean; the constant is left for the model's own bias to learn.
    """
    nothing_R = np.full(len(state_RAC), np.nan)
    if not known_target(target):
        return nothing_R
    if target == "ctr":
        viewers_RK, clickers_RK = state_RAC[:, _VIEWERS, :_K], state_RAC[:, _CLICKERS, :_K]
        others_RK = np.maximum(viewers_RK - clickers_RK, 0)
        if scale not in IN_ROOM_SCALES:
            odds_RK = (clickers_RK + _HALF) / (others_RK + _HALF)
            return np.where(viewers_RK[:, -1] > 0, np.log(odds_RK[:, _RESIDUAL_K]), nothing_R)
        means_RK, seen_R = (clickers_RK + _HALF) / (viewers_RK + 2 * _HALF), viewers_RK[:, -1]
    else:
        name = "comment_count" if target == "comment_rate" else target
        column_RC = state_RAC[:, _PLACE[name]]
        means_RK = _ratio(column_RC[:, :_K], column_RC[:, _K:_LAST]) + _HALF
        seen_R = column_RC[:, _LAST - 1]
        if scale == "odds":
            return np.where(seen_R > 0, np.log(means_RK[:, _RESIDUAL_K]), nothing_R)
    logit_R: Floats = np.log(means_RK[:, _RESIDUAL_K] / means_RK[:, -1])
    return np.where(seen_R > 0, logit_R, nothing_R)
