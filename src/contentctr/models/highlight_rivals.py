"""Rivals of ContentCTR-HL (Table 2), from their papers' published descriptions, in small.

All of them read frames alone, as the paper says of its rivals. They share one projection of frames
and of picks (Eq. 2's visual one) and the settings of ContentCTR (`d_model`, `num_heads`,
`dropout`), so that they differ in how they use a history. Sizes and details that a description
leaves open are ours, as each docstring says; so are all of their numbers here. None of them is a
port of its authors' program.

Shape suffixes as in batch.py, and: G mini-histories of a user, S clips of one, H heads, C channels
(= D), M positions of a sequence.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contentctr.batch import Batch, DataSpec, History, Output, Vocabulary
from contentctr.config import Config
from contentctr.models.contentctr import DecoderLayer, FeatureFusion
from contentctr.models.contentctr_hl import history_of, mean_of_clips
from contentctr.models.layers import Attention, FeedForward
from contentctr.models.losses import ordered_pairs

TEMPERATURE = 0.1
"""PR-Net: cosines are divided by it; our choice."""
MINI_HISTORY = 5
"""PAC-Net: clips of a mini-history; our choice."""


class FrameModel(nn.Module):
    """What the models of this file share: projected frames and clips, and no text.

    Args:
        config: `config.model` has the sizes.
        spec: widths of the stored features.
        vocabulary: of no use here.
    """

    task: ClassVar[str] = "personal"
    modalities: ClassVar[tuple[str, ...]] = ("visual",)
    reads_history: ClassVar[bool] = True
    reads_content: ClassVar[bool] = True
    imports_streamers: ClassVar[bool] = False
    extra_tokens: ClassVar[tuple[str, ...]] = ()
    sees_later: ClassVar[bool] = True  # a video is there as a whole

    def __init__(self, config: Config, spec: DataSpec, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.fusion = FeatureFusion(spec, config.model, self.modalities)

    def frames(self, batch: Batch) -> Tensor:
        """One token a frame, [B, N, D]; a learned one where the frame has no picture."""
        visual_BND: Tensor = self.fusion(batch)[0]
        return visual_BND

    def clips(self, history: History) -> Tensor:
        """One token a clip, [B, K, D], by the same projection."""
        assert self.fusion.visual is not None
        out: Tensor = self.fusion.visual(history.clip_BKV)
        return out


class HighlightAverage(FrameModel):
    """The non-personal one: a frame's score from the frame alone, the same for every user.

    It learns what the average user picks; what a personal model gains, it gains over this.
    """

    reads_history: ClassVar[bool] = False

    def __init__(self, config: Config, spec: DataSpec, vocabulary: Vocabulary) -> None:
        super().__init__(config, spec, vocabulary)
        d_model = config.model.d_model
        self.head = nn.Sequential(nn.LayerNorm(d_model), FeedForward(d_model, d_model, 1))

    def forward(self, batch: Batch) -> Output:
        """Logits of every frame."""
        return Output(logits_BN=self.head(self.frames(batch))[..., 0])


class AdaptiveHFCSN(FrameModel):
    """Adaptive-H-FCSN (Rochan et al., ECCV 2020).

    Specified: a fully convolutional sequence network over time, which pools on the way down and on
    the way up has transposed convolutions and a skip connection; temporal-adaptive instance norms
    on the deepest layer and on the skip, whose scale and shift a history encoder gives. We chose:
    two levels of D channels (theirs has five, of up to 4096); self-attention among the clips and
    their mean as history encoder;
    upsampling of channels, where theirs upsamples class scores, so that neighbours can differ.
    The order of the clips does not matter; one learned vector stands for no history.
    """

    def __init__(self, config: Config, spec: DataSpec, vocabulary: Vocabulary) -> None:
        super().__init__(config, spec, vocabulary)
        sizes = config.model
        d_model = sizes.d_model
        self.down = nn.ModuleList(_ConvBlock(d_model) for _ in range(2))
        self.deep = nn.Conv1d(d_model, d_model, 1)
        self.norm_clips = nn.LayerNorm(d_model)
        self.attention = Attention(d_model, sizes.num_heads)
        self.no_history = nn.Parameter(torch.randn(d_model) * 0.02)
        self.scale_shift = FeedForward(d_model, d_model, 4 * d_model)
        self.up = nn.ConvTranspose1d(d_model, d_model, 4, stride=2, padding=1)
        self.head = nn.ConvTranspose1d(d_model, 1, 4, stride=2, padding=1)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, batch: Batch) -> Output:
        """Logits of every frame."""
        valid_BN = batch.valid_BN
        skip_BCM, valid_BM = self.down[0](self.frames(batch).transpose(1, 2), valid_BN)
        deep_BCM, deep_valid_BM = self.down[1](skip_BCM, valid_BM)
        deep_BCM = self.dropout(self.deep(deep_BCM).relu())
        style = self.scale_shift(self._taste(history_of(batch))).chunk(4, dim=-1)
        deep_BCM = adaptive_norm(deep_BCM, deep_valid_BM, style[0], style[1])
        skip_BCM = adaptive_norm(skip_BCM, valid_BM, style[2], style[3])
        x_BCM = self.up(deep_BCM)[..., : skip_BCM.shape[-1]] + skip_BCM
        x_BCM = torch.where(valid_BM[:, None], x_BCM.relu(), 0.0)
        return Output(logits_BN=self.head(x_BCM)[:, 0, : valid_BN.shape[1]])

    def _taste(self, history: History) -> Tensor:
        """The history encoder: one vector a user, [B, D]."""
        clips_BKD = self.clips(history)
        normed_BKD = self.norm_clips(clips_BKD)
        mixed_BKD = self.attention(normed_BKD, normed_BKD, _clip_mask(history))
        return mean_of_clips(clips_BKD + mixed_BKD, history.valid_BK, self.no_history)


class _ConvBlock(nn.Module):
    """Two temporal convolutions, then a pooling that halves the length, rounded up.

    Padding is zero before every convolution, as the border is: it changes no real frame.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv1d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x_BCM: Tensor, valid_BM: Tensor) -> tuple[Tensor, Tensor]:
        """The pooled sequence, not below 0, and which of its positions are real."""
        for conv in self.convs:
            x_BCM = conv(torch.where(valid_BM[:, None], x_BCM, 0.0)).relu()
        x_BCM = torch.where(valid_BM[:, None], x_BCM, 0.0)
        return F.max_pool1d(x_BCM, 2, ceil_mode=True), valid_BM[:, ::2]


def adaptive_norm(
    x_BCM: Tensor, valid_BM: Tensor, scale_BC: Tensor, shift_BC: Tensor, *, eps: float = 1e-5
) -> Tensor:
    """Instance norm over the real positions in time, then 1 + scale, and shift; 0 at padding."""
    there_B1M = valid_BM[:, None]
    count_B11 = there_B1M.sum(-1, keepdim=True).clamp(min=1)
    mean_BC1 = torch.where(there_B1M, x_BCM, 0.0).sum(-1, keepdim=True) / count_B11
    centred_BCM = torch.where(there_B1M, x_BCM - mean_BC1, 0.0)
    variance_BC1 = centred_BCM.square().sum(-1, keepdim=True) / count_B11
    x_BCM = centred_BCM / (variance_BC1 + eps).sqrt() * (1 + scale_BC[..., None])
    return torch.where(there_B1M, x_BCM + shift_BC[..., None], 0.0)


class PRNet(FrameModel):
    """PR-Net (Chen et al., ICCV 2021).

    Specified: one encoder for frames in context and for history highlights; attention from each
    frame over the history gives its user-specific preference; attention over that and a learned
    generic preference gives its comprehensive one; a frame's degree of highlight is its similarity
    to that, its degree of non-highlight that to a learned vector; a bi-directional contrastive
    loss on both degrees, against what annotations leave out. We chose: one self-attention layer as
    encoder; cosines over a temperature of 0.1; the logit is highlight minus non-highlight; the
    contrastive loss is logistic over the pairs of a picked and another frame of the window, in
    highlight upwards and in non-highlight downwards (their formula was not at hand). It is
    `Output.pair`, so `loss.pair_weight` weighs it and 0 turns it off. The order of the clips does
    not matter; without history the generic preference stands alone.
    """

    def __init__(self, config: Config, spec: DataSpec, vocabulary: Vocabulary) -> None:
        super().__init__(config, spec, vocabulary)
        sizes = config.model
        d_model = sizes.d_model
        self.encoder = DecoderLayer(sizes)
        self.norm = nn.LayerNorm(d_model)
        self.over_history = Attention(d_model, sizes.num_heads)
        self.norm_preference = nn.LayerNorm(d_model)
        self.over_preferences = Attention(d_model, sizes.num_heads)
        self.generic = nn.Parameter(torch.randn(d_model))
        self.other = nn.Parameter(torch.randn(d_model))

    def forward(self, batch: Batch) -> Output:
        """Logits of every frame, and the contrastive loss."""
        history = history_of(batch)
        x_BND = self.norm(self.encoder(self.frames(batch), batch.valid_BN[:, None, None]))
        # Each clip is a sequence of its own: clips of other videos are not its context.
        clips_BKD = self.clips(history)
        clips_R1D = self.norm(self.encoder(clips_BKD.flatten(0, 1)[:, None], None))
        user_BND = self.over_history(x_BND, clips_R1D.view_as(clips_BKD), _clip_mask(history))
        wanted_BND = self._comprehensive(x_BND, user_BND, history.valid_BK.any(1))
        highlight_BN = F.cosine_similarity(x_BND, wanted_BND, dim=-1) / TEMPERATURE
        other_BN = F.cosine_similarity(x_BND, self.other.expand_as(x_BND), dim=-1) / TEMPERATURE
        pairs_BNN = ordered_pairs(batch.target_BN, batch.has_target_BN)
        contrast = _contrast(highlight_BN, pairs_BNN) + _contrast(-other_BN, pairs_BNN)
        return Output(logits_BN=highlight_BN - other_BN, pair=contrast)

    def _comprehensive(self, x_BND: Tensor, user_BND: Tensor, has_B: Tensor) -> Tensor:
        """Each frame's mixture of the user's preference and the generic one, [B, N, D]."""
        both_BN2D = torch.stack((user_BND, self.generic.expand_as(user_BND)), dim=2)
        seen_BN2 = torch.stack((has_B, torch.ones_like(has_B)), 1)[:, None].expand(
            -1, x_BND.shape[1], -1
        )
        mixed_R1D: Tensor = self.over_preferences(
            x_BND.flatten(0, 1)[:, None],
            self.norm_preference(both_BN2D).flatten(0, 1),
            seen_BN2.flatten(0, 1)[:, None, None],
        )
        return mixed_R1D.view_as(x_BND)


def _contrast(degree_BN: Tensor, pairs_BNN: Tensor) -> Tensor:
    """Logistic loss where the first of a pair should have the higher degree, summed over pairs."""
    gap_BNN = degree_BN[:, :, None] - degree_BN[:, None, :]
    return torch.where(pairs_BNN, F.softplus(-gap_BNN), 0.0).sum()


class PACNet(FrameModel):
    """PAC-Net (Wang et al., ECCV 2022).

    Specified: a decision boundary customizer makes the classifier of a user from the history;
    mini-histories, groups of it, give several preferences, which decide together; a small network.
    We chose: one self-attention layer over the frames; groups of five clips in the order of the
    annotations; a boundary that is a learned general one plus what the customizer makes of a
    group's mean; the logarithm of the mean odds over groups as decision, so that one preference
    which fits is enough. Which clips share a group depends on their order; inside a group it does
    not matter. Without history the general boundary decides.
    """

    def __init__(self, config: Config, spec: DataSpec, vocabulary: Vocabulary) -> None:
        super().__init__(config, spec, vocabulary)
        sizes = config.model
        d_model = sizes.d_model
        self.encoder = DecoderLayer(sizes)
        self.norm = nn.LayerNorm(d_model)
        self.preference = FeedForward(d_model, d_model, d_model)
        self.customizer = FeedForward(d_model, d_model, d_model + 1)
        self.boundary = nn.Parameter(torch.randn(d_model + 1) * 0.02)

    def forward(self, batch: Batch) -> Output:
        """Logits of every frame."""
        x_BND = self.norm(self.encoder(self.frames(batch), batch.valid_BN[:, None, None]))
        boundary_BGD1, there_BG = self._boundaries(history_of(batch))
        weight_BGD, bias_BG = boundary_BGD1[..., :-1], boundary_BGD1[..., -1]
        logits_BNG = x_BND @ weight_BGD.transpose(1, 2) + bias_BG[:, None]
        logits_BNG = logits_BNG.masked_fill(~there_BG[:, None], -torch.inf)
        groups_B1 = there_BG.sum(1, keepdim=True)
        return Output(logits_BN=logits_BNG.logsumexp(-1) - groups_B1.log())

    def _boundaries(self, history: History) -> tuple[Tensor, Tensor]:
        """Weights and bias for each mini-history, [B, G, D + 1], and which of them count."""
        B, K = history.valid_BK.shape
        spare = -K % MINI_HISTORY
        valid_BGS1 = F.pad(history.valid_BK, (0, spare)).view(B, -1, MINI_HISTORY, 1)
        clips_BKD = F.pad(self.preference(self.clips(history)), (0, 0, 0, spare))
        clips_BGSD = clips_BKD.view(B, -1, MINI_HISTORY, clips_BKD.shape[-1])
        total_BGD = torch.where(valid_BGS1, clips_BGSD, 0.0).sum(2)
        mean_BGD = total_BGD / valid_BGS1.sum(2).clamp(min=1)
        there_BG = valid_BGS1[..., 0].any(-1)
        own_BGD1 = torch.where(there_BG[..., None], self.customizer(mean_BGD), 0.0)
        first_G = torch.arange(there_BG.shape[1], device=there_BG.device) == 0
        counts_BG = there_BG | (first_G & ~there_BG.any(1, keepdim=True))
        return self.boundary + own_BGD1, counts_BG


class ShowMe(FrameModel):
    """Show Me What I Like (Bhattacharya et al., ACM MM 2022).

    Specified: detector features of the preferred clips and of the target video, each through
    priming layers and multi-head attention of its own; learned weights fuse a user's clips into
    one feature; scaled products of it with the frames' features, concatenated, are mapped to the
    frames' scores by a fully connected layer. We chose: one feature a clip and one stream (theirs
    has frames inside clips, and poses beside objects; ours takes whatever the visual encoder
    gives); residuals and norms as elsewhere here; one product for each head. The order of the
    clips does not matter; one learned vector stands for no history.
    """

    def __init__(self, config: Config, spec: DataSpec, vocabulary: Vocabulary) -> None:
        super().__init__(config, spec, vocabulary)
        sizes = config.model
        d_model = sizes.d_model
        self.num_heads = sizes.num_heads
        self.prime_clips = FeedForward(d_model, d_model, d_model)
        self.prime_frames = FeedForward(d_model, d_model, d_model)
        self.norm_clips = nn.LayerNorm(d_model)
        self.norm_frames = nn.LayerNorm(d_model)
        self.attend_clips = Attention(d_model, sizes.num_heads)
        self.attend_frames = Attention(d_model, sizes.num_heads, rotary=sizes.rotary)
        self.weigh = nn.Linear(d_model, 1, bias=False)
        self.no_history = nn.Parameter(torch.randn(d_model) * 0.02)
        self.dropout = nn.Dropout(sizes.dropout)
        self.head = nn.Linear(sizes.num_heads, 1)

    def forward(self, batch: Batch) -> Output:
        """Logits of every frame."""
        x_BND = self.norm_frames(self.prime_frames(self.frames(batch)))
        mixed_BND = self.attend_frames(x_BND, x_BND, batch.valid_BN[:, None, None])
        product_BND = (x_BND + self.dropout(mixed_BND)) * self._user(history_of(batch))[:, None]
        product_BNHE = product_BND.view(*batch.valid_BN.shape, self.num_heads, -1)
        product_BNH = product_BNHE.sum(-1) / math.sqrt(product_BNHE.shape[-1])
        return Output(logits_BN=self.head(product_BNH)[..., 0])

    def _user(self, history: History) -> Tensor:
        """The user's clips, weighed and fused: [B, D]."""
        clips_BKD = self.norm_clips(self.prime_clips(self.clips(history)))
        mixed_BKD = self.attend_clips(clips_BKD, clips_BKD, _clip_mask(history))
        clips_BKD = clips_BKD + self.dropout(mixed_BKD)
        seen_BK1 = _clip_mask(history)[:, 0, 0, :, None]
        weights_BK1 = self.weigh(clips_BKD).masked_fill(~seen_BK1, -torch.inf).softmax(dim=1)
        has_B1 = history.valid_BK.any(1, keepdim=True)
        return torch.where(has_B1, (weights_BK1 * clips_BKD).sum(1), self.no_history)


def _clip_mask(history: History) -> Tensor:
    """Which clips can be seen, bool [B, 1, 1, K].

    Where there is no real clip all are shown, lest a softmax over nothing give NaN; the caller
    takes something else there.
    """
    valid_BK = history.valid_BK
    return (valid_BK | ~valid_BK.any(1, keepdim=True))[:, None, None]
