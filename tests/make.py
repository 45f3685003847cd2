"""Small made-up batches and prepared folders that the tests share."""

from __future__ import annotations

import torch

from contentctr.batch import Batch


def make_batch(
    b: int = 3, n: int = 5, v: int = 6, t: int = 4, *, k: int = 3, seed: int = 0,
    missing: bool = True,
) -> Batch:  # fmt: skip
    """Windows of `n` segments, the last one shorter, with missing parts and targets."""
    g = torch.Generator().manual_seed(seed)
    valid = torch.ones(b, n, dtype=torch.bool)
    if missing and n > 2:
        valid[-1, n - 2 :] = False
    target = torch.rand(b, n, generator=g)
    if missing:
        target[0, 1] = torch.nan
    target = torch.where(valid, target, torch.nan)

    def mask(share: float) -> torch.Tensor:
        if not missing:
            return valid.clone()
        return (torch.rand(b, n, generator=g) < share) & valid

    shuffles = torch.arange(n).repeat(b, k, 1)
    for row in range(b):
        length = int(valid[row].sum())
        for order in range(1, k):
            shuffles[row, order, :length] = torch.randperm(length, generator=g)
    return Batch(
        visual_BNV=torch.randn(b, n, v, generator=g),
        text_BNT=torch.randn(b, n, t, generator=g),
        has_visual_BN=mask(0.8),
        has_speech_BN=mask(0.6),
        has_comments_BN=mask(0.6),
        streamer_B=torch.arange(b) % 3,
        valid_BN=valid,
        target_BN=target,
        window_B=torch.arange(b),
        shuffles_BKN=shuffles,
    )
