"""No score of a segment moves by a bit with what is its label, or becomes known after it."""

import dataclasses

import numpy as np
import polars as pl
import pytest
import torch

from contentctr.batch import DataSpec, Vocabulary
from contentctr.config import COUNT_COLUMNS, Config, DataConfig, ModelConfig
from contentctr.models.registry import MODELS, build_model
from contentctr.score.rooms import score_segments
from contentctr.store.statistics import WIDTH
from make import make_segments, make_table

SIZES = ModelConfig(d_model=16, num_heads=2, perceiver_layers=1, decoder_layers=1, streamer_dim=4)
ROOMS = sorted(kind for kind, model in MODELS.items() if model.task == "rooms")
COUNTED = [
    (kind, True) for kind in ROOMS if MODELS[kind].extra_tokens and not MODELS[kind].sees_later
]


CASES = [
    (kind, statistics, horizon)
    for kind, statistics in [*((kind, False) for kind in ROOMS), *COUNTED]
    for horizon in ((0,) if MODELS[kind].sees_later else (0, 1))
]


@pytest.mark.parametrize(("kind", "statistics", "horizon"), CASES)
def test_a_segments_actions_and_target_do_not_reach_its_score(kind, statistics, horizon):
    torch.manual_seed(0)
    sizes = dataclasses.replace(SIZES, kind=kind, statistics=statistics, residual=statistics)
    config = Config(data=DataConfig(window_len=4, horizon=horizon), model=sizes)
    known = Vocabulary(streamers=["a"], rooms=["room000"])
    spec = DataSpec(visual_dim=3, text_dim=2, statistics_dim=WIDTH)
    model = build_model(config, spec, known)
    changed_at = 5
    own = pl.col("segment") == changed_at
    table = make_table([9], streamers=("a",))
    names = (*COUNT_COLUMNS, "viewers", "clickers", "ctr", "target")
    other = table.with_columns(
        pl.when(own)
        .then(pl.col(n) / 2 if n in ("ctr", "target") else pl.col(n) * 9)
        .otherwise(pl.col(n))
        .cast(table.schema[n])
        .alias(n)
        for n in names
    )
    before, after = (
        score_segments(
            model,
            make_segments([9], table=t, horizon=horizon, model=sizes),
            window_len=4,
            horizon=horizon,
        )
        for t in (table, other)
    )
    assert np.isfinite(before[horizon:]).all() and np.isfinite(after[horizon:]).all()
    moved = np.flatnonzero(np.nan_to_num(before) != np.nan_to_num(after)).tolist()
    # Earlier counts reach the ID baselines, there the next segment's score, and statistics.
    if statistics:
        assert moved == list(range(changed_at + 1, 9))
    else:
        assert moved == ([] if MODELS[kind].reads_content else [changed_at + 1])
