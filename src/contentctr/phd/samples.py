"""Samples of personalized highlight detection (Section 4.1.2), and how they are cut into batches.

A sample is a user: all frames of the target video, which of them the user selected, and the
features of the highlights that the same user selected in earlier videos. Training takes segments
of a fixed number of frames that hold at least one highlight frame; testing takes the whole video,
in as many segments as it has.

Shape suffixes: B segments in a batch, N frames in a segment, T frames of a video, K clips of a
history, V and C widths of visual and of text features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from contentctr.config import DataSpec
from contentctr.errors import InputError
from contentctr.features import read_entry, read_index, read_manifest
from contentctr.phd.folder import SPLITS, HighlightData, frame_labels, span_frames

_TARGET_PART = ("visual", "has_visual", "text", "has_text")
_HISTORY_PART = ("frame", "visual", "has_visual")


@dataclass(frozen=True, kw_only=True)
class UserSample:
    """One user's target video and history."""

    user_id: str
    video_id: str
    """The target video's."""
    visual_TV: NDArray[np.float16]
    """Feature of each frame; zeros where `has_visual_T` is false."""
    text_TC: NDArray[np.float16]
    """Feature of the captions shown during each frame; zeros where `has_text_T` is false."""
    has_visual_T: NDArray[np.bool_]
    """False where a frame cannot be decoded."""
    has_text_T: NDArray[np.bool_]
    """False where no caption is shown, and all through a video without captions."""
    label_T: NDArray[np.bool_]
    """Whether the user selected the frame; at least one is true."""
    history_KV: NDArray[np.float32]
    """Mean feature over the frames of each earlier selection, in the order of the annotations
    (docs/decisions.md, "PHD: history"). K is from 0 to the prepared folder's `max_history`, and
    is not padded here. A clip of which no frame can be decoded is left out, so K may be 0."""
    frame_rate: float
    """Frames a second; frame i stands for the seconds from i / frame_rate on."""

    def __len__(self) -> int:
        return len(self.label_T)


@dataclass(frozen=True, kw_only=True)
class HighlightBatch:
    """B segments of N consecutive frames each; the shorter ones are padded on the right."""

    visual_BNV: Tensor
    """float32 frame features; zeros where `has_visual_BN` is false."""
    text_BNC: Tensor
    """float32 caption features; zeros where `has_text_BN` is false."""
    has_visual_BN: Tensor
    """bool, whether the frame has a picture; false at padding."""
    has_text_BN: Tensor
    """bool, whether a caption is shown; false at padding."""
    valid_BN: Tensor
    """bool, true for real frames, false for padding; real ones come first."""
    label_BN: Tensor
    """float32, 1 for frames the user selected, 0 for others and at padding."""
    history_BKV: Tensor
    """float32 mean features of the user's earlier selections; zeros at padding."""
    has_history_BK: Tensor
    """bool, true for real clips, false for padding; real ones come first. A row may be all false:
    a user without history, or a batch made with `history=False`."""
    user_B: Tensor
    """int64 number of the user in the list of samples."""
    start_B: Tensor
    """int64 frame of the user's video at which the segment starts."""

    def __len__(self) -> int:
        return self.visual_BNV.shape[0]

    def to(self, device: str) -> Self:
        """The same batch on `device`."""
        moved: dict[str, Any] = {f.name: getattr(self, f.name).to(device) for f in fields(self)}
        return type(self)(**moved)


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A stretch of a user's target video."""

    user: int
    """Number of the user in the list of samples."""
    start: int
    """First frame."""
    stop: int
    """Past the last frame; stop - start is at most the segment's length."""


class UserSamples:
    """The samples of a split, read from the stored features when they are asked for.

    Args:
        data: the prepared and encoded folder.
        split: train, val or test; None: all.

    Raises:
        InputError: nothing is encoded, not everything is, or it was prepared anew since.
    """

    def __init__(self, data: HighlightData | Path | str, split: str | None = None) -> None:
        data = data if isinstance(data, HighlightData) else HighlightData(Path(data))
        if split is not None and split not in SPLITS:
            raise InputError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
        self.frame_rate = data.frame_rate
        self.spec = _checked_spec(data)
        """Encoders and widths of the features."""
        users = data.users()
        self.users = users if split is None else users.filter(pl.col("split") == split)
        """Of the folder's USERS_SCHEMA, in the order of the samples."""
        self._index = read_index(data.features_dir)
        self._num_frames = dict(data.videos().select("video_id", "num_frames").iter_rows())
        self._targets: dict[str, list[tuple[float, float]]] = {}
        self._clips: dict[str, list[tuple[str, float, float]]] = {}
        for user_id, video_id, start_s, end_s, is_target in data.selections().iter_rows():
            if is_target:
                self._targets.setdefault(user_id, []).append((start_s, end_s))
            else:
                self._clips.setdefault(user_id, []).append((video_id, start_s, end_s))
        missing = sorted(set(data.videos()["video_id"]) - self._index.keys())
        if missing:
            raise InputError(
                f"{data.features_dir}: {len(missing)} of {len(self._num_frames)} videos are not "
                f"encoded, such as {missing[0]!r}; run `contentctr encode` again"
            )

    def __len__(self) -> int:
        return self.users.height

    def __getitem__(self, user: int) -> UserSample:
        """The sample of a user.

        Raises:
            InputError: a file of the store is damaged.
        """
        if not 0 <= user < len(self):
            raise IndexError(user)
        row = self.users.row(user, named=True)
        stored = read_entry(self._index[row["video_id"]], _TARGET_PART)
        return UserSample(
            user_id=row["user_id"],
            video_id=row["video_id"],
            visual_TV=stored["visual"],
            text_TC=stored["text"],
            has_visual_T=stored["has_visual"].astype(np.bool_),
            has_text_T=stored["has_text"].astype(np.bool_),
            label_T=self.labels(user),
            history_KV=self.history(user),
            frame_rate=self.frame_rate,
        )

    def num_frames(self, user: int) -> int:
        """T of a sample, without reading its features."""
        return int(self._num_frames[self.users["video_id"][user]])

    def labels(self, user: int) -> NDArray[np.bool_]:
        """`label_T` of a sample, without reading its features."""
        spans = self._targets[self.users["user_id"][user]]
        return frame_labels(spans, self.frame_rate, self.num_frames(user))

    def history(self, user: int) -> NDArray[np.float32]:
        """`history_KV` of a sample.

        Raises:
            InputError: a file of the store is damaged.
        """
        clips = self._clips.get(self.users["user_id"][user], [])
        read: dict[str, dict[str, NDArray[Any]]] = {}
        means = []
        for video_id, start_s, end_s in clips:
            if video_id not in read:
                read[video_id] = read_entry(self._index[video_id], _HISTORY_PART)
            stored = read[video_id]
            frames = span_frames(start_s, end_s, self.frame_rate, self._num_frames[video_id])
            first, past = np.searchsorted(stored["frame"], (frames.start, frames.stop))
            assert past - first == len(frames), (video_id, frames)
            visual = stored["visual"][first:past][stored["has_visual"][first:past] > 0]
            if len(visual):
                means.append(visual.astype(np.float32).mean(0))
        return np.stack(means) if means else np.zeros((0, self.spec.visual_dim), np.float32)


def training_segments(samples: UserSamples, length: int = 192) -> list[Segment]:
    """Segments of the users' target videos that hold at least one highlight frame (Section 4.1.2).

    Args:
        samples: the users.
        length: frames of a segment, at least 1 (the paper: 192).
    """
    chosen = []
    for user in range(len(samples)):
        label_T = samples.labels(user)
        chosen += [s for s in whole_video(samples, user, length) if label_T[s.start : s.stop].any()]
    return chosen


def whole_video(samples: UserSamples, user: int, length: int = 192) -> list[Segment]:
    """All segments of a user's target video, from its start on, for testing (Section 4.1.2).

    The last one may be shorter.

    Args:
        samples: the users.
        user: its number.
        length: frames of a segment, at least 1.
    """
    num_frames = samples.num_frames(user)
    starts = range(0, num_frames, length)
    return [Segment(user=user, start=s, stop=min(s + length, num_frames)) for s in starts]


def make_batch(
    samples: UserSamples, segments: Sequence[Segment], *, history: bool = True
) -> HighlightBatch:
    """Segments as a batch, padded to the longest segment and the longest history among them.

    Args:
        samples: the users.
        segments: of them, at least one.
        history: false: every history is empty (the ablation "w/o history", Table 5).

    Raises:
        InputError: a file of the store is damaged.
    """
    users = {user: samples[user] for user in dict.fromkeys(s.user for s in segments)}
    shape = len(segments), max(s.stop - s.start for s in segments)
    widths = {"visual": samples.spec.visual_dim, "text": samples.spec.text_dim}
    into = {name: np.zeros((*shape, width), np.float32) for name, width in widths.items()}
    into |= {name: np.zeros(shape, np.bool_) for name in ("has_visual", "has_text", "valid")}
    into["label"] = np.zeros(shape, np.float32)
    for row, segment in enumerate(segments):
        sample, cut = users[segment.user], slice(segment.start, segment.stop)
        here = row, slice(segment.stop - segment.start)
        into["visual"][here], into["text"][here] = sample.visual_TV[cut], sample.text_TC[cut]
        into["has_visual"][here] = sample.has_visual_T[cut]
        into["has_text"][here] = sample.has_text_T[cut]
        into["valid"][here], into["label"][here] = True, sample.label_T[cut]
    none_KV = np.zeros((0, samples.spec.visual_dim), np.float32)
    clips = [users[s.user].history_KV if history else none_KV for s in segments]
    history_BKV, has_history_BK = _pad(clips)
    return HighlightBatch(
        visual_BNV=torch.from_numpy(into["visual"]),
        text_BNC=torch.from_numpy(into["text"]),
        has_visual_BN=torch.from_numpy(into["has_visual"]),
        has_text_BN=torch.from_numpy(into["has_text"]),
        valid_BN=torch.from_numpy(into["valid"]),
        label_BN=torch.from_numpy(into["label"]),
        history_BKV=history_BKV,
        has_history_BK=has_history_BK,
        user_B=torch.tensor([s.user for s in segments]),
        start_B=torch.tensor([s.start for s in segments]),
    )


def _pad(clips: Sequence[NDArray[np.float32]]) -> tuple[Tensor, Tensor]:
    """Histories [K, V] as one tensor [B, K, V] and which clips are real [B, K]; K at least 1."""
    longest, width = max([1, *map(len, clips)]), clips[0].shape[1]
    history_BKV = torch.zeros(len(clips), longest, width)
    has_history_BK = torch.zeros(len(clips), longest, dtype=torch.bool)
    for row, clip_KV in enumerate(clips):
        history_BKV[row, : len(clip_KV)] = torch.from_numpy(clip_KV)
        has_history_BK[row, : len(clip_KV)] = True
    return history_BKV, has_history_BK


def _checked_spec(data: HighlightData) -> DataSpec:
    """The store's spec; it must be of what the folder holds now."""
    spec, manifest = read_manifest(data.features_dir)
    if manifest["segments_hash"] != data.content_hash():
        raise InputError(
            f"{data.features_dir}: the folder was prepared anew since it was encoded; run "
            "`contentctr encode` again (only what changed is encoded)"
        )
    return spec
