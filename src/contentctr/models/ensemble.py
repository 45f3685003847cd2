"""Trainings of one model with several seeds as one model: a score is the mean of their log-odds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from contentctr.batch import Batch, Output


class Ensemble(nn.Module):
    """Models of one kind and one size, side by side.

    Args:
        members: each takes a Batch and returns an Output.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, batch: Batch) -> Output:
        """The members' mean log-odds: scores near 0 or 1 differ by more than they say."""
        logits = [member(batch).logits_BN for member in self.members]
        return Output(logits_BN=torch.stack(logits).mean(0))


def members_of(model: nn.Module) -> list[nn.Module]:
    """An ensemble's members; of another model itself alone."""
    return list(model.members) if isinstance(model, Ensemble) else [model]


def sees_later(model: nn.Module) -> bool:
    """Whether a score depends on later segments of its window (ModelType.sees_later)."""
    return any(getattr(member, "sees_later", False) for member in members_of(model))


def member_prefix(number: int) -> str:
    """What the names of a member's weights begin with, in an ensemble's."""
    return f"members.{number}."
