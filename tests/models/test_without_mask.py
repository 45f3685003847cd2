"""ContentCTR without the causal mask: a segment sees its window on both sides, and no padding."""

import dataclasses

import pytest
import torch

from contentctr.batch import DataSpec, Vocabulary
from contentctr.config import Config, DataConfig, ModelConfig, TrainConfig
from contentctr.errors import InputError
from contentctr.models.registry import build_model, later_segments
from make import cut, make_batch, make_segments

SPEC = DataSpec(visual_dim=6, text_dim=4)
KNOWN = Vocabulary(streamers=["a", "b"])
SIZES = ModelConfig(
    kind="without_mask", d_model=16, num_heads=2, perceiver_layers=1, decoder_layers=2
)


def make_model(spec=SPEC, *, members=1, data=None, **changes):
    torch.manual_seed(0)
    sizes = dataclasses.replace(SIZES, **changes)
    train = TrainConfig(members=members)
    return build_model(
        Config(data=data or DataConfig(), model=sizes, train=train), spec, KNOWN
    ).eval()


def with_other_content(batch, position):
    """The batch with another segment at a position."""
    parts = {}
    for name in ("visual_BNV", "text_BNT"):
        parts[name] = getattr(batch, name).clone()
        parts[name][:, position] *= -1.0  # a layer norm would not see a constant
    return dataclasses.replace(batch, **parts)


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize("kind", ["without_mask", "contentctr"])
def test_a_later_segment_changes_earlier_scores_without_the_mask_alone(kind, members):
    model = make_model(kind=kind, members=members)
    batch = make_batch(b=3, n=8, missing=False, seed=1)
    before, after = (model(x).logits_BN for x in (batch, with_other_content(batch, 6)))
    moved_BN = before != after
    assert moved_BN[:, 6:].all()
    assert moved_BN[:, :6].all() if kind == "without_mask" else not moved_BN[:, :6].any()


def test_gradients_flow_from_a_score_to_every_segment_of_its_window():
    model, batch = make_model(), make_batch(b=2, n=6, missing=False, seed=2)
    visual_BNV = batch.visual_BNV.requires_grad_()
    model(dataclasses.replace(batch, visual_BNV=visual_BNV)).logits_BN[0, 1].backward()
    reached_BN = visual_BNV.grad.abs().sum(-1) > 0
    assert reached_BN[0].all() and not reached_BN[1].any()


@pytest.mark.parametrize("rotary", [False, True])
def test_a_padded_window_scores_as_the_short_one_alone(rotary):
    model, whole = make_model(rotary=rotary), make_batch(b=2, n=8, missing=False, seed=3)
    whole = dataclasses.replace(whole, shuffles_BKN=None, ids=None)
    valid_BN = (torch.arange(8) < 5).expand(2, 8)
    padded = dataclasses.replace(whole, valid_BN=valid_BN)
    ones = {"streamer_B": whole.streamer_B, "window_B": whole.window_B}
    wide = dataclasses.replace(whole, streamer_B=valid_BN, window_B=valid_BN)
    short = dataclasses.replace(cut(wide, (slice(None), torch.arange(5))), **ones)
    found_BN = model(padded).logits_BN[:, :5]
    assert torch.allclose(found_BN, model(short).logits_BN, atol=1e-6)
    other = with_other_content(padded, slice(5, 8))
    assert torch.equal(model(other).logits_BN[:, :5], found_BN)
    assert not torch.allclose(model(whole).logits_BN[:, :5], found_BN, atol=1e-3)


def test_only_positions_tell_which_segments_are_near():
    batch = make_batch(b=1, n=6, missing=False, seed=4)
    swapped = torch.tensor([5, 1, 2, 3, 4, 0])
    moved = dataclasses.replace(
        batch, visual_BNV=batch.visual_BNV[:, swapped], text_BNT=batch.text_BNT[:, swapped]
    )
    for rotary in (False, True):
        model = make_model(rotary=rotary)
        one_N, other_N = (model(x).logits_BN[0, 1:5] for x in (batch, moved))
        assert torch.allclose(one_N, other_N, atol=1e-6) is not rotary


def test_what_looks_back_or_ahead_by_itself_is_refused():
    which = "with model.kind=without_mask, which sees its whole window"
    with pytest.raises(InputError, match=f"model.decoder_lookback must be empty {which}, not '3,"):
        make_model(decoder_lookback="3,3")
    for horizon in (1, -2):
        with pytest.raises(InputError, match=f"data.horizon must be 0 {which}, not {horizon}"):
            make_model(data=DataConfig(horizon=horizon))
    with pytest.raises(InputError, match=f"the data's comment_lag must be 0 {which}, not 1"):
        make_model(dataclasses.replace(SPEC, comment_lag=1))


def test_statistics_are_for_labels_alone():
    statistics = dataclasses.replace(SIZES, statistics=True)
    with pytest.raises(
        InputError, match="model.statistics must be false with model.kind=without_mask.*'ctr'"
    ):
        make_segments([6], model=statistics)
    assert make_segments([6], model=statistics, target="label").extra.keys() == {"statistics"}


def test_how_many_later_segments_a_score_may_depend_on():
    data = DataConfig(window_len=5)
    assert later_segments(Config(data=data, model=SIZES)) == 4
    causal = dataclasses.replace(SIZES, kind="contentctr")
    for horizon, later in ((1, 0), (0, 0), (-2, 2)):
        data = DataConfig(window_len=5, horizon=horizon)
        assert later_segments(Config(data=data, model=causal)) == later
