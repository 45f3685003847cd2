"""Made-up rooms with a label that few segments have, and that one number of their text tells."""

from __future__ import annotations

import json

import numpy as np
import polars as pl

from contentctr.prepare.targets import set_target
from contentctr.store import vectors as features
from make import write_data


def write_rare(root, *, rooms=60, length=30, share=0.02, shift=4.0, v=6, t=5, seed=0, scale="none"):
    """A prepared folder with features; its target is the column `goal`, in half of the rooms to
    train on."""
    data = write_data(root, rooms=rooms, length=length, v=v, t=t, seed=seed, learnable=False)
    rng = np.random.default_rng(seed)
    label = rng.random(rooms * length) < share
    visual, text = (rng.normal(size=(len(label), width)) for width in (v, t))
    text[:, 0] += shift * label
    ids = data.rooms()["room_id"].to_list()
    parts = ["train"] * (rooms // 2) + ["val"] * (rooms // 8)
    split = dict(zip(ids, parts + ["test"] * (rooms - len(parts)), strict=True))
    named = pl.col("room_id").replace_strict(split)
    data.rooms().with_columns(split=named).write_parquet(root / "rooms.parquet")
    segments = data.segments().with_columns(split=named, goal=pl.Series(label.astype(float)))
    set_target(segments, "goal", scale).write_parquet(root / "segments.parquet")
    manifest = json.loads((root / "manifest.json").read_text())
    changes = {"target": "goal", "target_scale": scale, "hashes": {}}
    (root / "manifest.json").write_text(json.dumps(manifest | changes))
    tensors = {"visual": visual.astype(np.float16), "text": text.astype(np.float16)}
    tensors |= {name: np.ones(len(label), np.uint8) for name in features.FLAGS}
    stored = [
        features.StoredRoom(
            room_id=name,
            tensors={k: x[i * length : (i + 1) * length] for k, x in tensors.items()},
        )
        for i, name in enumerate(ids)
    ]
    features.write_shard(data.features_dir, "all", stored)
    return type(data)(root)
