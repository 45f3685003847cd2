"""A prepared folder of personalized highlights, made by hand."""

import json

import numpy as np
import polars as pl

from contentctr.batch import DataSpec
from contentctr.store import personal as folder
from contentctr.store.personal import PreparedPersonal
from contentctr.store.vectors import StoredRoom, write_manifest, write_shard


def visual(video: int, frame: np.ndarray) -> np.ndarray:
    return np.stack([np.full(len(frame), video), frame, frame**2], axis=1).astype(np.float16)


def make_data(tmp_path, *, missing=()) -> PreparedPersonal:  # type: ignore[no-untyped-def]
    """Video `t` of 10 frames, `h` of 8; a frame's feature is its video's number and its own."""
    users = [("ann", "t", "train", 2), ("bob", "t", "test", 1), ("cat", "h", "train", 0)]
    selections = [
        ("ann", "t", 2.0, 4.0, True),
        ("ann", "t", 8.4, 9.0, True),
        ("ann", "h", 1.0, 3.0, False),
        ("ann", "h", 6.0, 7.0, False),
        ("bob", "t", 5.0, 6.0, True),
        ("bob", "h", 2.0, 5.0, False),
        ("cat", "h", 0.0, 1.0, True),
    ]
    videos = [("h", None, None, 8.0, 8, True, False), ("t", None, None, 10.0, 10, True, True)]
    tables = {
        "users": pl.DataFrame(users, folder.USERS_SCHEMA, orient="row"),
        "selections": pl.DataFrame(selections, folder.SELECTIONS_SCHEMA, orient="row"),
        "videos": pl.DataFrame(videos, folder.VIDEOS_SCHEMA, orient="row"),
        "captions": pl.DataFrame(schema=folder.CAPTIONS_SCHEMA),
    }
    data = folder.write(tmp_path, tables, {"frame_rate": 1.0, "simulated": True})
    spec = DataSpec(segment_seconds=1.0, frames_per_segment=1, visual_dim=3, text_dim=2)
    for number, (video_id, length) in enumerate((("h", 8), ("t", 10))):
        frame = np.arange(length, dtype=np.int32)
        has_visual = (~np.isin(frame, missing)).astype(np.uint8)
        tensors = {
            "frame": frame,
            "visual": visual(number, frame) * has_visual[:, None].astype("f2"),
            "has_visual": has_visual,
            "text": np.ones((length, 2), np.float16),
            "has_text": (frame % 2).astype(np.uint8),
        }
        write_shard(data.features_dir, video_id, [StoredRoom(room_id=video_id, tensors=tensors)])
    write_manifest(data.features_dir, spec, counts={}, segments_hash=data.content_hash())
    return data


def copy_with(data, root, **tables):
    """The folder with some tables changed; its features are linked, and said to be of it."""
    names = ("users", "selections", "videos", "captions")
    manifest = {key: value for key, value in data.manifest().items() if key != "hashes"}
    copy = folder.write(root, {n: getattr(data, n)() for n in names} | tables, manifest)
    copy.features_dir.mkdir(exist_ok=True)
    for path in data.features_dir.glob("*.safetensors"):
        if not (copy.features_dir / path.name).exists():
            (copy.features_dir / path.name).symlink_to(path)
    said = json.loads((data.features_dir / "manifest.json").read_text())
    said["segments_hash"] = copy.content_hash()
    (copy.features_dir / "manifest.json").write_text(json.dumps(said))
    return copy
