"""What is true of simulated users: the chance that each frame of the target video is selected.

It is the mechanism's own probability, put into the prepared folder, as rooms have theirs: whoever
measures a model reads it there and knows nothing of the simulation. It knows the user's taste, the
video's scenes and the distributions of number, length and place of selections. It does not know
which of the liked scenes the user took, nor which part of them: nothing tells. Ranking by this
chance is the reference for what can be reached on average. It is not a strict bound: one
selection's frames come together, so the order that is best for average precision may differ a
little, and on few users a scorer may be luckier.

Shape suffixes: T frames of a video, L lengths of a selection.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contentctr.errors import InputError
from contentctr.files import read_json, read_parquet
from contentctr.store.personal import LABEL_FILE, SCENES_FILE, SCENES_SCHEMA

_QUANTILES = 1000
"""Points at which the distributions are taken."""


@dataclass(frozen=True, kw_only=True)
class Habits:
    """How simulated users select, as tables of quantiles; nothing is drawn beyond the last."""

    levels: Sequence[float]
    """Of the quantiles, rising from 0."""
    length_s: Sequence[float]
    """Of a selection."""
    number: Sequence[float]
    """Of selections in the target video."""

    def quantiles(self, table: Sequence[float]) -> NDArray[np.float64]:
        """The distribution of a table, as equally likely values [L]."""
        level_L = (np.arange(_QUANTILES) + 0.5) / _QUANTILES * self.levels[-1]
        value_L: NDArray[np.float64] = np.interp(level_L, self.levels, table)
        return value_L


def read_truth(
    labelled: Sequence[Path], users: pl.DataFrame, videos: pl.DataFrame, frame_rate: float
) -> pl.DataFrame | None:
    """The truth of users whose simulated videos have been prepared.

    Args:
        labelled: folders that say that their videos or annotations are simulated.
        users: of USERS_SCHEMA.
        videos: of VIDEOS_SCHEMA.
        frame_rate: frames a second.

    Returns:
        Table of TRUTH_SCHEMA; None where none of the folders, or more than one, knows a truth.

    Raises:
        InputError: the truth is not that of these users.
    """
    there = [folder for folder in labelled if (folder / SCENES_FILE).is_file()]
    if len(there) != 1:  # of two worlds neither truth is of all users
        return None
    path = there[0] / SCENES_FILE
    scenes = read_parquet(path, SCENES_SCHEMA)
    unknown = users.join(scenes, on="user_id", how="anti")
    if unknown.height:
        raise InputError(f"{path}: knows nothing of user {unknown['user_id'][0]!r}")
    habits = Habits(**read_json(there[0] / LABEL_FILE)["habits"])
    return truth_table(scenes, habits, users, videos, frame_rate)


def truth_table(
    scenes: pl.DataFrame,
    habits: Habits,
    users: pl.DataFrame,
    videos: pl.DataFrame,
    frame_rate: float,
) -> pl.DataFrame:
    """The chance that each user selects each frame of the target video.

    Args:
        scenes: of SCENES_SCHEMA; every user has some.
        habits: how users select.
        users: of USERS_SCHEMA.
        videos: of VIDEOS_SCHEMA.
        frame_rate: frames a second.

    Returns:
        Table of TRUTH_SCHEMA, in the order of `users`.
    """
    spans: dict[str, list[tuple[float, float]]] = {}
    for user_id, start_s, end_s in scenes.select(*SCENES_SCHEMA).iter_rows():
        spans.setdefault(user_id, []).append((start_s, end_s))
    lengths = dict(videos.select("video_id", "num_frames").iter_rows())
    parts = []
    for user_id, video_id in users.select("user_id", "video_id").iter_rows():
        chance_T = selection_probability(spans[user_id], habits, frame_rate, lengths[video_id])
        parts.append(
            pl.DataFrame(
                {
                    "frame": np.arange(len(chance_T), dtype=np.int32),
                    "selection_probability": chance_T,
                }
            ).select(pl.lit(user_id).alias("user_id"), pl.all())
        )
    return pl.concat(parts)


def selection_probability(
    scenes: Sequence[tuple[float, float]], habits: Habits, frame_rate: float, num_frames: int
) -> NDArray[np.float64]:
    """Chance that a frame is among those of any selection, scenes being as likely as each other.

    A selection of length l in a scene from a to e has its middle evenly in [a + l/2, e - l/2]. It
    holds the frames whose middle is within l/2 of its own or, if it is shorter than a frame, the
    frame that its middle lies in (`span_frames`): those within max(l, 1 / frame_rate) / 2.

    Args:
        scenes: start and end of those that the user may select from, seconds; at least one.
        habits: how users select.
        frame_rate: frames a second.
        num_frames: of the video.

    Returns:
        Probabilities [T].
    """
    length_L = habits.quantiles(habits.length_s)
    one_T = np.zeros(num_frames)
    for start, end in scenes:
        # No other frame reaches into the scene.
        first = max(math.floor(start * frame_rate) - 1, 0)
        past = min(math.ceil(end * frame_rate) + 1, num_frames)
        middle_T = (np.arange(first, past) + 0.5) / frame_rate
        half_L = np.minimum(length_L, end - start) / 2
        reach_L = np.maximum(half_L, 0.5 / frame_rate)
        from_TL, to_TL = middle_T[:, None] - reach_L, middle_T[:, None] + reach_L
        if past == num_frames:
            # The last frame also has the time after it that is too short for one of its own.
            to_TL[-1] = np.inf
        one_T[first:past] += _share(from_TL, to_TL, start + half_L, end - half_L).mean(1)
    one_T /= len(scenes)
    count_L = np.rint(habits.quantiles(habits.number))
    return 1 - np.asarray(np.power(1 - one_T[:, None], count_L).mean(1), np.float64)


def _share(
    from_TL: NDArray[Any], to_TL: NDArray[Any], low_L: NDArray[Any], high_L: NDArray[Any]
) -> NDArray[np.float64]:
    """Share of [low, high] that lies between `from` and `to`; where it is a point, 0 or 1."""
    inside_TL = np.minimum(to_TL, high_L) - np.maximum(from_TL, low_L)
    width_L = high_L - low_L
    point_L = width_L < 1e-9
    share_TL: NDArray[np.float64] = np.maximum(inside_TL, 0) / np.where(point_L, 1, width_L)
    share_TL[:, point_L] = inside_TL[:, point_L] >= 0
    return share_TL
