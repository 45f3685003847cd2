"""Further content tokens and the residual form: off they change nothing, on they are read."""

import dataclasses
import math
from collections.abc import Mapping

import pytest
import torch

from contentctr.batch import Batch, DataSpec, ExtraInput, Vocabulary
from contentctr.config import EXTRA_TOKENS, Config, InputError, ModelConfig
from contentctr.models.losses import loss_counts, loss_sums, total_loss
from contentctr.models.registry import MODELS, build_model
from contentctr.models.size import model_size
from make import cut, make_batch

WIDTHS = {"statistics": 5, "sound": 3}
SPEC = DataSpec(
    visual_dim=6, text_dim=4, statistics_dim=WIDTHS["statistics"], sound_dim=WIDTHS["sound"]
)
SIZES = ModelConfig(d_model=16, num_heads=2, perceiver_layers=2, decoder_layers=2, streamer_dim=4)
KNOWN = Vocabulary(streamers=["a", "b"])
TAKES = sorted(kind for kind, model in MODELS.items() if model.extra_tokens)
ON: Mapping[str, bool] = {"statistics": True, "sound": True, "residual": True}


def make_model(kind="contentctr", **settings):
    torch.manual_seed(0)
    return build_model(Config(model=dataclasses.replace(SIZES, kind=kind, **settings)), SPEC, KNOWN)


def with_extra(batch: Batch, seed=3) -> Batch:
    g = torch.Generator().manual_seed(seed)
    shape = batch.valid_BN.shape
    extra = {
        name: ExtraInput(
            values_BNX=torch.randn(*shape, width, generator=g),
            has_BN=torch.rand(shape, generator=g) < 0.7,
        )
        for name, width in WIDTHS.items()
    }
    known = torch.randn(shape, generator=g)
    known[:, 0] = torch.nan
    return dataclasses.replace(batch, extra=extra, mean_logit_BN=known)


@pytest.mark.parametrize("kind", TAKES)
def test_off_the_weights_are_the_papers_and_on_the_others_start_the_same(kind):
    plain, more = make_model(kind).state_dict(), make_model(kind, **ON).state_dict()
    assert not [name for name in plain if name.startswith(("extra", "residual"))]
    assert {name for name in more if name not in plain} == {
        name for name in more if name.startswith(("extra.", "residual."))
    }
    assert all(torch.equal(plain[name], more[name]) for name in plain)


@pytest.mark.parametrize("kind", TAKES)
def test_every_part_is_read_and_trained(kind):
    model, batch = make_model(kind, **ON), with_extra(make_batch())
    output = model(batch)
    config = Config().loss
    total_loss(loss_sums(output, batch, config), loss_counts(batch), config).backward()
    untrained = [
        name
        for name, p in model.named_parameters()
        if name.startswith(("extra", "residual")) and not (p.grad is not None and p.grad.any())
    ]
    assert untrained == []
    before = output.scores_BN[batch.valid_BN]
    for name in EXTRA_TOKENS:
        part = batch.extra[name]
        other = dataclasses.replace(part, values_BNX=part.values_BNX.flip(0))
        moved = model(dataclasses.replace(batch, extra={**batch.extra, name: other}))
        assert not torch.equal(moved.scores_BN[batch.valid_BN], before), name


def test_a_missing_part_is_a_learned_token_whatever_stands_there():
    model, batch = make_model(**ON), with_extra(make_batch())
    none = {
        name: ExtraInput(values_BNX=part.values_BNX, has_BN=torch.zeros_like(part.has_BN))
        for name, part in batch.extra.items()
    }
    zeros = {
        name: dataclasses.replace(part, values_BNX=torch.zeros_like(part.values_BNX))
        for name, part in none.items()
    }
    one, other = (model(dataclasses.replace(batch, extra=e)).logits_BN for e in (none, zeros))
    assert torch.equal(one, other)
    with torch.no_grad():
        model.extra.missing["sound"].add_(1.0)
    assert not torch.equal(model(dataclasses.replace(batch, extra=none)).logits_BN, one)


def test_the_residual_form_adds_the_means_log_odds():
    batch = with_extra(make_batch())
    plain, residual = make_model(), make_model(residual=True)
    added = residual(batch).logits_BN - plain(batch).logits_BN
    known = ~batch.mean_logit_BN.isnan()
    assert torch.allclose(added[known], batch.mean_logit_BN[known], atol=1e-5)
    assert torch.equal(added[~known], torch.zeros_like(added[~known]))
    with torch.no_grad():
        residual.residual.scale.fill_(2.0)
        residual.residual.unknown.fill_(-1.0)
    added = residual(batch).logits_BN - plain(batch).logits_BN
    assert torch.allclose(added[known], 2 * batch.mean_logit_BN[known], atol=1e-5)
    assert torch.allclose(added[~known], torch.full_like(added[~known], -1.0), atol=1e-5)


def test_the_wide_part_is_linear_in_the_statistics_and_nothing_at_first():
    batch = with_extra(make_batch())
    plain, wide = make_model(statistics=True), make_model(statistics=True, wide=True)
    assert torch.equal(wide(batch).logits_BN, plain(batch).logits_BN)
    with torch.no_grad():
        wide.wide.linear.weight.copy_(torch.arange(5.0))
    added = wide(batch).logits_BN - plain(batch).logits_BN
    expected = (batch.extra["statistics"].values_BNX * torch.arange(5.0)).sum(-1)
    assert torch.allclose(added, expected, atol=1e-5)
    with pytest.raises(InputError, match="model.wide must be false with model.kind=mlp"):
        make_model("mlp", statistics=True, wide=True)
    with pytest.raises(InputError, match="model.wide must be false without statistics"):
        ModelConfig(wide=True)


def test_a_prior_stands_where_no_mean_is_known():
    model = make_model(residual=True, prior=0.1)
    assert model.residual.unknown.item() == pytest.approx(math.log(0.1 / 0.9))
    assert torch.equal(model.head.bias, make_model(residual=True).head.bias)


@pytest.mark.parametrize("kind", TAKES)
def test_windows_do_not_read_one_another(kind):
    model, batch = make_model(kind, **ON).eval(), with_extra(make_batch())
    alone = model(cut(batch, slice(0, 1))).logits_BN
    assert torch.allclose(model(batch).logits_BN[:1], alone, atol=1e-6)


@pytest.mark.parametrize("kind", TAKES)
def test_without_content_only_the_extra_tokens_are_read(kind):
    model, batch = make_model(kind, content=False, **ON), with_extra(make_batch())
    output = model(batch)
    assert output.visual_BND is None and output.text_BND is None
    other = dataclasses.replace(
        batch,
        visual_BNV=batch.visual_BNV[..., :0],
        text_BNT=batch.text_BNT[..., :0],
        has_visual_BN=~batch.has_visual_BN,
        has_speech_BN=~batch.has_speech_BN,
    )
    assert torch.equal(model(other).logits_BN, output.logits_BN)
    names = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert {"extra", "residual"} <= names and "fusion" not in names
    with pytest.raises(InputError, match=r"model\.content must be true, unless one of"):
        make_model(kind, content=False)


@pytest.mark.parametrize("setting", sorted(ON))
@pytest.mark.parametrize("kind", sorted(set(MODELS) - set(TAKES)))
def test_models_that_cannot_take_them_say_so(kind, setting):
    with pytest.raises(InputError, match=rf"model\.{setting} must be false with model\.kind="):
        make_model(kind, **{setting: True})


def test_a_part_that_the_data_lacks_is_named():
    config = Config(model=dataclasses.replace(SIZES, sound=True))
    with pytest.raises(InputError, match=r"model\.sound must be false with this data"):
        build_model(config, DataSpec(visual_dim=6, text_dim=4), KNOWN)


def test_the_size_of_a_model_with_all_parts():
    config = Config(model=dataclasses.replace(SIZES, **ON))
    found = model_size(config, SPEC, KNOWN)
    assert found["parameters: extra"] > 0 and found["parameters: residual"] == 2
