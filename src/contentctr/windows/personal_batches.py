"""Batches of a user's video: a window is a stretch of it, and its segments are single frames.

Shape suffixes as in batch.py (N frames in a window, T width of text features, K clips of a
history, or column orders of the alignment loss).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from contentctr.batch import Batch, DataSpec, History
from contentctr.windows.loader import EpochLoader, IntArray
from contentctr.windows.personal import Frames, Stretch


class Videos(Protocol):
    """Where stretches of videos and their users' histories come from; UserSamples is one."""

    spec: DataSpec

    def num_frames(self, user: int) -> int:
        """T of a user's video."""

    def frames(self, segment: Stretch) -> Frames:
        """The frames of a stretch."""

    def labels(self, user: int) -> NDArray[np.bool_]:
        """Which frames of the video the user selected."""

    def history(self, user: int) -> NDArray[np.float32]:
        """Mean features of the user's earlier selections, [K, V]; K may be 0."""


def make_batch(
    videos: Videos, segments: Sequence[Stretch], which: Sequence[int] | None = None
) -> Batch:
    """Segments as a batch, padded to the longest segment and the longest history among them.

    A caption stands where a live room's speech does; there are no comments. The target is 1 for
    frames that the user selected, 0 for others, NaN at padding.

    Args:
        videos: their frames and histories.
        segments: at least one.
        which: the segments' numbers, for messages; None: 0, 1, ...

    Raises:
        InputError: a file of the store is damaged.
    """
    shape = len(segments), max(s.stop - s.start for s in segments)
    visual_BNV = np.zeros((*shape, videos.spec.visual_dim), np.float32)
    text_BNT = np.zeros((*shape, videos.spec.text_dim), np.float32)
    has_visual_BN, has_text_BN, valid_BN = (np.zeros(shape, np.bool_) for _ in range(3))
    target_BN = np.full(shape, np.nan, np.float32)
    for row, segment in enumerate(segments):
        found = videos.frames(segment)
        here = row, slice(segment.stop - segment.start)
        visual_BNV[here], text_BNT[here] = found.visual_TV, found.text_TC
        has_visual_BN[here], has_text_BN[here] = found.has_visual_T, found.has_text_T
        valid_BN[here] = True
        target_BN[here] = videos.labels(segment.user)[segment.start : segment.stop]
    clips = {user: videos.history(user) for user in dict.fromkeys(s.user for s in segments)}
    return Batch(
        visual_BNV=torch.from_numpy(visual_BNV),
        text_BNT=torch.from_numpy(text_BNT),
        has_visual_BN=torch.from_numpy(has_visual_BN),
        has_speech_BN=torch.from_numpy(has_text_BN),
        has_comments_BN=torch.zeros(shape, dtype=torch.bool),
        streamer_B=torch.zeros(len(segments), dtype=torch.long),
        valid_BN=torch.from_numpy(valid_BN),
        target_BN=torch.from_numpy(target_BN),
        window_B=torch.arange(len(segments)) if which is None else torch.tensor(which),
        history=_history([clips[s.user] for s in segments]),
    )


def _history(clips: Sequence[NDArray[np.float32]]) -> History:
    """Histories [K, V] padded to the longest; K at least 1."""
    longest, width = max([1, *map(len, clips)]), clips[0].shape[1]
    clip_BKV = torch.zeros(len(clips), longest, width)
    valid_BK = torch.zeros(len(clips), longest, dtype=torch.bool)
    for row, clip_KV in enumerate(clips):
        clip_BKV[row, : len(clip_KV)] = torch.from_numpy(clip_KV)
        valid_BK[row, : len(clip_KV)] = True
    return History(clip_BKV=clip_BKV, valid_BK=valid_BK)


@dataclass(frozen=True, kw_only=True)
class StretchLoader(EpochLoader):
    """Training batches of stretches of videos."""

    videos: Videos
    segments: Sequence[Stretch]

    def __len__(self) -> int:
        """Segments."""
        return len(self.segments)

    def batch(self, which: IntArray, epoch: int) -> Batch:
        """The segments numbered `which` (-1: one without target or modality), for training."""
        chosen = [self.segments[number] for number in np.maximum(which, 0).tolist()]
        batch = make_batch(self.videos, chosen, which.tolist())
        length_B = np.array([s.stop - s.start for s in chosen])
        return self.finished(batch, which, length_B, epoch)
