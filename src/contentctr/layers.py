"""Attention and feed-forward: the pieces that the Perceiver block and the decoder are made of.

Shape suffixes as in batch.py, and: M queries, N keys, R rows (any leading positions, flattened).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def apply_rotary(x_BHNE: Tensor) -> Tensor:
    """Rotate pairs of channels by their position (rotary position embedding).

    Args:
        x_BHNE: queries or keys, [B, heads, N, head width E]; E even.

    Returns:
        The same shape; dot products of two rotated vectors depend on their distance alone.
    """
    length, width = x_BHNE.shape[-2:]
    device = x_BHNE.device
    rates_E2 = 10_000.0 ** -(torch.arange(0, width, 2, device=device).float() / width)
    angles_NE2 = torch.arange(length, device=device).float()[:, None] * rates_E2
    cos, sin = angles_NE2.cos().to(x_BHNE.dtype), angles_NE2.sin().to(x_BHNE.dtype)
    first, second = x_BHNE.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


class Attention(nn.Module):
    """Scaled dot-product multi-head attention with its output projection (Eq. 3-5).

    Differs from the paper: Eq. 4 leaves out V and the output projection; both are there
    (docs/decisions.md, "Attention").

    Args:
        d_model: D, width of queries, keys, values and output.
        num_heads: heads, each d_model / num_heads wide.
        rotary: rotate queries and keys by position; only for self-attention.
    """

    def __init__(self, d_model: int, num_heads: int, *, rotary: bool = False) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.rotary = rotary
        self.query = nn.Linear(d_model, d_model)
        self.key_value = nn.Linear(d_model, 2 * d_model)
        self.out = nn.Linear(d_model, d_model)

    def forward(self, query_BMD: Tensor, memory_BND: Tensor, mask_MN: Tensor | None) -> Tensor:
        """Attend from each query to the memory.

        Args:
            query_BMD: queries.
            memory_BND: what keys and values are projected from.
            mask_MN: bool, true where query m may see memory n; None: everywhere.

        Returns:
            [B, M, D].
        """
        query_BHME = self._heads(self.query(query_BMD))
        key_BHNE, value_BHNE = map(self._heads, self.key_value(memory_BND).chunk(2, dim=-1))
        if self.rotary:
            query_BHME, key_BHNE = apply_rotary(query_BHME), apply_rotary(key_BHNE)
        if query_BHME.shape[2] == 1 and mask_MN is None:
            mixed_BHME = _one_query(query_BHME, key_BHNE, value_BHNE)
        else:
            mixed_BHME = F.scaled_dot_product_attention(
                query_BHME, key_BHNE, value_BHNE, attn_mask=mask_MN
            )
        out: Tensor = self.out(mixed_BHME.transpose(1, 2).flatten(2))
        return out

    def _heads(self, x_BND: Tensor) -> Tensor:
        B, N, _ = x_BND.shape
        return x_BND.view(B, N, self.num_heads, -1).transpose(1, 2)


def _one_query(query_BH1E: Tensor, key_BHNE: Tensor, value_BHNE: Tensor) -> Tensor:
    """Attention of a single query, as sums: thousands of tiny matrix products cost more."""
    weights_BHN1 = (query_BH1E * key_BHNE).sum(-1, keepdim=True) * query_BH1E.shape[-1] ** -0.5
    mixed_BH1E: Tensor = (weights_BHN1.softmax(dim=2) * value_BHNE).sum(2, keepdim=True)
    return mixed_BH1E


class FeedForward(nn.Sequential):
    """Two linear layers with a GELU between them.

    Args:
        d_in: width of the input.
        d_hidden: width between the layers.
        d_out: width of the output.
    """

    def __init__(self, d_in: int, d_hidden: int, d_out: int) -> None:
        super().__init__(nn.Linear(d_in, d_hidden), nn.GELU(), nn.Linear(d_hidden, d_out))


def causal_mask(length: int, device: torch.device | str = "cpu") -> Tensor:
    """Which segments a segment may see: itself and the past (the mask M of Eq. 5).

    Differs from the paper: its words fill the upper triangle with 0 and the rest with -inf, which
    would show each segment only the future (docs/decisions.md, "Causal mask").

    Returns:
        bool [length, length], true where row i may see column j, j <= i.
    """
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()
