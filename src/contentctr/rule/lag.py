"""How long a chat comes after what it is of: told by the recording's sound and its cuts.

The correlation of how much is written in each second with how loud it was, or whether the picture
changed, k seconds before: where it is highest is the lag. It counts where it stands SURE deviations
above the correlations at shifts that are no lag; else REACTION_S is taken.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from contentctr.rule.usual import Floats
from contentctr.rule.watched import Watched

REACTION_S = 5.0
"""Where nothing tells the lag: time to see, to think of something, and to type it."""
LONGEST_S = 20
"""Readers of a lagging stream come no later."""
SURE = 5.0
_BEFORE, _AFTER = range(-60, 0), range(LONGEST_S + 10, LONGEST_S + 70)
"""Shifts that are no lag."""
_SMOOTH_S, _SLOW_S = 3, 120


def estimate_lag(times: Floats, watched: Watched, duration_s: float) -> tuple[float, str]:
    """The chat's lag in seconds, and what told it: "loudness", "cuts", or "" where nothing did.

    Args:
        times: of the comments, seconds.
        watched: the recording.
        duration_s: of the recording.
    """
    seconds = int(duration_s)
    if seconds < 4 * max(_AFTER):
        return REACTION_S, ""
    written_S = np.bincount(np.clip(times.astype(np.int64), 0, seconds - 1), minlength=seconds)
    found: list[tuple[float, float, str]] = []
    if watched.loudness_S is not None:
        found += _lag(written_S, np.maximum(watched.loudness_S[:seconds], -60.0), "loudness")
    if watched.cuts is not None and len(watched.cuts):
        cuts = np.clip(watched.cuts.astype(np.int64), 0, seconds - 1)
        found += _lag(written_S, np.bincount(cuts, minlength=seconds), "cuts")
    return max(found)[1:] if found else (REACTION_S, "")


def _lag(written_S: ArrayLike, cause_S: ArrayLike, name: str) -> list[tuple[float, float, str]]:
    """How sure it is, the lag, and the name; nothing where it is not sure enough."""
    written, cause = np.asarray(written_S, np.float64), np.asarray(cause_S, np.float64)
    seconds = min(len(written), len(cause))
    chat_S, other_S = _quick(np.log1p(written[:seconds])), _quick(cause[:seconds])
    if chat_S.std() < 1e-9 or other_S.std() < 1e-9:
        return []

    def alike(shift: int) -> float:
        late_S = chat_S[max(shift, 0) : seconds + min(shift, 0)]
        return float(late_S @ other_S[max(-shift, 0) : seconds - max(shift, 0)] / len(late_S))

    lags = np.array([alike(shift) for shift in range(LONGEST_S + 1)])
    others = np.array([alike(shift) for shift in (*_BEFORE, *_AFTER)])
    spread = float(others.std())
    above = (float(lags.max()) - float(others.mean())) / spread if spread > 0 else 0.0
    return [(above, float(lags.argmax()), name)] if above >= SURE else []


def _quick(values_S: Floats) -> Floats:
    """Smoothed over some seconds, less the mean of two minutes around."""
    smooth = np.convolve(values_S, np.ones(_SMOOTH_S) / _SMOOTH_S, "same")
    slow = np.convolve(values_S, np.ones(_SLOW_S), "same")
    return smooth - slow / np.convolve(np.ones(len(values_S)), np.ones(_SLOW_S), "same")
