"""What the Perceiver looks at: its attention over its tokens and the running latent. No I/O.

Shape suffixes as in batch.py, and: R segments, M tokens (visual, text, extra ones,
latent), H heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from contentctr.batch import Batch
from contentctr.models.contentctr import ContentCTR, PerceiverBlock, PerceiverLayer
from contentctr.models.ensemble import members_of


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Attention of one layer, mean over its heads; they sum to 1."""

    visual: float
    text: float
    latent: float
    """What the layers before have made of the streamer's embedding; in the first, that itself."""
    statistics: float = 0.0
    sound: float = 0.0
    words: float = 0.0
    """Of tokens that the model may not have; then 0."""


@dataclass(frozen=True, kw_only=True)
class SegmentShares:
    """Shares of the first and of the last layer (the same, if there is but one)."""

    first: Shares
    last: Shares


def shares_from(values: Mapping[str, Mapping[str, float]] | None) -> SegmentShares | None:
    """The shares that `asdict` made `values` of."""
    if values is None:
        return None
    return SegmentShares(first=Shares(**values["first"]), last=Shares(**values["last"]))


def has_shares(model: nn.Module) -> bool:
    """Whether the model, or each member of it, has a Perceiver over both modalities."""
    return all(
        isinstance(member, ContentCTR)
        and isinstance(member.block, PerceiverBlock)
        and tuple(member.modalities) == ("visual", "text")
        for member in members_of(model)
    )


@torch.inference_mode()
def segment_shares(model: nn.Module, batch: Batch) -> list[SegmentShares]:
    """Shares of each segment; of an ensemble the mean over its members.

    Args:
        model: one that `has_shares`, in evaluation mode.
        batch: R windows of one segment each.

    Returns:
        R shares, in the batch's order.
    """
    assert has_shares(model)
    members = [member for member in members_of(model) if isinstance(member, ContentCTR)]
    ends_R2M = torch.stack([_ends(member, batch) for member in members]).mean(0)
    said = () if members[0].words is None else ("words",)
    names = ("visual", "text", *members[0].extra.heads, *said, "latent")
    return [
        SegmentShares(
            first=Shares(**dict(zip(names, first, strict=True))),
            last=Shares(**dict(zip(names, last, strict=True))),
        )
        for first, last in ends_R2M.tolist()
    ]


def _ends(model: ContentCTR, batch: Batch) -> Tensor:
    """Attention weights of a model's first and last layer, [R, 2, M]."""
    tokens_RMD, *_ = model.content(batch)
    latent_R1D = model.streamer(batch.streamer_B)[:, None]
    found: list[Tensor] = []
    layers = model.block.layers
    assert isinstance(layers, nn.ModuleList)
    for number, layer in enumerate(layers):
        assert isinstance(layer, PerceiverLayer)
        if number in (0, len(layers) - 1):
            found.append(_weights(layer, latent_R1D, tokens_RMD))
        latent_R1D = layer(latent_R1D, tokens_RMD)
    return torch.stack((found[0], found[-1]), dim=1)


def _weights(layer: PerceiverLayer, latent_R1D: Tensor, tokens_RMD: Tensor) -> Tensor:
    """The layer's attention weights, mean over heads: [R, M]."""
    query_R1D = layer.norm_latent(latent_R1D)
    memory_RMD = torch.cat((layer.norm_tokens(tokens_RMD), query_R1D), dim=1)
    query_R1HE = layer.attention.queries(query_R1D)
    key_RMHE, _ = layer.attention.keys_values(memory_RMD)
    logits_RMH = (query_R1HE * key_RMHE).sum(-1) * query_R1HE.shape[-1] ** -0.5
    weights_RM: Tensor = logits_RMH.softmax(dim=1).mean(-1)
    return weights_RM
