"""The four models of the KuaiLive-M3 benchmark: mlp, gru, causal, hierarchical.

The benchmark names them and says that each predicts a segment's score from the segments up to it;
sizes and details are ours. They share ContentCTR's fusion, sizes and losses, so that they differ
from it and from one another in the sequence model alone, and none looks at the streamer. Shape
suffixes as in batch.py.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from contentctr.batch import Batch, DataSpec, Output, Vocabulary
from contentctr.config import EXTRA_TOKENS, Config, ModelConfig
from contentctr.models.contentctr import DecoderLayer, FeatureFusion
from contentctr.models.extra_tokens import ExtraTokens, Residual
from contentctr.models.layers import FeedForward, causal_mask

CHUNK = 5
"""Segments of a chunk of the hierarchical transformer; our choice."""


class SequenceModel(nn.Module):
    """Fusion, a model of the sequence, and a head; a segment's token is the mean of its tokens.

    Args:
        config: `config.model` has the sizes; `decoder_layers` is the number of layers.
        spec: widths of the stored features.
        vocabulary: of no use here.
    """

    task: ClassVar[str] = "rooms"
    reads_content: ClassVar[bool] = True
    imports_streamers: ClassVar[bool] = False
    extra_tokens: ClassVar[tuple[str, ...]] = EXTRA_TOKENS
    sees_later: ClassVar[bool] = False
    sequence_type: ClassVar[type[nn.Module]]

    def __init__(self, config: Config, spec: DataSpec, vocabulary: Vocabulary) -> None:
        super().__init__()
        sizes = config.model
        modalities = ("visual", "text") if sizes.text else ("visual",)
        self.fusion = FeatureFusion(spec, sizes, modalities if sizes.content else ())
        self.sequence = self.sequence_type(sizes)
        self.norm = nn.LayerNorm(sizes.d_model)
        self.head = nn.Linear(sizes.d_model, 1)
        # Drawn last, so that a model without them starts from the same weights elsewhere.
        self.extra = ExtraTokens(spec, sizes)
        self.residual = Residual() if sizes.residual else None

    @property
    def output_bias(self) -> nn.Parameter:
        """What `model.prior` sets."""
        # The residual form has the level already, where anything is known.
        return self.head.bias if self.residual is None else self.residual.unknown

    def forward(self, batch: Batch) -> Output:
        """Logits of every segment, and the tokens for the alignment loss."""
        visual_BND, text_BND, *extra = batch.each_segment(self._tokens)
        tokens = [token for token in (visual_BND, text_BND, *extra) if token is not None]
        x_BND = self.sequence(sum(tokens[1:], tokens[0]) / len(tokens))
        logits_BN: Tensor = self.head(self.norm(x_BND))[..., 0]
        if self.residual is not None:
            logits_BN = self.residual(logits_BN, batch.mean_logit_BN)
        return Output(logits_BN=logits_BN, visual_BND=visual_BND, text_BND=text_BND)

    def _tokens(self, batch: Batch) -> tuple[Tensor | None, ...]:
        return (*self.fusion(batch), *self.extra(batch))


class SegmentMLP(nn.Module):
    """Each segment by itself: feed-forward layers with residuals."""

    def __init__(self, sizes: ModelConfig) -> None:
        super().__init__()
        d_model = sizes.d_model
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(d_model),
                FeedForward(d_model, sizes.ff_mult * d_model, d_model),
                nn.Dropout(sizes.dropout),
            )
            for _ in range(sizes.decoder_layers)
        )

    def forward(self, x_BND: Tensor) -> Tensor:
        """[B, N, D], each position from itself alone."""
        for layer in self.layers:
            x_BND = x_BND + layer(x_BND)
        return x_BND


class GRU(nn.Module):
    """A gated recurrent network over the window."""

    def __init__(self, sizes: ModelConfig) -> None:
        super().__init__()
        self.gru = nn.GRU(
            sizes.d_model,
            sizes.d_model,
            num_layers=sizes.decoder_layers,
            batch_first=True,
            dropout=sizes.dropout if sizes.decoder_layers > 1 else 0.0,
        )

    def forward(self, x_BND: Tensor) -> Tensor:
        """[B, N, D], each position from itself and the past."""
        out: Tensor = self.gru(x_BND)[0]
        return out


class CausalTransformer(nn.Module):
    """Masked self-attention over the window."""

    def __init__(self, sizes: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(sizes) for _ in range(sizes.decoder_layers))

    def forward(self, x_BND: Tensor) -> Tensor:
        """[B, N, D], each position from itself and the past."""
        mask_NN = causal_mask(x_BND.shape[1], x_BND.device)
        for layer in self.layers:
            x_BND = layer(x_BND, mask_NN)
        return x_BND


class HierarchicalTransformer(nn.Module):
    """Attention inside chunks of the window, then to the chunks that ended before.

    In every layer a segment first sees the past of its own chunk. Then it sees itself and, of
    each earlier chunk, the last segment, which has seen that whole chunk.
    """

    def __init__(self, sizes: ModelConfig) -> None:
        super().__init__()
        self.inside, self.across = (
            nn.ModuleList(DecoderLayer(sizes) for _ in range(sizes.decoder_layers))
            for _ in range(2)
        )

    def forward(self, x_BND: Tensor) -> Tensor:
        """[B, N, D], each position from itself and the past."""
        inside_NN, across_NN = chunk_masks(x_BND.shape[1], x_BND.device)
        for inside, across in zip(self.inside, self.across, strict=True):
            x_BND = across(inside(x_BND, inside_NN), across_NN)
        return x_BND


def chunk_masks(length: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """What segment i (row) sees of j inside its chunk, and across chunks: bool [N, N] each."""
    position_N = torch.arange(length, device=device)
    chunk_N = position_N // CHUNK
    same_NN = chunk_N[:, None] == chunk_N
    inside_NN = same_NN & causal_mask(length, device)
    ends_N = position_N % CHUNK == CHUNK - 1
    across_NN = (chunk_N < chunk_N[:, None]) & ends_N
    return inside_NN, across_NN | torch.eye(length, dtype=torch.bool, device=device)


class BenchmarkMLP(SequenceModel):
    """The benchmark's mlp."""

    sequence_type = SegmentMLP


class BenchmarkGRU(SequenceModel):
    """The benchmark's gru."""

    sequence_type = GRU


class BenchmarkCausal(SequenceModel):
    """The benchmark's causal transformer."""

    sequence_type = CausalTransformer


class BenchmarkHierarchical(SequenceModel):
    """The benchmark's hierarchical transformer."""

    sequence_type = HierarchicalTransformer
