"""What the best scorer could know of simulated users: the chance that a frame is selected.

Shape suffixes: T frames of a video, L lengths of a selection.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contentctr.errors import InputError
from contentctr.files import read_parquet
from contentctr.simulate.tastes import (
    LEVELS,
    SCENES_SCHEMA,
    SELECTION_S,
    TARGET_HIGHLIGHTS,
    TASTES_SCHEMA,
)
from contentctr.store.personal import SCENES_FILE, TASTES_FILE, PreparedPersonal

_QUANTILES = 1000
"""Points at which the lengths' distribution is taken."""


def oracle_scores(
    data: PreparedPersonal, user_ids: Sequence[str]
) -> list[NDArray[np.float64]] | None:
    """The chance that each user selects each frame of the target video.

    It is the mechanism's own probability. The oracle knows the user's taste, the video's scenes
    and the distributions of number, length and place of selections. It does not know which of the
    liked scenes the user took, nor which part of them: nothing tells. Ranking by this chance is
    the reference for what can be reached on average. It is not a strict bound: one selection's
    frames come together, so the order that is best for average precision may differ a little,
    and on few users a scorer may be luckier.

    Args:
        data: the prepared folder.
        user_ids: users of it.

    Returns:
        Probabilities [T] of each user, in the order of `user_ids`; None if the folder holds no
        truth, as that of real users does.

    Raises:
        InputError: the truth is not that of these users.
    """
    if not (data.root / TASTES_FILE).is_file():
        return None
    tastes = read_parquet(data.root / TASTES_FILE, TASTES_SCHEMA).select("user_id", "likes")
    likes = dict(tastes.iter_rows())
    scenes: dict[str, list[tuple[float, float, int]]] = {}
    for video_id, *span in read_parquet(data.root / SCENES_FILE, SCENES_SCHEMA).iter_rows():
        scenes.setdefault(video_id, []).append((span[0], span[1], span[2]))
    targets = dict(data.users().select("user_id", "video_id").iter_rows())
    lengths = dict(data.videos().select("video_id", "num_frames").iter_rows())
    found = []
    for user_id in user_ids:
        video_id = targets[user_id]
        if user_id not in likes or video_id not in scenes:
            raise InputError(
                f"{data.root / TASTES_FILE}: knows nothing of user {user_id!r} and video "
                f"{video_id!r}"
            )
        wanted = set(likes[user_id])
        liked = [(start, end) for start, end, topic in scenes[video_id] if topic in wanted]
        found.append(_selected_T(liked, data.frame_rate, lengths[video_id]))
    return found


def _selected_T(
    scenes: Sequence[tuple[float, float]], frame_rate: float, num_frames: int
) -> NDArray[np.float64]:
    """Chance that a frame is among those of any selection, scenes being as likely as each other.

    A selection of length l in a scene from a to e has its middle evenly in [a + l/2, e - l/2]. It
    holds the frames whose middle is within l/2 of its own or, if it is shorter than a frame, the
    frame that its middle lies in (`folder.span_frames`): those within max(l, 1 / frame_rate) / 2.
    """
    length_L = _quantiles(SELECTION_S)
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
    count_L = np.rint(_quantiles(TARGET_HIGHLIGHTS))
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


def _quantiles(table: Sequence[float]) -> NDArray[np.float64]:
    """The distribution that `World` draws from, as equally likely values [L]."""
    level_L = (np.arange(_QUANTILES) + 0.5) / _QUANTILES * LEVELS[-1]
    value_L: NDArray[np.float64] = np.interp(level_L, LEVELS, table)
    return value_L
