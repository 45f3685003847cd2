"""ContentCTR-HL: ContentCTR for personalized highlight detection (Section 4.3.1, Table 2).

A window is a stretch of frames of the user's target video; a score says how likely the user is to
pick a frame. Shape suffixes as in batch.py.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from contentctr.batch import Batch, DataSpec, History, Vocabulary
from contentctr.config import Config, ModelConfig
from contentctr.models.layers import FeedForward
from contentctr.models.streamers import NoStreamer, OneForAll
from contentctr.models.variants import WithoutMask


def history_of(batch: Batch) -> History:
    """The history of a batch for a model of highlights.

    Raises:
        ValueError: it has none, as batches of live rooms do.
    """
    if batch.history is None:
        raise ValueError("a model of highlights needs a batch with the users' histories")
    return batch.history


def mean_of_clips(x_BKD: Tensor, valid_BK: Tensor, none_D: Tensor) -> Tensor:
    """Mean over each user's real clips, [B, D]; `none_D` for a user without any."""
    total_BD = torch.where(valid_BK[..., None], x_BKD, 0.0).sum(1)
    mean_BD = total_BD / valid_BK.sum(1, keepdim=True).clamp(min=1)
    return torch.where(valid_BK.any(1, keepdim=True), mean_BD, none_D)


class HistoryMean(nn.Module):
    """The user's history as one vector: the mean of the projected clips.

    The paper replaces the streamer's embedding by "the user history feature" and says no more. The
    projection is built as Eq. 2's are, with weights of its own: what a pick says of taste is
    another question than what a frame shows. A mean does not know the order of the clips. A user
    without history has a learned vector.

    Args:
        visual_dim: V.
        config: the sizes.
    """

    def __init__(self, visual_dim: int, config: ModelConfig) -> None:
        super().__init__()
        d_model = config.d_model
        self.project = nn.Sequential(
            nn.LayerNorm(visual_dim),
            nn.Dropout(config.feature_dropout),
            FeedForward(visual_dim, d_model, d_model),
        )
        self.no_history = nn.Parameter(torch.randn(d_model) * 0.02)

    def forward(self, history: History) -> Tensor:
        """E_u, [B, D]."""
        return mean_of_clips(self.project(history.clip_BKV), history.valid_BK, self.no_history)


class ContentCTRHL(WithoutMask):
    """ContentCTR with the user's history in place of the streamer, and without the causal mask.

    The paper specifies: the history's features in place of the ID embedding; captions as text; an
    attention mask that is fully visible; L_point and L_align alone, which are settings of the
    loss (`loss.pair_weight=0`). All blocks are ContentCTR's. We chose how a history becomes one
    vector (`HistoryMean`), and that padding is hidden from every frame.

    Args:
        config: all settings.
        spec: widths of the stored features.
        vocabulary: of no use here.

    Raises:
        InputError: as `WithoutMask`.
    """

    task: ClassVar[str] = "personal"
    imports_streamers: ClassVar[bool] = False
    extra_tokens: ClassVar[tuple[str, ...]] = ()
    reads_history: ClassVar[bool] = True
    """Whether the user's history changes a score."""

    def __init__(self, config: Config, spec: DataSpec, vocabulary: Vocabulary) -> None:
        super().__init__(config, spec, vocabulary)
        self.user = self.make_user(config, spec)

    @staticmethod
    def make_streamer(config: Config, vocabulary: Vocabulary) -> nn.Module:
        """Nothing: the taste is the user's."""
        return NoStreamer(config.model.d_model)

    @staticmethod
    def make_user(config: Config, spec: DataSpec) -> nn.Module:
        """What makes E_u of a history."""
        return HistoryMean(spec.visual_dim, config.model)

    def taste(self, batch: Batch) -> Tensor:
        """E_u of each window, [B, D]: the user's, from the history."""
        out: Tensor = self.user(history_of(batch))
        return out


class WithoutHistory(ContentCTRHL):
    """ContentCTR-HL w/o history (Table 5): one learned vector for every user."""

    reads_history: ClassVar[bool] = False

    @staticmethod
    def make_user(config: Config, spec: DataSpec) -> nn.Module:
        """One vector, whoever watches."""
        return OneForAll(config.model.d_model)

    def taste(self, batch: Batch) -> Tensor:
        """The same vector for each window, [B, D]; the history is not looked at."""
        out: Tensor = self.user(batch.streamer_B)
        return out


class WithoutCaptions(ContentCTRHL):
    """ContentCTR-HL w/o caption (Table 5): frames alone; so there is nothing to align."""

    modalities = ("visual",)
