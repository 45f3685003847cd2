"""A model as live rooms need it: its decoder with what that keeps, or several side by side. No I/O.

Of an ensemble each member perceives, decodes and keeps by itself; the score is of their mean
log-odds, as offline (models/ensemble.py). What was counted in a room is the same for all.

Shape suffixes as in batch.py, and: R rooms of a step, W those whose score is wanted, M members.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from contentctr.batch import Batch
from contentctr.live.scorer_decoders import LiveDecoder, Ring, Step, live_decoder
from contentctr.live.scorer_statistics import Followed
from contentctr.models.contentctr import ContentCTR
from contentctr.models.ensemble import members_of


class LiveModel:
    """All that a scorer computes with.

    Args:
        model: a ContentCTR, or an ensemble of them.
        window_len: n.
        slots: rooms at once.
        device: where the model is.
    """

    def __init__(
        self, model: nn.Module, window_len: int, slots: int, device: torch.device | str
    ) -> None:
        self.members: list[tuple[ContentCTR, LiveDecoder]] = []
        for member in members_of(model):
            assert isinstance(member, ContentCTR)
            self.members.append((member, live_decoder(member, window_len, slots, device)))

    @property
    def rings(self) -> Mapping[str, Ring]:
        """What all decoders keep, by names that tell the members apart."""
        if len(self.members) == 1:
            return self.members[0][1].rings
        return {
            f"{name}@{number}": ring
            for number, (_, decoder) in enumerate(self.members)
            for name, ring in decoder.rings.items()
        }

    def perceive(self, batch: Batch) -> Tensor:
        """Each Perceiver's output of windows of one segment, [R, M, D]."""
        return torch.stack([model.tokens(batch)[0][:, 0] for model, _ in self.members], dim=1)

    def logits(self, step: Step, x_RMD: Tensor, known: Sequence[Followed]) -> Tensor:
        """Take the Perceivers' outputs of the next segments; logits of the wanted ones, [W].

        Args:
            step: the rooms' next segments.
            x_RMD: of `perceive`.
            known: of the wanted ones, for a model that reads counts.
        """
        found = []
        for (model, decoder), x_RD in zip(self.members, x_RMD.unbind(1), strict=True):
            logits_W = decoder.step(step, x_RD)
            if model.residual is not None:
                means = torch.tensor([one.mean_logit for one in known], device=x_RD.device)
                logits_W = model.residual(logits_W, means)
            if model.wide is not None:
                values_WX = _numbers(known, model.wide.linear.in_features)
                logits_W = logits_W + model.wide(values_WX.to(x_RD.device))
            found.append(logits_W)
        return torch.stack(found).mean(0)


def _numbers(known: Sequence[Followed], width: int) -> Tensor:
    """The statistics of some segments, [W, X]; zeros where nothing is known."""
    values_WX = np.zeros((len(known), width), np.float32)
    for row, one in enumerate(known):
        if one.values_X is not None:
            values_WX[row] = one.values_X
    return torch.from_numpy(values_WX)
