"""Highlights of one room's curve: its peaks, each with the stretch around it that belongs to it.

The rule. Every local maximum is a peak; its prominence is how far the curve falls, on the higher of
its two sides, before it rises above the peak. A peak counts whose prominence is STANDS_OUT of what
the best segment has above the median. From the peak on, the stretch takes the higher of its two
neighbours, as long as that lies above the peak's half prominence, until `max_length_s`; a shorter
one than `min_length_s` takes on. Highlights come by their peaks, the highest first, so the best
segment is in the first one. Together they cover at most `share` of the room.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

FLAT = 0.1
"""A curve whose odds differ by less than this share of them is flat."""
SHARE = 0.2
"""Share of a room that highlights cover at most."""
STANDS_OUT = 0.3
"""Prominence of a peak that counts, as a share of what the best has above the median."""
HALF = 0.5
"""A stretch ends where the curve has fallen by this share of its peak's prominence."""
ENOUGH = 20
"""Segments from which on it can be told whether neighbours have anything in common."""
_CLOSE = 1e-6
"""Times that differ by less are one."""


@dataclass(frozen=True, kw_only=True)
class Reason:
    """What one part of the rule has to say of a highlight (rule/)."""

    part: str
    score: float
    """In [0, 1]."""
    text: str
    """In plain words, as "chat 4.1 x its usual, 38 people"."""


@dataclass(frozen=True, kw_only=True)
class Highlight:
    """One stretch of a room, in seconds from its start."""

    start_s: float
    end_s: float
    score: float
    """Of its highest-scored segment."""
    peak_s: float
    """Middle of that segment; of the first of them if they tie."""
    reasons: tuple[Reason, ...] = ()
    """Strongest first; empty where no part was asked."""


def highlight_mask(scores_N: ArrayLike, *, share: float = SHARE) -> NDArray[np.bool_]:
    """Which segments are among the room's highest-scored `share`, for rooms that still go on.

    Of n scored segments, those above the (k + 1)-th highest score are marked, k = ceil(share n): no
    segment without its ties. Where more than k tie for the highest score these are marked, unless
    that is the whole room.

    Args:
        scores_N: shape (N,); NaN where a segment has no score, which is never marked.
        share: in (0, 1).

    Returns:
        bool of shape (N,).

    Raises:
        ValueError: another shape, an infinite score, or a share outside (0, 1).
    """
    scores = _require_scores(scores_N, share)
    falling = np.sort(scores[~np.isnan(scores)])[::-1]
    if not len(falling) or falling[0] == falling[-1]:
        return np.zeros(scores.shape, dtype=np.bool_)
    # 0.2 * 15 is a little above 3 in floating point; a fifth of 15 is 3 all the same.
    k = math.ceil(share * len(falling) - 1e-9)
    limit = falling[min(k, len(falling) - 1)]
    # Comparisons with NaN are false, so segments without a score stay out.
    mask: NDArray[np.bool_] = scores > limit if falling[0] > limit else scores >= limit
    return mask


def find_highlights(
    scores_N: ArrayLike,
    starts_N: ArrayLike,
    ends_N: ArrayLike,
    *,
    top_k: int | None = 5,
    share: float = SHARE,
    min_length_s: float = 0.0,
    max_length_s: float = 180.0,
    lag_s: float = 0.0,
) -> list[Highlight]:
    """The highlights of one room, best first, as the file's rule says.

    Args:
        scores_N: shape (N,), by time; NaN where a segment has no score: no highlight goes over it.
        starts_N: shape (N,), seconds from the room's start.
        ends_N: shape (N,), seconds; segments do not overlap.
        top_k: how many at most, at least 1; None: as many as there are.
        share: of the scored time that they cover at most, in (0, 1), lags aside, and but for the
            one segment (or the `min_length_s`) that the first one has in any case.
        min_length_s: a shorter one takes more of what is around it, if anything is.
        max_length_s: above 0; no longer one, but for one segment.
        lag_s: how long what is scored comes after its cause: a highlight begins so much earlier,
            where that is in the room and in no other highlight; it counts as length.

    Returns:
        Highlights that do not overlap, by score and then by time; none for a constant curve.

    Raises:
        ValueError: shapes that differ, times out of order, an infinite score, or a setting out of
            its range.
    """
    scores = _require_scores(scores_N, share)
    starts, ends = np.asarray(starts_N, dtype=np.float64), np.asarray(ends_N, dtype=np.float64)
    if not scores.shape == starts.shape == ends.shape:
        raise ValueError(
            f"starts_N and ends_N must be as long as scores_N, not {starts.shape}, {ends.shape}"
        )
    if not (starts < ends).all() or not (ends[:-1] <= starts[1:] + _CLOSE).all():
        raise ValueError("segments must follow each other in time without overlap")
    if (top_k is not None and top_k < 1) or not 0 <= min_length_s <= max_length_s:
        raise ValueError(
            "top_k must be at least 1, and 0 <= min_length_s <= max_length_s, not "
            f"{top_k}, {min_length_s}, {max_length_s}"
        )
    if not max_length_s > 0 or not lag_s >= 0:
        raise ValueError(f"max_length_s must be above 0, lag_s 0 or more: {max_length_s}, {lag_s}")
    left_s = share * float((ends - starts)[~np.isnan(scores)].sum())
    taken, found = np.isnan(scores), list[Highlight]()
    for peak, prominence in _peaks(scores, starts, ends):
        least_s = max(min_length_s - lag_s, ends[peak] - starts[peak]) if found else 0.0
        if len(found) == top_k or left_s < least_s - _CLOSE:
            break
        if taken[peak]:
            continue
        most_s = min(max_length_s - lag_s, max(left_s, min_length_s - lag_s))
        stretch = _Stretch(peak, scores, starts, ends, taken)
        stretch.grow(scores[peak] - HALF * prominence, min_length_s - lag_s, most_s)
        found.append(stretch.take())
        left_s -= stretch.length_s
    return _with_lag(found, lag_s, max_length_s)


def fit_reel(
    highlights: list[Highlight], length_s: float, scores_N: ArrayLike, starts_N: ArrayLike
) -> list[Highlight]:
    """The best set of highlights for a reel: the first, and of the others those worth most.

    A highlight is worth the score of its peak above the median, for as long as it lasts. The set is
    exact to a second of each highlight (a knapsack, by dynamic programming).

    Args:
        highlights: best first, as `find_highlights` has them.
        length_s: of the reel at most; the first highlight is in it in any case.
        scores_N: of the curve; NaN where there is none.
        starts_N: of its segments; seconds.

    Returns:
        Those of the set, best first.
    """
    if not highlights:
        return []
    first, others = highlights[0], highlights[1:]
    usual = float(np.nanmedian(np.asarray(scores_N, dtype=np.float64)))
    room = max(math.floor(length_s - (first.end_s - first.start_s) + _CLOSE), 0)
    best_L, chosen = np.zeros(room + 1), np.zeros((len(others), room + 1), np.bool_)
    lengths = [math.ceil(h.end_s - h.start_s - _CLOSE) for h in others]
    for i, (h, length) in enumerate(zip(others, lengths, strict=True)):
        if length <= room:
            value = max(h.score - usual, 0.0) * (h.end_s - h.start_s)
            with_it = best_L[: room + 1 - length] + value
            chosen[i, length:] = with_it > best_L[length:]
            best_L[length:] = np.maximum(best_L[length:], with_it)
    picked = []
    for i in reversed(range(len(others))):
        if chosen[i, room]:
            picked.append(others[i])
            room -= lengths[i]
    return [first, *reversed(picked)]


def is_flat(scores_N: ArrayLike) -> bool:
    """Whether a curve hardly tells a room's segments apart: its odds differ by less than a tenth.

    Odds, so that a rare label's scores of 0.01 and 0.02 count as the double that they are; from
    the 5th to the 95th percentile, so that one segment makes no curve.

    Args:
        scores_N: shape (N,), in [0, 1]; NaN where a segment has no score.
    """
    known = np.asarray(scores_N, dtype=np.float64)
    known = known[~np.isnan(known)]
    if len(known) < 2:
        return True
    low, high = np.quantile(known, (0.05, 0.95), method="nearest").tolist()
    return bool(high * (1 - low) < (1 + FLAT) * low * (1 - high)) if low < high else True


def is_uncertain(scores_N: ArrayLike) -> bool:
    """Whether a curve may be chance alone: its peaks are those that noise has.

    That is where a segment's score tells nothing of the next one's (their correlation is below what
    19 of 20 shuffled curves have), and the best is no higher above the median than the highest of
    as many normal draws, and one deviation more.

    Args:
        scores_N: shape (N,); NaN where a segment has no score. Of fewer than ENOUGH nothing can be
            told: not uncertain.
    """
    known = np.asarray(scores_N, dtype=np.float64)
    known = known[~np.isnan(known)]
    if len(known) < ENOUGH or known.min() == known.max():
        return False
    apart = known - known.mean()
    alike = float(apart[1:] @ apart[:-1] / (apart @ apart))
    usual = float(np.median(known))
    spread = 1.4826 * float(np.median(np.abs(known - usual)))
    highest = math.sqrt(2 * math.log(len(known))) + 1
    return alike < 1.645 / math.sqrt(len(known)) and known.max() - usual < highest * spread


def clock(seconds: float) -> str:
    """Seconds from the start as mm:ss, or h:mm:ss from an hour on."""
    hours, rest = divmod(math.floor(seconds + 0.5), 3600)
    text = f"{rest // 60:02d}:{rest % 60:02d}"
    return f"{hours}:{text}" if hours else text


def _require_scores(scores_N: ArrayLike, share: float) -> Floats:
    scores = np.asarray(scores_N, dtype=np.float64)
    if scores.ndim != 1:
        raise ValueError(f"scores_N must have one dimension, not the shape {scores.shape}")
    if np.isinf(scores).any():
        raise ValueError(f"scores_N must be finite or NaN, not {scores[np.isinf(scores)][0]}")
    if not 0 < share < 1:
        raise ValueError(f"share must be in (0, 1), not {share}")
    return scores


def _peaks(scores: Floats, starts: Floats, ends: Floats) -> list[tuple[int, float]]:
    """Peaks that count and their prominence, highest first."""
    # Here, for it brings most of SciPy: the service marks rooms that still go on without it.
    from scipy.signal import find_peaks, peak_prominences

    known = scores[~np.isnan(scores)]
    if not len(known) or known.min() == known.max():
        return []
    low = float(known.min())
    wanted = STANDS_OUT * (float(known.max()) - float(np.median(known)))
    found: list[tuple[int, float]] = []
    for first, stop in _pieces(scores, starts, ends):
        # Padded by what lies below everything: the first and the last segment may be peaks too.
        padded = np.concatenate([[low - 1.0], scores[first:stop], [low - 1.0]])
        _, plateaus = find_peaks(padded, plateau_size=1)
        at = plateaus["left_edges"]
        # The base of the highest peak of a piece would be the padding: the curve's lowest it is.
        falls = np.minimum(peak_prominences(padded, at)[0], padded[at] - low)
        found += [
            (first + i - 1, fall) for i, fall in zip(at.tolist(), falls.tolist(), strict=True)
        ]
    return sorted(
        ((i, fall) for i, fall in found if fall >= wanted and fall > 0),
        key=lambda peak: (-scores[peak[0]], peak[0]),
    )


def _pieces(scores: Floats, starts: Floats, ends: Floats) -> list[tuple[int, int]]:
    """First segment and the one after the last of each stretch with scores and without holes."""
    known = ~np.isnan(scores)
    joined = known[1:] & known[:-1] & (starts[1:] - ends[:-1] <= _CLOSE)
    firsts = np.flatnonzero(known & ~np.concatenate([[False], joined]))
    lasts = np.flatnonzero(known & ~np.concatenate([joined, [False]]))
    return list(zip(firsts.tolist(), (lasts + 1).tolist(), strict=True))


class _Stretch:
    """What is around a peak, of segments that no other highlight has taken."""

    def __init__(
        self, peak: int, scores: Floats, starts: Floats, ends: Floats, taken: NDArray[np.bool_]
    ) -> None:
        self.peak = self.first = self.last = peak
        self.scores, self.starts, self.ends, self.taken = scores, starts, ends, taken

    @property
    def length_s(self) -> float:
        return float(self.ends[self.last] - self.starts[self.first])

    def grow(self, level: float, min_s: float, max_s: float) -> None:
        """Add neighbours that are above `level`, and others up to `min_s`, until `max_s`."""
        while (side := self._higher_neighbour(max_s)) is not None:
            if self.scores[side] < level and self.length_s >= min_s - _CLOSE:
                break
            self.first, self.last = min(self.first, side), max(self.last, side)

    def take(self) -> Highlight:
        self.taken[self.first : self.last + 1] = True
        return Highlight(
            start_s=float(self.starts[self.first]),
            end_s=float(self.ends[self.last]),
            score=float(self.scores[self.peak]),
            peak_s=float((self.starts[self.peak] + self.ends[self.peak]) / 2),
        )

    def _higher_neighbour(self, max_s: float) -> int | None:
        first, last, starts, ends = self.first, self.last, self.starts, self.ends
        sides = []
        if first > 0 and not self.taken[first - 1] and starts[first] - ends[first - 1] <= _CLOSE:
            if ends[last] - starts[first - 1] <= max_s + _CLOSE:
                sides.append(first - 1)
        more = last + 1
        if more < len(starts) and not self.taken[more] and starts[more] - ends[last] <= _CLOSE:
            if ends[more] - starts[first] <= max_s + _CLOSE:
                sides.append(more)
        # The earlier of two equal neighbours: what leads to a peak is part of it.
        return max(sides, key=lambda i: (self.scores[i], -i), default=None)


def _with_lag(found: list[Highlight], lag_s: float, max_length_s: float) -> list[Highlight]:
    """Each highlight so much earlier at its start as the one before it leaves free."""
    earlier = []
    for h in found:
        ends = [other.end_s for other in found if other.end_s <= h.start_s + _CLOSE]
        free_s = max(h.end_s - h.start_s, max_length_s) - (h.end_s - h.start_s)
        start_s = max(h.start_s - min(lag_s, free_s), *ends, 0.0)
        earlier.append(replace(h, start_s=min(start_s, h.start_s)))
    return earlier
