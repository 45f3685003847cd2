"""Pre-training of streamers: types separate, runs resume to the bit, numbers are what they say."""

import json
import signal

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import log_loss, roc_auc_score

from contentctr.errors import InputError, NonFiniteLossError
from contentctr.pretrain import streamers as module
from contentctr.pretrain.impressions import epoch_batches, load_impressions
from contentctr.pretrain.sim import SimSettings
from contentctr.pretrain.streamer_metrics import (
    area_under_curve,
    click_metrics,
    nearest_neighbour_purity,
    popularity,
    table_purity,
)
from contentctr.pretrain.streamers import pretrain_streamers
from contentctr.progress import Progress
from contentctr.simulate.watch_logs import WatchConfig, write_watch_logs
from contentctr.store.streamer_table import read_streamer_table

TINY = SimSettings(
    dim=4, category_dim=2, num_heads=1, head_dim=4, hidden_dim=8, top_k=5, batch_size=64, epochs=2
)


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    config = WatchConfig(num_streamers=15, num_users=30, impressions=30)
    return write_watch_logs(config, tmp_path_factory.mktemp("logs") / "w", show_progress=False)


def results(out):
    numbers = json.loads((out / "pretraining.json").read_text())
    return (
        numbers,
        load_file(out / "model.safetensors"),
        read_streamer_table(out / "streamers.parquet"),
    )


@pytest.mark.parametrize("search", ["soft", "hard"])
def test_what_a_run_writes(logs, tmp_path, search):
    settings = SimSettings(**{**vars(TINY), "search": search})
    truth = logs / "truth.parquet"
    table = pretrain_streamers(logs, tmp_path / "o", settings=settings, truth=truth)
    numbers, weights, (ids, vectors) = results(tmp_path / "o")
    assert table == tmp_path / "o" / "streamers.parquet"
    assert len(ids) == 15 and ids == sorted(ids)
    assert np.array_equal(vectors, weights["streamers.weight"].numpy()[1:])
    assert numbers["simulated"] is True
    assert vars(settings).items() <= numbers["run"].items()
    watched = pl.read_parquet(logs / "watch_logs.parquet")
    counts = numbers["counts"]
    assert counts["impressions"] + counts["duplicates"] == watched.height
    assert counts["held_out_impressions"] == pytest.approx(0.1 * watched.height, abs=2)
    assert counts["users"] == 30 and counts["streamers"] == 15
    assert len(numbers["losses"]) == 2
    for name in ("model", "popularity"):
        assert 0 < numbers["held_out"][name]["auc"] < 1
        assert numbers["held_out"][name]["log_loss"] > 0
    assert numbers["purity"]["streamers"] == 15


def test_same_seed_same_table_another_seed_another(logs, tmp_path):
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        settings = SimSettings(**{**vars(TINY), "seed": seed, "epochs": 1})
        pretrain_streamers(logs, tmp_path / name, settings=settings)
        found.append(results(tmp_path / name)[2][1])
    assert np.array_equal(found[0], found[1]) and not np.array_equal(found[0], found[2])


@pytest.mark.parametrize("stop_at", [1, 5, 30])
def test_a_stopped_run_resumes_to_the_bit(logs, tmp_path, monkeypatch, stop_at):
    settings = SimSettings(**{**vars(TINY), "hide_streamers": 0.2})
    pretrain_streamers(logs, tmp_path / "whole", settings=settings)
    advance, steps = Progress.advance, []

    def stop(self, number=1, note=None):
        advance(self, number, note)
        if note is not None:
            steps.append(note)
            if len(steps) == stop_at:
                signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Progress, "advance", stop)
    with pytest.raises(KeyboardInterrupt, match=f"stopped at step {stop_at}"):
        pretrain_streamers(logs, tmp_path / "cut", settings=settings)
    assert not (tmp_path / "cut" / "streamers.parquet").exists()
    pretrain_streamers(logs, tmp_path / "cut", settings=settings, resume=True)
    whole, cut = results(tmp_path / "whole"), results(tmp_path / "cut")
    assert whole[0] == cut[0]
    assert whole[1].keys() == cut[1].keys()
    assert all(np.array_equal(whole[1][name], cut[1][name]) for name in whole[1])
    assert (
        len(steps)
        == len(epoch_batches(load_impressions(logs / "watch_logs.parquet", settings), settings, 0))
        * 2
    )
    assert len(list((tmp_path / "cut" / "checkpoints").iterdir())) == 1


def test_other_settings_or_logs_are_not_resumed(logs, tmp_path):
    pretrain_streamers(logs, tmp_path / "o", settings=TINY)
    with pytest.raises(InputError, match="new or empty"):
        pretrain_streamers(logs, tmp_path / "o", settings=TINY)
    other = SimSettings(**{**vars(TINY), "dim": 5})
    with pytest.raises(InputError, match="dim was 4 and is now 5"):
        pretrain_streamers(logs, tmp_path / "o", settings=other, resume=True)
    with pytest.raises(InputError, match="categories_sha256"):
        file = logs / "watch_logs.parquet"
        pretrain_streamers(file, tmp_path / "o", settings=TINY, resume=True)
    with pytest.raises(InputError, match="nothing to resume"):
        pretrain_streamers(logs, tmp_path / "none", settings=TINY, resume=True)


def test_a_loss_that_is_not_finite_stops_before_the_optimiser_moves(logs, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "sim_loss", lambda *_: _nan())
    with pytest.raises(NonFiniteLossError, match="step 0"):
        pretrain_streamers(logs, tmp_path / "o", settings=TINY)
    saved = load_file(tmp_path / "o" / "last" / "model.safetensors")
    data = load_impressions(logs / "watch_logs.parquet", TINY, logs / "streamers.parquet")
    fresh = module.StreamerTraining(data, TINY, None).model.state_dict()
    assert saved.keys() == fresh.keys() and all(torch.equal(saved[n], fresh[n]) for n in fresh)


def _nan():
    return torch.tensor(float("nan"), requires_grad=True)


def test_batches_are_a_permutation_with_histories_of_like_length(logs):
    data = load_impressions(logs / "watch_logs.parquet", TINY)
    batches = epoch_batches(data, TINY, 0)
    rows = np.concatenate(batches)
    assert np.array_equal(np.sort(rows), data.train_rows)
    assert not np.array_equal(rows, np.concatenate(epoch_batches(data, TINY, 1)))
    length = data.history.stop_I - data.history.start_I
    spread = np.mean([length[batch].std() for batch in batches])
    assert spread < 0.3 * length[data.train_rows].std()


def test_held_out_impressions_are_the_latest_and_teach_no_streamer(tmp_path):
    rows = [("u", "ab"[i % 2], i, i % 3 == 0) for i in range(40)] + [("u", "new", 50, True)]
    path = tmp_path / "l.parquet"
    pl.DataFrame(
        rows, schema=["user_id", "streamer_id", "t", "clicked"], orient="row"
    ).write_parquet(path)
    data = load_impressions(path, TINY)
    history = data.history
    assert data.streamers == ["a", "b"]
    assert history.t_I[data.train_rows].max() < history.t_I[data.held_out_rows].min()
    assert history.streamer_I[data.held_out_rows][-1] == 0
    every = load_impressions(path, SimSettings(held_out=0.0))
    assert len(every.held_out_rows) == 0 and "new" in every.streamers


def test_inputs_that_do_not_fit(logs, tmp_path):
    hard = SimSettings(search="hard")
    file = logs / "watch_logs.parquet"
    with pytest.raises(InputError, match="needs a table of categories"):
        pretrain_streamers(file, tmp_path / "o", settings=hard)
    with pytest.raises(InputError, match="no such file"):
        pretrain_streamers(logs, tmp_path / "o", categories=tmp_path / "none.csv")
    with pytest.raises(InputError, match="must hold watch_logs.parquet, .csv or .tsv"):
        pretrain_streamers(tmp_path, tmp_path / "o")
    (tmp_path / "c.csv").write_text("streamer_id,category\nnobody,x\n")
    with pytest.raises(InputError, match="c.csv: must have a category for some streamer"):
        pretrain_streamers(logs, tmp_path / "o", categories=tmp_path / "c.csv")
    (tmp_path / "l.csv").write_text("user_id,streamer_id,t,clicked\nu,a,1,0\nu,a,2,0\n")
    with pytest.raises(InputError, match="must be clicked in part; 0 of 1"):
        pretrain_streamers(tmp_path / "l.csv", tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_area_and_log_loss_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    clicked = rng.random(500) < 0.3
    scores = np.round(np.clip(0.4 * clicked + 0.6 * rng.random(500), 0.01, 0.99), 1)
    assert area_under_curve(scores, clicked) == pytest.approx(roc_auc_score(clicked, scores))
    found = click_metrics(scores, clicked)
    assert found["log_loss"] == pytest.approx(log_loss(clicked, scores))
    assert click_metrics(scores, np.zeros(500, bool))["auc"] is None


def test_popularity_is_a_smoothed_rate():
    streamer = np.array([1, 1, 1, 2, 0])
    clicked = np.array([1, 1, 0, 0, 0], bool)
    rate = popularity(streamer, clicked, 3)
    np.testing.assert_allclose(rate, [0.4, (2 + 8) / 23, 8 / 21, 0.4])


def test_purity_by_hand_and_of_unknown_types():
    vectors = np.array([[1, 0], [5, 0.1], [0, 2], [0.1, 1], [0, -1.0]])
    types = ["x", "x", "y", "y", "x"]
    # The last one is nearest to one of the first two (cosine 0 and 0.02 below it): x.
    assert nearest_neighbour_purity(vectors, types) == 1.0
    assert nearest_neighbour_purity(vectors, ["x", "y", "y", "y", "x"]) == pytest.approx(3 / 5)
    found = table_purity(["a", "b", "c"], vectors[:3], {"a": "x", "b": "x"})
    assert found == {"streamers": 2, "table": 1.0, "random": 1.0}
    assert table_purity(["a"], vectors[:1], {})["table"] is None


@pytest.mark.parametrize("search", ["soft", "hard"])
def test_types_separate_on_simulated_logs(tmp_path, search):
    """The hard search compares within a category, so its vectors need not tell types apart."""
    config = WatchConfig(num_streamers=40, num_users=150, impressions=80, affinity=3.0)
    folder = write_watch_logs(config, tmp_path / "w", show_progress=False)
    settings = SimSettings(
        search=search, dim=16, epochs=3, learning_rate=1e-2, batch_size=128, top_k=20
    )
    pretrain_streamers(folder, tmp_path / "o", settings=settings, truth=folder / "truth.parquet")
    numbers = results(tmp_path / "o")[0]
    print("simulated:", search, numbers["purity"], numbers["held_out"])
    assert numbers["purity"]["random"] < 0.3
    if search == "soft":
        assert numbers["purity"]["table"] > 0.6
    assert numbers["held_out"]["model"]["auc"] > numbers["held_out"]["popularity"]["auc"] + 0.05
