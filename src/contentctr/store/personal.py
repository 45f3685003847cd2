"""The prepared folder of personalized highlights: users, their picks, and their videos.

    DATA/manifest.json        source, frame rate, what was left out and why, hashes
    DATA/users.parquet        one row a user: target video, split, how much history
    DATA/selections.parquet   the selections used: the target's, united, and the history's
    DATA/videos.parquet       one row a video: its file, length, number of frames
    DATA/captions.parquet     captions of the target videos
    DATA/truth.parquet        simulated users only: the true chance that a frame is selected
    DATA/lengths.jsonl        lengths of the files that were opened (prepare/phd/downloads.py)
    DATA/features/            stored features (encode/personal.py)
    DATA/inputs/              stored encoder inputs (encode/personal.py)

A frame i of a video stands for the seconds from i / frame_rate to (i + 1) / frame_rate; its
picture is the one shown at the middle of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contentctr.files import digest
from contentctr.store.folder import PreparedFolder, with_schema, write_tables

SPLITS = ("train", "val", "test")
MAX_HISTORY = 20
"""Selections in a history at most (Section 4.1.2): the first that are listed, taken as the newest,
since each user's target stands before them."""
LABEL_FILE, LABEL_KIND = "simulated.json", "personalized highlights"
"""Lies beside the CSV of simulated videos, and says that they are, and what they are."""
SCENES_FILE = "truth_scenes.parquet"
"""Lies there too: the scenes that each simulated user may select from."""
USERS_SCHEMA: dict[str, Any] = {
    "user_id": pl.String,
    "video_id": pl.String,
    "split": pl.String,
    "history": pl.Int32,
}
"""The target video and the number of clips in the history."""
SELECTIONS_SCHEMA: dict[str, Any] = {
    "user_id": pl.String,
    "video_id": pl.String,
    "start_s": pl.Float64,
    "end_s": pl.Float64,
    "is_target": pl.Boolean,
}
"""A user's rows stand together; the history's in the order of the annotations."""
VIDEOS_SCHEMA: dict[str, Any] = {
    "video_id": pl.String,
    "media": pl.String,
    "media_kind": pl.String,
    "duration_s": pl.Float64,
    "num_frames": pl.Int32,
    "is_target": pl.Boolean,
    "has_captions": pl.Boolean,
}
"""`duration_s` is the file's own length; media is null where the videos are simulated."""
CAPTIONS_SCHEMA: dict[str, Any] = {
    "video_id": pl.String,
    "start": pl.Float64,
    "end": pl.Float64,
    "text": pl.String,
}
SCENES_SCHEMA: dict[str, Any] = {
    "user_id": pl.String,
    "start_s": pl.Float64,
    "end_s": pl.Float64,
}
"""Of the user's target video, in order."""
TRUTH_SCHEMA: dict[str, Any] = {
    "user_id": pl.String,
    "frame": pl.Int32,
    "selection_probability": pl.Float64,
}
"""One row a frame of the user's target video; no model reads it."""
_TABLES: dict[str, dict[str, Any]] = {
    "users": USERS_SCHEMA,
    "selections": SELECTIONS_SCHEMA,
    "videos": VIDEOS_SCHEMA,
    "captions": CAPTIONS_SCHEMA,
}
KIND = "prepared videos"
FILES = (
    "manifest.json",
    "truth.parquet",
    *(f"{name}.parquet" for name in _TABLES),
    "lengths.jsonl",
)
"""What `prepare` puts into the folder, as outputs.py takes it."""


class PreparedPersonal(PreparedFolder):
    """A prepared folder of users, their picks and their videos."""

    task = "personal"

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return float(self.manifest()["frame_rate"])

    def content_hash(self) -> str:
        """Hash of all that stored features depend on; another split needs no new features."""
        hashes = self.manifest()["hashes"]
        return digest([hashes[f"{name}.parquet"] for name in ("selections", "videos", "captions")])

    def users(self) -> pl.DataFrame:
        """Table of USERS_SCHEMA."""
        return self.table("users", USERS_SCHEMA)

    def selections(self) -> pl.DataFrame:
        """Table of SELECTIONS_SCHEMA."""
        return self.table("selections", SELECTIONS_SCHEMA)

    def videos(self) -> pl.DataFrame:
        """Table of VIDEOS_SCHEMA, sorted by id."""
        return self.table("videos", VIDEOS_SCHEMA)

    def captions(self) -> pl.DataFrame:
        """Table of CAPTIONS_SCHEMA, sorted by video and start."""
        return self.table("captions", CAPTIONS_SCHEMA)

    def truth(self) -> pl.DataFrame | None:
        """Table of TRUTH_SCHEMA of simulated users; None for real ones."""
        there = (self.root / "truth.parquet").is_file()
        return self.table("truth", TRUTH_SCHEMA) if there else None


def write(
    root: Path,
    tables: Mapping[str, pl.DataFrame],
    manifest: Mapping[str, Any],
    truth: pl.DataFrame | None = None,
) -> PreparedPersonal:
    """Write the tables and, last, the manifest; stored features stay.

    Args:
        root: the folder.
        tables: `users`, `selections`, `videos` and `captions`, of their schemas.
        manifest: `frame_rate`, `max_history`, `simulated`, and what else the source tells.
        truth: of TRUTH_SCHEMA, for simulated users.
    """
    cast = {name: with_schema(tables[name], schema) for name, schema in _TABLES.items()}
    if truth is not None:
        cast["truth"] = with_schema(truth, TRUTH_SCHEMA)
    write_tables(root, cast, {"task": PreparedPersonal.task, **manifest})
    return PreparedPersonal(root)


def wanted_frames(data: PreparedPersonal) -> dict[str, NDArray[np.int32]]:
    """Numbers of the frames of each video that samples need, ascending.

    Of a target video that is every frame; of the others the frames of clips in a history, which
    are a small part of them.
    """
    rate, wanted = data.frame_rate, {}
    clips: dict[str, list[range]] = {}
    videos = data.videos()
    counts = dict(videos.select("video_id", "num_frames").iter_rows())
    history = data.selections().filter(~pl.col("is_target"))
    for video_id, start_s, end_s in history.select("video_id", "start_s", "end_s").iter_rows():
        frames = span_frames(start_s, end_s, rate, counts[video_id])
        clips.setdefault(video_id, []).append(frames)
    for video_id, is_target in videos.select("video_id", "is_target").iter_rows():
        if is_target:
            wanted[video_id] = np.arange(counts[video_id], dtype=np.int32)
        else:
            numbers = sorted({frame for frames in clips[video_id] for frame in frames})
            wanted[video_id] = np.array(numbers, np.int32)
    return wanted


def count_frames(duration_s: float, frame_rate: float) -> int:
    """Frames whose middle lies in the video; at least one."""
    return max(math.ceil(duration_s * frame_rate - 0.5), 1)


def span_frames(start_s: float, end_s: float, frame_rate: float, num_frames: int) -> range:
    """Frames whose middle lies in [start_s, end_s); if none does, the one in its middle.

    Args:
        start_s: seconds, from 0.
        end_s: seconds, above start_s.
        frame_rate: frames a second.
        num_frames: of the video; a span that begins after them is given the last one.
    """
    first = math.ceil(start_s * frame_rate - 0.5)
    past = min(math.ceil(end_s * frame_rate - 0.5), num_frames)
    if first >= past:
        first = min(math.floor((start_s + end_s) / 2 * frame_rate), num_frames - 1)
        past = first + 1
    return range(first, past)


def frame_labels(
    spans: Iterable[tuple[float, float]], frame_rate: float, num_frames: int
) -> NDArray[np.bool_]:
    """Whether each frame lies in one of the spans, [T]."""
    labels_T = np.zeros(num_frames, np.bool_)
    for start_s, end_s in spans:
        frames = span_frames(start_s, end_s, frame_rate, num_frames)
        labels_T[frames.start : frames.stop] = True
    return labels_T
