"""The attention variants of Table 1, ContentCTR without a modality (Table 3), or without the mask.

Each is ContentCTR with another block in place of the Perceiver, or without a part. All blocks take
tokens and a streamer and return one token a segment. Shape suffixes as in batch.py, and: R rows,
every segment by itself; M tokens of a segment.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor, nn

from contentctr.batch import Batch, DataSpec, Vocabulary
from contentctr.config import Config, ModelConfig
from contentctr.errors import require
from contentctr.models.contentctr import ContentCTR, DecoderLayer, PerceiverLayer
from contentctr.models.layers import FeedForward
from contentctr.models.streamers import NoStreamer, OneForAll


class OneKeyLayer(nn.Module):
    """Cross-attention to a single key and value, then feed-forward, each with a residual.

    The softmax over one key is 1: whoever asks is given the value, whatever they ask. So queries
    and keys have no effect, and none are made.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d_model = config.d_model
        self.norm_memory = nn.LayerNorm(d_model)
        self.value = nn.Linear(d_model, d_model, bias=False)
        self.out = nn.Linear(d_model, d_model, bias=False)
        self.norm_ff = nn.LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model, config.ff_mult * d_model, d_model)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_RMD: Tensor, memory_R1D: Tensor) -> Tensor:
        """The next x [R, M, D]: each token plus the one value, then feed-forward."""
        x_RMD = x_RMD + self.dropout(self.out(self.value(self.norm_memory(memory_R1D))))
        out: Tensor = x_RMD + self.dropout(self.feed_forward(self.norm_ff(x_RMD)))
        return out


class SelfAttentionBlock(nn.Module):
    """Self-attention among the modality tokens; the streamer is not looked at."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        # The tokens of one segment are a set.
        no_positions = dataclasses.replace(config, rotary=False)
        self.layers = nn.ModuleList(
            DecoderLayer(no_positions) for _ in range(config.perceiver_layers)
        )

    def forward(self, tokens_RMD: Tensor, streamer_RD: Tensor) -> Tensor:
        """Mean of the tokens after all layers, [R, D]."""
        for layer in self.layers:
            tokens_RMD = layer(tokens_RMD, None)
        return tokens_RMD.mean(1)


class SelfAttentionInputBlock(SelfAttentionBlock):
    """Self-attention among the streamer and the modality tokens."""

    def forward(self, tokens_RMD: Tensor, streamer_RD: Tensor) -> Tensor:
        """Mean of the tokens, the streamer's among them, after all layers, [R, D]."""
        return super().forward(torch.cat((streamer_RD[:, None], tokens_RMD), dim=1), streamer_RD)


class CrossAttentionQBlock(nn.Module):
    """Every layer's query is the streamer; keys and values are E_f.

    The layers' results add up beside the query, from the streamer on.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(PerceiverLayer(config) for _ in range(config.perceiver_layers))

    def forward(self, tokens_RMD: Tensor, streamer_RD: Tensor) -> Tensor:
        """One token a segment, [R, D]."""
        streamer_R1D = x_R1D = streamer_RD[:, None]
        for layer in self.layers:
            assert isinstance(layer, PerceiverLayer)
            query_R1D = layer.norm_latent(streamer_R1D)
            x_R1D = layer.attend(x_R1D, query_R1D, layer.norm_tokens(tokens_RMD))
        return x_R1D[:, 0]


class CrossAttentionQKVBlock(CrossAttentionQBlock):
    """The query starts as the streamer and runs on; keys and values are E_f alone."""

    def forward(self, tokens_RMD: Tensor, streamer_RD: Tensor) -> Tensor:
        """One token a segment, [R, D]."""
        x_R1D = streamer_RD[:, None]
        for layer in self.layers:
            assert isinstance(layer, PerceiverLayer)
            x_R1D = layer.attend(x_R1D, layer.norm_latent(x_R1D), layer.norm_tokens(tokens_RMD))
        return x_R1D[:, 0]


class CrossAttentionKVBlock(nn.Module):
    """Every layer's keys and values are the streamer; the query starts as E_f."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(OneKeyLayer(config) for _ in range(config.perceiver_layers))

    def forward(self, tokens_RMD: Tensor, streamer_RD: Tensor) -> Tensor:
        """Mean of the tokens after all layers, [R, D]."""
        for layer in self.layers:
            tokens_RMD = layer(tokens_RMD, streamer_RD[:, None])
        return tokens_RMD.mean(1)


class SelfAttentionPlain(ContentCTR):
    """SelfAttention-plain: self-attention in place of the Perceiver block, no streamer (4.3.1)."""

    block_type = SelfAttentionBlock

    @staticmethod
    def make_streamer(config: Config, vocabulary: Vocabulary) -> nn.Module:
        """Nothing: the block does not look at it."""
        return NoStreamer(config.model.d_model)


class SelfAttentionInput(ContentCTR):
    """SelfAttention-input: self-attention with the streamer as one more token (Section 4.3.1)."""

    block_type = SelfAttentionInputBlock


class CrossAttentionQ(ContentCTR):
    """CrossAttention-q: every layer's query is the streamer (Section 4.3.1)."""

    block_type = CrossAttentionQBlock


class CrossAttentionKV(ContentCTR):
    """CrossAttention-kv: every layer's keys and values are the streamer (Section 4.3.1)."""

    block_type = CrossAttentionKVBlock


class CrossAttentionQKV(ContentCTR):
    """CrossAttention-qkv: the query starts as the streamer (Section 4.3.1)."""

    block_type = CrossAttentionQKVBlock


class WithoutItem(ContentCTR):
    """ContentCTR w/o item (Table 3): the latent starts from one learned vector for everybody.

    The paper gives it SelfAttention-plain's number; here it leaves one part out and changes nothing
    else.
    """

    @staticmethod
    def make_streamer(config: Config, vocabulary: Vocabulary) -> nn.Module:
        """One vector, whoever streams."""
        return OneForAll(config.model.d_model)


class WithoutText(ContentCTR):
    """ContentCTR w/o text (Table 3): no speech, no comments; so there is nothing to align."""

    modalities = ("visual",)


class WithoutVisual(ContentCTR):
    """ContentCTR w/o visual (Table 3): no frames; so there is nothing to align."""

    modalities = ("text",)


class WithoutMask(ContentCTR):
    """ContentCTR without the causal mask: a segment sees its whole window, before and after it.

    Of recordings alone: live, what comes after a segment is not known when its score is due. No row
    of the paper's tables. Padding, which the causal mask hid from every real segment, is hidden by
    a mask of its own.

    The paper mentions no positions. Without the causal mask and without `model.rotary` the decoder
    sees a window as a set: no segment knows which others are near it, nor which come first.

    Args:
        config: all settings.
        spec: widths of the stored features, and what the data is.
        vocabulary: known streamers.

    Raises:
        InputError: the settings look back or ahead by themselves, or the data keeps comments from
            the segment that they were written in.
    """

    sees_later: ClassVar[bool] = True

    def __init__(self, config: Config, spec: DataSpec, vocabulary: Vocabulary) -> None:
        which = f"with model.kind={config.model.kind}, which sees its whole window"
        lookback, horizon, lag = (
            config.model.decoder_lookback,
            config.data.horizon,
            spec.comment_lag,
        )
        require(not lookback, "model.decoder_lookback", f"empty {which}", lookback)
        require(horizon == 0, "data.horizon", f"0 {which}", horizon)
        # The next segment would show the comments that the lag keeps from their own.
        require(lag == 0, "the data's comment_lag", f"0 {which}", lag)
        super().__init__(config, spec, vocabulary)

    def masks(self, batch: Batch) -> list[Tensor]:
        """Every segment sees all real segments of its window."""
        return [batch.valid_BN[:, None, None, :]] * len(self.decoder)
