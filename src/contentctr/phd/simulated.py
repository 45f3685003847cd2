"""Simulated videos (as features) and users with tastes, in a prepared and encoded folder.

A video is a sequence of scenes, each of one topic; a frame's feature is its topic's vector, the
video's own, and noise. A user likes one topic and skips another, whatever the video: the history
is cut from scenes of the liked topic, and so are the selections in the target video. Users come
in pairs that share a target video and have opposite tastes, so that what one selects the other
skips: without the history nothing tells which. A quarter of the topics nobody likes, so that a
model without history can still beat chance.

How many selections, how long they are, and how long the videos are follow PHD's test split: the
tables below are deciles measured on it, numbers alone. All else is made up, and every number from
such a folder is labelled simulated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contentctr.config import DataSpec
from contentctr.errors import InputError
from contentctr.features import StoredRoom, to_half, write_manifest, write_shard
from contentctr.files import atomic, digest
from contentctr.phd import folder
from contentctr.phd.annotations import spread, unite
from contentctr.phd.encode import wanted_frames
from contentctr.phd.folder import HighlightData, count_frames
from contentctr.phd.prepare import MAX_HISTORY, split_by_target
from contentctr.progress import progress_bar

LEVELS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Quantiles of the tables; nothing is drawn beyond the last."""
HISTORY_LENGTH = (2, 5, 6, 7, 8, 10, 12, 15, 20, 33, 55.55, 229.58)
SELECTION_S = (0.09, 1.75, 2.46, 3.0, 3.0, 3.12, 3.98, 5.03, 7.0, 10.89, 14.63, 15.0)
TARGET_VIDEO_S = (11, 44.6, 81, 112.4, 158, 187, 221, 269.8, 359.2, 551, 660.6, 787.62)
HISTORY_VIDEO_S = (2, 39, 73, 114, 155, 199, 246, 306, 435, 691, 1049, 2773.57)
TARGET_HIGHLIGHTS = (1, 1, 1, 1, 1, 1, 1, 1, 2, 3, 4, 6)
"""Selections of a user in the target video, overlapping ones united."""
_SHARD_VIDEOS = 64


@dataclass(frozen=True, kw_only=True)
class HighlightSimulation:
    """Settings of the simulation.

    Raises:
        InputError: one is out of its range.
    """

    num_users: int = 200
    """An even number: opposite pairs."""
    num_topics: int = 8
    scene_s: tuple[float, float] = (6.0, 24.0)
    """Shortest and longest scene."""
    visual_dim: int = 32
    text_dim: int = 16
    noise: float = 1.0
    """Deviation of a frame's noise, beside a topic vector of deviation 1."""
    with_captions: float = 0.3
    """Share of videos with captions (the paper found 30 %, Section 4.8)."""
    max_video_s: float = 800.0
    """Longer videos are cut to it."""
    frame_rate: float = 1.0
    val: float = 0.1
    test: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_users < 2 or self.num_users % 2:
            raise InputError(f"num_users must be even and at least 2, not {self.num_users}")
        if self.num_topics < 3:
            raise InputError(f"num_topics must be at least 3, not {self.num_topics}")
        if not 0 < self.scene_s[0] <= self.scene_s[1]:
            raise InputError(f"scene_s must be above 0 and ascend, not {self.scene_s}")
        if self.max_video_s < 4 * self.scene_s[1]:
            raise InputError(
                f"max_video_s must be at least 4 of the longest scenes, not {self.max_video_s}"
            )


@dataclass(frozen=True, kw_only=True)
class _Scenes:
    """A video: where each scene begins, its topic, and where the video ends."""

    start_s: NDArray[np.float64]
    topic: NDArray[np.int64]
    end_s: float

    def of(self, topic: int) -> list[tuple[float, float]]:
        """Start and end of the scenes of a topic."""
        ends = [*self.start_s[1:].tolist(), self.end_s]
        return [
            (start, end)
            for start, end, found in zip(self.start_s.tolist(), ends, self.topic, strict=True)
            if found == topic
        ]


def write_simulated(
    config: HighlightSimulation, out: Path | str, *, show_progress: bool = True
) -> HighlightData:
    """Write a prepared folder with stored features, and `truth.parquet` with the users' tastes.

    Args:
        config: the settings.
        out: folder to write; must not hold another one's features.
        show_progress: show a bar on a terminal.

    Raises:
        InputError: the folder holds features already.
    """
    out = Path(out)
    if (out / "features").exists():
        raise InputError(f"{out / 'features'}: exists already; simulate into a new folder")
    world = _World(config)
    world.draw_users()
    tables = world.tables()
    users, selections = tables["users"], tables["selections"]
    manifest = {
        "frame_rate": config.frame_rate,
        "max_history": MAX_HISTORY,
        "min_history": 1,
        "simulated": True,
        "counts": {
            "users": users.height,
            "videos": tables["videos"].height,
            "target_highlights": selections.filter("is_target").height,
            "history_length": spread(users["history"]),
        },
        "warnings": [],
    }
    data = folder.write(out, tables, manifest)
    tastes = {"user_id": pl.String, "likes": pl.Int64, "skips": pl.Int64}
    with atomic(out / "truth.parquet") as temporary:
        pl.DataFrame(world.tastes, tastes).write_parquet(temporary)
    spec = DataSpec(
        segment_seconds=1 / config.frame_rate, frames_per_segment=1, target="highlight",
        simulated=True, visual_encoder="simulated", visual_revision=digest(repr(config)),
        visual_dim=config.visual_dim, text_encoder="simulated",
        text_revision=digest(repr(config)), text_dim=config.text_dim,
    )  # fmt: skip
    write_manifest(data.features_dir, spec, counts={}, complete=False)
    with progress_bar("simulate", len(world.videos), show=show_progress) as bar:
        for number, rooms in enumerate(world.shards(wanted_frames(data))):
            write_shard(data.features_dir, f"shard-{number:05d}", rooms)
            bar.advance(len(rooms))
    counts = {"videos": tables["videos"].height}
    write_manifest(data.features_dir, spec, counts=counts, segments_hash=data.content_hash())
    return data


class _World:
    """Topics, videos and users, drawn from one seed."""

    def __init__(self, config: HighlightSimulation) -> None:
        self.config = config
        self.rng = np.random.default_rng(config.seed)
        self.liked = config.num_topics - config.num_topics // 4
        """Topics that somebody likes: the first ones."""
        self.visual_PV = self.rng.normal(size=(config.num_topics, config.visual_dim))
        self.text_PC = self.rng.normal(size=(config.num_topics, config.text_dim))
        self.videos: dict[str, _Scenes] = {}
        self.users: list[tuple[str, str, str, int]] = []
        self.selections: list[tuple[str, str, float, float, bool]] = []
        self.tastes: list[dict[str, Any]] = []

    def draw_users(self) -> None:
        """All users and their videos, pair by pair."""
        for pair in range(self.config.num_users // 2):
            likes, skips = self.rng.permutation(self.liked)[:2].tolist()
            target = self._video(f"target{pair:05d}", TARGET_VIDEO_S, (likes, skips))
            for side, (mine, other) in enumerate(((likes, skips), (skips, likes))):
                self._user(f"user{2 * pair + side:05d}", target, mine, other)

    def tables(self) -> dict[str, pl.DataFrame]:
        """Tables of the prepared folder."""
        config = self.config
        users = pl.DataFrame(self.users, folder.USERS_SCHEMA, orient="row")
        targets = set(users["video_id"])
        rows = [
            {
                "video_id": video_id, "media": None, "media_kind": None,
                "duration_s": scenes.end_s,
                "num_frames": count_frames(scenes.end_s, config.frame_rate),
                "is_target": video_id in targets, "has_captions": self._captioned(video_id),
            }
            for video_id, scenes in sorted(self.videos.items())
        ]  # fmt: skip
        return {
            "users": split_by_target(users, val=config.val, test=config.test, seed=config.seed),
            "selections": pl.DataFrame(self.selections, folder.SELECTIONS_SCHEMA, orient="row"),
            "videos": pl.DataFrame(rows, folder.VIDEOS_SCHEMA),
            "captions": pl.DataFrame(schema=folder.CAPTIONS_SCHEMA),
        }

    def shards(self, wanted: dict[str, NDArray[np.int32]]) -> Iterator[list[StoredRoom]]:
        """Stored features of the wanted frames, some videos at a time."""
        videos = list(wanted.items())
        for first in range(0, len(videos), _SHARD_VIDEOS):
            yield [self._features(*video) for video in videos[first : first + _SHARD_VIDEOS]]

    def _user(self, user_id: str, target: str, likes: int, skips: int) -> None:
        """A user's history and selections, all in scenes of the liked topic."""
        clips = min(round(self._draw(HISTORY_LENGTH)), MAX_HISTORY)
        history = []
        for number in range(clips):
            video_id = self._video(f"{user_id}-{number:02d}", HISTORY_VIDEO_S, (likes, skips))
            history.append((user_id, video_id, *self._select(video_id, likes), False))
        count = round(self._draw(TARGET_HIGHLIGHTS))
        chosen = unite(self._select(target, likes) for _ in range(count))
        self.users.append((user_id, target, "", len(history)))
        self.selections += [(user_id, target, start, end, True) for start, end in chosen]
        self.selections += history
        self.tastes.append({"user_id": user_id, "likes": likes, "skips": skips})

    def _select(self, video_id: str, topic: int) -> tuple[float, float]:
        """A selection of a drawn length, inside a scene of the topic as far as that is long."""
        scenes = self.videos[video_id].of(topic)
        start, end = scenes[int(self.rng.integers(len(scenes)))]
        length = min(self._draw(SELECTION_S), end - start)
        begin = float(self.rng.uniform(start, end - length))
        return begin, begin + length

    def _video(self, video_id: str, lengths: Sequence[float], topics: tuple[int, int]) -> str:
        """A new video in which the topics given have a scene each, and any topic the others."""
        config, low, high = self.config, *self.config.scene_s
        end_s = min(self._draw(lengths), config.max_video_s)
        starts, at = [0.0], 0.0
        while (at := at + float(self.rng.uniform(low, high))) < end_s or len(starts) < 3:
            starts.append(at)
        topic = self.rng.integers(config.num_topics, size=len(starts))
        places = self.rng.permutation(len(starts))[:2]
        topic[places] = topics
        self.videos[video_id] = _Scenes(
            start_s=np.array(starts), topic=topic, end_s=max(end_s, starts[-1] + low)
        )
        return video_id

    def _draw(self, table: Sequence[float]) -> float:
        """A value of a table's distribution, straight lines between its levels."""
        return float(np.interp(self.rng.uniform(0, LEVELS[-1]), LEVELS, table))

    def _captioned(self, video_id: str) -> bool:
        share = int(digest(self.config.seed, "captions", video_id), 16) / 16**24
        return share < self.config.with_captions

    def _features(self, video_id: str, frame_S: NDArray[np.int32]) -> StoredRoom:
        config, scenes = self.config, self.videos[video_id]
        rng = np.random.default_rng(int(digest(config.seed, video_id)[:15], 16))
        middle_S = (frame_S + 0.5) / config.frame_rate
        topic_S = scenes.topic[np.searchsorted(scenes.start_s, middle_S, side="right") - 1]
        own_V = rng.normal(size=config.visual_dim) * 0.5
        noise_SV = rng.normal(size=(len(frame_S), config.visual_dim)) * config.noise
        said = self._captioned(video_id)
        noise_SC = rng.normal(size=(len(frame_S), config.text_dim)) * config.noise
        text_SC = (self.text_PC[topic_S] + noise_SC) * said
        tensors: dict[str, NDArray[Any]] = {
            "frame": frame_S,
            "visual": to_half(self.visual_PV[topic_S] + own_V + noise_SV, video_id),
            "has_visual": np.ones(len(frame_S), np.uint8),
            "text": to_half(text_SC, video_id),
            "has_text": np.full(len(frame_S), said, np.uint8),
        }
        return StoredRoom(room_id=video_id, tensors=tensors)
