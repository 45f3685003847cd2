"""Simulated rooms on disk: whole room folders, or a prepared folder with features alone.

Both come from the same mechanism (mechanism.py) and are marked as simulated wherever they say
anything. `simulator.json` records the settings, so that a killed run goes on and rooms of
different settings never mix.
"""

from __future__ import annotations

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from contentctr.batch import DataSpec
from contentctr.config import LATE_COMMENTS
from contentctr.errors import InputError
from contentctr.files import atomic, digest
from contentctr.prepare.splits import assign_splits, check_shares
from contentctr.prepare.targets import set_target
from contentctr.progress import progress_bar
from contentctr.simulate.claim import claim_folder
from contentctr.simulate.features import RoomFeatures, SimulatedEncoders
from contentctr.simulate.folders import truth_table, write_room
from contentctr.simulate.mechanism import (
    FRAMES,
    SEGMENT_SECONDS,
    SimulatedRoom,
    SimulatorConfig,
    draw_room,
)
from contentctr.store.rooms import ROOMS_SCHEMA, SEGMENTS_SCHEMA, PreparedRooms, write
from contentctr.store.vectors import (
    SegmentFeatures,
    StoredRoom,
    feature_tensors,
    write_manifest,
    write_shard,
)

MECHANISM = 1
"""Counts changes of what a seed means."""
SETTINGS_FILE = "simulator.json"
SHARD_ROOMS = 256
"""Rooms of a feature file."""
MADE_LATER = ("ctr", "target", "split")
"""Columns that come from the others."""
WORKERS = min(8, 2 * (os.cpu_count() or 1))


def write_room_folders(
    config: SimulatorConfig,
    out: Path | str,
    *,
    video_share: float = 0.2,
    show_progress: bool = True,
) -> list[Path]:
    """Write every room as a room folder below `out`; those already there are left as they are.

    Args:
        config: the settings. `num_rooms` may be raised later: only new rooms are made then.
        out: a new or empty folder, or one that the same settings began.
        video_share: share, in [0, 1], of the rooms with pictures that have a video, the others
            a folder of images.
        show_progress: show a bar on a terminal.

    Returns:
        The rooms' folders, in order.

    Raises:
        InputError: `out` holds anything else, or more rooms than asked for.
    """
    out = Path(out)
    if not 0 <= video_share <= 1:
        raise InputError(f"video_share must be in [0, 1], not {video_share!r}")
    settings = {**_settings(config, "rooms"), "video_share": video_share}
    claim_folder(out, SETTINGS_FILE, settings, may_grow=True)
    folders = [out / f"room{index:06d}" for index in range(config.num_rooms)]
    missing = [index for index, folder in enumerate(folders) if not folder.exists()]

    def make(index: int) -> None:
        with atomic(folders[index]) as temporary:
            write_room(config, draw_room(config, index), temporary, video_share)

    # Threads, because encoders and the disk, which take most of the time, leave the interpreter.
    pool = ThreadPoolExecutor(max_workers=WORKERS)
    try:
        with progress_bar("Simulating rooms", len(missing), show=show_progress) as progress:
            for _ in pool.map(make, missing):
                progress.advance()
    finally:
        pool.shutdown(cancel_futures=True)
    return folders


def write_features(
    config: SimulatorConfig,
    out: Path | str,
    *,
    visual_dim: int = 64,
    text_dim: int = 48,
    val: float = 0.1,
    test: float = 0.1,
    show_progress: bool = True,
) -> PreparedRooms:
    """Write every room's segments and made-up features as a prepared folder, without any picture.

    Args:
        config: the settings.
        out: a new or empty folder, or one that the same settings began, which is written anew.
        visual_dim: V, width of the visual features.
        text_dim: T, width of the text features.
        val: share of validation rooms, which start after all training rooms.
        test: share of test rooms, which start after all others.
        show_progress: show a bar on a terminal.

    Raises:
        InputError: a width or share is wrong, or `out` holds anything else.
    """
    out = Path(out)
    widths = {"visual_dim": visual_dim, "text_dim": text_dim}
    for name, width in widths.items():
        if width < 1:
            raise InputError(f"{name} must be at least 1, not {width!r}")
    check_shares(val, test)
    settings = {**_settings(config, "features"), **widths, "val": val, "test": test}
    claim_folder(out, SETTINGS_FILE, settings)
    encoders = SimulatedEncoders(config, **widths)
    rows, segments, truth = [], [], []
    with progress_bar("Simulating features", config.num_rooms, show=show_progress) as progress:
        for first in range(0, config.num_rooms, SHARD_ROOMS):
            stored = []
            for index in range(first, min(first + SHARD_ROOMS, config.num_rooms)):
                room = draw_room(config, index)
                features = encoders.encode(room)
                stored.append(_stored(room, features))
                rows.append(_room_row(room))
                segments.append(_segments(room, features))
                truth.append(truth_table(room))
                progress.advance()
            write_shard(out / "features", f"simulated-{first // SHARD_ROOMS:05d}", stored)
    rooms = assign_splits(pl.DataFrame(rows, schema=ROOMS_SCHEMA), val=val, test=test)
    table = set_target(pl.concat(segments), "ctr").join(
        rooms.select("room_id", "split"), on="room_id"
    )
    manifest = _manifest(settings)
    data = write(out, rooms=rooms, segments=table, truth=pl.concat(truth), manifest=manifest)
    _write_features_manifest(data, config, **widths)
    return data


def _manifest(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "source": "simulate",
        "simulated": True,
        "segment_seconds": float(SEGMENT_SECONDS),
        "frames_per_segment": FRAMES,
        "target": "ctr",
        "target_scale": "none",
        "comment_lag": 0,
        "simulator": settings,
    }


def _write_features_manifest(
    data: PreparedRooms, config: SimulatorConfig, *, visual_dim: int, text_dim: int
) -> None:
    """Say that the features are made up, and by which seed: only such go with a trained model."""
    manifest = data.manifest()
    spec = DataSpec(
        segment_seconds=float(SEGMENT_SECONDS),
        frames_per_segment=FRAMES,
        simulated=True,
        visual_encoder="simulated",
        visual_revision=digest(MECHANISM, config.seed, "visual", visual_dim),
        visual_dim=visual_dim,
        text_encoder="simulated",
        text_revision=digest(MECHANISM, config.seed, "text", text_dim),
        text_dim=text_dim,
    )
    counts = {name: manifest["counts"][name] for name in ("rooms", "segments")}
    segments_hash = manifest["hashes"]["segments.parquet"]
    write_manifest(data.features_dir, spec, counts=counts, segments_hash=segments_hash)


def _stored(room: SimulatedRoom, features: RoomFeatures) -> StoredRoom:
    found = SegmentFeatures(
        visual=features.visual_SV,
        text=features.text_ST,
        has_visual=features.has_visual_S,
        has_speech=features.has_speech_S,
        has_comments=features.has_comments_S,
    )
    return StoredRoom(room_id=room.room_id, tensors=feature_tensors(found))


def _room_row(room: SimulatedRoom) -> dict[str, Any]:
    return {
        "room_id": room.room_id,
        "streamer_id": room.streamer.streamer_id,
        "started_at": room.started_at.astimezone(UTC),
        "duration_s": float(room.num_segments * SEGMENT_SECONDS),
        "num_segments": room.num_segments,
        "split": None,
        "media": None,
        "media_kind": None,
        "sound": None,
    }


def _segments(room: SimulatedRoom, features: RoomFeatures) -> pl.DataFrame:
    """Rows of SEGMENTS_SCHEMA without target and split; texts null where there is no log."""
    segment_S = np.arange(room.num_segments)
    nothing = [None] * room.num_segments
    return pl.DataFrame(
        {
            "room_id": [room.room_id] * room.num_segments,
            "streamer_id": [room.streamer.streamer_id] * room.num_segments,
            "segment": segment_S,
            "start_s": segment_S * float(SEGMENT_SECONDS),
            "end_s": (segment_S + 1) * float(SEGMENT_SECONDS),
            "speech": features.speech_S if room.has_speech else nothing,
            "comments": features.comments_S if room.has_comments else nothing,
            "viewers": room.viewers_S,
            "clickers": room.clickers_S,
            **room.counts,
            # The simulator counts comments, not who wrote them nor when in the segment.
            **dict.fromkeys(("commenters", *LATE_COMMENTS), nothing),
        },
        schema_overrides={k: v for k, v in SEGMENTS_SCHEMA.items() if k not in MADE_LATER},
    ).with_columns(ctr=pl.when(pl.col("viewers") > 0).then(pl.col("clickers") / pl.col("viewers")))


def _settings(config: SimulatorConfig, depth: str) -> dict[str, Any]:
    return {
        "simulated": True,
        "mechanism": MECHANISM,
        "depth": depth,
        "config": dataclasses.asdict(config),
    }
