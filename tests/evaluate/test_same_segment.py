"""Counts of the same segment: a leak that is there when it is asked for, and nowhere else."""

import dataclasses

import numpy as np
import polars as pl
import pytest
import torch

from contentctr.batch import DataSpec, Vocabulary
from contentctr.config import COUNT_COLUMNS, Config, IdConfig, ModelConfig
from contentctr.errors import InputError
from contentctr.evaluate.evaluate import evaluate_model
from contentctr.live.engine import Engine
from contentctr.live.scorer import RoomScorer
from contentctr.models.registry import MODELS, build_model
from contentctr.predict.loaded import LoadedRun
from contentctr.score import checkpoint
from contentctr.train.loop import train_model
from contentctr.windows.segment_data import load_segments
from make import write_data
from training import TINY, with_train

CHANGED = 5
LEAK = IdConfig(same_segment=True)


def id_config(kind="deepfm", **ids):
    model = dataclasses.replace(TINY.model, kind=kind)
    loss = dataclasses.replace(TINY.loss, align_weight=0.0, pair_weight=0.0)
    config = dataclasses.replace(TINY, model=model, loss=loss, ids=IdConfig(**ids))
    return with_train(config, epochs=1)


def scores_of(run, data, out):
    evaluate_model(run, data, out, show_progress=False)
    return pl.read_parquet(out / "predictions.parquet")


@pytest.mark.parametrize("kind", ["wide_deep", "deepfm", "difm", "dcn_m"])
@pytest.mark.parametrize("leak", [False, True])
def test_own_counts_move_a_score_where_it_leaks_and_no_bit_of_it_where_not(kind, leak, tmp_path):
    data = write_data(tmp_path / "data")
    train_model(id_config(kind, same_segment=leak), data, tmp_path / "run", show_progress=False)
    before = scores_of(tmp_path / "run", data, tmp_path / "out")
    table = pl.read_parquet(data.root / "segments.parquet")
    more = [
        pl.when(pl.col("segment") == CHANGED)
        .then(9 * pl.col(name).fill_null(1) + 40)
        .otherwise(pl.col(name))
        .cast(table.schema[name])
        .alias(name)
        for name in COUNT_COLUMNS
    ]
    table.with_columns(more).write_parquet(data.root / "segments.parquet")
    after = scores_of(tmp_path / "run", data, tmp_path / "out")
    moved = before.filter(before["score"] != after["score"])["segment"].unique().to_list()
    assert moved == [CHANGED if leak else CHANGED + 1]


@pytest.mark.parametrize("horizon", [0, 1])
def test_the_leak_is_of_the_predicted_segment_and_changes_nothing_else(horizon, tmp_path):
    data = write_data(tmp_path / "data")
    known = Vocabulary(streamers=["a"])
    plain, leaking = (
        load_segments(data, known, split="all", horizon=horizon, same_segment=leak)
        for leak in (False, True)
    )
    own = data.segments().select(pl.col(n).cast(pl.Float32) for n in COUNT_COLUMNS)
    rows = plain.table["segment"].to_numpy()
    inside = np.flatnonzero(rows + horizon < 8)
    wanted = own.fill_null(np.nan).to_numpy()[inside + horizon]
    np.testing.assert_array_equal(leaking.counts_SA.numpy()[inside], wanted)
    assert np.isfinite(wanted).any()
    for part in dataclasses.fields(plain):
        one, two = getattr(plain, part.name), getattr(leaking, part.name)
        if isinstance(one, torch.Tensor) and part.name != "counts_SA":
            assert torch.equal(one.nan_to_num(), two.nan_to_num()), part.name


def test_a_leaking_run_is_marked_and_scores_nothing_live(tmp_path):
    data = write_data(tmp_path / "data")
    train_model(id_config(same_segment=True), data, tmp_path / "run", show_progress=False)
    found = evaluate_model(tmp_path / "run", data, tmp_path / "out", show_progress=False)
    assert any("leaks" in note and "ids.same_segment" in note for note in found["warnings"])
    message = "ids.same_segment must be false .* counts of a segment are not known when its score"
    with pytest.raises(InputError, match=message):
        LoadedRun(tmp_path / "run")
    with pytest.raises(InputError, match=message):
        Engine.from_checkpoint(tmp_path / "run")
    run = checkpoint.load(tmp_path / "run")
    with pytest.raises(InputError, match=message):
        RoomScorer(run.load_model(), run.config, run.spec, run.vocabulary)


@pytest.mark.parametrize("kind", [k for k, m in MODELS.items() if m.reads_content])
def test_only_id_baselines_can_be_given_it(kind):
    config = Config(model=ModelConfig(kind=kind), ids=LEAK)
    with torch.device("meta"), pytest.raises(InputError, match=f"same_segment must .*kind={kind}"):
        build_model(config, DataSpec(visual_dim=3, text_dim=2), Vocabulary(streamers=["a"]))
