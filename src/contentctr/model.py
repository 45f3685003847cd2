"""ContentCTR: fusion, Perceiver block, causal decoder (Section 3.2).

Shape suffixes as in batch.py, and R = B * N, every segment of the batch in one row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor, nn

from contentctr.batch import Batch, Output
from contentctr.config import DataSpec, ModelConfig
from contentctr.errors import InputError
from contentctr.layers import Attention, FeedForward, causal_mask


class FeatureFusion(nn.Module):
    """The projections of Eq. 2, with a learned embedding for each missing part.

    A segment without frames gets a learned visual token. One without speech, or without comments,
    has a learned vector for that added to its text token; one with neither has their sum as text
    token. Zeros are never passed off as content (docs/decisions.md, "Missing parts").

    Differs from the paper: a layer norm stands before each projection, since encoders' features
    differ in scale (docs/decisions.md, "Projections").
    """

    def __init__(self, visual_dim: int, text_dim: int, config: ModelConfig) -> None:
        super().__init__()
        d_model = config.d_model
        self.visual, self.text = (
            nn.Sequential(
                nn.LayerNorm(width),
                nn.Dropout(config.feature_dropout),
                FeedForward(width, d_model, d_model),
            )
            for width in (visual_dim, text_dim)
        )
        self.no_visual = nn.Parameter(torch.randn(d_model) * 0.02)
        self.no_speech = nn.Parameter(torch.randn(d_model) * 0.02)
        self.no_comments = nn.Parameter(torch.randn(d_model) * 0.02)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Tokens S_p and S_a, each [B, N, D]."""
        visual_BND = torch.where(
            batch.has_visual_BN[..., None], self.visual(batch.visual_BNV), self.no_visual
        )
        text_BND = torch.where(batch.has_text_BN[..., None], self.text(batch.text_BNT), 0.0)
        text_BND = text_BND + self.no_speech * ~batch.has_speech_BN[..., None]
        text_BND = text_BND + self.no_comments * ~batch.has_comments_BN[..., None]
        return visual_BND, text_BND


class StreamerEmbedding(nn.Module):
    """E_u: one learned vector a streamer, mapped to D; row 0 stands for unknown streamers."""

    def __init__(self, num_streamers: int, streamer_dim: int, d_model: int) -> None:
        super().__init__()
        self.table = nn.Embedding(num_streamers + 1, streamer_dim)
        nn.init.normal_(self.table.weight, std=0.1)  # 1, torch's own, invites learning by heart
        self.project = nn.Linear(streamer_dim, d_model)

    def forward(self, streamer_B: Tensor) -> Tensor:
        """Embeddings [B, D] of the streamers' rows [B]."""
        out: Tensor = self.project(self.table(streamer_B))
        return out


class PerceiverLayer(nn.Module):
    """One layer of Algorithm 1: cross-attention, then feed-forward, each with a residual.

    Keys and values are the two modality tokens and the running latent. Norms come before queries,
    and before keys and values.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d_model = config.d_model
        self.norm_latent = nn.LayerNorm(d_model)
        self.norm_tokens = nn.LayerNorm(d_model)
        self.attention = Attention(d_model, config.num_heads)
        self.norm_ff = nn.LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model, config.ff_mult * d_model, d_model)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, latent_R1D: Tensor, tokens_R2D: Tensor) -> Tensor:
        """The next latent, [R, 1, D]."""
        query_R1D = self.norm_latent(latent_R1D)
        memory_R3D = torch.cat((self.norm_tokens(tokens_R2D), query_R1D), dim=1)
        mixed_R1D = self.attention(query_R1D, memory_R3D, None)
        latent_R1D = latent_R1D + self.dropout(mixed_R1D)
        out: Tensor = latent_R1D + self.dropout(self.feed_forward(self.norm_ff(latent_R1D)))
        return out


class DecoderLayer(nn.Module):
    """One layer of Algorithm 2: masked self-attention, then feed-forward, each with a residual."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        d_model = config.d_model
        self.norm = nn.LayerNorm(d_model)
        self.attention = Attention(d_model, config.num_heads, rotary=config.rotary)
        self.norm_ff = nn.LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model, config.ff_mult * d_model, d_model)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BND: Tensor, mask_NN: Tensor) -> Tensor:
        """The next sequence, [B, N, D]; row i of the mask says what segment i sees."""
        normed_BND = self.norm(x_BND)
        x_BND = x_BND + self.dropout(self.attention(normed_BND, normed_BND, mask_NN))
        out: Tensor = x_BND + self.dropout(self.feed_forward(self.norm_ff(x_BND)))
        return out


class ContentCTR(nn.Module):
    """The paper's model: one score a segment, from that segment and the window before it.

    Padding stands at the end of a window, where the causal mask hides it from every real segment,
    so a window of k < n segments scores as it would alone.

    Args:
        config: sizes.
        spec: widths of the stored features.
        num_streamers: known streamers, rows 1 to `num_streamers` of the table.
    """

    def __init__(self, config: ModelConfig, spec: DataSpec, num_streamers: int) -> None:
        super().__init__()
        self.fusion = FeatureFusion(spec.visual_dim, spec.text_dim, config)
        self.streamer = StreamerEmbedding(num_streamers, config.streamer_dim, config.d_model)
        self.perceiver = nn.ModuleList(
            PerceiverLayer(config) for _ in range(config.perceiver_layers)
        )
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(config.d_model)
        self.head = nn.Linear(config.d_model, 1)

    def perceive(self, visual_RD: Tensor, text_RD: Tensor, streamer_RD: Tensor) -> Tensor:
        """The Perceiver block (Section 3.2.2) on R segments, each by itself: E_p, [R, D]."""
        tokens_R2D = torch.stack((visual_RD, text_RD), dim=1)
        latent_R1D = streamer_RD[:, None]
        for layer in self.perceiver:
            latent_R1D = layer(latent_R1D, tokens_R2D)
        return latent_R1D[:, 0]

    def decode(self, x_BND: Tensor) -> Tensor:
        """The causal decoder and the head (Section 3.2.3): logits, [B, N]."""
        mask_NN = causal_mask(x_BND.shape[1], x_BND.device)
        for layer in self.decoder:
            x_BND = layer(x_BND, mask_NN)
        logits: Tensor = self.head(self.norm(x_BND))
        return logits[..., 0]

    def forward(self, batch: Batch) -> Output:
        """Logits of every segment, and the tokens for the alignment loss."""
        visual_BND, text_BND = self.fusion(batch)
        streamer_BND = self.streamer(batch.streamer_B)[:, None].expand_as(visual_BND)
        x_RD = self.perceive(visual_BND.flatten(0, 1), text_BND.flatten(0, 1),
                             streamer_BND.flatten(0, 1))  # fmt: skip
        logits_BN = self.decode(x_RD.view_as(visual_BND))
        return Output(logits_BN=logits_BN, visual_BND=visual_BND, text_BND=text_BND)


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
        """Encode the batch's `inputs`, then score it."""
        visual_BNV, text_BNT = self.encode(batch)
        out: Output = self.core(
            dataclasses.replace(batch, visual_BNV=visual_BNV, text_BNT=text_BNT)
        )
        return out


MODELS: dict[str, Callable[[ModelConfig, DataSpec, int], nn.Module]] = {"contentctr": ContentCTR}
"""Every model that a recipe can name: config, widths, number of streamers -> module."""


def build_model(config: ModelConfig, spec: DataSpec, num_streamers: int) -> nn.Module:
    """The model that `config.kind` names, with fresh weights.

    Raises:
        InputError: no model of that name.
    """
    if config.kind not in MODELS:
        raise InputError(f"model.kind must be one of {', '.join(MODELS)}, not {config.kind!r}")
    return MODELS[config.kind](config, spec, num_streamers)
