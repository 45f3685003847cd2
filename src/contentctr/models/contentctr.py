"""ContentCTR: fusion, Perceiver block, causal decoder (Section 3.2).

Shape suffixes as in batch.py, and R = B * N, every segment of the batch in one row.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from contentctr.batch import Batch, DataSpec, Output, Vocabulary
from contentctr.config import EXTRA_TOKENS, Config, ModelConfig
from contentctr.models.extra_tokens import ExtraTokens, Residual, Wide
from contentctr.models.layers import Attention, FeedForward, Standardise, causal_mask
from contentctr.models.streamers import streamer_embedding
from contentctr.models.words import Words


class FeatureFusion(nn.Module):
    """The projections of Eq. 2, with a learned embedding for each missing part.

    A segment without frames gets a learned visual token. One without speech, or without comments,
    has a learned vector for that added to its text token; one with neither has their sum as text
    token. Zeros are never passed off as content (docs/decisions.md, "Missing parts").

    Differs from the paper: a layer norm (or `model.standardise`) stands before each projection,
    since encoders' features differ in scale (docs/decisions.md, "Projections").
    """

    def __init__(self, spec: DataSpec, config: ModelConfig, modalities: tuple[str, ...]) -> None:
        super().__init__()
        d_model = config.d_model
        # Both are drawn, so that a model without one starts from the same weights elsewhere.
        visual, text = (
            nn.Sequential(
                Standardise(width) if config.standardise else nn.LayerNorm(width),
                # On frozen features: rooms by the dozen are else learned by heart.
                nn.Dropout(config.feature_dropout),
                FeedForward(width, d_model, d_model),
            )
            for width in (spec.visual_dim, spec.text_dim)
        )
        self.visual = visual if "visual" in modalities else None
        self.text = text if "text" in modalities else None
        if self.visual is not None:
            self.no_visual = nn.Parameter(torch.randn(d_model) * 0.02)
        if self.text is not None:
            self.no_speech = nn.Parameter(torch.randn(d_model) * 0.02)
            self.no_comments = nn.Parameter(torch.randn(d_model) * 0.02)

    def forward(self, batch: Batch) -> tuple[Tensor | None, Tensor | None]:
        """Tokens S_p and S_a, each [B, N, D]; None for a modality that the model leaves out."""
        visual_BND = text_BND = None
        if self.visual is not None:
            visual_BND = torch.where(
                batch.has_visual_BN[..., None], self.visual(batch.visual_BNV), self.no_visual
            )
        if self.text is not None:
            text_BND = torch.where(batch.has_text_BN[..., None], self.text(batch.text_BNT), 0.0)
            text_BND = text_BND + self.no_speech * ~batch.has_speech_BN[..., None]
            text_BND = text_BND + self.no_comments * ~batch.has_comments_BN[..., None]
        return visual_BND, text_BND

    def fit(self, part: str, features_RD: Tensor) -> None:
        """Let `model.standardise` know what the features of "visual" or "text" are like."""
        head = getattr(self, part)
        if head is not None and isinstance(head[0], Standardise):
            head[0].fit(features_RD)


class PerceiverLayer(nn.Module):
    """One layer of Algorithm 1: cross-attention, then feed-forward, each with a residual.

    Keys and values are the two modality tokens and the running latent (Algorithm 1; the paper's
    text keeps E_u there). Norms come before queries, keys and values: the paper does not say where
    they are, and without any a residual network does not train.
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

    def forward(self, latent_R1D: Tensor, tokens_RMD: Tensor) -> Tensor:
        """The next latent, [R, 1, D]."""
        query_R1D = self.norm_latent(latent_R1D)
        memory_RMD = torch.cat((self.norm_tokens(tokens_RMD), query_R1D), dim=1)
        return self.attend(latent_R1D, query_R1D, memory_RMD)

    def attend(self, x_R1D: Tensor, query_R1D: Tensor, memory_RMD: Tensor) -> Tensor:
        """X plus what a normed query finds in a normed memory, then feed-forward: [R, 1, D]."""
        x_R1D = x_R1D + self.dropout(self.attention(query_R1D, memory_RMD, None))
        out: Tensor = x_R1D + self.dropout(self.feed_forward(self.norm_ff(x_R1D)))
        return out


class PerceiverBlock(nn.Module):
    """The Perceiver block (Section 3.2.2, Algorithm 1) on R segments, each by itself.

    The latent starts as the streamer's embedding.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(PerceiverLayer(config) for _ in range(config.perceiver_layers))

    def forward(self, tokens_RMD: Tensor, streamer_RD: Tensor) -> Tensor:
        """E_p, [R, D]."""
        latent_R1D = streamer_RD[:, None]
        for layer in self.layers:
            latent_R1D = layer(latent_R1D, tokens_RMD)
        return latent_R1D[:, 0]


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

    def forward(self, x_BND: Tensor, mask_NN: Tensor | None) -> Tensor:
        """The next sequence, [B, N, D]; row i of the mask says what segment i sees.

        The mask may also be one for each window, [B, 1, N, N], or the same for all segments of
        one, [B, 1, 1, N].
        """
        normed_BND = self.norm(x_BND)
        return self._feed_forward(x_BND, self.attention(normed_BND, normed_BND, mask_NN))

    def keys_values(self, x_BND: Tensor) -> tuple[Tensor, Tensor]:
        """What later segments need of these, [B, N, H, E] each; it can be kept (live/)."""
        return self.attention.keys_values(self.norm(x_BND))

    def step(
        self, x_BMD: Tensor, key_BNHE: Tensor, value_BNHE: Tensor, mask_MN: Tensor | None
    ) -> Tensor:
        """`forward` for the last M of N segments, with kept keys and values of all N: [B, M, D]."""
        query_BMHE = self.attention.queries(self.norm(x_BMD))
        mixed_BMD = self.attention.attend(query_BMHE, key_BNHE, value_BNHE, mask_MN)
        return self._feed_forward(x_BMD, mixed_BMD)

    def _feed_forward(self, x_BND: Tensor, mixed_BND: Tensor) -> Tensor:
        """Both residuals, once attention is done."""
        x_BND = x_BND + self.dropout(mixed_BND)
        out: Tensor = x_BND + self.dropout(self.feed_forward(self.norm_ff(x_BND)))
        return out


class ContentCTR(nn.Module):
    """The paper's model: one score a segment, from that segment and the window before it.

    Padding stands at the end of a window, where the causal mask hides it from every real segment,
    so a window of k < n segments scores as it would alone.

    Beyond the paper, `model.statistics` and `model.sound` add a content token each, and
    `model.residual` starts from what is known of earlier segments, `model.wide` adds what is linear
    in it (extra_tokens.py), and `model.words` what the words of earlier segments say (words.py).

    A subclass may set another `block_type`, other `modalities`, another `make_streamer` or other
    `masks` (variants.py).

    Args:
        config: all settings; `config.model` has the sizes.
        spec: widths of the stored features.
        vocabulary: known streamers.
    """

    task: ClassVar[str] = "rooms"
    reads_content: ClassVar[bool] = True
    imports_streamers: ClassVar[bool] = True
    extra_tokens: ClassVar[tuple[str, ...]] = EXTRA_TOKENS
    sees_later: ClassVar[bool] = False
    block_type: ClassVar[type[nn.Module]] = PerceiverBlock
    modalities: ClassVar[tuple[str, ...]] = ("visual", "text")

    def __init__(self, config: Config, spec: DataSpec, vocabulary: Vocabulary) -> None:
        super().__init__()
        sizes = config.model
        self.fusion = FeatureFusion(spec, sizes, self.modalities if sizes.content else ())
        self.streamer = self.make_streamer(config, vocabulary)
        self.block = self.block_type(sizes)
        self.decoder = nn.ModuleList(DecoderLayer(sizes) for _ in range(sizes.decoder_layers))
        self.lookbacks = sizes.lookbacks
        self.norm = nn.LayerNorm(sizes.d_model)
        self.head = nn.Linear(sizes.d_model, 1)
        # Drawn last, so that a model without them starts from the same weights elsewhere.
        self.extra = ExtraTokens(spec, sizes)
        self.residual = Residual() if sizes.residual else None
        self.wide = Wide(spec) if sizes.wide else None
        self.words = Words(spec, config, both_sides=self.sees_later) if sizes.words else None

    @property
    def output_bias(self) -> nn.Parameter:
        """What `model.prior` sets; in the residual form it stands where no mean is known yet."""
        return self.head.bias if self.residual is None else self.residual.unknown

    @staticmethod
    def make_streamer(config: Config, vocabulary: Vocabulary) -> nn.Module:
        """What maps rows of the streamer table to E_u: [B] -> [B, D]."""
        return streamer_embedding(config.model, vocabulary)

    def masks(self, batch: Batch) -> list[Tensor]:
        """What each segment sees in each decoder layer; here itself and the past."""
        length, device = batch.valid_BN.shape[1], batch.valid_BN.device
        return [causal_mask(length, device, lookback=k) for k in self.lookbacks]

    def decode(self, x_BND: Tensor, masks: list[Tensor]) -> Tensor:
        """The decoder, a mask for each of its layers, and the head (Section 3.2.3): [B, N]."""
        for layer, mask in zip(self.decoder, masks, strict=True):
            x_BND = layer(x_BND, mask)
        return self.logits(x_BND)

    def taste(self, batch: Batch) -> Tensor:
        """E_u of each window, [B, D]: with whose eyes its content is seen; here the streamer's."""
        out: Tensor = self.streamer(batch.streamer_B)
        return out

    def logits(self, x_BND: Tensor) -> Tensor:
        """The head on what the decoder's last layer gives: [B, N]."""
        logits: Tensor = self.head(self.norm(x_BND))
        return logits[..., 0]

    def content(self, batch: Batch) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """What the block looks at, R segments by M tokens [R, M, D], and S_p and S_a of them."""
        visual_BND, text_BND = self.fusion(batch)
        tokens = [x_BND for x_BND in (visual_BND, text_BND) if x_BND is not None]
        tokens += self.extra(batch)
        if self.words is not None:
            tokens.append(self.words.token(batch))
        tokens_RMD = torch.stack([x_BND.flatten(0, 1) for x_BND in tokens], dim=1)
        return tokens_RMD, visual_BND, text_BND

    def tokens(self, batch: Batch) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """E_p of every segment [B, N, D], each by itself, and S_p and S_a as from the fusion."""
        tokens_RMD, visual_BND, text_BND = self.content(batch)
        shape_BN = batch.valid_BN.shape
        streamer_BND = self.taste(batch)[:, None].expand(*shape_BN, -1)
        x_RD: Tensor = self.block(tokens_RMD, streamer_BND.flatten(0, 1))
        return x_RD.view(*shape_BN, -1), visual_BND, text_BND

    def forward(self, batch: Batch) -> Output:
        """Logits of every segment, and the tokens for the alignment loss."""
        if self.words is not None:
            batch = self.words.read(batch)
        x_BND, visual_BND, text_BND = batch.each_segment(self.tokens)
        assert x_BND is not None
        logits_BN = self.decode(x_BND, self.masks(batch))
        if self.residual is not None:
            logits_BN = self.residual(logits_BN, batch.mean_logit_BN)
        if self.wide is not None:
            logits_BN = logits_BN + self.wide.of_segments(batch)
        if self.words is not None:
            logits_BN = logits_BN + self.words(batch)
        return Output(logits_BN=logits_BN, visual_BND=visual_BND, text_BND=text_BND)
