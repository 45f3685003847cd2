"""The statistics of live rooms: what their earlier segments counted, kept as one state a room.

The state is that of store/statistics.py, so a live token is the offline one. Shape suffixes as
there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contentctr.live.scorer_decoders import Ring
from contentctr.live.scorer_segments import Earlier, LiveSegment
from contentctr.store.statistics import (
    LATEST,
    STATE_SHAPE,
    add_late,
    advance,
    counts_row,
    first_state,
    skip,
    statistics,
)

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Followed:
    """What is known before a segment, and its room's state after it."""

    values_X: NDArray[np.float32] | None
    """What the token is made of; None where nothing is known."""
    mean_logit: float
    """Log-odds of the target's exponential mean; NaN where it is not known."""
    state_AC: Floats
    late_counts: int
    """Earlier segments whose counts came too late."""


@dataclass(frozen=True)
class Next:
    """A room's next segment."""

    state_AC: Floats | None
    """The room's; None: it begins with this segment."""
    last: int
    """Number of the segment before, whatever lies between."""
    index: int
    segment: LiveSegment | None
    """With its counts; None: it is missing."""
    earlier: Earlier | None = None
    """What has become known of segments before it."""


def known_before(segment: LiveSegment, index: int) -> Earlier | None:
    """Of the counts that a segment brings, those that a missing one before it may read too.

    Args:
        segment: that brings them.
        index: number of the missing one.
    """
    if not segment.earlier:
        return None
    oldest = segment.index - LATEST
    return {k: counts for k, counts in segment.earlier.items() if oldest <= k < index}


def with_earlier(state_AC: Floats, index: int, earlier: Earlier) -> tuple[Floats, int]:
    """A room's state with counts that came late.

    Args:
        state_AC: before segment `index`.
        index: number of the segment that brings them.
        earlier: by number, all below `index`.

    Returns:
        The state; and how many segments lie too far back for it.
    """
    near = sorted(number for number in earlier if number >= index - LATEST)
    for number in near:  # in one order wherever it is done: sums depend on it in the last bits
        state_AC = add_late(state_AC, index - 1 - number, counts_row(earlier[number]))
    return state_AC, len(earlier) - len(near)


class LiveStatistics:
    """Rooms' states in a ring of one entry each, which is all that is kept.

    Args:
        slots: rooms at once.
        horizon: with 1, or below 0, a segment's own counts are known (`table_statistics`).
        target: what is predicted.
        scale: how that is brought to [0, 1] (DataSpec.target_scale).
    """

    def __init__(self, slots: int, horizon: int, target: str, scale: str) -> None:
        self.ring = Ring(slots, 1, STATE_SHAPE, dtype=torch.float64)
        self._horizon, self._target, self._scale = horizon, target, scale

    def state(self, slot: int) -> Floats:
        """A room's state; a copy, so that nothing changes before `keep`."""
        state_AC: Floats = self.ring.entries[slot].numpy().copy()
        return state_AC

    def follow(self, rooms: Sequence[Next]) -> list[Followed]:
        """What the next segments of some rooms read, and the rooms' states after them."""
        before_RAC, late = first_state(len(rooms)), [0] * len(rooms)
        for row, room in enumerate(rooms):
            if room.state_AC is not None:
                before_RAC[row] = room.state_AC
                if (gap := room.index - room.last - 1) > 0:
                    before_RAC[row] = skip(before_RAC[row], gap)
            if room.earlier:
                before_RAC[row], late[row] = with_earlier(before_RAC[row], room.index, room.earlier)
        counts_RA = np.stack(
            [counts_row(None if r.segment is None else r.segment.counts) for r in rooms]
        )
        after_RAC = advance(before_RAC, counts_RA)
        found = statistics(
            after_RAC if self._horizon else before_RAC,
            np.array([max(room.index + self._horizon, 0) for room in rooms]),
            self._target,
            scale=self._scale,
        )
        return [
            Followed(
                values_X=found.values_RX[row] if found.has_R[row] else None,
                mean_logit=float(found.mean_logit_R[row]),
                state_AC=after_RAC[row],
                late_counts=late[row],
            )
            for row in range(len(rooms))
        ]

    def keep(self, slot_R: Tensor, states: Sequence[Floats]) -> None:
        """The states of some rooms after their last segments."""
        self.ring.entries[slot_R] = torch.from_numpy(np.stack(states))
