"""A model as live rooms need it: its decoder with what that keeps, or several side by side. No I/O.

Of an ensemble each member perceives, decodes and keeps by itself; the score is of their mean
log-odds, as offline (models/ensemble.py). What was counted in a room is the same for all.

Shape suffixes as in batch.py, and: R rooms of a step, W those whose score is wanted, M members,
K lags of their words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from contentctr.batch import Batch
from contentctr.live.scorer_decoders import LiveDecoder, Ring, Step, live_decoder
from contentctr.live.scorer_statistics import Followed
from contentctr.live.scorer_words import LiveWords
from contentctr.models.contentctr import ContentCTR
from contentctr.models.ensemble import members_of


@dataclass(frozen=True, kw_only=True)
class Perceived:
    """What members make of segments before they are put behind others."""

    x_RMD: Tensor
    """The Perceivers' outputs."""
    said_RMK: Tensor | None
    """What their words say of those after them; None for models that read none."""

    def of(self, row_S: Tensor) -> Perceived:
        """Some rows, in that order."""
        said = None if self.said_RMK is None else self.said_RMK[row_S]
        return Perceived(x_RMD=self.x_RMD[row_S], said_RMK=said)

    @classmethod
    def joined(cls, parts: Sequence[Perceived]) -> Perceived:
        """All rows of some parts; of none, no rows."""
        if not parts:
            return cls(x_RMD=torch.empty(0), said_RMK=None)
        said = [part.said_RMK for part in parts if part.said_RMK is not None]
        return cls(
            x_RMD=torch.cat([part.x_RMD for part in parts]),
            said_RMK=torch.cat(said) if said else None,
        )


@dataclass(frozen=True)
class _Member:
    model: ContentCTR
    decoder: LiveDecoder
    words: LiveWords | None

    @property
    def rings(self) -> Mapping[str, Ring]:
        rings = self.decoder.rings
        return rings if self.words is None else {**rings, "words": self.words.ring}


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
        self.members: list[_Member] = []
        for member in members_of(model):
            assert isinstance(member, ContentCTR)
            words = None if member.words is None else LiveWords(member.words, slots, device)
            decoder = live_decoder(member, window_len, slots, device)
            self.members.append(_Member(member, decoder, words))

    @property
    def rings(self) -> Mapping[str, Ring]:
        """What all members keep, by names that tell them apart."""
        if len(self.members) == 1:
            return self.members[0].rings
        return {
            f"{name}@{number}": ring
            for number, member in enumerate(self.members)
            for name, ring in member.rings.items()
        }

    def perceive(self, batch: Batch) -> Perceived:
        """What each member makes of windows of one segment."""
        tokens, said = [], []
        for one in self.members:
            own = batch
            if one.words is not None:
                assert one.model.words is not None
                own = one.model.words.read(batch)
                said.append(one.words.of(own))
            tokens.append(one.model.tokens(own)[0][:, 0])
        return Perceived(
            x_RMD=torch.stack(tokens, dim=1),
            said_RMK=torch.stack(said, dim=1) if said else None,
        )

    def logits(self, step: Step, perceived: Perceived, known: Sequence[Followed]) -> Tensor:
        """Take the next segments; logits of the wanted ones, [W].

        Args:
            step: the rooms' next segments.
            perceived: of these segments.
            known: of the wanted ones, for a model that reads counts.
        """
        found = []
        for number, one in enumerate(self.members):
            model, x_RD = one.model, perceived.x_RMD[:, number]
            logits_W = one.decoder.step(step, x_RD)
            if model.residual is not None:
                means = torch.tensor([one.mean_logit for one in known], device=x_RD.device)
                logits_W = model.residual(logits_W, means)
            if model.wide is not None:
                values_WX = _numbers(known, model.wide.linear.in_features)
                logits_W = logits_W + model.wide(values_WX.to(x_RD.device))
            if one.words is not None:
                assert perceived.said_RMK is not None
                logits_W = logits_W + one.words.step(step, perceived.said_RMK[:, number])
            found.append(logits_W)
        return torch.stack(found).mean(0)


def _numbers(known: Sequence[Followed], width: int) -> Tensor:
    """The statistics of some segments, [W, X]; zeros where nothing is known."""
    values_WX = np.zeros((len(known), width), np.float32)
    for row, one in enumerate(known):
        if one.values_X is not None:
            values_WX[row] = one.values_X
    return torch.from_numpy(values_WX)
