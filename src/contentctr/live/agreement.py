"""How far two models agree on the rooms that both score. No I/O."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MOMENTS = 10
"""Last segments of the rooms that are ranked."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Scores of two models for the same segments."""

    rooms: int = 0
    """With segments that both have scored."""
    segments: int = 0
    tau: float | None = None
    """Kendall's, between the two rankings of the rooms: mean over the last segments. None: there
    are fewer than two rooms, or all scores are equal."""
    mean: float | None = None
    """Absolute difference of two scores of a segment, on average."""
    largest: float | None = None


def agreement_of(rooms: Sequence[Sequence[tuple[float, float]]]) -> Agreement:
    """How far two models agree.

    Args:
        rooms: of each room the two scores of its last segments, oldest first; none is empty.
    """
    gaps = [abs(one - other) for pairs in rooms for one, other in pairs]
    if not gaps:
        return Agreement()
    return Agreement(
        rooms=len(rooms),
        segments=len(gaps),
        tau=_mean_tau(rooms),
        mean=sum(gaps) / len(gaps),
        largest=max(gaps),
    )


def _mean_tau(rooms: Sequence[Sequence[tuple[float, float]]]) -> float | None:
    # SciPy's statistics are slow to load, and needed only where there is a candidate.
    from contentctr.metrics.ctr import kendall_tau

    taus = []
    for age in range(1, MOMENTS + 1):
        pairs = [room[-age] for room in rooms if len(room) >= age]
        if len(pairs) > 1:
            taus.append(kendall_tau(*zip(*pairs, strict=True)))
    defined = [tau for tau in taus if not math.isnan(tau)]
    return sum(defined) / len(defined) if defined else None
