"""A model with its encoders in front, to train them too (Section 4.3.2). Shapes as in batch.py."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from contentctr.batch import Batch, Output


class EndToEnd(nn.Module):
    """A model with its encoders in front: gradients reach f and g (Section 4.3.2).

    Args:
        core: any model that takes a Batch of features.
        visual: frames uint8 [frames, H, W, C] -> [frames, V].
        text: token ids, types and mask, each [texts, L] -> [texts, T].
    """

    def __init__(self, core: nn.Module, visual: nn.Module, text: nn.Module) -> None:
        super().__init__()
        self.core = core
        self.visual = visual
        self.text = text

    def encode(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Features [B, N, V] and [B, N, T] of the batch's `inputs`; frames are averaged."""
        inputs = batch.inputs
        if inputs is None:
            raise ValueError("EndToEnd needs a batch with encoder inputs; this one has none")
        has_frame_BNF, has_text_BN = inputs.has_frame_BNF, batch.has_text_BN
        visual_BNV = torch.zeros_like(batch.visual_BNV)
        if has_frame_BNF.any():
            frames_BNFV = visual_BNV[:, :, None].repeat(1, 1, has_frame_BNF.shape[2], 1)
            features = self.visual(inputs.frames_BNFHWC[has_frame_BNF])
            frames_BNFV = frames_BNFV.to(features.dtype)
            frames_BNFV[has_frame_BNF] = features
            count_BN1 = has_frame_BNF.sum(2).clamp(min=1)[..., None]
            visual_BNV = frames_BNFV.sum(2) / count_BN1
        text_BNT = torch.zeros_like(batch.text_BNT)
        if has_text_BN.any():
            features = self.text(
                inputs.token_ids_BNL[has_text_BN],
                inputs.token_types_BNL[has_text_BN],
                inputs.token_mask_BNL[has_text_BN],
            )
            text_BNT = text_BNT.to(features.dtype)
            text_BNT[has_text_BN] = features
        return visual_BNV, text_BNT

    def forward(self, batch: Batch) -> Output:
        """Encode the batch's `inputs`, each distinct segment once if it has such; then score it."""
        holder = batch if batch.distinct is None else batch.distinct
        visual_BNV, text_BNT = self.encode(holder)
        holder = dataclasses.replace(holder, visual_BNV=visual_BNV, text_BNT=text_BNT)
        batch = holder if batch.distinct is None else dataclasses.replace(batch, distinct=holder)
        out: Output = self.core(batch)
        return out
