"""Content beyond the paper's: further tokens, and a score that starts from what was before.

A token is a name in config.EXTRA_TOKENS with a setting of that name, a width in DataSpec
(`NAME_dim`) and an entry of that name in Batch.extra. Shape suffixes as in batch.py.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from contentctr.batch import Batch, DataSpec
from contentctr.config import ModelConfig
from contentctr.errors import InputError
from contentctr.models.layers import FeedForward


class ExtraTokens(nn.Module):
    """A token of each extra part that the settings name, or a learned one where it is missing.

    Its head is built as those of Eq. 2 are. They are not in the alignment loss, which compares
    pictures with text alone.

    Args:
        spec: the parts' widths.
        config: which parts, and d_model.

    Raises:
        InputError: the data has no such part.
    """

    def __init__(self, spec: DataSpec, config: ModelConfig) -> None:
        super().__init__()
        d_model = config.d_model
        self.heads, self.missing = nn.ModuleDict(), nn.ParameterDict()
        for name in config.extra_tokens:
            width = getattr(spec, f"{name}_dim")
            if not width:
                raise InputError(
                    f"model.{name} must be false with this data, which has no {name} stored"
                )
            self.heads[name] = nn.Sequential(
                nn.LayerNorm(width), FeedForward(width, d_model, d_model)
            )
            self.missing[name] = nn.Parameter(torch.randn(d_model) * 0.02)

    def forward(self, batch: Batch) -> list[Tensor]:
        """The tokens, each [B, N, D]."""
        return [
            torch.where(
                batch.extra[name].has_BN[..., None],
                head(batch.extra[name].values_BNX),
                self.missing[name],
            )
            for name, head in self.heads.items()
        ]


class Wide(nn.Module):
    """What is added to the log-odds: linear in the statistics, nothing at first.

    Args:
        spec: width of the statistics.
    """

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        self.linear = nn.Linear(spec.statistics_dim, 1, bias=False)
        nn.init.zeros_(self.linear.weight)

    def forward(self, values_BNX: Tensor) -> Tensor:
        """The sum, [B, N]; 0 where nothing is known, since all numbers are."""
        out: Tensor = self.linear(values_BNX)
        return out[..., 0]

    def of_segments(self, batch: Batch) -> Tensor:
        """The same of a batch, in windows or whole rooms: [B, N]."""
        (wide_BN,) = batch.each_segment(lambda b: (self(b.extra["statistics"].values_BNX),))
        assert wide_BN is not None
        return wide_BN


class Residual(nn.Module):
    """The model's log-odds plus those of the exponential mean: logit(s) = f + a logit(mean).

    Where no mean is known yet, a learned number stands in its place.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.unknown = nn.Parameter(torch.zeros(()))

    def forward(self, logits_BN: Tensor, mean_logit_BN: Tensor | None) -> Tensor:
        """The sum, [B, N]."""
        assert mean_logit_BN is not None, "the residual form needs Batch.mean_logit_BN"
        known_BN = ~mean_logit_BN.isnan()
        # A NaN that is not taken would still be a NaN in the gradient.
        mean_BN = self.scale * mean_logit_BN.nan_to_num(0.0)
        return logits_BN + torch.where(known_BN, mean_BN, self.unknown)
