"""Batch, Output, DataSpec, Vocabulary: the only contract between data, model and losses.

Shape suffixes, here and in every other file:
  B windows in a batch     N segments in a window     D model width
  V visual feature width   T text feature width       F frames in a segment
  K sequences compared by the alignment loss (1 true + num_negatives shuffled)
  L tokens of a text       H, W, C height, width, channels of a frame
  A counts of a segment (config.COUNT_COLUMNS)   K also clips of a user's history
  X numbers that an extra token (config.EXTRA_TOKENS) or the words of a segment are made of
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from contentctr.config import FrameChoice
from contentctr.errors import require


@dataclass(frozen=True)
class _Movable:
    """A dataclass of tensors, of others like it, of mappings, and of None for what is not there."""

    def to(self, device: torch.device | str) -> Self:
        """The same on `device`."""
        return type(self)(**{f.name: _moved(getattr(self, f.name), device) for f in fields(self)})


def _moved(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, Mapping):
        return {name: _moved(part, device) for name, part in value.items()}
    return None if value is None else value.to(device)


@dataclass(frozen=True, kw_only=True)
class EncoderInputs(_Movable):
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


@dataclass(frozen=True, kw_only=True)
class IdFeatures(_Movable):
    """What the ID baselines take, the streamer aside (Section 4.3.1). No content, no label.

    The counts are those of the segment before the predicted one: a segment's own exposures and
    clicks are its label (docs/decisions.md, "ID baselines"). Only with IdConfig.same_segment, a
    leak for comparison, are they its own.
    """

    room_B: Tensor
    """int64 row of the live id; 0 is the unknown room."""
    hour_BN: Tensor
    """int64 hour of the day (UTC) in which the predicted segment starts, 1 to 24; 0: unknown."""
    position_BN: Tensor
    """int64 number of the predicted segment in its room, from 0."""
    counts_BNA: Tensor
    """float32 counts of that segment; NaN where there are none."""


@dataclass(frozen=True, kw_only=True)
class History(_Movable):
    """What a user picked before, for personalized highlights (Section 4.1.2)."""

    clip_BKV: Tensor
    """Mean visual feature of each earlier pick; zeros at padding."""
    valid_BK: Tensor
    """bool, whether the clip is real; real ones come first, and there may be none."""


@dataclass(frozen=True, kw_only=True)
class ExtraInput(_Movable):
    """What an extra token is made of."""

    values_BNX: Tensor
    """float32; ignored where `has_BN` is false."""
    has_BN: Tensor
    """bool, whether there is anything."""


@dataclass(frozen=True, kw_only=True)
class Batch(_Movable):
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
    extra: Mapping[str, ExtraInput] = field(default_factory=dict)
    """What the extra tokens are made of, and words, by their names; those that the model takes."""
    mean_logit_BN: Tensor | None = None
    """float32 log-odds of the target's exponential mean in earlier segments, for the residual
    form; NaN where it is not known."""
    shuffles_BKN: Tensor | None = None
    """int64 column orders for the alignment loss: row 0 is the identity, the others shuffle the
    window's valid positions. None where no alignment loss is wanted."""
    inputs: EncoderInputs | None = None
    """Unencoded frames and tokens; only for models that hold their encoders."""
    ids: IdFeatures | None = None
    """Ids, time and counts; only the ID baselines look at them."""
    history: History | None = None
    """The user's earlier picks, for personalized highlights: there a window is a stretch of a
    video, its segments are single frames, and the target says which of them the user picked."""
    distinct: Batch | None = None
    """The distinct segments of these windows, as R windows of one segment each. Where it is given
    it holds features, inputs and ids, and this batch has none of its own (features of width 0):
    what does not depend on the window is computed once for each (`each_segment`)."""
    row_BN: Tensor | None = None
    """int64, which of the distinct segments stands at each position; any at padding."""

    @property
    def has_text_BN(self) -> Tensor:
        """bool, whether there is any text."""
        return self.has_speech_BN | self.has_comments_BN

    @property
    def has_target_BN(self) -> Tensor:
        """bool, whether the segment is real and has a target."""
        return self.valid_BN & ~torch.isnan(self.target_BN)

    def each_segment(
        self, compute: Callable[[Batch], tuple[Tensor | None, ...]]
    ) -> tuple[Tensor | None, ...]:
        """What `compute` gives of each segment by itself, placed in the windows.

        Args:
            compute: from a batch to tensors [B, N, ...], in which no position depends on another.

        Returns:
            Those tensors for this batch; computed once for each distinct segment if there are
            `distinct` ones.
        """
        if self.distinct is None:
            return compute(self)
        assert self.row_BN is not None
        return tuple(_place(x, self.row_BN) for x in compute(self.distinct))

    def __len__(self) -> int:
        return self.visual_BNV.shape[0]


def _place(x_R1D: Tensor | None, row_BN: Tensor) -> Tensor | None:
    """Rows at their places, [B, N, ...]."""
    if x_R1D is None:
        return None
    x_RD = x_R1D[:, 0]
    return take_rows(x_RD.reshape(len(x_RD), -1), row_BN).view(*row_BN.shape, *x_RD.shape[1:])


def take_rows(x_RD: Tensor, row_BN: Tensor) -> Tensor:
    """Rows of a matrix, [B, N, D].

    On a CPU, index_select's gradient takes half the time of the embedding's. On a GPU it sums in
    no fixed order, so there a resumed run would not end with the same bits.
    """
    if x_RD.device.type == "cpu":
        return x_RD.index_select(0, row_BN.flatten()).view(*row_BN.shape, -1)
    return F.embedding(row_BN, x_RD)


@dataclass(frozen=True, kw_only=True)
class Output:
    """What every model returns for a Batch."""

    logits_BN: Tensor
    """Log-odds of the predicted target; arbitrary at padding."""
    visual_BND: Tensor | None = None
    """Projected visual tokens S_p (Eq. 2), for the alignment loss; None if the model has none."""
    text_BND: Tensor | None = None
    """Projected text tokens S_a (Eq. 2); None if the model has none."""
    pair: Tensor | None = None
    """A pairwise loss of the model's own, summed over the pairs that the target orders, to be
    taken in place of Eq. 10-13; its weight and its count are theirs. None: theirs."""

    @property
    def scores_BN(self) -> Tensor:
        """Predicted CTR s in (0, 1)."""
        return torch.sigmoid(self.logits_BN)


IN_ROOM_SCALES = ("rank", "minmax")
"""Scales of a target that say how a segment compares with others of its room, and no more."""
_SCALE_NAMES = {
    "none": "",
    "rank": " (rank inside the room)",
    "minmax": " (from the room's lowest to its highest)",
    "odds": " (odds against what is typical)",
}
"""What a target's scale makes of it, behind its name."""


def target_words(target: str) -> str:
    """A target's name for people: "CTR", or "comment rate" of comment_rate."""
    return "CTR" if target == "ctr" else target.replace("_", " ")


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """What a model must know of the data it was trained on, to be used on other data."""

    segment_seconds: float = 30.0
    """Length of a segment in seconds."""
    frames_per_segment: int = 3
    """Frames per segment, each at the middle of its share of the segment."""
    frames: FrameChoice = "exact"
    """Which picture of a video stands for a frame: the one shown then, or the keyframe before."""
    target: str = "ctr"
    """Name of the target: ctr, comment_rate, or a column of segments.parquet."""
    target_scale: str = "none"
    """How it was brought to [0, 1]: not at all, by rank or minmax inside its room, or as odds."""
    comment_lag: int = 0
    """A segment's text holds the comments of the segment so many before it."""
    simulated: bool = False
    """Whether the rooms are simulated; every number from them is labelled so."""
    visual_encoder: str = ""
    """Name or folder of the visual encoder f; "embedded" for the one of the extra `embedded`."""
    visual_revision: str = ""
    """Hash of its weights and settings."""
    visual_dim: int = 1024
    """V, width of its features."""
    visual_engine: str = "torch"
    """The inference engine that computed them: torch, onnx or openvino."""
    visual_precision: str = "float32"
    """What it computed in: float32 or bfloat16."""
    text_encoder: str = ""
    """Name or folder of the text encoder g."""
    text_revision: str = ""
    """Hash of its weights and settings."""
    text_dim: int = 1024
    """T, width of its features."""
    text_engine: str = "torch"
    """As `visual_engine`."""
    text_precision: str = "float32"
    """As `visual_precision`."""
    text_pooling: str = "cls"
    """How a text's tokens become one feature: cls (the paper) or mean."""
    text_prefix: str = ""
    """Put before every text."""
    max_text_tokens: int = 128
    """Longer texts are cut to so many tokens."""
    statistics_dim: int = 0
    """Width of the statistics of earlier segments; 0: there are none."""
    sound_dim: int = 0
    """Width of the sound's features; 0: none were stored."""
    sound_revision: str = ""
    """Hash of what makes them."""
    words_dim: int = 0
    """Numbers of a segment's words (encode/words.py); 0: none were stored."""
    words_revision: str = ""
    """Hash of what makes them."""
    speech_source: str = ""
    """Where the rooms' speech is from (transcribe/source.py); "" where the data does not say."""

    def __post_init__(self) -> None:
        require(self.segment_seconds > 0, "segment_seconds", "above 0", self.segment_seconds)
        require(self.frames_per_segment >= 1, "frames_per_segment", ">= 1", self.frames_per_segment)
        require(self.comment_lag >= 0, "comment_lag", "at least 0", self.comment_lag)
        require(
            self.text_pooling in ("cls", "mean"), "text_pooling", "cls or mean", self.text_pooling
        )
        for name in ("visual_dim", "text_dim", "max_text_tokens"):
            require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        for name in ("statistics_dim", "sound_dim", "words_dim"):
            require(getattr(self, name) >= 0, name, "at least 0", getattr(self, name))

    @property
    def target_name(self) -> str:
        """What a score predicts, for people: "CTR", or another target and its scale."""
        return target_words(self.target) + _SCALE_NAMES.get(self.target_scale, "")


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Known ids: row i + 1 of a model's table belongs to entry i, row 0 to the unknown one."""

    streamers: Sequence[str]
    """Streamers of the training rooms, or of an imported table; sorted."""
    rooms: Sequence[str] = ()
    """Training rooms (live ids), sorted; only the ID baselines have a table of them."""
    vectors_UE: npt.NDArray[np.float32] | None = None
    """Imported streamers' vectors, one row a streamer; None for a learned table, and where a
    checkpoint's weights hold them already."""
