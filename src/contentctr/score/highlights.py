"""Highlights of one room's curve: where its scores stand above the rest of the room.

The rule. Of a room's n scored segments, those above the (k + 1)-th highest score are marked, where
k = ceil(share n): at most `share` of the room, and no segment without its ties. Where more than
k tie for the highest score, these are marked, unless that is the whole room: a constant curve
has no highlight. Marked segments that follow each other in time are one highlight, also across a
single scored segment between them. One longer than `max_length_s` is cut to its best part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

FLAT = 0.1
"""A curve whose odds differ by less than this share of them is flat."""
SHARE = 0.2
"""Share of a room's segments that are marked at most."""


@dataclass(frozen=True, kw_only=True)
class Highlight:
    """One stretch of a room, in seconds from its start."""

    start_s: float
    end_s: float
    score: float
    """Mean score of its segments."""
    peak_s: float
    """Middle of its highest-scored segment; the first of them if they tie."""


def highlight_mask(scores_N: ArrayLike, *, share: float = SHARE) -> NDArray[np.bool_]:
    """Which segments are marked: the room's highest-scored `share`, as the file's rule says.

    Args:
        scores_N: shape (N,); NaN where a segment has no score, which is never marked.
        share: in (0, 1).

    Returns:
        bool of shape (N,).

    Raises:
        ValueError: another shape, an infinite score, or a share outside (0, 1).
    """
    scores = np.asarray(scores_N, dtype=np.float64)
    if scores.ndim != 1:
        raise ValueError(f"scores_N must have one dimension, not the shape {scores.shape}")
    if np.isinf(scores).any():
        raise ValueError(f"scores_N must be finite or NaN, not {scores[np.isinf(scores)][0]}")
    if not 0 < share < 1:
        raise ValueError(f"share must be in (0, 1), not {share}")
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
    top_k: int = 5,
    share: float = SHARE,
    max_length_s: float = 180.0,
) -> list[Highlight]:
    """The best highlights of one curve, by the file's rule.

    Args:
        scores_N: shape (N,), NaN where a segment has no score.
        starts_N: shape (N,), seconds, rising.
        ends_N: shape (N,), seconds. Where a segment does not start at the end of the one before
            it, no highlight goes across.
        top_k: number of highlights at most, at least 1.
        share: of the room's segments that are marked at most, in (0, 1).
        max_length_s: a longer highlight is cut to the part of at most so many seconds (but at
            least one segment) with the highest mean score, the first if several tie.

    Returns:
        Highlights by falling score, the earlier first if they tie. They do not overlap.

    Raises:
        ValueError: shapes differ, times do not rise, or a setting is out of its range.
    """
    mask_N = highlight_mask(scores_N, share=share)
    scores = np.asarray(scores_N, dtype=np.float64)
    starts, ends = np.asarray(starts_N, dtype=np.float64), np.asarray(ends_N, dtype=np.float64)
    if not scores.shape == starts.shape == ends.shape:
        raise ValueError(
            "scores_N, starts_N and ends_N must be as long, not "
            f"{scores.shape}, {starts.shape}, {ends.shape}"
        )
    if not ((ends > starts).all() and (starts[1:] >= ends[:-1] - 1e-6).all()):
        raise ValueError("segments must follow each other: ends after starts, without overlap")
    if top_k < 1 or not max_length_s > 0:
        raise ValueError(f"top_k and max_length_s must be above 0, not {top_k}, {max_length_s}")
    found = []
    for first, last in _runs(mask_N, scores, starts, ends):
        first, last = _best_part(first, last, scores, starts, ends, max_length_s)
        peak = first + int(np.argmax(scores[first : last + 1]))
        found.append(
            Highlight(
                start_s=float(starts[first]),
                end_s=float(ends[last]),
                score=float(scores[first : last + 1].mean()),
                peak_s=float((starts[peak] + ends[peak]) / 2),
            )
        )
    return sorted(found, key=lambda h: (-h.score, h.start_s))[:top_k]


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


def clock(seconds: float) -> str:
    """Seconds from the start as mm:ss, or h:mm:ss from an hour on."""
    hours, rest = divmod(math.floor(seconds + 0.5), 3600)
    text = f"{rest // 60:02d}:{rest % 60:02d}"
    return f"{hours}:{text}" if hours else text


def _runs(
    mask_N: NDArray[np.bool_], scores: Floats, starts: Floats, ends: Floats
) -> list[tuple[int, int]]:
    """First and last segment of each highlight, by time."""
    runs: list[tuple[int, int]] = []
    for i in np.flatnonzero(mask_N).tolist():
        joined = False
        if runs and i - runs[-1][1] <= 2:
            between = slice(runs[-1][1], i + 1)
            gapless = (starts[between][1:] - ends[between][:-1] <= 1e-6).all()
            joined = bool(gapless and not np.isnan(scores[between]).any())
        if joined:
            runs[-1] = (runs[-1][0], i)
        else:
            runs.append((i, i))
    return runs


def _best_part(
    first: int, last: int, scores: Floats, starts: Floats, ends: Floats, max_length_s: float
) -> tuple[int, int]:
    """The longest stretches inside first..last that fit; of these, the one of highest mean."""
    if ends[last] - starts[first] <= max_length_s + 1e-6:
        return first, last
    parts = []
    for i in range(first, last + 1):
        fits = int(np.searchsorted(ends[: last + 1], starts[i] + max_length_s + 1e-6, "right"))
        parts.append((i, max(i, fits - 1)))
        if fits == last + 1:  # later starts only give shorter parts
            break
    # Rounding keeps parts of equal mean equal, so that the first of them wins.
    return max(parts, key=lambda p: (round(float(scores[p[0] : p[1] + 1].mean()), 12), -p[0]))
