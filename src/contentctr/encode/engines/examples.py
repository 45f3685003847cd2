"""Pictures and texts that an encoder is tried with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Arguments = tuple[Tensor, ...]
"""Of an encoder: frames [R, H, W, 3], or token ids, types and mask [R, L]."""
_WORDS = (6, 1, 24)
"""Tokens of texts that are tried together; one as long as may be is tried alone."""


def examples(encoder: Any) -> list[Arguments]:
    """Two batches, of several rows that differ and of one."""
    rng = np.random.default_rng(0)
    if not hasattr(encoder, "tokenize"):
        return _pictures(encoder.size, rng)
    count = len(encoder.tokenizer)

    def words(number: int) -> str:
        return str(encoder.tokenizer.decode(rng.integers(0, count, number).tolist()))

    # Speech is there without comments, comments without speech, and both.
    speech, comments = [words(n) for n in _WORDS], [words(n) for n in _WORDS]
    together = encoder.tokenize([*speech, ""], [*comments[:2], "", comments[2]])
    longest = words(encoder.max_tokens)
    return [together, encoder.tokenize([longest], [longest])]


def _pictures(size: tuple[int, int], rng: np.random.Generator) -> list[Arguments]:
    """Blocks of colours, a slope, and noise."""
    height, width = size
    blocks = rng.integers(0, 256, (-(-height // 16), -(-width // 16), 3))
    coarse = np.repeat(np.repeat(blocks, 16, 0), 16, 1)[:height, :width]
    slope = np.broadcast_to(np.linspace(0, 255, width)[:, None], (height, width, 3))
    noise = rng.integers(0, 256, (height, width, 3))
    frames = torch.from_numpy(np.stack([coarse, slope, noise]).astype(np.uint8))
    return [(frames,), (frames[:1],)]


def rows(*arguments: Tensor) -> list[list[NDArray[Any]]]:
    """Each row of a batch by itself, [1, ...] each; a text without its padding."""
    arrays = [x.cpu().numpy() for x in arguments]
    if len(arrays) == 1:
        return [[frame[None]] for frame in arrays[0]]
    mask_RL = arrays[2]
    return [[x[row][mask_L][None] for x in arrays] for row, mask_L in enumerate(mask_RL)]
