"""Simulated users with tastes in a prepared and encoded folder: features instead of pictures.

Users, videos and selections are those of `tastes.World`. A frame's visual feature is its
topic's vector, the video's own, and noise; its text feature, in a video with captions, is its
topic's and noise. Every number from such a folder is labelled simulated.

Shape suffixes: P topics, S stored frames, V and C widths of visual and of text features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contentctr.batch import DataSpec
from contentctr.errors import InputError
from contentctr.files import digest, remove_leftovers
from contentctr.outputs import require_new
from contentctr.prepare.personal import split_by_target
from contentctr.prepare.personal_truth import truth_table
from contentctr.prepare.phd.annotations import spread, unite
from contentctr.progress import progress_bar
from contentctr.simulate.tastes import HABITS, Tastes, World
from contentctr.store import personal as folder
from contentctr.store.personal import PreparedPersonal, count_frames, wanted_frames
from contentctr.store.vectors import StoredRoom, to_half, write_manifest, write_shard

_SHARD_VIDEOS = 64


@dataclass(frozen=True, kw_only=True)
class PersonalSimulation(Tastes):
    """Settings of the mechanism and of the features made up for it.

    Raises:
        InputError: one is out of its range.
    """

    visual_dim: int = 32
    text_dim: int = 16
    noise: float = 1.0
    """Deviation of a frame's noise, beside a topic vector of deviation 1."""
    frame_rate: float = 1.0
    val: float = 0.1
    test: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("visual_dim", "text_dim"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not self.noise >= 0:
            raise InputError(f"noise must be at least 0, not {self.noise}")
        if not 0 < self.frame_rate <= 120:
            raise InputError(f"frame_rate must be above 0 and at most 120, not {self.frame_rate}")
        if not (self.val >= 0 and self.test >= 0 and self.val + self.test <= 1):
            raise InputError(
                f"val and test must be at least 0 and sum to at most 1, not {self.val} and "
                f"{self.test}"
            )


def write_personal_features(
    config: PersonalSimulation, out: Path | str, *, show_progress: bool = True
) -> PreparedPersonal:
    """Write a prepared folder with stored features, and the truth (prepare/personal_truth.py).

    Args:
        config: the settings.
        out: folder to write; must be new or empty.
        show_progress: show a bar on a terminal.

    Raises:
        InputError: the folder holds anything.
    """
    out = Path(out)
    require_new(out, "a simulation")
    remove_leftovers(out)
    world = World(config)
    tables = _tables(world, config)
    users, selections = tables["users"], tables["selections"]
    manifest = {
        "source": "simulate",
        "frame_rate": config.frame_rate,
        "max_history": config.max_history,
        "min_history": 1,
        "simulated": True,
        "simulation": dataclasses.asdict(config),
        "counts": {
            "users": users.height,
            "videos": tables["videos"].height,
            "target_highlights": selections.filter("is_target").height,
            "history_length": spread(users["history"]),
        },
        "warnings": [],
    }
    truth = truth_table(world.liked_scenes(), HABITS, users, tables["videos"], config.frame_rate)
    data = folder.write(out, tables, manifest, truth)
    spec = DataSpec(
        segment_seconds=1 / config.frame_rate,
        frames_per_segment=1,
        target="highlight",
        simulated=True,
        visual_encoder="simulated",
        visual_revision=digest(repr(config)),
        visual_dim=config.visual_dim,
        text_encoder="simulated",
        text_revision=digest(repr(config)),
        text_dim=config.text_dim,
    )
    write_manifest(data.features_dir, spec, counts={}, complete=False)
    with progress_bar("Simulating features", len(world.videos), show=show_progress) as bar:
        for number, rooms in enumerate(_shards(world, config, wanted_frames(data))):
            write_shard(data.features_dir, f"shard-{number:05d}", rooms)
            bar.advance(len(rooms))
    counts = {"videos": tables["videos"].height}
    write_manifest(data.features_dir, spec, counts=counts, segments_hash=data.content_hash())
    return data


def _tables(world: World, config: PersonalSimulation) -> dict[str, pl.DataFrame]:
    """Tables of the prepared folder."""
    rows = world.selections_table()
    targets, history = rows.filter("is_target"), rows.filter(~pl.col("is_target"))
    clips = dict(history.group_by("user_id").len().iter_rows())
    users = pl.DataFrame(
        [(user_id, video_id, "", clips[user_id]) for user_id, video_id in world.users],
        folder.USERS_SCHEMA,
        orient="row",
    )
    spans: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for user_id, video_id, start, end, _ in targets.iter_rows():
        spans.setdefault((user_id, video_id), []).append((start, end))
    united = [(*key, a, b, True) for key, found in spans.items() for a, b in unite(found)]
    seen = set(users["video_id"])
    videos = [
        {
            "video_id": video_id,
            "media": None,
            "media_kind": None,
            "duration_s": scenes.end_s,
            "num_frames": count_frames(scenes.end_s, config.frame_rate),
            "is_target": video_id in seen,
            "has_captions": world.captioned(video_id),
        }
        for video_id, scenes in sorted(world.videos.items())
    ]
    return {
        "users": split_by_target(users, val=config.val, test=config.test, seed=config.seed),
        "selections": pl.concat(
            [pl.DataFrame(united, folder.SELECTIONS_SCHEMA, orient="row"), history]
        ).sort("user_id", maintain_order=True),
        "videos": pl.DataFrame(videos, folder.VIDEOS_SCHEMA),
        "captions": pl.DataFrame(schema=folder.CAPTIONS_SCHEMA),
    }


def _shards(
    world: World, config: PersonalSimulation, wanted: dict[str, NDArray[np.int32]]
) -> Iterator[list[StoredRoom]]:
    """Stored features of the wanted frames, some videos at a time."""
    rng = np.random.default_rng(int(digest(config.seed, "topics")[:15], 16))
    visual_PV = rng.normal(size=(config.num_topics, config.visual_dim))
    text_PC = rng.normal(size=(config.num_topics, config.text_dim))
    videos = list(wanted.items())
    for first in range(0, len(videos), _SHARD_VIDEOS):
        yield [
            _features(world, config, video_id, frame_S, visual_PV, text_PC)
            for video_id, frame_S in videos[first : first + _SHARD_VIDEOS]
        ]


def _features(
    world: World,
    config: PersonalSimulation,
    video_id: str,
    frame_S: NDArray[np.int32],
    visual_PV: NDArray[np.float64],
    text_PC: NDArray[np.float64],
) -> StoredRoom:
    rng = np.random.default_rng(int(digest(config.seed, video_id)[:15], 16))
    topic_S = world.videos[video_id].at((frame_S + 0.5) / config.frame_rate)
    own_V = rng.normal(size=config.visual_dim) * 0.5
    noise_SV = rng.normal(size=(len(frame_S), config.visual_dim)) * config.noise
    said = world.captioned(video_id)
    noise_SC = rng.normal(size=(len(frame_S), config.text_dim)) * config.noise
    text_SC = (text_PC[topic_S] + noise_SC) * said
    tensors: dict[str, NDArray[Any]] = {
        "frame": frame_S,
        "visual": to_half(visual_PV[topic_S] + own_V + noise_SV, video_id),
        "has_visual": np.ones(len(frame_S), np.uint8),
        "text": to_half(text_SC, video_id),
        "has_text": np.full(len(frame_S), said, np.uint8),
    }
    return StoredRoom(room_id=video_id, tensors=tensors)
