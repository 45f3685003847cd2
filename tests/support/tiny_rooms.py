"""Prepared rooms with texts and folders of frames, too small for anything but tests."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from contentctr.store import rooms as prepared
from contentctr.store.rooms import COUNT_COLUMNS, ROOMS_SCHEMA, SEGMENTS_SCHEMA, PreparedRooms

SAID = {"song": "hello this song is great", "gift": "thanks for the gift we love you"}
ASKED = {"song": "dance more please", "gift": "wow look now"}


def write_tiny_rooms(
    root: Path,
    *,
    splits: tuple[str, ...] = ("train", "train", "train", "val", "test"),
    length: int = 6,
    frames: bool = True,
    truth: bool = True,
) -> PreparedRooms:
    """Rooms that alternate between two activities, which words and the picture's half tell."""
    rng = np.random.default_rng(0)
    rooms, rows, known = [], [], []
    for number, split in enumerate(splits):
        room_id, folder = f"room{number}", root / "media" / f"room{number}"
        folder.mkdir(parents=True)
        for segment in range(length):
            activity = ("song", "gift")[(segment + number) % 2]
            if frames:
                pixels = rng.integers(0, 60, (48, 64, 3), dtype=np.uint8)
                half = slice(0, 32) if activity == "song" else slice(32, 64)
                pixels[:, half] += 150
                Image.fromarray(pixels).save(folder / f"{30 * segment + 15}.png")
            rows.append(
                {
                    "room_id": room_id,
                    "streamer_id": "a",
                    "segment": segment,
                    "start_s": 30.0 * segment,
                    "end_s": 30.0 * (segment + 1),
                    "speech": SAID[activity],
                    "comments": ASKED[activity],
                    "viewers": 10,
                    "clickers": 1,
                    "ctr": 0.1,
                    **dict.fromkeys(COUNT_COLUMNS, 1),
                    "target": 0.1,
                    "split": split,
                }
            )
            known.append((room_id, segment, 0.1, activity))
        rooms.append(
            {
                "room_id": room_id,
                "streamer_id": "a",
                "started_at": datetime(2026, 1, 1, number, tzinfo=UTC),
                "duration_s": 30.0 * length,
                "num_segments": length,
                "split": split,
                "media": str(folder) if frames else None,
                "media_kind": "frames" if frames else None,
                "sound": None,
            }
        )
    return prepared.write(
        root,
        rooms=pl.DataFrame(rooms, ROOMS_SCHEMA),
        segments=pl.DataFrame(rows, SEGMENTS_SCHEMA),
        truth=pl.DataFrame(known, prepared.TRUTH_SCHEMA, orient="row") if truth else None,
        manifest={
            "source": "test",
            "simulated": True,
            "segment_seconds": 30.0,
            "frames_per_segment": 1,
            "target": "ctr",
            "comment_lag": 0,
        },
    )
