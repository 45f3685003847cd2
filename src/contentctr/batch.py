"""Batch and Output: the only contract between data, model and losses.

Shape suffixes, here and in every other file:
  B windows in a batch     N segments in a window     D model width
  V visual feature width   T text feature width       F frames in a segment
  K sequences compared by the alignment loss (1 true + num_negatives shuffled)
  L tokens of a text       H, W, C height, width, channels of a frame
  A counts of a segment (config.COUNT_COLUMNS)
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class EncoderInputs:
    """What the encoders take, for training end to end: frames and tokens, not yet encoded."""

    frames_BNFHWC: Tensor
    """uint8 RGB frames, already resized for the visual encoder; a missing one is all zero."""
    has_frame_BNF: Tensor
    """bool, whether a frame was there."""
    token_ids_BNL: Tensor
    """int64 token ids of the pair (speech, comments)."""
    token_types_BNL: Tensor
    """int64, 0 for speech and 1 for comments."""
    token_mask_BNL: Tensor
    """bool, whether a token is real and not padding."""

    def to(self, device: torch.device | str) -> Self:
        """The same inputs on `device`."""
        return type(self)(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


@dataclass(frozen=True, kw_only=True)
class IdFeatures:
    """What the ID baselines take, the streamer aside (Section 4.3.1). No content, no label.

    The counts are those of the segment before the predicted one: a segment's own exposures and
    clicks are its label (docs/decisions.md, "ID baselines").
    """

    room_B: Tensor
    """int64 row of the live id; 0 is the unknown room."""
    hour_BN: Tensor
    """int64 hour of the day (UTC) in which the predicted segment starts, 1 to 24; 0: unknown."""
    position_BN: Tensor
    """int64 number of the predicted segment in its room, from 0."""
    counts_BNA: Tensor
    """float32 counts of the segment before the predicted one; NaN where there are none."""

    def to(self, device: torch.device | str) -> Self:
        """The same features on `device`."""
        return type(self)(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B windows of N consecutive segments each, padded on the right where a room is shorter."""

    visual_BNV: Tensor
    """Mean feature of a segment's frames (Eq. 2, f); ignored where `has_visual_BN` is false."""
    text_BNT: Tensor
    """Feature of the pair (speech, comments) (Eq. 2, g); ignored where there is neither."""
    has_visual_BN: Tensor
    """bool, whether the segment has at least one frame."""
    has_speech_BN: Tensor
    """bool, whether the streamer said anything."""
    has_comments_BN: Tensor
    """bool, whether anybody commented."""
    streamer_B: Tensor
    """int64 row of the streamer in the model's table; 0 is the unknown streamer."""
    valid_BN: Tensor
    """bool, true for real segments, false for padding; real ones come first."""
    target_BN: Tensor
    """float32 CTR in [0, 1]; NaN where a segment has none (no viewers, or padding)."""
    window_B: Tensor
    """int64 number of the window in its data set, for messages and predictions."""
    shuffles_BKN: Tensor | None = None
    """int64 column orders for the alignment loss: row 0 is the identity, the others shuffle the
    window's valid positions. None where no alignment loss is wanted."""
    inputs: EncoderInputs | None = None
    """Unencoded frames and tokens; only for models that hold their encoders."""
    ids: IdFeatures | None = None
    """Ids, time and counts; only the ID baselines look at them."""

    @property
    def has_text_BN(self) -> Tensor:
        """bool, whether there is any text."""
        return self.has_speech_BN | self.has_comments_BN

    @property
    def has_target_BN(self) -> Tensor:
        """bool, whether the segment is real and has a target."""
        return self.valid_BN & ~torch.isnan(self.target_BN)

    def __len__(self) -> int:
        return self.visual_BNV.shape[0]

    def to(self, device: torch.device | str) -> Self:
        """The same batch on `device`."""
        moved: dict[str, Any] = {
            f.name: None if (value := getattr(self, f.name)) is None else value.to(device)
            for f in fields(self)
        }
        return type(self)(**moved)


@dataclass(frozen=True, kw_only=True)
class Output:
    """What every model returns for a Batch."""

    logits_BN: Tensor
    """Log-odds of the predicted CTR; arbitrary at padding."""
    visual_BND: Tensor | None = None
    """Projected visual tokens S_p (Eq. 2), for the alignment loss; None if the model has none."""
    text_BND: Tensor | None = None
    """Projected text tokens S_a (Eq. 2); None if the model has none."""

    @property
    def scores_BN(self) -> Tensor:
        """Predicted CTR s in (0, 1)."""
        return torch.sigmoid(self.logits_BN)
