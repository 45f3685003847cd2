"""Simulated users with tastes and the scenes of what they watch: the mechanism, and its truth.

A video is a sequence of scenes, each of one topic. A user likes some topics and skips others,
whatever the video. What the user selects in the target video is cut from scenes of liked topics;
so is the history, but for some stray clips, which are cut from any scene. Users come in pairs that
share a target video and have opposite tastes, so that what one selects the other skips: without
the history nothing tells which. A quarter of the topics nobody likes, so that a model without
history can still beat chance. Which part of a scene is selected nothing tells.

How many selections, how long they are, and how long the videos are follow PHD's test split: the
tables below are quantiles measured on it, numbers alone. All else is made up, and every number
from such users is labelled simulated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contentctr.errors import InputError
from contentctr.files import digest
from contentctr.prepare.personal_truth import Habits
from contentctr.prepare.phd.annotations import SELECTIONS_SCHEMA
from contentctr.store.personal import SCENES_SCHEMA

LEVELS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Quantiles of the tables; nothing is drawn beyond the last."""
HISTORY_LENGTH = (2, 5, 6, 7, 8, 10, 12, 15, 20, 33, 55.55, 229.58)
SELECTION_S = (0.09, 1.75, 2.46, 3.0, 3.0, 3.12, 3.98, 5.03, 7.0, 10.89, 14.63, 15.0)
TARGET_VIDEO_S = (11, 44.6, 81, 112.4, 158, 187, 221, 269.8, 359.2, 551, 660.6, 787.62)
HISTORY_VIDEO_S = (2, 39, 73, 114, 155, 199, 246, 306, 435, 691, 1049, 2773.57)
TARGET_HIGHLIGHTS = (1, 1, 1, 1, 1, 1, 1, 1, 2, 3, 4, 6)
"""Selections of a user in the target video, measured with overlapping ones united."""
HABITS = Habits(levels=LEVELS, length_s=SELECTION_S, number=TARGET_HIGHLIGHTS)
"""What an oracle may know of how users select."""


@dataclass(frozen=True, kw_only=True)
class Tastes:
    """Settings of the mechanism.

    Raises:
        InputError: one is out of its range.
    """

    num_users: int = 200
    """An even number: opposite pairs."""
    num_topics: int = 16
    likes: int = 2
    """Topics that a user likes; as many are skipped."""
    strays: float = 0.2
    """Share of history clips that are cut from any scene, whatever the taste."""
    scene_s: tuple[float, float] = (6.0, 24.0)
    """Shortest and longest scene."""
    with_captions: float = 0.3
    """Share of videos with captions (the paper found 30 %, Section 4.8)."""
    max_video_s: float = 800.0
    """Longer videos are cut to it."""
    max_history: int = 20
    """Longer histories are cut to it (the paper: 20, Section 4.1.2)."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_users < 2 or self.num_users % 2:
            raise InputError(f"num_users must be even and at least 2, not {self.num_users}")
        if self.likes < 1:
            raise InputError(f"likes must be at least 1, not {self.likes}")
        if self.num_liked < 2 * self.likes:
            raise InputError(
                f"num_topics must be such that three quarters of them hold {self.likes} liked and "
                f"{self.likes} skipped ones, not {self.num_topics}"
            )
        for name in ("strays", "with_captions"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must be in [0, 1], not {getattr(self, name)}")
        if not 0 < self.scene_s[0] <= self.scene_s[1]:
            raise InputError(f"scene_s must be above 0 and ascend, not {self.scene_s}")
        if self.max_video_s < 4 * self.scene_s[1]:
            raise InputError(
                f"max_video_s must be at least 4 of the longest scenes, not {self.max_video_s}"
            )
        if self.max_history < 1:
            raise InputError(f"max_history must be at least 1, not {self.max_history}")
        if self.seed < 0:
            raise InputError(f"seed must be at least 0, not {self.seed}")

    @property
    def num_liked(self) -> int:
        """Topics that somebody likes: the first ones."""
        return self.num_topics - self.num_topics // 4


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """A video: where each scene begins, its topic, and where the video ends."""

    start_s: NDArray[np.float64]
    topic: NDArray[np.int64]
    end_s: float
    """Whole seconds."""

    def spans(self) -> list[tuple[float, float, int]]:
        """Start, end and topic of each scene."""
        ends = [*self.start_s[1:].tolist(), self.end_s]
        return list(zip(self.start_s.tolist(), ends, self.topic.tolist(), strict=True))

    def at(self, seconds: NDArray[Any]) -> NDArray[np.int64]:
        """Topic at each of some times."""
        return self.topic[np.searchsorted(self.start_s, seconds, side="right") - 1]


class World:
    """Users, their videos and their selections, drawn from one seed."""

    def __init__(self, config: Tastes) -> None:
        self.config = config
        self.videos: dict[str, Scenes] = {}
        self.users: list[tuple[str, str]] = []
        """Id and target video."""
        self.selections: list[tuple[str, str, float, float, bool]] = []
        """Rows of SELECTIONS_SCHEMA; the target's come first and are not united."""
        self.tastes: list[tuple[list[int], list[int]]] = []
        """Topics that each user likes and skips."""
        self._rng = np.random.default_rng(config.seed)
        for pair in range(config.num_users // 2):
            topics = self._rng.permutation(config.num_liked)[: 2 * config.likes].tolist()
            tastes = topics[: config.likes], topics[config.likes :]
            target = self._video(f"target{pair:05d}", TARGET_VIDEO_S, *tastes)
            self._user(f"user{2 * pair:05d}", target, *tastes)
            self._user(f"user{2 * pair + 1:05d}", target, *tastes[::-1])

    def captioned(self, video_id: str) -> bool:
        """Whether a video has captions."""
        share = int(digest(self.config.seed, "captions", video_id), 16) / 16**24
        return share < self.config.with_captions

    def selections_table(self) -> pl.DataFrame:
        """Table of SELECTIONS_SCHEMA."""
        return pl.DataFrame(self.selections, SELECTIONS_SCHEMA, orient="row")

    def liked_scenes(self) -> pl.DataFrame:
        """Table of SCENES_SCHEMA: what an oracle may know of tastes and target videos."""
        rows = [
            (user_id, start_s, end_s)
            for (user_id, video_id), (likes, _) in zip(self.users, self.tastes, strict=True)
            for start_s, end_s, topic in self.videos[video_id].spans()
            if topic in likes
        ]
        return pl.DataFrame(rows, SCENES_SCHEMA, orient="row")

    def _user(self, user_id: str, target: str, likes: list[int], skips: list[int]) -> None:
        """A user's selections in the target, and the history."""
        config, rng = self.config, self._rng
        self.users.append((user_id, target))
        self.tastes.append((likes, skips))
        for _ in range(round(self._draw(TARGET_HIGHLIGHTS))):
            self.selections.append((user_id, target, *self._select(target, likes), True))
        for number in range(min(round(self._draw(HISTORY_LENGTH)), config.max_history)):
            video_id = self._video(f"{user_id}-{number:02d}", HISTORY_VIDEO_S, likes, skips)
            stray = rng.random() < config.strays
            span = self._select(video_id, range(config.num_topics) if stray else likes)
            self.selections.append((user_id, video_id, *span, False))

    def _select(self, video_id: str, topics: Iterable[int]) -> tuple[float, float]:
        """A selection of a drawn length, inside a scene of the topics as far as that is long."""
        wanted = set(topics)
        scenes = [span for span in self.videos[video_id].spans() if span[2] in wanted]
        start, end, _ = scenes[int(self._rng.integers(len(scenes)))]
        length = min(self._draw(SELECTION_S), end - start)
        begin = float(self._rng.uniform(start, max(end - length, start)))
        return begin, begin + length

    def _video(
        self, video_id: str, lengths: Sequence[float], likes: Sequence[int], skips: Sequence[int]
    ) -> str:
        """A new video with a liked and a skipped scene at least, and any topic in the others."""
        config, rng, (low, high) = self.config, self._rng, self.config.scene_s
        end_s = min(self._draw(lengths), config.max_video_s)
        starts, at = [0.0], 0.0
        while (at := at + float(rng.uniform(low, high))) < end_s or len(starts) < 3:
            starts.append(at)
        topic = rng.integers(config.num_topics, size=len(starts))
        topic[rng.permutation(len(starts))[:2]] = rng.choice(likes), rng.choice(skips)
        # A scene may be the video's last seconds, but must not be shorter than scenes are.
        end_s = math.ceil(max(end_s, starts[-1] + low))
        self.videos[video_id] = Scenes(start_s=np.array(starts), topic=topic, end_s=float(end_s))
        return video_id

    def _draw(self, table: Sequence[float]) -> float:
        """A value of a table's distribution, straight lines between its levels."""
        return float(np.interp(self._rng.uniform(0, LEVELS[-1]), LEVELS, table))
