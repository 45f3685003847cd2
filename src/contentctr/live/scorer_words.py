"""What the words of live rooms' segments say of those after them, kept of each room's last K.

Shape suffixes as in models/words.py, and: R rooms of a step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from contentctr.batch import Batch
from contentctr.live.scorer_decoders import Ring, Step
from contentctr.models.words import Words


class LiveWords:
    """The sum that Words adds to a score, one segment at a time.

    Args:
        words: of the model.
        slots: rooms at once.
        device: where the model is.
    """

    def __init__(self, words: Words, slots: int, device: torch.device | str) -> None:
        self._words = words
        self.ring = Ring(slots, words.lags, (words.lags,), device=device)

    def of(self, batch: Batch) -> Tensor:
        """What R segments, each a window of its own, say of those after them: [R, K]."""
        return self._words.terms(batch)[:, 0]

    def step(self, step: Step, said_RK: Tensor) -> Tensor:
        """Keep what the next segments say; the sum for those whose score is wanted."""
        self.ring.write(step.slot_R, step.index_R, said_RK)
        step = step.wanted()
        if not len(step.slot_R):
            return said_RK.new_empty(0)
        seen_RN = step.seen_RN(self._words.lags)
        count = seen_RN.shape[1]
        said_RNK = self.ring.read(step.slot_R, step.index_R, count)
        # What stands k segments back says of this one what it says of lag k.
        age_N = torch.arange(count - 1, -1, -1, device=said_RNK.device)
        found_RN = said_RNK[:, torch.arange(count, device=age_N.device), age_N]
        sum_R: Tensor = torch.where(seen_RN, found_RN, 0.0).sum(1)
        return sum_R
