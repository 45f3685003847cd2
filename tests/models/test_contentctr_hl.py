"""Models of personalized highlights: ContentCTR-HL, its ablations, and the rivals of Table 2."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from contentctr.batch import Batch, DataSpec, History, Output, Vocabulary
from contentctr.config import Config, InputError, LossConfig, ModelConfig
from contentctr.models.contentctr import ContentCTR
from contentctr.models.contentctr_hl import mean_of_clips
from contentctr.models.highlight_rivals import MINI_HISTORY, TEMPERATURE, adaptive_norm
from contentctr.models.losses import loss_counts, loss_sums, ordered_pairs, total_loss
from contentctr.models.registry import MODELS, build_model, require_task
from contentctr.models.size import model_size
from contentctr.recipes import paper
from make import cut, make_batch

SPEC = DataSpec(visual_dim=6, text_dim=4)
KNOWN = Vocabulary(streamers=[])
SIZES = ModelConfig(d_model=16, num_heads=2, perceiver_layers=2, decoder_layers=2, rotary=True)
KINDS = sorted(kind for kind, model in MODELS.items() if model.task == "personal")
IMPERSONAL = ("contentctr_hl_without_history", "highlight_average")
PERSONAL = [kind for kind in KINDS if kind not in IMPERSONAL]


def make_model(kind, seed=0, **changes):
    torch.manual_seed(seed)
    model = dataclasses.replace(SIZES, kind=kind, **changes)
    return build_model(Config(model=model), SPEC, KNOWN)


def make_highlights(b=4, n=9, clips=7, seed=0, missing=True):
    """Stretches of frames with captions and picks; the last user has no history."""
    batch = make_batch(b=b, n=n, clips=clips, seed=seed, missing=missing)
    picked = torch.where(batch.valid_BN, (batch.target_BN > 0.6).float(), torch.nan)
    return dataclasses.replace(
        batch,
        has_comments_BN=torch.zeros_like(batch.valid_BN),
        streamer_B=torch.zeros_like(batch.streamer_B),
        target_BN=picked,
        ids=None,
    )


def with_history(batch: Batch, clips=None, valid=None) -> Batch:
    old = batch.history
    new = History(
        clip_BKV=old.clip_BKV if clips is None else clips,
        valid_BK=old.valid_BK if valid is None else valid,
    )
    return dataclasses.replace(batch, history=new)


def stir(model):
    """Far from the start, so that what a model reads moves its scores visibly."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0 if parameter.ndim > 1 else 1.0)
    return model.eval()


def all_losses(output, batch):
    return total_loss(loss_sums(output, batch, LossConfig()), loss_counts(batch), LossConfig())


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_finite_and_trains_every_parameter(kind):
    model, batch = make_model(kind), make_highlights(b=6, seed=3)
    output = model(batch)
    assert output.logits_BN.shape == (6, 9)
    assert torch.isfinite(output.logits_BN[batch.valid_BN]).all()
    all_losses(output, batch).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("kind", KINDS)
def test_it_overfits_one_batch(kind):
    model = make_model(kind, d_model=32, perceiver_layers=1, decoder_layers=1)
    batch = make_highlights(b=4, n=8, seed=4, missing=False)
    config = LossConfig(point_weight=1, align_weight=0, pair_weight=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(300):
        output = model(batch)
        if (output.scores_BN - batch.target_BN).abs().max() < 0.1:
            return
        loss = total_loss(loss_sums(output, batch, config), loss_counts(batch), config)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    raise AssertionError("not in 300 steps")


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_personal_ones_depend_on_the_history(kind):
    model, batch = stir(make_model(kind)), make_highlights(seed=1)
    before = model(batch).logits_BN
    after = model(with_history(batch, clips=batch.history.clip_BKV.flip(0, 2))).logits_BN
    valid = batch.valid_BN.clone()
    valid[-1] = False  # the last user has no history to change
    if kind in IMPERSONAL:
        assert torch.equal(before, after)
    else:
        assert (before[valid] != after[valid]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_one_users_history_does_not_reach_another(kind):
    model, batch = stir(make_model(kind)), make_highlights(seed=2)
    clips = batch.history.clip_BKV.clone()
    clips[0] = clips[0].flip(1)
    before, after = model(batch).logits_BN, model(with_history(batch, clips=clips)).logits_BN
    assert torch.equal(before[1:][batch.valid_BN[1:]], after[1:][batch.valid_BN[1:]])


@pytest.mark.parametrize("kind", KINDS)
def test_targets_do_not_reach_the_scores(kind):
    model, batch = stir(make_model(kind)), make_highlights()
    other = dataclasses.replace(batch, target_BN=1 - batch.target_BN)
    assert torch.equal(model(batch).logits_BN, model(other).logits_BN)


@pytest.mark.parametrize("kind", KINDS)
def test_users_without_history_have_scores_and_gradients(kind):
    model, batch = make_model(kind), make_highlights(seed=5)
    none = with_history(
        batch,
        clips=torch.zeros_like(batch.history.clip_BKV),
        valid=torch.zeros_like(batch.history.valid_BK),
    )
    output = model(none)
    assert torch.isfinite(output.logits_BN[batch.valid_BN]).all()
    all_losses(output, none).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    spread = output.logits_BN[0]
    assert (spread - spread.mean()).abs().max() > 0  # still told apart by their content


@pytest.mark.parametrize("kind", PERSONAL)
def test_no_history_is_not_a_history_of_zeros(kind):
    model, batch = stir(make_model(kind)), make_highlights(b=1, seed=5, missing=False)
    batch = with_history(batch, clips=torch.zeros(1, 7, 6))
    none = with_history(batch, valid=torch.zeros(1, 7, dtype=torch.bool))
    one = with_history(batch, valid=torch.arange(7)[None] < 1)
    assert not torch.allclose(model(none).logits_BN, model(one).logits_BN)


@pytest.mark.parametrize("kind", KINDS)
def test_padded_clips_change_nothing(kind):
    model, batch = stir(make_model(kind)), make_highlights(seed=6)
    more = with_history(
        batch,
        clips=F.pad(batch.history.clip_BKV, (0, 0, 0, 4), value=3.0),
        valid=F.pad(batch.history.valid_BK, (0, 4)),
    )
    assert torch.allclose(model(batch).logits_BN, model(more).logits_BN, atol=1e-5)


@pytest.mark.parametrize("length", [1, 4, 5, 7])
@pytest.mark.parametrize("kind", KINDS)
def test_padded_frames_change_nothing(kind, length):
    model, batch = stir(make_model(kind)), make_highlights(n=8, seed=7, missing=False)
    valid = torch.arange(8).expand(4, 8) < length
    padded = dataclasses.replace(batch, valid_BN=valid, visual_BNV=batch.visual_BNV * 3)
    names = (
        "visual_BNV",
        "text_BNT",
        "has_visual_BN",
        "has_speech_BN",
        "has_comments_BN",
        "valid_BN",
        "target_BN",
    )
    alone = dataclasses.replace(
        padded, shuffles_BKN=None, **{name: getattr(padded, name)[:, :length] for name in names}
    )
    padded_logits = model(padded).logits_BN[:, :length]
    assert torch.allclose(padded_logits, model(alone).logits_BN, atol=1e-4)
    other = dataclasses.replace(
        padded, visual_BNV=torch.where(valid[..., None], padded.visual_BNV, -7.0)
    )
    assert torch.allclose(padded_logits, model(other).logits_BN[:, :length], atol=1e-5)


@pytest.mark.parametrize("kind", PERSONAL)
def test_the_order_of_clips_matters_between_mini_histories_alone(kind):
    model, batch = stir(make_model(kind)), make_highlights(b=2, clips=7, seed=8)
    clips = batch.history.clip_BKV
    inside = torch.tensor([3, 1, 0, 2, 4, 6, 5])  # groups of five, and of two
    across = torch.tensor([6, 1, 2, 3, 4, 5, 0])
    assert MINI_HISTORY == 5
    before = model(batch).logits_BN[0]
    after = [model(with_history(batch, clips=clips[:, o])).logits_BN[0] for o in (inside, across)]
    assert torch.allclose(before, after[0], atol=1e-5)
    assert torch.allclose(before, after[1], atol=1e-5) == (kind != "pac_net")


@pytest.mark.parametrize("kind", ["contentctr_hl", "adaptive_h_fcsn", "pr_net"])
def test_a_frame_sees_what_comes_after_it(kind):
    model, batch = stir(make_model(kind)), make_highlights(n=8, seed=9, missing=False)
    values = batch.visual_BNV.clone()
    values[:, 2] *= -1.0
    before = model(batch).logits_BN
    after = model(dataclasses.replace(batch, visual_BNV=values)).logits_BN
    assert (before[:, :2] != after[:, :2]).all()


def test_contentctr_hl_is_contentctr_but_for_history_and_mask():
    """Its blocks with ContentCTR's weights, put together by hand."""
    model, batch = stir(make_model("contentctr_hl")), make_highlights(seed=10)
    assert isinstance(model, ContentCTR)
    history = batch.history
    visual, text = model.fusion(batch)
    expected = torch.zeros_like(batch.target_BN)
    for b in range(len(batch)):
        clips = model.user.project(history.clip_BKV[b][history.valid_BK[b]])
        user = clips.mean(0) if len(clips) else model.user.no_history
        length = int(batch.valid_BN[b].sum())
        tokens = torch.stack((visual[b], text[b]), 1)[:length]
        x = model.block(tokens, user.expand(length, -1))[None]
        for layer in model.decoder:
            x = layer(x, None)
        expected[b, :length] = model.logits(x)[0]
    valid = batch.valid_BN
    assert torch.allclose(model(batch).logits_BN[valid], expected[valid], atol=1e-5)


def test_the_ablations_leave_out_what_their_names_say():
    batch = make_highlights()
    captions = dataclasses.replace(batch, text_BNT=batch.text_BNT * -2 + 1)
    model = stir(make_model("contentctr_hl_without_captions"))
    output = model(batch)
    assert output.text_BND is None and torch.equal(output.logits_BN, model(captions).logits_BN)
    model = stir(make_model("contentctr_hl"))
    assert not torch.equal(model(batch).logits_BN, model(captions).logits_BN)
    names = {n.split(".")[0] for n, _ in make_model("contentctr_hl").named_parameters()}
    without = make_model("contentctr_hl_without_history")
    assert {n.split(".")[0] for n, _ in without.named_parameters()} == names
    assert [p.shape for p in without.user.parameters()] == [(16,)]


def test_a_decoder_that_looks_back_is_refused():
    with pytest.raises(InputError, match="decoder_lookback must be empty.*contentctr_hl.*'3,3'"):
        make_model("contentctr_hl", decoder_lookback="3,3")


@pytest.mark.parametrize("kind", PERSONAL)
def test_a_batch_without_history_is_refused(kind):
    with pytest.raises(ValueError, match="needs a batch with the users' histories"):
        make_model(kind)(make_batch())


def test_a_model_of_another_task_is_refused():
    require_task("pr_net", "personal")
    require_task("contentctr", "rooms")
    with pytest.raises(InputError, match=r"one of contentctr, .*not 'pr_net' \(personal\)"):
        require_task("pr_net", "rooms")
    with pytest.raises(InputError, match=r"one of contentctr_hl, .*not 'gru' \(rooms\)"):
        require_task("gru", "personal")


def test_the_mean_of_clips_by_hand():
    x = torch.tensor([[[2.0], [4.0], [9.0]], [[1.0], [1.0], [1.0]]])
    valid = torch.tensor([[True, True, False], [False, False, False]])
    assert mean_of_clips(x, valid, torch.tensor([7.0])).tolist() == [[3.0], [7.0]]


def test_adaptive_norm_equals_instance_norm_of_the_real_positions():
    g = torch.Generator().manual_seed(0)
    x, scale, shift = (torch.randn(2, 3, *size, generator=g) for size in ((6,), (), ()))
    valid = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    out = adaptive_norm(x, valid, scale, shift)
    for b, length in enumerate((6, 4)):
        plain = F.instance_norm(x[b : b + 1, :, :length])[0]
        expected = plain * (1 + scale[b])[:, None] + shift[b][:, None]
        assert torch.allclose(out[b, :, :length], expected, atol=1e-5)
        assert (out[b, :, length:] == 0).all()


def test_pr_nets_contrastive_loss_equals_a_loop_over_pairs():
    model, batch = make_model("pr_net").double(), make_highlights(seed=11)
    batch = dataclasses.replace(
        batch,
        visual_BNV=batch.visual_BNV.double(),
        history=History(clip_BKV=batch.history.clip_BKV.double(), valid_BK=batch.history.valid_BK),
    )
    with torch.no_grad():
        output = model(batch)
        x = model.norm(model.encoder(model.frames(batch), batch.valid_BN[:, None, None]))
        other = F.cosine_similarity(x, model.other[None, None], dim=-1) / TEMPERATURE
    highlight = output.logits_BN + other
    total, count = 0.0, 0
    for b in range(len(batch)):
        picks = batch.target_BN[b].tolist()
        for i, y in enumerate(picks):
            for j, z in enumerate(picks):
                if y == 1.0 and z == 0.0:
                    count += 1
                    up, down = highlight[b, i] - highlight[b, j], other[b, j] - other[b, i]
                    total += math.log1p(math.exp(-up)) + math.log1p(math.exp(-down))
    assert output.pair.item() == pytest.approx(total, rel=1e-9)
    assert int(ordered_pairs(batch.target_BN, batch.has_target_BN).sum()) == count > 0


def test_pr_nets_contrastive_loss_tells_picked_frames_from_others():
    model, batch = make_model("pr_net", d_model=32), make_highlights(n=8, seed=12, missing=False)
    config = LossConfig(point_weight=0, align_weight=0, pair_weight=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(100):
        loss = total_loss(loss_sums(model(batch), batch, config), loss_counts(batch), config)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    logits = model(batch).logits_BN
    pairs = ordered_pairs(batch.target_BN, batch.has_target_BN)
    assert ((logits[:, :, None] > logits[:, None, :]) | ~pairs).all()


def test_a_models_own_pairwise_loss_takes_the_place_of_the_papers():
    batch = make_batch()
    own = torch.tensor(5.0)
    plain, with_own = (
        Output(logits_BN=torch.zeros(3, 5)),
        Output(logits_BN=torch.zeros(3, 5), pair=own),
    )
    for kind in ("L1", "none"):
        sums = loss_sums(with_own, batch, LossConfig(pair=kind, align_weight=0))
        expected = loss_sums(plain, batch, LossConfig(pair="none", align_weight=0))
        assert sums[1] == own and sums[0] == expected[0] and expected[1] == 0
    assert loss_sums(with_own, batch, LossConfig(pair_weight=0, align_weight=0))[1] == 0


def test_pac_nets_decision_is_the_log_of_the_mean_odds_over_mini_histories():
    model, batch = stir(make_model("pac_net")), make_highlights(b=3, clips=7, seed=13)
    odds = []
    for group in (slice(0, 5), slice(5, 7)):  # the first user has 7 clips, so two groups
        history = History(
            clip_BKV=batch.history.clip_BKV[:1, group], valid_BK=batch.history.valid_BK[:1, group]
        )
        first = dataclasses.replace(cut(batch, slice(0, 1)), history=history)
        odds.append(model(first).logits_BN[0].exp())
    expected = ((odds[0] + odds[1]) / 2).log()
    assert torch.allclose(model(batch).logits_BN[0], expected, atol=1e-4)


def test_pac_net_without_history_decides_by_the_general_boundary_alone():
    model, batch = stir(make_model("pac_net")), make_highlights(seed=14, missing=False)
    none = with_history(batch, valid=torch.zeros_like(batch.history.valid_BK))
    x = model.norm(model.encoder(model.frames(batch), None))
    expected = x @ model.boundary[:-1] + model.boundary[-1]
    assert torch.allclose(model(none).logits_BN, expected, atol=1e-5)


@pytest.mark.parametrize("kind", [*KINDS, "without_item"])
def test_its_size_is_counted(kind):
    config = Config(model=dataclasses.replace(SIZES, kind=kind))
    found = model_size(config, SPEC, KNOWN)
    assert found["parameters"] == sum(p.numel() for p in make_model(kind).parameters())
    assert found["flops"] > 0


def test_contentctr_hl_has_the_blocks_of_contentctr_at_the_papers_size():
    config = paper()
    sizes = {}
    for kind in ("contentctr", "contentctr_hl"):
        model = dataclasses.replace(config.model, kind=kind)
        found = model_size(
            dataclasses.replace(config, model=model), DataSpec(), Vocabulary(streamers=["a"])
        )
        sizes[kind] = found
    for part in ("fusion", "block", "decoder", "norm", "head"):
        name = f"parameters: {part}"
        assert sizes["contentctr"][name] == sizes["contentctr_hl"][name] > 0
    assert sizes["contentctr_hl"]["parameters: streamer"] == 0
