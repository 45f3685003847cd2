"""How big a model is: parameters by part, and floating-point operations a sample."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from contentctr.batch import Batch, DataSpec, ExtraInput, History, IdFeatures, Vocabulary
from contentctr.config import COUNT_COLUMNS, EXTRA_TOKENS, Config
from contentctr.models.registry import build_model

HISTORY = 20
"""Clips in the blank window's history (Section 4.1.2: up to 20); models of highlights read them."""


def model_size(config: Config, spec: DataSpec, vocabulary: Vocabulary) -> dict[str, float]:
    """Parameters and operations of a recipe, encoders aside.

    Args:
        config: the recipe.
        spec: widths of the features.
        vocabulary: known ids.

    Returns:
        `parameters` in all, `parameters: PART` for each part of the model, `flops` of one sample
        (a window) forward, and `training_flops` forward and backward (three times as many).
    """
    model = build_model(config, spec, vocabulary).eval()
    model.requires_grad_(False)  # the counter's hooks fail on a parameter that is an output
    found = {"parameters": float(sum(p.numel() for p in model.parameters()))}
    for name, part in model.named_children():
        found[f"parameters: {name}"] = float(sum(p.numel() for p in part.parameters()))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(_blank_window(config.data.window_len, spec))
    found["flops"] = float(counter.get_total_flops())
    found["training_flops"] = 3 * found["flops"]
    return found


def _blank_window(window_len: int, spec: DataSpec) -> Batch:
    there = torch.ones(1, window_len, dtype=torch.bool)
    extra = {
        name: ExtraInput(
            values_BNX=torch.zeros(1, window_len, getattr(spec, f"{name}_dim")), has_BN=there
        )
        for name in (*EXTRA_TOKENS, "words")
    }
    return Batch(
        visual_BNV=torch.zeros(1, window_len, spec.visual_dim),
        text_BNT=torch.zeros(1, window_len, spec.text_dim),
        has_visual_BN=there,
        has_speech_BN=there,
        has_comments_BN=there,
        streamer_B=torch.zeros(1, dtype=torch.long),
        valid_BN=there,
        target_BN=torch.zeros(1, window_len),
        window_B=torch.zeros(1, dtype=torch.long),
        extra=extra,
        mean_logit_BN=torch.zeros(1, window_len),
        ids=IdFeatures(
            room_B=torch.zeros(1, dtype=torch.long),
            hour_BN=torch.zeros(1, window_len, dtype=torch.long),
            position_BN=torch.zeros(1, window_len, dtype=torch.long),
            counts_BNA=torch.zeros(1, window_len, len(COUNT_COLUMNS)),
        ),
        history=History(
            clip_BKV=torch.zeros(1, HISTORY, spec.visual_dim),
            valid_BK=torch.ones(1, HISTORY, dtype=torch.bool),
        ),
    )
