"""What several tests share, taken out of test_encode."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from PIL import Image

from contentctr.store import rooms as prepared
from contentctr.store.rooms import PreparedRooms
from videos import make_video

TEXTS = {
    "frames": ([None, "hello this song", "  ", "dance"], ["wow", "love you", None, ""]),
    "nothing": (["hello this song", None], ["love you", None]),
    "video": (["one", "two", "three"], [None, None, "look now"]),
}


def make_data(root: Path, texts: dict = TEXTS, *, lag: int = 0) -> PreparedRooms:
    """Room `frames` has 4 segments of 6 s, the third without pictures; `video` has 3."""
    folder = root / "pictures"
    if not folder.exists():
        folder.mkdir(parents=True)
        rng = np.random.default_rng(0)
        for second in (1, 3, 5, 7, 9, 19, 22):
            small = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
            small.resize((64, 64)).save(folder / f"{second}.png")
        make_video(root / "v.mp4", seconds=18)
    media = {"frames": (str(folder), "frames"), "video": (str(root / "v.mp4"), "video")}
    rooms = pl.DataFrame(
        {
            "room_id": list(texts),
            "streamer_id": "s",
            "started_at": datetime(2024, 1, 1, tzinfo=UTC),
            "duration_s": 24.0,
            "num_segments": [len(t[0]) for t in texts.values()],
            "split": "train",
            "media": [media.get(r, (None, None))[0] for r in texts],
            "media_kind": [media.get(r, (None, None))[1] for r in texts],
            "sound": None,
        }
    )
    segments = pl.concat(
        pl.DataFrame(
            {"room_id": r, "segment": range(len(a)), "speech": a, "comments": b},
            schema_overrides={"speech": pl.String, "comments": pl.String},
        )
        for r, (a, b) in texts.items()
    ).with_columns(
        start_s=pl.col("segment") * 6.0, end_s=pl.col("segment") * 6.0 + 6, split=pl.lit("train")
    )
    absent = [pl.lit(None).alias(c) for c in prepared.SEGMENTS_SCHEMA if c not in segments.columns]
    manifest = {
        "source": "folder",
        "simulated": False,
        "segment_seconds": 6.0,
        "target": "ctr",
        "frames_per_segment": 3,
        "comment_lag": lag,
    }
    return prepared.write(
        root / "data", rooms=rooms, segments=segments.with_columns(absent), manifest=manifest
    )
