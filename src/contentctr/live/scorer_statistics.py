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
from contentctr.live.scorer_segments import LiveSegment
from contentctr.store.statistics import (
    STATE_SHAPE,
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
    prior: float
    """Log-odds of the target's exponential mean; NaN where it is not known."""
    state_AC: Floats


class LiveStatistics:
    """Rooms' states in a ring of one entry each, which is all that is kept.

    Args:
        slots: rooms at once.
        horizon: 1: a segment's own counts are known when the next one is predicted.
        target: what is predicted.
    """

    def __init__(self, slots: int, horizon: int, target: str) -> None:
        self.ring = Ring(slots, 1, STATE_SHAPE, dtype=torch.float64)
        self._horizon, self._target = horizon, target

    def state(self, slot: int) -> Floats:
        """A room's state; read anew, so that nothing is changed before `keep`."""
        state_AC: Floats = self.ring.entries[slot].numpy().copy()
        return state_AC

    def follow(
        self, state_AC: Floats | None, index: int, last: int, segment: LiveSegment | None
    ) -> Followed:
        """What a room's next segment reads.

        Args:
            state_AC: the room's; None: it begins with this segment.
            index: the segment's number.
            last: number of the segment before, whatever lies between.
            segment: with its counts; None: it is missing.
        """
        before_RAC = first_state(1) if state_AC is None else skip(state_AC[None], index - last - 1)
        counts_A = counts_row(None if segment is None else segment.counts)
        after_RAC = advance(before_RAC, counts_A[None])
        found = statistics(
            after_RAC if self._horizon else before_RAC,
            np.array([index + self._horizon]),
            self._target,
        )
        return Followed(
            values_X=found.values_RX[0] if found.has_R[0] else None,
            prior=float(found.prior_R[0]),
            state_AC=after_RAC[0],
        )

    def keep(self, slot_R: Tensor, states: Sequence[Floats]) -> None:
        """The states of some rooms after their last segments."""
        self.ring.entries[slot_R] = torch.from_numpy(np.stack(states))
