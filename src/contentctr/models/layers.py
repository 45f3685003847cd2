"""Attention and feed-forward: the pieces that the Perceiver block and the decoder are made of.

Shape suffixes as in batch.py, and: M queries, N keys, R rows (any leading positions, flattened),
H heads, E width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def apply_rotary(x_BHNE: Tensor, start: int = 0) -> Tensor:
    """Rotate pairs of channels by their position (rotary position embedding).

    Args:
        x_BHNE: queries or keys, [B, heads, N, head width E]; E even.
        start: position of the first of the N.

    Returns:
        The same shape; dot products of two rotated vectors depend on their distance alone.
    """
    length, width = x_BHNE.shape[-2:]
    device = x_BHNE.device
    rates_E2 = 10_000.0 ** -(torch.arange(0, width, 2, device=device).float() / width)
    position_N = torch.arange(start, start + length, device=device).float()
    angles_NE2 = position_N[:, None] * rates_E2
    cos, sin = angles_NE2.cos().to(x_BHNE.dtype), angles_NE2.sin().to(x_BHNE.dtype)
    first, second = x_BHNE.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


class Attention(nn.Module):
    """Scaled dot-product multi-head attention with its output projection (Eq. 3-5), without biases.

    Differs from the paper: Eq. 4 leaves out V and the output projection; both are there, as in
    every attention that it cites. Eq. 3 has no biases, and on a CPU each would cost a copy.

    Args:
        d_model: D, width of queries, keys, values and output.
        num_heads: heads, each d_model / num_heads wide.
        rotary: rotate queries and keys by position; only for self-attention.
    """

    def __init__(self, d_model: int, num_heads: int, *, rotary: bool = False) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.rotary = rotary
        self.query = nn.Linear(d_model, d_model, bias=False)
        self.key = nn.Linear(d_model, d_model, bias=False)
        self.value = nn.Linear(d_model, d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)

    def forward(self, query_BMD: Tensor, memory_BND: Tensor, mask_MN: Tensor | None) -> Tensor:
        """Attend from each query to the memory.

        Args:
            query_BMD: queries.
            memory_BND: what keys and values are projected from.
            mask_MN: bool, true where query m may see memory n; None: everywhere.

        Returns:
            [B, M, D].
        """
        query_BMHE = self.queries(query_BMD)
        return self.attend(query_BMHE, *self.keys_values(memory_BND), mask_MN)

    @property
    def head_shape(self) -> tuple[int, int]:
        """Heads H, and the width E of one."""
        return self.num_heads, self.query.out_features // self.num_heads

    def queries(self, query_BMD: Tensor) -> Tensor:
        """Queries by head, [B, M, H, E], not rotated."""
        return self._heads(self.query(query_BMD))

    def keys_values(self, memory_BND: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of a memory, [B, N, H, E] each, not rotated: what can be kept of it."""
        return self._heads(self.key(memory_BND)), self._heads(self.value(memory_BND))

    def attend(
        self, query_BMHE: Tensor, key_BNHE: Tensor, value_BNHE: Tensor, mask_MN: Tensor | None
    ) -> Tensor:
        """Attend from what `queries` made to what `keys_values` made.

        Args:
            query_BMHE: with rotary positions, they stand at the last M of the N places.
            key_BNHE: keys.
            value_BNHE: values.
            mask_MN: as in `forward`, or one for each of the B, [B, 1, M, N].

        Returns:
            [B, M, D].
        """
        if query_BMHE.shape[1] == 1 and mask_MN is None and not self.rotary:
            mixed_BMHE = _one_query(query_BMHE, key_BNHE, value_BNHE)
        else:
            query, key, value = (x.transpose(1, 2) for x in (query_BMHE, key_BNHE, value_BNHE))
            if self.rotary:
                query = apply_rotary(query, key.shape[2] - query.shape[2])
                key = apply_rotary(key)
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask_MN)
            mixed_BMHE = mixed.transpose(1, 2)
        out: Tensor = self.out(mixed_BMHE.flatten(2))
        return out

    def _heads(self, x_BND: Tensor) -> Tensor:
        B, N, D = x_BND.shape
        return x_BND.view(B, N, self.num_heads, D // self.num_heads)


def _one_query(query_B1HE: Tensor, key_BNHE: Tensor, value_BNHE: Tensor) -> Tensor:
    """Attention of a single query, as sums: half of the time of tiny matrix products."""
    weights_BNH1 = (query_B1HE * key_BNHE).sum(-1, keepdim=True) * query_B1HE.shape[-1] ** -0.5
    mixed_B1HE: Tensor = (weights_BNH1.softmax(dim=1) * value_BNHE).sum(1, keepdim=True)
    return mixed_B1HE


class FeedForward(nn.Sequential):
    """Two linear layers with a GELU between them.

    Args:
        d_in: width of the input.
        d_hidden: width between the layers.
        d_out: width of the output.
    """

    def __init__(self, d_in: int, d_hidden: int, d_out: int) -> None:
        super().__init__(nn.Linear(d_in, d_hidden), nn.GELU(), nn.Linear(d_hidden, d_out))


def causal_mask(length: int, device: torch.device | str = "cpu", *, lookback: int = 0) -> Tensor:
    """Which segments a segment may see: itself and the past (the mask M of Eq. 5).

    Differs from the paper: its words fill the upper triangle with 0 and the rest with -inf, which
    would show each segment only the future (docs/decisions.md, "Causal mask").

    Args:
        length: segments.
        device: of the mask.
        lookback: segments that one sees at most, itself among them; 0: all of the past.

    Returns:
        bool [length, length], true where row i may see column j: i - lookback < j <= i.
    """
    mask = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    return mask.triu(1 - lookback) if lookback else mask


class Standardise(nn.Module):
    """Numbers less their mean, over their deviation: those of the training segments (`fit`)."""

    mean_D: Tensor
    scale_D: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean_D", torch.zeros(width))
        self.register_buffer("scale_D", torch.ones(width))

    def fit(self, x_RD: Tensor) -> None:
        """Take mean and deviation of some rows; a number that is always the same becomes 0."""
        deviation_D, mean_D = torch.std_mean(x_RD.double(), dim=0, correction=0)
        self.mean_D.copy_(mean_D)
        self.scale_D.copy_(torch.where(deviation_D > 1e-6, 1 / deviation_D, 0.0))

    def forward(self, x_BND: Tensor) -> Tensor:
        """The same shape; a far outlier counts as a less far one."""
        return ((x_BND - self.mean_D) * self.scale_D).clamp(-10, 10)
