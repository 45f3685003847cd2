import dataclasses
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState

from contentctr.batch import Vocabulary
from contentctr.config import TrainConfig
from contentctr.errors import InputError
from contentctr.models.losses import loss_counts, loss_sums, total_loss
from contentctr.models.registry import build_model
from contentctr.score import checkpoint as checkpoints
from contentctr.score.weights import load_tensors
from contentctr.store.streamer_table import write_streamer_table
from contentctr.train.loop import NonFiniteLossError, accelerator_on, train_model, train_step
from contentctr.train.models import ModelObjective, make_optimizer, schedule
from contentctr.train.run_folder import read_log
from launch import launch_two
from make import cut, make_batch, write_data
from training import TINY, Stop, same, stopping_at, weights, with_train


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


def test_training_learns_and_keeps_the_best(data, tmp_path):
    config = with_train(epochs=8, batch_size=8)
    best = train_model(config, data, tmp_path / "run", show_progress=False)
    rows = read_log(tmp_path / "run" / "log.jsonl")
    val = [r for r in rows if r["split"] == "val"]
    assert len(val) == 8 and max(r["kendall_tau"] for r in val) > 0.5
    loss = [r["total"] for r in rows if r["split"] == "train"]
    assert sum(loss[-5:]) < sum(loss[:5])
    top = max(range(8), key=lambda i: val[i]["kendall_tau"])
    saved = checkpoints.load(best)
    assert saved.info["position"]["epoch"] == top + 1
    assert saved.config == config and saved.vocabulary.streamers == ["a", "b", "c"]
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        "best",
        "last",
        "checkpoints",
        "log.jsonl",
        "config.json",
        "tensorboard",
        ".contentctr.lock",
    }
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) <= 2


@pytest.fixture
def no_accelerator():
    """As in a process that has made none yet."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_training_computes_where_it_is_told(no_accelerator, data, tmp_path, monkeypatch):
    monkeypatch.setattr(PartialState, "default_device", torch.device("meta"))
    before = dict(os.environ)
    assert accelerator_on("cpu").device == torch.device("cpu")
    assert dict(os.environ) == before
    with pytest.raises(InputError, match="device must be 'cpu' in this process.* not 'meta'"):
        train_model(with_train(epochs=1), data, tmp_path / "run", device="meta")
    with pytest.raises(InputError, match="'cuda:99': this machine has"):
        train_model(with_train(epochs=1), data, tmp_path / "run", device="cuda:99")
    assert not (tmp_path / "run").exists()
    AcceleratorState._reset_state(reset_partial_state=True)
    assert accelerator_on("auto").device == torch.device("meta")


def test_an_imported_table_of_streamers(data, tmp_path):
    vectors = np.random.default_rng(0).normal(size=(3, 7))
    table = tmp_path / "table.parquet"
    write_streamer_table(table, ["c", "a", "elsewhere"], vectors)
    imported = dataclasses.replace(TINY.model, streamer_table=str(table))
    config = dataclasses.replace(TINY, model=imported)
    with pytest.warns(UserWarning, match="1 of the 3 streamers.* are not in it.*'b'"):
        train_model(config, data, tmp_path / "run", show_progress=False)
    saved = checkpoints.load(tmp_path / "run")
    assert saved.vocabulary.streamers == ["a", "c", "elsewhere"]  # of the table, not of the rooms
    assert saved.config.model.streamer_dim == 7
    table.unlink()  # the checkpoint holds all of it
    model = saved.load_model()
    expected = vectors[[1, 0, 2]] / np.sqrt(np.mean(vectors**2))
    assert np.allclose(model.streamer.table_UE[1:], expected, atol=1e-6)
    assert not any(p.shape[0] == 4 for p in model.streamer.parameters())  # none of it is trained
    batch = dataclasses.replace(make_batch(b=1, n=4, v=6, t=5), streamer_B=torch.tensor([0]))
    unknown = model(batch).logits_BN
    with torch.no_grad():
        model.streamer.unknown_E += 1
    assert not torch.equal(unknown, model(batch).logits_BN)
    more = with_train(config, epochs=TINY.train.epochs + 1)
    train_model(more, data, tmp_path / "run", resume=True, show_progress=False)
    after = checkpoints.load(tmp_path / "run" / "last").load_model().streamer.table_UE
    assert torch.equal(after, model.streamer.table_UE)


def test_an_imported_table_is_for_models_that_take_one(data, tmp_path):
    table = tmp_path / "table.parquet"
    write_streamer_table(table, ["nobody"], np.ones((1, 3)))
    sizes = dataclasses.replace(TINY.model, streamer_table=str(table))
    with pytest.raises(InputError, match="must hold streamers of the.*none of the 3"):
        train_model(dataclasses.replace(TINY, model=sizes), data, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    other = dataclasses.replace(TINY, model=dataclasses.replace(sizes, kind="deepfm"))
    train_model(with_train(other, epochs=1), data, tmp_path / "b", show_progress=False)
    assert checkpoints.load(tmp_path / "b").vocabulary.streamers == ["a", "b", "c"]


def test_same_seed_same_bits_other_seed_others(data, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train_model(with_train(seed=seed), data, tmp_path / name, show_progress=False)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


@pytest.mark.parametrize("stop_at", [0, 1, 4, 6, 7])
def test_a_run_killed_at_any_step_and_resumed_is_equal_to_the_bit(
    data, tmp_path, monkeypatch, stop_at
):
    config = with_train(save_every=2)
    train_model(config, data, tmp_path / "whole", show_progress=False)
    run = tmp_path / "cut"
    with monkeypatch.context() as patch:
        patch.setattr("contentctr.train.loop.train_step", stopping_at(stop_at))
        with pytest.raises(Stop):
            train_model(config, data, run, show_progress=False)
    train_model(config, data, run, resume=True, show_progress=False)
    for name in ("best", "last"):
        assert same(weights(tmp_path / "whole", name), weights(run, name))
    optimizers = [
        load_tensors(r / "last" / "training" / "optimizer.safetensors")
        for r in (tmp_path / "whole", run)
    ]
    assert same(*optimizers)
    assert read_log(tmp_path / "whole" / "log.jsonl") == read_log(run / "log.jsonl")


def test_a_validation_whose_save_was_killed_is_noted_once(data, tmp_path, monkeypatch):
    """Its last step is saved already, with the same number of steps."""
    config = with_train(save_every=1)
    train_model(config, data, tmp_path / "whole", show_progress=False)

    def killed(link, folder):
        if folder.name.endswith("epoch-0001"):
            raise Stop
        checkpoints.point_to(link, folder)

    with monkeypatch.context() as patch:
        patch.setattr("contentctr.train.run_folder.point_to", killed)
        with pytest.raises(Stop):
            train_model(config, data, tmp_path / "cut", show_progress=False)
    logs = [tmp_path / name / "log.jsonl" for name in ("whole", "cut")]
    assert read_log(logs[1])[-1]["split"] == "val"
    train_model(config, data, tmp_path / "cut", resume=True, show_progress=False)
    assert logs[0].read_text() == logs[1].read_text()
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


def test_a_finished_run_can_go_on_for_more_epochs(data, tmp_path):
    train_model(with_train(epochs=3), data, tmp_path / "whole", show_progress=False)
    train_model(with_train(epochs=1), data, tmp_path / "run", show_progress=False)
    train_model(with_train(epochs=3), data, tmp_path / "run", resume=True, show_progress=False)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "run"))


def test_a_resumed_run_keeps_its_settings_and_data(data, tmp_path):
    train_model(with_train(epochs=1), data, tmp_path / "run", show_progress=False)
    other = with_train(epochs=1, learning_rate=1.0)
    with pytest.raises(InputError, match="train.learning_rate was 0.01 and is now 1.0"):
        train_model(other, data, tmp_path / "run", resume=True, show_progress=False)
    wide = write_data(tmp_path / "wide", v=9)
    with pytest.raises(InputError, match="visual_dim was 6 and is now 9"):
        train_model(with_train(epochs=2), wide, tmp_path / "run", resume=True, show_progress=False)
    with pytest.raises(InputError, match="new or empty folder"):
        train_model(with_train(epochs=1), data, tmp_path / "run", show_progress=False)
    # A config.json from before calibration lacks its setting.
    file = tmp_path / "run" / "config.json"
    older = json.loads(file.read_text())
    del older["train"]["calibrate"]
    file.write_text(json.dumps(older))
    train_model(with_train(epochs=1), data, tmp_path / "run", resume=True, show_progress=False)


def test_a_resumed_run_refuses_rooms_that_were_prepared_anew(tmp_path):
    data = write_data(tmp_path / "data")
    train_model(with_train(epochs=1), data, tmp_path / "run", show_progress=False)
    table = data.segments()
    table.with_columns(target=table["target"] / 2).write_parquet(data.root / "segments.parquet")
    with pytest.raises(InputError, match="must keep its settings and data; data_hash was"):
        train_model(with_train(epochs=2), data, tmp_path / "run", resume=True, show_progress=False)
    with pytest.raises(InputError, match="nothing to resume"):
        train_model(TINY, data, tmp_path / "none", resume=True, show_progress=False)


def test_an_epoch_without_a_tau_is_never_the_best(data, tmp_path, monkeypatch):
    taus = iter([0.6, None, 0.2])

    def validate(self, model, device):
        tau = next(taus)
        return {} if tau is None else {"kendall_tau": tau}

    monkeypatch.setattr("contentctr.train.rooms.Validation.__call__", validate)
    best = train_model(with_train(epochs=3), data, tmp_path / "run", show_progress=False)
    position = checkpoints.load(best).info["position"]
    assert position["epoch"] == 1 and position["best_score"] == 0.6


def test_a_run_that_stopped_early_stays_stopped(data, tmp_path):
    config = with_train(epochs=30, patience=2, learning_rate=1e-12)
    for resume in (False, True):
        train_model(config, data, tmp_path / "run", resume=resume, show_progress=False)
        assert checkpoints.load(tmp_path / "run" / "last").info["position"]["epoch"] == 3


def test_early_stop(data, tmp_path):
    config = with_train(epochs=30, patience=2, learning_rate=1e-12)
    train_model(config, data, tmp_path / "run", show_progress=False)
    position = checkpoints.load(tmp_path / "run" / "last").info["position"]
    assert position["epoch"] == 3
    assert "no better validation kendall_tau in 2 epochs" in position["stopped"]


def test_data_without_validation_rooms_trains(tmp_path):
    data = write_data(tmp_path / "data")
    table = data.segments()
    table = table.with_columns(split=table["split"].replace({"val": "train"}))
    table.write_parquet(data.root / "segments.parquet")
    train_model(with_train(epochs=1), data, tmp_path / "run", show_progress=False)
    assert same(weights(tmp_path / "run", "best"), weights(tmp_path / "run", "last"))


def test_interrupt_saves_and_resume_goes_on(data, tmp_path, monkeypatch):
    def step(*args, **kwargs):
        if kwargs["step"] == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return train_step(*args, **kwargs)

    train_model(TINY, data, tmp_path / "whole", show_progress=False)
    with monkeypatch.context() as patch:
        patch.setattr("contentctr.train.loop.train_step", step)
        with pytest.raises(KeyboardInterrupt, match="stopped at step 4"):
            train_model(TINY, data, tmp_path / "run", show_progress=False)
    assert checkpoints.load(tmp_path / "run" / "last").info["position"]["step"] == 4
    train_model(TINY, data, tmp_path / "run", resume=True, show_progress=False)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "run"))


def test_a_loss_that_is_not_finite_stops_before_the_optimiser_moves():
    model, batch = fresh(), make_batch(b=4, n=5)
    batch.visual_BNV[0, 0, 0] = torch.inf
    before = {k: v.clone() for k, v in model.state_dict().items()}
    optimizer = make_optimizer(model, TINY.train)
    with pytest.raises(
        NonFiniteLossError, match="step 5: a loss is not finite.*examples of this step: .0, 1, 2, 3"
    ):
        train_step(
            ModelObjective(TINY),
            model,
            optimizer,
            [batch],
            step=5,
            total_steps=9,
            accelerator=Accelerator(cpu=True),
        )
    assert same(before, model.state_dict())


def fresh(dropout=0.0):
    torch.manual_seed(0)
    from contentctr.batch import DataSpec

    config = dataclasses.replace(TINY, model=dataclasses.replace(TINY.model, dropout=dropout))
    known = Vocabulary(streamers=["a", "b", "c"])
    return build_model(config, DataSpec(visual_dim=6, text_dim=4), known)


def test_pieces_give_the_gradient_of_the_whole_batch():
    batch = make_batch(b=6, n=5, seed=3)
    gradients = []
    for pieces in ([batch], [cut(batch, slice(0, 1)), cut(batch, slice(1, 6))]):
        model = fresh()
        train_step(
            ModelObjective(TINY),
            model,
            torch.optim.SGD(_groups(model)),
            pieces,
            step=0,
            total_steps=1,
            accelerator=Accelerator(cpu=True),
        )
        gradients.append([p.grad for p in model.parameters()])
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def _groups(model):
    return [{"params": list(model.parameters()), "lr": 0.0, "base_lr": 0.0}]


def test_the_step_is_adams_on_the_papers_loss():
    batch, model, other = make_batch(b=4, n=5), fresh(), fresh()
    config = with_train(learning_rate=0.01)
    optimizer = make_optimizer(model, config.train)
    losses = train_step(
        ModelObjective(config),
        model,
        optimizer,
        [batch],
        step=0,
        total_steps=1,
        accelerator=Accelerator(cpu=True),
    )
    output = other(batch)
    loss = total_loss(loss_sums(output, batch, config.loss), loss_counts(batch), config.loss)
    plain = torch.optim.Adam(other.parameters(), lr=0.01)
    loss.backward()
    plain.step()
    assert losses["total"] == pytest.approx(loss.item(), rel=1e-6)
    weighted = 0.65 * losses["point"] + 0.2 * losses["pair"] + 0.15 * losses["align"]
    assert losses["total"] == pytest.approx(weighted, rel=1e-6)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-7)


def test_schedule():
    config = TrainConfig(schedule="cosine", warmup_steps=4)
    factors = [schedule(config, s, 100) for s in range(100)]
    assert factors[0] == pytest.approx(0.2) and max(factors) < 1.0
    assert factors[-1] < 0.001 and factors[50] == pytest.approx(0.5)
    assert [schedule(TrainConfig(), s, 100) for s in (0, 99)] == [1.0, 1.0]


TWO = Path(__file__).parents[1] / "support" / "two_processes.py"


def test_two_processes_have_the_gradient_of_the_joined_batch(tmp_path):
    out = tmp_path / "gradients.pt"
    launch_two(str(TWO), str(out))
    found = json.loads(out.read_text())
    assert found["world"] == 2 and found["largest_gradient"] > 1e-3
    assert found["largest_difference"] < 1e-6, found
    assert found["losses"] == pytest.approx(found["joined_losses"], rel=1e-5)
