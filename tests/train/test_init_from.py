"""A run that starts from another's weights: what is taken over, what is new, what must fit."""

import dataclasses
import json

import numpy as np
import polars as pl
import pytest
import torch

from contentctr.config import override
from contentctr.errors import InputError
from contentctr.score import checkpoint as checkpoints
from contentctr.train.init_from import _matched
from contentctr.train.loop import train_model
from make import write_data
from rare import write_rare
from training import TINY, same, weights, with_train


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run on one target, and its data."""
    folder = tmp_path_factory.mktemp("first")
    data = write_data(folder / "data")
    train_model(with_train(epochs=1), data, folder / "run", show_progress=False)
    return folder / "run"


def start(config, data, out, run, **options):
    """The weights that a new run starts from: of a run whose rate is too small to move any."""
    config = override(config, ["learning_rate=1e-30", "epochs=1"])
    train_model(config, data, out, init_from=run, show_progress=False, **options)
    return weights(out), checkpoints.load(out).info["init_from"]


def test_the_same_data_takes_everything_over(first, tmp_path):
    data = write_data(tmp_path / "data")
    found, report = start(TINY, data, tmp_path / "out", first)
    assert same(found, weights(first, "best"))
    assert report["new"] == report["left"] == [] and report["head"] == "taken over"
    assert report["streamers_known"] == 3 and report["streamers_new"] == 0
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["init_from"] == {k: report[k] for k in ("checkpoint", "weights", "new_head")}
    assert config["init_from"]["checkpoint"] == str((first / "best").resolve())


def test_known_streamers_keep_their_rows_and_new_ones_start_as_the_unknown(first, tmp_path):
    data = write_data(tmp_path / "data")
    names = {"a": "zoe", "b": "b", "c": "aaron"}
    for table in ("segments", "rooms"):
        path = data.root / f"{table}.parquet"
        rows = pl.read_parquet(path)
        rows.with_columns(pl.col("streamer_id").replace_strict(names)).write_parquet(path)
    found, report = start(TINY, type(data)(data.root), tmp_path / "out", first)
    before, after = weights(first, "best"), found
    name = "streamer.table.weight"
    # Sorted: aaron, b, zoe; before: a, b, c. Row 0 is the unknown streamer's.
    assert torch.equal(after[name], before[name][[0, 0, 2, 0]])
    assert report["streamers_known"] == 1 and report["streamers_new"] == 2
    assert all(torch.equal(after[k], before[k]) for k in before if k != name)


def test_another_target_has_a_new_output_layer_unless_it_is_kept(first, tmp_path):
    rare = write_rare(tmp_path / "rare", rooms=16, share=0.1)
    words = override(TINY, ["prior=0"])
    found, report = start(words, rare, tmp_path / "new", first)
    before = weights(first, "best")
    assert report["head"] == "new" and report["new"] == ["head.bias", "head.weight"]
    mean = checkpoints.load(tmp_path / "new").config.model.prior
    assert float(found["head.bias"]) == pytest.approx(np.log(mean / (1 - mean)))
    assert not torch.equal(found["head.weight"], before["head.weight"])
    assert torch.equal(found["norm.weight"], before["norm.weight"])
    kept, report = start(words, rare, tmp_path / "kept", first, new_head=False)
    assert report["head"] == "taken over" and torch.equal(kept["head.bias"], before["head.bias"])
    data = write_data(tmp_path / "same")
    fresh, report = start(TINY, data, tmp_path / "asked", first, new_head=True)
    assert report["head"] == "new" and not torch.equal(fresh["head.bias"], before["head.bias"])


def test_an_added_token_is_new_and_told(first, tmp_path):
    data = write_data(tmp_path / "data")
    more = override(TINY, ["statistics=true"])
    found, report = start(more, data, tmp_path / "more", first)
    assert report["new"] and all(name.startswith("extra.") for name in report["new"])
    assert report["head"] == "taken over" and report["left"] == []
    back, report = start(TINY, data, tmp_path / "back", tmp_path / "more")
    assert same(back, weights(first, "best")) and report["left"] and report["new"] == []
    # A head that says how far from the mean is another one than a head that says how high.
    _, report = start(override(more, ["residual=true"]), data, tmp_path / "mean", first)
    assert report["head"] == "new" and "residual.scale" in report["new"]


def test_id_baselines_match_streamers_and_rooms_in_one_table(tmp_path):
    kind = ["kind=wide_deep", "align_weight=0"]
    config = override(TINY, kind)
    data = write_data(tmp_path / "data")
    train_model(with_train(config, epochs=1), data, tmp_path / "run", show_progress=False)
    other = write_data(tmp_path / "other", rooms=9)
    found, report = start(config, other, tmp_path / "out", tmp_path / "run")
    before, name = weights(tmp_path / "run", "best"), "fields.table.weight"
    old, new = (checkpoints.load(tmp_path / r).vocabulary for r in ("run", "out"))
    assert len(old.rooms) == 8 and len(new.rooms) == 5
    rows = [*range(4), 4, *range(5, 10), *range(4 + 9, len(before[name]))]
    assert torch.equal(found[name], before[name][rows])
    assert report["new"] == []
    with pytest.raises(InputError, match=r"ids.embedding_dim must be 8 to start from it, not 4"):
        start(override(config, ["embedding_dim=4"]), other, tmp_path / "x", tmp_path / "run")


def test_rows_by_hand():
    theirs = torch.arange(7.0)[:, None]  # unknown, a, b; unknown, r; and two rows of no id
    found = _matched(theirs, [[["b", "z"], ["q", "r"]], [["a", "b"], ["r"]]])
    assert found[:, 0].tolist() == [0, 2, 0, 3, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("word", "field"),
    [
        ("d_model=16", "model.d_model must be 8 to start from it, not 16"),
        ("num_heads=4", "model.num_heads must be 2"),
        ("decoder_layers=2", "model.decoder_layers must be 1"),
        ("streamer_dim=5", "model.streamer_dim must be 4"),
        ("kind=without_item", "model.kind must be 'contentctr'"),
    ],
)
def test_what_differs_is_named(first, tmp_path, word, field):
    data = write_data(tmp_path / "data")
    with pytest.raises(InputError, match=field):
        start(override(TINY, [word]), data, tmp_path / "out", first)
    assert not (tmp_path / "out").exists()


def test_other_features_are_refused_or_said(first, tmp_path):
    wide = write_data(tmp_path / "wide", t=6)
    with pytest.raises(InputError, match=r"data_spec.text_dim must be 5 to start from it, not 6"):
        start(TINY, wide, tmp_path / "out", first)
    data = write_data(tmp_path / "data")
    path = data.features_dir / "manifest.json"
    path.write_text(path.read_text().replace('"text_revision": "1"', '"text_revision": "2"'))
    with pytest.warns(UserWarning, match=r"features of another text encoder \(1\) than this data"):
        start(TINY, data, tmp_path / "out", first)
    with pytest.raises(InputError, match="not a checkpoint"):
        start(TINY, data, tmp_path / "none", tmp_path / "data")


def test_a_resumed_run_remembers_where_it_started(first, tmp_path):
    data = write_data(tmp_path / "data")
    config = with_train(epochs=2)
    train_model(config, data, tmp_path / "whole", init_from=first, show_progress=False)
    one = with_train(epochs=1)
    train_model(one, data, tmp_path / "cut", init_from=first, show_progress=False)
    train_model(config, data, tmp_path / "cut", resume=True, show_progress=False)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    info = checkpoints.load(tmp_path / "cut" / "last").info
    assert info["init_from"] == checkpoints.load(tmp_path / "whole").info["init_from"]
    # Killed before its first checkpoint: it starts from the same run again.
    (tmp_path / "killed").mkdir()
    text = (tmp_path / "whole" / "config.json").read_text()
    (tmp_path / "killed" / "config.json").write_text(text)
    train_model(config, data, tmp_path / "killed", resume=True, show_progress=False)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    plain = dataclasses.replace(config)
    train_model(plain, data, tmp_path / "plain", show_progress=False)
    with pytest.raises(
        InputError, match="a resumed run must keep its settings and data; init_from"
    ):
        train_model(
            plain, data, tmp_path / "plain", resume=True, init_from=first, show_progress=False
        )


def test_what_was_taken_over_is_told(first, tmp_path, capsys):
    data = write_data(tmp_path / "data")
    train_model(with_train(epochs=1), data, tmp_path / "out", init_from=first)
    said = capsys.readouterr().err
    assert "weights taken over, output layer taken over; 3 streamers known, 0 new" in said
    assert "(target ctr)" in said
