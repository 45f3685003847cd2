"""Every model by the name that `model.kind` has. Adding one is its file and a line here."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Protocol

import torch
from torch import nn

from contentctr.batch import DataSpec, Vocabulary
from contentctr.config import EXTRA_TOKENS, Config, ModelConfig
from contentctr.errors import InputError, near
from contentctr.models import (
    contentctr,
    contentctr_hl,
    highlight_rivals,
    id_baselines,
    klm3_baselines,
    variants,
)
from contentctr.models.ensemble import Ensemble


class ModelType(Protocol):
    """A class of modules that take a Batch and return an Output."""

    task: str
    """What it predicts: "rooms", their CTR; or "personal", one user's highlights, from batches
    with a history."""
    reads_content: bool
    """Whether it needs the encoders' features; where not, the loader leaves them out."""
    imports_streamers: bool
    """Whether it takes an imported table of streamers (`model.streamer_table`)."""
    extra_tokens: tuple[str, ...]
    """Those of config.EXTRA_TOKENS that it can take; with them, the residual form too."""
    sees_later: bool
    """Whether a score depends on later segments of its window: then it is one of recordings alone,
    and windows are laid so that a segment has others on both sides (windows/rooms.py)."""

    def __call__(self, config: Config, spec: DataSpec, vocabulary: Vocabulary) -> Any:
        """The module, with fresh weights."""


MODELS: dict[str, ModelType] = {
    "contentctr": contentctr.ContentCTR,
    "self_attention_plain": variants.SelfAttentionPlain,
    "self_attention_input": variants.SelfAttentionInput,
    "cross_attention_q": variants.CrossAttentionQ,
    "cross_attention_kv": variants.CrossAttentionKV,
    "cross_attention_qkv": variants.CrossAttentionQKV,
    "without_item": variants.WithoutItem,
    "without_text": variants.WithoutText,
    "without_visual": variants.WithoutVisual,
    "without_mask": variants.WithoutMask,
    "wide_deep": id_baselines.WideDeep,
    "deepfm": id_baselines.DeepFM,
    "difm": id_baselines.DIFM,
    "dcn_m": id_baselines.DCNM,
    "mlp": klm3_baselines.BenchmarkMLP,
    "gru": klm3_baselines.BenchmarkGRU,
    "causal": klm3_baselines.BenchmarkCausal,
    "hierarchical": klm3_baselines.BenchmarkHierarchical,
    "contentctr_hl": contentctr_hl.ContentCTRHL,
    "contentctr_hl_without_history": contentctr_hl.WithoutHistory,
    "contentctr_hl_without_captions": contentctr_hl.WithoutCaptions,
    "adaptive_h_fcsn": highlight_rivals.AdaptiveHFCSN,
    "pr_net": highlight_rivals.PRNet,
    "pac_net": highlight_rivals.PACNet,
    "showme": highlight_rivals.ShowMe,
    "highlight_average": highlight_rivals.HighlightAverage,
}
"""ContentCTR and its variants (Tables 1 and 3), the ID baselines, KuaiLive-M3's, and the models of
personal highlights (Tables 2 and 5)."""


def model_type(name: str) -> ModelType:
    """The class of the model called `name`.

    Raises:
        InputError: no model of that name; lists those there are.
    """
    if name not in MODELS:
        wanted = ", ".join(MODELS)
        raise InputError(f"model.kind must be one of {wanted}, not {name!r}{near(name, MODELS)}")
    return MODELS[name]


def reads_content(config: ModelConfig) -> bool:
    """Whether the model that the settings make needs the encoders' features."""
    return config.content and model_type(config.kind).reads_content


def later_segments(config: Config) -> int:
    """Segments after the predicted one that its score may depend on."""
    whole_window = model_type(config.model.kind).sees_later
    return config.data.window_len - 1 if whole_window else config.data.look_ahead


def require_task(name: str, task: str) -> None:
    """Refuse a model that predicts something else than `task`.

    Raises:
        InputError: no model of that name, or it is for another task; lists those that fit.
    """
    found = model_type(name).task
    if found != task:
        fitting = ", ".join(kind for kind, model in MODELS.items() if model.task == task)
        raise InputError(f"model.kind must be one of {fitting} here, not {name!r} ({found})")


def build_model(config: Config, spec: DataSpec, vocabulary: Vocabulary) -> nn.Module:
    """The model that `config.model.kind` names, or `train.members` of them; with fresh weights.

    Raises:
        InputError: no model of that name, it cannot take an extra token or the counts of the same
            segment that are asked for, or cannot leave out texts, or has no output bias for
            `model.prior` to set; or the settings do not go with a model that sees later segments.
    """
    if config.train.members > 1:
        single = dataclasses.replace(config, train=dataclasses.replace(config.train, members=1))
        return Ensemble(
            [build_model(single, spec, vocabulary) for _ in range(config.train.members)]
        )
    sizes = config.model
    kind = model_type(sizes.kind)
    for name in (*EXTRA_TOKENS, "residual"):
        takes = bool(kind.extra_tokens) if name == "residual" else name in kind.extra_tokens
        if getattr(sizes, name) and not takes:
            raise InputError(f"model.{name} must be false with model.kind={sizes.kind}")
    model: nn.Module = kind(config, spec, vocabulary)
    if config.ids.same_segment and not isinstance(model, id_baselines.IdBaseline):
        raise InputError(f"ids.same_segment must be false with model.kind={sizes.kind}")
    if not sizes.text and not isinstance(model, klm3_baselines.SequenceModel):
        raise InputError(f"model.text must be true with model.kind={sizes.kind}")
    if sizes.wide and not hasattr(model, "wide"):
        raise InputError(f"model.wide must be false with model.kind={sizes.kind}")
    reads_text = "text" in getattr(model, "modalities", ())
    if sizes.words and not (hasattr(model, "words") and reads_text):
        raise InputError(f"model.words must be false with model.kind={sizes.kind}")
    if sizes.prior is not None:
        _start_at(model, sizes.prior, sizes.kind)
    return model


def _start_at(model: nn.Module, prior: float, kind: str) -> None:
    """The output layer's bias at a mean target's log-odds."""
    bias = getattr(model, "output_bias", None)
    if bias is None:
        raise InputError(f"model.prior must be none with model.kind={kind}, which has no bias")
    assert 0 < prior < 1, "the data decides what 0 stands for"
    with torch.no_grad():
        bias.fill_(math.log(prior / (1 - prior)))
