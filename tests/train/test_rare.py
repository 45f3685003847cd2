"""Labels that few segments have: learned where they were not, and measured as labels."""

import math

import numpy as np
import pytest
import torch

from contentctr.batch import DataSpec, Vocabulary
from contentctr.config import Config, override
from contentctr.errors import InputError
from contentctr.evaluate.evaluate import evaluate_model, headline, verdict
from contentctr.models.registry import MODELS, build_model
from contentctr.report import write_report
from contentctr.report.runs import compare_runs
from contentctr.score import checkpoint as checkpoints
from contentctr.store.statistics import WIDTH
from contentctr.train.loop import train_model
from contentctr.train.rooms import RoomsTask, Validation
from contentctr.train.run_folder import read_log
from rare import write_rare
from training import TINY, same, weights

FEW_STEPS = override(
    TINY,
    [
        "window_len=4",
        "batch_size=32",
        "epochs=5",
        "align_weight=0",
        "dropout=0",
        "learning_rate=3e-4",
    ],
)
RARE = ["positive_weight=0", "prior=0"]


def test_a_rare_label_is_learned_where_it_was_not(tmp_path):
    found = {"plain": [], "rare": []}
    for seed in (0, 2):
        data = write_rare(tmp_path / f"data{seed}", seed=seed)
        for name, words in (("plain", []), ("rare", RARE)):
            run, out = tmp_path / f"{name}{seed}", tmp_path / f"{name}{seed}-out"
            train_model(
                override(FEW_STEPS, [f"seed={seed}", *words]), data, run, show_progress=False
            )
            found[name].append(evaluate_model(run, data, out, show_progress=False)["metrics"])
    means = {
        name: np.mean([m["average_precision"] for m in metrics]) for name, metrics in found.items()
    }
    base = np.mean([m["base_rate"] for m in found["rare"]])
    assert means["plain"] < 3.5 * base and means["rare"] > 6 * base, (means, base)
    # Weighed or not, scores are shares: their mean is near the base rate.
    assert all(m["calibration_error"] < 1.5 * base for m in found["rare"])
    assert all(
        m["log_loss"] > 1.5 * other["log_loss"] for m, other in zip(*found.values(), strict=True)
    )


def test_the_best_epoch_of_a_label_is_that_of_the_best_average_precision(tmp_path):
    data = write_rare(tmp_path / "data", rooms=24, share=0.1)
    assert RoomsTask(data).score == "average_precision"
    train_model(FEW_STEPS, data, tmp_path / "run", show_progress=False)
    rows = [r for r in read_log(tmp_path / "run" / "log.jsonl") if r["split"] == "val"]
    best = max(rows, key=lambda row: row["average_precision"])
    assert len({row["average_precision"] for row in rows}) > 1
    position = checkpoints.load(tmp_path / "run").info["position"]
    assert position["best_score"] == best["average_precision"] and position["step"] == best["step"]

    metrics = evaluate_model(tmp_path / "run", data, tmp_path / "out", show_progress=False)
    block = metrics["metrics"]
    assert block["positives"] == round(block["base_rate"] * block["counts"]["samples"])
    assert metrics["floors"]["metric"] == "average_precision"
    title, rows = headline(metrics)
    assert "samples of test" in title and str(rows["average_precision"]).startswith(
        f"{block['average_precision']:.4f} ("
    )
    assert verdict(metrics) == metrics["floors"]["sentence"] != ""


@pytest.mark.parametrize("scale", ["rank", "minmax"])
def test_the_best_epoch_of_ranks_is_by_their_order_inside_rooms(tmp_path, monkeypatch, scale):
    data = write_rare(tmp_path / "data", rooms=24, share=0.3, scale=scale)
    plain = Validation.__call__

    def validate(self, model, device):
        # Across rooms the first epoch is the best, inside them a later one.
        epochs.append(len(epochs))
        found = plain(self, model, device)
        return {**found, "kendall_tau": -0.1 * epochs[-1]}

    epochs = []
    monkeypatch.setattr(Validation, "__call__", validate)
    train_model(FEW_STEPS, data, tmp_path / "run", show_progress=False)
    rows = [r for r in read_log(tmp_path / "run" / "log.jsonl") if r["split"] == "val"]
    best = max(rows, key=lambda row: row["kendall_tau_in_rooms"])
    position = checkpoints.load(tmp_path / "run").info["position"]
    assert position["best_score"] == best["kendall_tau_in_rooms"]
    assert position["step"] == best["step"] > rows[0]["step"]

    monkeypatch.undo()
    metrics = evaluate_model(
        tmp_path / "run", data, tmp_path / "out", split="val", show_progress=False
    )
    found = metrics["metrics"]["kendall_tau_in_rooms"]
    assert found == pytest.approx(best["kendall_tau_in_rooms"], abs=1e-9)
    assert metrics["floors"]["metric"] == "kendall_tau_in_rooms"
    [row] = compare_runs(tmp_path).to_dicts()
    assert (row["metric"], row["best_validation"]) == (
        "kendall_tau_in_rooms",
        position["best_score"],
    )
    assert row["value"] == found
    page = write_report(tmp_path / "out").read_text()
    assert "Kendall&#39;s tau inside a room (validation)" in page


def test_a_ranked_label_is_no_label(tmp_path):
    assert (
        RoomsTask(write_rare(tmp_path / "data", rooms=16, scale="rank")).score
        == "kendall_tau_in_rooms"
    )


def test_what_the_data_decides_is_in_the_checkpoint_and_resumes(tmp_path):
    data = write_rare(tmp_path / "data", rooms=24, share=0.1)
    known = data.segments(texts=False)
    mean = known.filter(known["split"] == "train")["target"].mean()
    config = override(FEW_STEPS, [*RARE, "epochs=2"])
    train_model(config, data, tmp_path / "whole", show_progress=False)
    found = checkpoints.load(tmp_path / "whole").config
    assert found.model.prior == pytest.approx(mean)
    assert found.loss.positive_weight == pytest.approx(math.sqrt((1 - mean) / mean))
    train_model(override(config, ["epochs=1"]), data, tmp_path / "cut", show_progress=False)
    train_model(config, data, tmp_path / "cut", resume=True, show_progress=False)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


@pytest.mark.parametrize("kind", sorted(k for k, m in MODELS.items() if m.task == "rooms"))
def test_every_model_of_rooms_starts_at_the_prior(kind):
    config = override(Config(), [f"kind={kind}", "d_model=16", "num_heads=2", "prior=0.02"])
    known = Vocabulary(streamers=["a"], rooms=["r"])
    model = build_model(config, DataSpec(visual_dim=3, text_dim=2), known)
    assert float(model.output_bias.detach()) == pytest.approx(math.log(0.02 / 0.98))
    drawn = override(config, ["prior=none"])
    torch.manual_seed(0)
    one = build_model(drawn, DataSpec(visual_dim=3, text_dim=2), known).state_dict()
    torch.manual_seed(0)
    other = build_model(config, DataSpec(visual_dim=3, text_dim=2), known).state_dict()
    assert sum(not torch.equal(one[k], other[k]) for k in one) == 1


def test_in_the_residual_form_the_prior_stands_where_no_mean_is_known():
    words = ["d_model=16", "num_heads=2", "prior=0.02", "statistics=true", "residual=true"]
    config, known = override(Config(), words), Vocabulary(streamers=["a"], rooms=["r"])
    spec = DataSpec(visual_dim=3, text_dim=2, statistics_dim=WIDTH)
    model = build_model(config, spec, known)
    assert float(model.residual.unknown.detach()) == pytest.approx(math.log(0.02 / 0.98))
    assert abs(float(model.head.bias.detach())) < 1


def test_settings_out_of_range():
    for word, rule in (
        ("prior=1", r"in \[0, 1\), or none"),
        ("positive_weight=-1", r"in \[0, 1000\]"),
    ):
        with pytest.raises(InputError, match=rule):
            override(Config(), [word])
