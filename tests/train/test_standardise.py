"""model.standardise: mean and deviation of the training segments, kept with the weights."""

import pytest
import torch

from contentctr.config import override
from contentctr.errors import InputError
from contentctr.models.layers import Standardise
from contentctr.recipes import paper
from contentctr.score.checkpoint import load
from contentctr.train.loop import train_model
from rare import write_rare
from training import TINY


def test_standardised_numbers_by_hand():
    norm = Standardise(3)
    x = torch.tensor([[1.0, 5.0, 0.0], [3.0, 5.0, 0.0], [2.0, 5.0, 4.0]])
    assert torch.equal(norm(x), x)  # before it knows any
    norm.fit(x)
    assert norm(x).mean(0).abs().max() < 1e-6
    assert torch.allclose(norm(x).std(0, correction=0), torch.tensor([1.0, 0.0, 1.0]))
    assert norm(torch.full((1, 3), 1e9))[0].tolist() == [10.0, 0.0, 10.0]


def test_a_run_keeps_what_its_training_rooms_features_are_like(tmp_path):
    data = write_rare(tmp_path / "data")
    config = override(TINY, ["window_len=4", "epochs=1", "standardise=true"])
    train_model(config, data, tmp_path / "run", show_progress=False)
    weights = load(tmp_path / "run").load_model().state_dict()
    mean, scale = (weights[f"fusion.text.0.{name}_D"] for name in ("mean", "scale"))
    assert mean.abs().max() > 0 and not torch.equal(scale, torch.ones_like(scale))
    train_model(config, data, tmp_path / "again", show_progress=False)
    again = load(tmp_path / "again").load_model().state_dict()
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_features_that_are_trained_are_not_standardised():
    with pytest.raises(InputError, match="model.standardise must be false with train.finetune"):
        override(paper(), ["standardise=true", "finetune_encoders=true"])


def test_a_run_from_another_keeps_its_scale(tmp_path):
    data, more = write_rare(tmp_path / "data"), write_rare(tmp_path / "more", seed=5)
    words = ["window_len=4", "epochs=1", "standardise=true"]
    config = override(TINY, words)
    run = train_model(config, data, tmp_path / "run", show_progress=False)
    train_model(config, more, tmp_path / "next", init_from=run, show_progress=False)
    before, after = (load(tmp_path / name).load_model().state_dict() for name in ("run", "next"))
    names = [
        f"fusion.{part}.0.{name}_D" for part in ("visual", "text") for name in ("mean", "scale")
    ]
    assert all(torch.equal(before[name], after[name]) for name in names)
    assert set(names) <= set(load(tmp_path / "next").info["init_from"]["taken"])
    plain = override(TINY, [*words[:2], "standardise=false"])
    with pytest.raises(InputError, match="model.standardise must be True to start from it, not Fa"):
        train_model(plain, more, tmp_path / "other", init_from=run, show_progress=False)


def test_a_model_without_features_has_nothing_to_standardise(tmp_path):
    data = write_rare(tmp_path / "data")
    config = override(TINY, ["window_len=4", "epochs=1", "standardise=true", "model.kind=deepfm"])
    with pytest.raises(InputError, match="standardise must be false with model.kind=deepfm, which"):
        train_model(config, data, tmp_path / "run", show_progress=False)
