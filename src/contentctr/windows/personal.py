"""Samples of personalized highlight detection (Section 4.1.2), and how they are cut.

A sample is a user: all frames of the target video, which of them the user selected, and the
features of the highlights that the same user selected in earlier videos. Training takes stretches
of a fixed number of frames that hold at least one highlight frame; testing takes the whole video,
in as many stretches as it has. In a batch a stretch is a window, and its segments are single
frames.

Shape suffixes as in batch.py (a window's N segments are a stretch's frames), and: T frames of a
video, or of a stretch of it; C width of its text features; S stored frames of a video.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from contentctr.batch import Batch, DataSpec, History
from contentctr.counting import counted
from contentctr.errors import InputError
from contentctr.store.personal import SPLITS, PreparedPersonal, frame_labels, span_frames
from contentctr.store.vectors import read_entry, read_index, read_manifest
from contentctr.windows.loader import EpochLoader, IntArray

_TARGET_PART = ("visual", "has_visual", "text", "has_text")
_HISTORY_PART = ("frame", "visual", "has_visual")
_HISTORY_BYTES = 1 << 30
"""Histories that are kept in memory: those of 12,500 users, 20 clips of width 1,024."""


@dataclass(frozen=True, kw_only=True)
class Frames:
    """Consecutive frames of a video, as they are stored."""

    visual_TV: NDArray[np.float16]
    """Feature of each frame; zeros where `has_visual_T` is false."""
    text_TC: NDArray[np.float16]
    """Feature of the captions shown during each frame; zeros where `has_text_T` is false."""
    has_visual_T: NDArray[np.bool_]
    """False where a frame cannot be decoded."""
    has_text_T: NDArray[np.bool_]
    """False where no caption is shown, and all through a video without captions."""


@dataclass(frozen=True, kw_only=True)
class UserSample(Frames):
    """One user's target video and history."""

    user_id: str
    video_id: str
    """The target video's."""
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
class Stretch:
    """A stretch of a user's target video."""

    user: int
    """Number of the user in the list of samples."""
    start: int
    """First frame."""
    stop: int
    """Past the last frame."""

    def __len__(self) -> int:
        """Frames."""
        return self.stop - self.start


class Videos(Protocol):
    """Where stretches of videos and their users' histories come from; UserSamples is one."""

    spec: DataSpec

    def num_frames(self, user: int) -> int:
        """T of a user's video."""

    def frames(self, stretch: Stretch) -> Frames:
        """The frames of a stretch."""

    def labels(self, user: int) -> NDArray[np.bool_]:
        """Which frames of the video the user selected."""

    def history(self, user: int) -> NDArray[np.float32]:
        """Mean features of the user's earlier selections, [K, V]; K may be 0."""


class UserSamples:
    """The samples of a split, read from the stored features when they are asked for.

    Args:
        data: the prepared and encoded folder.
        split: train, val or test; None: all.

    Raises:
        InputError: nothing is encoded, not everything is, or it was prepared anew since.
    """

    def __init__(self, data: PreparedPersonal | Path | str, split: str | None = None) -> None:
        data = data if isinstance(data, PreparedPersonal) else PreparedPersonal(Path(data))
        self.frame_rate = data.frame_rate
        self.spec = _checked_spec(data)
        """Encoders and widths of the features."""
        self.users = data.users() if split is None else _of_split(data.users(), split)
        """Of the folder's USERS_SCHEMA, in the order of the samples."""
        self._index = read_index(data.features_dir)
        videos = data.videos()
        self._num_frames = dict(videos.select("video_id", "num_frames").iter_rows())
        self._captioned = dict(videos.select("video_id", "has_captions").iter_rows())
        self._histories: dict[int, NDArray[np.float32]] = {}
        self._kept = 0
        self._targets: dict[str, list[tuple[float, float]]] = {}
        self._clips: dict[str, list[tuple[str, float, float]]] = {}
        for user_id, video_id, start_s, end_s, is_target in data.selections().iter_rows():
            if is_target:
                self._targets.setdefault(user_id, []).append((start_s, end_s))
            else:
                self._clips.setdefault(user_id, []).append((video_id, start_s, end_s))
        missing = sorted(set(videos["video_id"]) - self._index.keys())
        if missing:
            raise InputError(
                f"{data.features_dir}: not encoded: {len(missing)} of "
                f"{counted(len(self._num_frames), 'video')}, such as {missing[0]!r}; run "
                "`contentctr encode` again"
            )

    def only(self, split: str) -> UserSamples:
        """Those of a split, without looking through the store again.

        Raises:
            InputError: no such split.
        """
        part = copy.copy(self)
        part.users = _of_split(self.users, split)
        part._histories, part._kept = {}, 0
        return part

    def __len__(self) -> int:
        return self.users.height

    def __getitem__(self, user: int) -> UserSample:
        """The sample of a user.

        Raises:
            InputError: a file of the store is damaged.
        """
        if not 0 <= user < len(self):
            raise IndexError(user)
        return UserSample(
            user_id=self.users["user_id"][user],
            video_id=self.users["video_id"][user],
            **vars(self.frames(Stretch(user=user, start=0, stop=self.num_frames(user)))),
            label_T=self.labels(user),
            history_KV=self.history(user),
            frame_rate=self.frame_rate,
        )

    def frames(self, stretch: Stretch) -> Frames:
        """What is stored of a stretch of a user's target video; no more of it is read.

        Raises:
            InputError: a file of the store is damaged.
        """
        entry = self._index[self.users["video_id"][stretch.user]]
        # Of a target video every frame is stored, so frame i is row i.
        rows = replace(entry, start=entry.start + stretch.start, stop=entry.start + stretch.stop)
        stored = read_entry(rows, _TARGET_PART)
        if stretch.stop > entry.stop - entry.start:
            raise InputError(
                f"{entry.path}: video {self.users['video_id'][stretch.user]!r} must have "
                f"{self.num_frames(stretch.user)} stored frames, not {entry.stop - entry.start}"
            )
        for name, width in (("visual", self.spec.visual_dim), ("text", self.spec.text_dim)):
            _require_rows(stored[name], width, f"{entry.path}: {name}")
        return Frames(
            visual_TV=stored["visual"],
            text_TC=stored["text"],
            has_visual_T=stored["has_visual"].astype(np.bool_),
            has_text_T=stored["has_text"].astype(np.bool_),
        )

    def has_captions(self, user: int) -> bool:
        """Whether the user's target video has captions."""
        return bool(self._captioned[self.users["video_id"][user]])

    def num_frames(self, user: int) -> int:
        """T of a sample, without reading its features."""
        return int(self._num_frames[self.users["video_id"][user]])

    def labels(self, user: int) -> NDArray[np.bool_]:
        """`label_T` of a sample, without reading its features."""
        spans = self._targets[self.users["user_id"][user]]
        return frame_labels(spans, self.frame_rate, self.num_frames(user))

    def history(self, user: int) -> NDArray[np.float32]:
        """`history_KV` of a sample, not to be changed: it is kept, as long as there is room.

        Raises:
            InputError: a file of the store is damaged.
        """
        if user not in self._histories:
            found_KV = self._read_history(user)
            if self._kept + found_KV.nbytes > _HISTORY_BYTES:
                return found_KV
            self._histories[user] = found_KV
            self._kept += found_KV.nbytes
        return self._histories[user]

    def _read_history(self, user: int) -> NDArray[np.float32]:
        clips = self._clips.get(self.users["user_id"][user], [])
        read: dict[str, dict[str, NDArray[Any]]] = {}
        means = []
        for video_id, start_s, end_s in clips:
            if video_id not in read:
                read[video_id] = read_entry(self._index[video_id], _HISTORY_PART)
                _require_rows(
                    read[video_id]["visual"],
                    self.spec.visual_dim,
                    f"{self._index[video_id].path}: visual",
                )
            stored = read[video_id]
            frames = span_frames(start_s, end_s, self.frame_rate, self._num_frames[video_id])
            mean_V = clip_mean(frames, stored["frame"], stored["visual"], stored["has_visual"])
            if mean_V is not None:
                means.append(mean_V)
        return np.stack(means) if means else np.zeros((0, self.spec.visual_dim), np.float32)


def clip_mean(
    frames: range,
    number_S: Sequence[int] | NDArray[np.int32],
    visual_SV: NDArray[np.float16],
    has_visual_S: NDArray[np.bool_] | NDArray[np.uint8],
) -> NDArray[np.float32] | None:
    """Mean feature of a clip's frames (Section 4.1.2), [V]; None if none can be decoded.

    Args:
        frames: the clip's, all of them among the S stored ones.
        number_S: frame of each stored row, ascending.
        visual_SV: their features.
        has_visual_S: whether the frame can be decoded.
    """
    first, past = np.searchsorted(number_S, (frames.start, frames.stop))
    assert past - first == len(frames), frames
    visual = visual_SV[first:past][has_visual_S[first:past] > 0]
    return np.asarray(visual.astype(np.float32).mean(0), np.float32) if len(visual) else None


def _of_split(users: pl.DataFrame, split: str) -> pl.DataFrame:
    if split not in SPLITS:
        raise InputError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    return users.filter(pl.col("split") == split)


def _require_rows(rows: NDArray[Any], width: int, what: str) -> None:
    """Stop at features of another width than the manifest's, or not finite."""
    if rows.shape[1:] != (width,):
        raise InputError(f"{what} must have width {width}, not {rows.shape[1:]}")
    if not np.isfinite(rows).all():
        raise InputError(f"{what} must be finite, and is not")


def training_stretches(samples: UserSamples, length: int = 192) -> list[Stretch]:
    """Stretches of the users' target videos that hold a highlight frame (Section 4.1.2).

    Args:
        samples: the users.
        length: frames of a stretch, at least 1 (the paper: 192).
    """
    chosen = []
    for user in range(len(samples)):
        label_T = samples.labels(user)
        chosen += [s for s in whole_video(samples, user, length) if label_T[s.start : s.stop].any()]
    return chosen


def whole_video(samples: Videos, user: int, length: int = 192) -> list[Stretch]:
    """All stretches of a user's target video, from its start on, for testing (Section 4.1.2).

    The last one may be shorter.

    Args:
        samples: the users.
        user: its number.
        length: frames of a stretch, at least 1.
    """
    num_frames = samples.num_frames(user)
    starts = range(0, num_frames, length)
    return [Stretch(user=user, start=s, stop=min(s + length, num_frames)) for s in starts]


def _checked_spec(data: PreparedPersonal) -> DataSpec:
    """The store's spec; it must be of what the folder holds now."""
    spec, manifest = read_manifest(data.features_dir)
    if manifest["segments_hash"] != data.content_hash():
        raise InputError(
            f"{data.features_dir}: the folder was prepared anew since it was encoded; run "
            "`contentctr encode` again (only what changed is encoded)"
        )
    return spec


def make_batch(
    videos: Videos, stretches: Sequence[Stretch], which: Sequence[int] | None = None
) -> Batch:
    """Stretches as a batch, padded to the longest of them and the longest history.

    A caption stands where a live room's speech does; there are no comments. The target is 1 for
    frames that the user selected, 0 for others, NaN at padding.

    Args:
        videos: their frames and histories.
        stretches: at least one.
        which: the stretches' numbers, for messages; None: 0, 1, ...

    Raises:
        InputError: a file of the store is damaged.
    """
    shape = len(stretches), max(map(len, stretches))
    visual_BNV = np.zeros((*shape, videos.spec.visual_dim), np.float32)
    text_BNT = np.zeros((*shape, videos.spec.text_dim), np.float32)
    has_visual_BN, has_text_BN, valid_BN = (np.zeros(shape, np.bool_) for _ in range(3))
    target_BN = np.full(shape, np.nan, np.float32)
    for row, stretch in enumerate(stretches):
        found = videos.frames(stretch)
        here = row, slice(len(stretch))
        visual_BNV[here], text_BNT[here] = found.visual_TV, found.text_TC
        has_visual_BN[here], has_text_BN[here] = found.has_visual_T, found.has_text_T
        valid_BN[here] = True
        target_BN[here] = videos.labels(stretch.user)[stretch.start : stretch.stop]
    clips = {user: videos.history(user) for user in dict.fromkeys(s.user for s in stretches)}
    return Batch(
        visual_BNV=torch.from_numpy(visual_BNV),
        text_BNT=torch.from_numpy(text_BNT),
        has_visual_BN=torch.from_numpy(has_visual_BN),
        has_speech_BN=torch.from_numpy(has_text_BN),
        has_comments_BN=torch.zeros(shape, dtype=torch.bool),
        streamer_B=torch.zeros(len(stretches), dtype=torch.long),
        valid_BN=torch.from_numpy(valid_BN),
        target_BN=torch.from_numpy(target_BN),
        window_B=torch.arange(len(stretches)) if which is None else torch.tensor(which),
        history=_history([clips[s.user] for s in stretches]),
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
    stretches: Sequence[Stretch]

    def __len__(self) -> int:
        """Stretches."""
        return len(self.stretches)

    def batch(self, which: IntArray, epoch: int) -> Batch:
        """The stretches numbered `which` (-1: one without target or modality), for training."""
        chosen = [self.stretches[number] for number in np.maximum(which, 0).tolist()]
        batch = make_batch(self.videos, chosen, which.tolist())
        length_B = np.array([len(s) for s in chosen])
        return self.finished(batch, which, length_B, epoch)
