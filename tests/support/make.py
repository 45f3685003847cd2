"""Small made-up batches and prepared folders that the tests share."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import torch

from contentctr.batch import Batch, DataSpec, ExtraInput, History, IdFeatures, Vocabulary
from contentctr.config import COUNT_COLUMNS, ModelConfig
from contentctr.store import rooms as prepared
from contentctr.store import vectors as features
from contentctr.store.rooms import ROOMS_SCHEMA, SEGMENTS_SCHEMA
from contentctr.windows.segment_data import from_arrays, with_extra


def make_batch(
    b: int = 3,
    n: int = 5,
    v: int = 6,
    t: int = 4,
    *,
    k: int = 3,
    seed: int = 0,
    missing: bool = True,
    clips: int = 0,
) -> Batch:
    """Windows of `n` segments, the last one shorter, with missing parts and targets.

    With `clips` above 0 each window has a user's history of so many clips at most, the last none.
    """
    g = torch.Generator().manual_seed(seed)
    valid = torch.ones(b, n, dtype=torch.bool)
    if missing and n > 2:
        valid[-1, n - 2 :] = False
    target = torch.rand(b, n, generator=g)
    if missing:
        target[0, 1] = torch.nan
    target = torch.where(valid, target, torch.nan)

    def mask(share: float) -> torch.Tensor:
        if not missing:
            return valid.clone()
        return (torch.rand(b, n, generator=g) < share) & valid

    shuffles = torch.arange(n).repeat(b, k, 1)
    for row in range(b):
        length = int(valid[row].sum())
        for order in range(1, k):
            shuffles[row, order, :length] = torch.randperm(length, generator=g)
    return Batch(
        visual_BNV=torch.randn(b, n, v, generator=g),
        text_BNT=torch.randn(b, n, t, generator=g),
        has_visual_BN=mask(0.8),
        has_speech_BN=mask(0.6),
        has_comments_BN=mask(0.6),
        streamer_B=torch.arange(b) % 3,
        valid_BN=valid,
        target_BN=target,
        window_B=torch.arange(b),
        shuffles_BKN=shuffles,
        ids=make_ids(b, n, g),
        history=make_history(b, clips, v, g) if clips else None,
    )


def cut(batch: Batch, index) -> Batch:
    """The batch with every tensor indexed by `index`, which must suit [B, N] unless it is of B."""
    values = {
        name: v if v is None else v[index]
        for name, v in vars(batch).items()
        if name not in ("ids", "history", "extra")
    }
    parts: dict = {
        "extra": {
            name: ExtraInput(values_BNX=part.values_BNX[index], has_BN=part.has_BN[index])
            for name, part in batch.extra.items()
        }
    }
    parts |= {
        name: part and type(part)(**{key: v[index] for key, v in vars(part).items()})
        for name, part in (("ids", batch.ids), ("history", batch.history))
    }
    return Batch(**values, **parts)


def make_history(b: int, k: int, v: int, g: torch.Generator) -> History:
    """Histories of k, k - 1, ... clips; the last user has none."""
    count = (k - torch.arange(b)).clamp(min=0)
    count[-1] = 0
    valid = torch.arange(k) < count[:, None]
    clips = torch.randn(b, k, v, generator=g) * valid[..., None]
    return History(clip_BKV=clips, valid_BK=valid)


def make_ids(b: int, n: int, g: torch.Generator) -> IdFeatures:
    """Ids of known and unknown rooms, counts with gaps."""
    counts = torch.randint(0, 200, (b, n, len(COUNT_COLUMNS)), generator=g).float()
    counts[:, 0] = torch.nan
    return IdFeatures(
        room_B=torch.arange(b) % 3,
        hour_BN=torch.randint(0, 25, (b, n), generator=g),
        position_BN=torch.arange(n).repeat(b, 1),
        counts_BNA=counts,
    )


def make_table(lengths, *, seed=0, splits=None, streamers=("a", "b"), viewers=20, ctr=None):
    """A segment table of rooms of the given lengths: columns of SEGMENTS_SCHEMA."""
    rng = np.random.default_rng(seed)
    rows = []
    for number, length in enumerate(lengths):
        for segment in range(length):
            target = float(rng.random()) if ctr is None else ctr
            rows.append(
                {
                    "room_id": f"room{number:03d}",
                    "streamer_id": streamers[number % len(streamers)],
                    "segment": segment,
                    "start_s": 30.0 * segment,
                    "end_s": 30.0 * (segment + 1),
                    "speech": f"word{segment}",
                    "comments": f"wow{segment}",
                    "viewers": viewers,
                    "clickers": round(viewers * target),
                    "ctr": target,
                    **dict.fromkeys(COUNT_COLUMNS, 1),
                    "target": target,
                    "split": splits[number] if splits else "train",
                }
            )
    return pl.DataFrame(rows, schema=SEGMENTS_SCHEMA)


def make_segments(
    lengths,
    *,
    v=3,
    t=2,
    streamers=("a",),
    horizon=0,
    table=None,
    model=None,
    target="ctr",
    **options,
):
    """SegmentData with features that tell the row: visual[row] = row, text[row] = -row."""
    table = make_table(lengths, **options) if table is None else table
    count = table.height
    row = torch.arange(count, dtype=torch.float16)[:, None]
    there = torch.ones(count, dtype=torch.bool)
    known = Vocabulary(streamers=list(streamers), rooms=["room000"])
    data = from_arrays(
        table,
        known,
        visual_SV=row.repeat(1, v),
        text_ST=-row.repeat(1, t),
        has_visual_S=there,
        has_speech_S=there,
        has_comments_S=there,
        horizon=horizon,
    )
    return with_extra(
        data, table, model or ModelConfig(), horizon=horizon, target=target, scale="none"
    )


def write_data(root, *, rooms=12, length=8, v=6, t=5, seed=0, learnable=True):
    """A prepared folder with features: target is a function of the features, plus nothing else."""
    rng = np.random.default_rng(seed)
    splits = ["train"] * (rooms - 4) + ["val"] * 2 + ["test"] * 2
    table = make_table([length] * rooms, seed=seed, splits=splits, streamers=("a", "b", "c"))
    count = table.height
    visual, text = rng.normal(size=(count, v)), rng.normal(size=(count, t))
    if learnable:
        target = 1 / (1 + np.exp(-1.5 * visual[:, 0] - text[:, 0]))
        table = table.with_columns(ctr=pl.Series(target), target=pl.Series(target))
    names = table["room_id"].unique(maintain_order=True)
    started = [datetime(2026, 1, 1 + i // 24, i % 24, tzinfo=UTC) for i in range(rooms)]
    room_table = pl.DataFrame(
        {
            "room_id": names,
            "streamer_id": [("a", "b", "c")[i % 3] for i in range(rooms)],
            "started_at": started,
            "duration_s": [30.0 * length] * rooms,
            "num_segments": [length] * rooms,
            "split": splits,
            "media": [None] * rooms,
            "media_kind": [None] * rooms,
            "sound": [None] * rooms,
        },
        schema=ROOMS_SCHEMA,
    )
    data = prepared.write(
        root,
        rooms=room_table,
        segments=table,
        manifest={
            "source": "test",
            "simulated": True,
            "segment_seconds": 30.0,
            "frames_per_segment": 3,
            "target": "ctr",
            "comment_lag": 0,
        },
    )
    half = {"visual": visual.astype(np.float16), "text": text.astype(np.float16)}
    flags = {name: np.ones(count, np.uint8) for name in features.FLAGS}
    stored = [
        features.StoredRoom(
            room_id=name,
            tensors={k: x[i * length : (i + 1) * length] for k, x in {**half, **flags}.items()},
        )
        for i, name in enumerate(names)
    ]
    features.write_shard(data.features_dir, "all", stored)
    spec = DataSpec(
        visual_encoder="test",
        visual_revision="1",
        visual_dim=v,
        text_encoder="test",
        text_revision="1",
        text_dim=t,
    )
    features.write_manifest(data.features_dir, spec, counts={"rooms": rooms})
    return data
