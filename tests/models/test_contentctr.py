import dataclasses

import pytest
import torch

from contentctr.batch import Batch, DataSpec, EncoderInputs, Vocabulary
from contentctr.config import Config, InputError, LossConfig, ModelConfig, TrainConfig
from contentctr.models.contentctr import ContentCTR
from contentctr.models.end_to_end import EndToEnd
from contentctr.models.layers import Attention, apply_rotary, causal_mask
from contentctr.models.losses import loss_counts, loss_sums, total_loss
from contentctr.models.registry import MODELS, build_model
from contentctr.recipes import paper
from make import cut, make_batch

SPEC = DataSpec(visual_dim=6, text_dim=4)
KNOWN = Vocabulary(streamers=["a", "b", "c"], rooms=["r", "s"])
SMALL = ModelConfig(d_model=16, num_heads=2, perceiver_layers=2, decoder_layers=2, streamer_dim=4)


ROOMS = sorted(kind for kind, model in MODELS.items() if model.task == "rooms")


def make_model(kind="contentctr", **changes):
    torch.manual_seed(0)
    model = dataclasses.replace(SMALL, kind=kind, **changes)
    return build_model(Config(model=model), SPEC, KNOWN)


def changed(batch: Batch, **values) -> Batch:
    return Batch(**{**vars(batch), **values})


def test_attention_equals_the_formula_head_by_head():
    torch.manual_seed(0)
    layer = Attention(8, 2).double()
    query, memory = torch.randn(2, 3, 8).double(), torch.randn(2, 5, 8).double()
    mask = torch.rand(3, 5) < 0.7
    mask[:, 0] = True
    out = layer(query, memory, mask)
    q = layer.query(query)
    k, v = layer.key(memory), layer.value(memory)
    heads = []
    for h in range(2):
        cut = slice(4 * h, 4 * h + 4)
        weights = q[..., cut] @ k[..., cut].transpose(1, 2) / 4**0.5
        weights = weights.masked_fill(~mask, -torch.inf).softmax(-1)
        heads.append(weights @ v[..., cut])
    assert torch.allclose(out, layer.out(torch.cat(heads, -1)), atol=1e-12)


def test_one_query_equals_the_general_path():
    torch.manual_seed(0)
    layer = Attention(8, 2)
    query, memory = torch.randn(7, 1, 8), torch.randn(7, 3, 8)
    everywhere = torch.ones(1, 3, dtype=torch.bool)
    assert torch.allclose(layer(query, memory, None), layer(query, memory, everywhere), atol=1e-6)


def test_rotary_products_depend_on_distance_alone():
    torch.manual_seed(0)
    q, k = torch.randn(8).double(), torch.randn(8).double()
    turned_q = apply_rotary(q.repeat(1, 1, 6, 1))[0, 0]
    turned_k = apply_rotary(k.repeat(1, 1, 6, 1))[0, 0]
    products = turned_q @ turned_k.T
    for distance in range(-3, 4):
        diagonal = products.diagonal(distance)
        assert torch.allclose(diagonal, diagonal[0].expand_as(diagonal), atol=1e-6)
    assert not torch.allclose(products[0, 0], products[0, 1])


def test_causal_mask_shows_itself_and_the_past():
    assert causal_mask(3).tolist() == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_a_mask_that_looks_back():
    assert causal_mask(4, lookback=2).tolist() == [
        [True, False, False, False],
        [True, True, False, False],
        [False, True, True, False],
        [False, False, True, True],
    ]


@pytest.mark.parametrize("rotary", [False, True])
def test_with_lookback_a_score_depends_on_the_receptive_field_alone(rotary):
    model = make_model(rotary=rotary, decoder_lookback="3,2").eval()  # 1 + 2 + 1 = 4 segments
    batch = make_batch(b=3, n=8, missing=False, seed=1)
    whole = model(batch).logits_BN
    for last in range(8):
        first = max(0, last - 3)
        keep = torch.zeros(8, dtype=torch.bool)
        keep[first : last + 1] = True
        part = dataclasses.replace(
            batch,
            shuffles_BKN=None,
            ids=None,
            **{
                name: getattr(batch, name)[:, keep]
                for name in (
                    "visual_BNV",
                    "text_BNT",
                    "has_visual_BN",
                    "has_speech_BN",
                    "has_comments_BN",
                    "valid_BN",
                    "target_BN",
                )
            },
        )
        assert torch.allclose(model(part).logits_BN[:, -1], whole[:, last], atol=1e-6)
    values = batch.visual_BNV.clone()
    values[:, 0] *= -1.0
    after = model(changed(batch, visual_BNV=values)).logits_BN
    assert torch.equal(whole[:, 4:], after[:, 4:]) and (whole[:, :4] != after[:, :4]).all()


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("position", [0, 3, 7])
def test_no_score_before_a_changed_segment_moves_by_a_bit(position, rotary):
    model = make_model(rotary=rotary).eval()
    batch = make_batch(b=3, n=8, missing=False, seed=1)
    before = model(batch).logits_BN
    values = {}
    for name in ("visual_BNV", "text_BNT"):
        values[name] = getattr(batch, name).clone()
        values[name][:, position] *= -1.0  # a layer norm would not see a constant
    for name in ("has_visual_BN", "has_speech_BN", "has_comments_BN"):
        values[name] = getattr(batch, name).clone()
        values[name][1, position] = False
    after = model(changed(batch, **values)).logits_BN
    assert torch.equal(before[:, :position], after[:, :position])
    assert (before[:, position:] != after[:, position:]).all()


def test_a_padded_window_scores_as_the_short_one_alone():
    model = make_model().eval()
    whole = make_batch(b=2, n=8, missing=False, seed=2)
    keep = torch.arange(8) < 5
    short = Batch(
        **{
            **vars(
                cut(
                    changed(
                        whole,
                        streamer_B=whole.valid_BN,
                        window_B=whole.valid_BN,
                        shuffles_BKN=None,
                        ids=None,
                    ),
                    (slice(None), keep),
                )
            ),
            "streamer_B": whole.streamer_B,
            "window_B": whole.window_B,
        }
    )
    assert torch.allclose(model(whole).logits_BN[:, :5], model(short).logits_BN, atol=1e-6)


@pytest.mark.parametrize("part", ["visual", "speech", "comments"])
def test_missing_parts_have_embeddings_of_their_own(part):
    model = make_model().eval()
    batch = make_batch(b=1, n=3, missing=False)
    none = torch.zeros_like(batch.valid_BN)
    gone = changed(batch, **{f"has_{part}_BN": none})
    before, after = model(batch).logits_BN, model(gone).logits_BN
    assert not torch.equal(before, after)
    with torch.no_grad():
        getattr(model.fusion, f"no_{part}").add_(1.0)
    assert torch.equal(model(batch).logits_BN, before)
    assert not torch.equal(model(gone).logits_BN, after)


def test_what_lies_under_a_missing_part_is_not_read():
    model = make_model().eval()
    batch = make_batch(b=1, n=3, missing=False)
    none = torch.zeros_like(batch.valid_BN)
    gone = changed(batch, has_visual_BN=none, has_speech_BN=none, has_comments_BN=none)
    other = changed(gone, visual_BNV=batch.visual_BNV * 5, text_BNT=batch.text_BNT + 3)
    assert torch.equal(model(gone).logits_BN, model(other).logits_BN)


def test_the_unknown_streamer_has_a_row_of_its_own():
    model = make_model().eval()
    batch = make_batch(b=1, n=3, missing=False)
    scores = [model(changed(batch, streamer_B=torch.tensor([i]))).logits_BN for i in range(4)]
    assert all(not torch.equal(scores[0], other) for other in scores[1:])


@pytest.mark.parametrize("kind", ROOMS)
def test_every_model_is_finite_and_trains_every_parameter(kind):
    model, batch = make_model(kind), make_batch(b=6, n=6, seed=3)
    output = model(batch)
    assert output.logits_BN.shape == (6, 6)
    assert torch.isfinite(output.logits_BN[batch.valid_BN]).all()
    total_loss(loss_sums(output, batch, LossConfig()), loss_counts(batch), LossConfig()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("kind", ROOMS)
def test_every_model_overfits_one_batch(kind):
    model, batch = make_model(kind, d_model=32), make_batch(b=4, n=6, seed=4, missing=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    config = LossConfig(align_weight=0, pair_weight=0, point_weight=1)
    for _ in range(500):
        output = model(batch)
        if (output.scores_BN - batch.target_BN).abs().max() < 0.02:
            return
        loss = total_loss(loss_sums(output, batch, config), loss_counts(batch), config)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    raise AssertionError("not in 500 steps")


def test_the_papers_size():
    model = build_model(
        paper(), DataSpec(visual_dim=1024, text_dim=1024), Vocabulary(streamers=["a"])
    )
    assert abs(sum(p.numel() for p in model.parameters()) - 20e6) < 1e6


def test_core_gradcheck():
    torch.manual_seed(0)
    sizes = ModelConfig(
        d_model=4, num_heads=2, perceiver_layers=1, decoder_layers=1, streamer_dim=2, ff_mult=2
    )
    config = Config(model=sizes)
    model = ContentCTR(config, DataSpec(visual_dim=3, text_dim=2), KNOWN).double().eval()
    batch = make_batch(b=2, n=3, v=3, t=2, seed=5)
    visual = batch.visual_BNV.double().requires_grad_()
    text = batch.text_BNT.double().requires_grad_()

    def logits(v, t):
        return model(changed(batch, visual_BNV=v, text_BNT=t)).logits_BN

    assert torch.autograd.gradcheck(logits, (visual, text))


def test_a_name_without_a_model_is_refused():
    with pytest.raises(InputError, match="model.kind must be one of contentctr.*not 'nothing'"):
        make_model("nothing")


class _TinyVisual(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.map = torch.nn.Linear(3, 6)

    def forward(self, frames):
        return self.map(frames.float().mean((1, 2)) / 255)


class _TinyText(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(20, 4)

    def forward(self, ids, types, mask):
        return (self.table(ids) * mask[..., None]).sum(1)


def make_inputs(batch, frames=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    size = batch.valid_BN.shape
    has_frame = (torch.rand(*size, frames, generator=g) < 0.7) & batch.has_visual_BN[..., None]
    has_frame[..., 0] = batch.has_visual_BN
    return EncoderInputs(
        frames_BNFHWC=torch.randint(0, 256, (*size, frames, 4, 4, 3), generator=g).byte(),
        has_frame_BNF=has_frame,
        token_ids_BNL=torch.randint(0, 20, (*size, 5), generator=g),
        token_types_BNL=torch.zeros(*size, 5, dtype=torch.long),
        token_mask_BNL=torch.ones(*size, 5, dtype=torch.bool),
    )


def test_end_to_end_equals_encoding_first_and_reaches_both_encoders():
    torch.manual_seed(0)
    model = EndToEnd(make_model(), _TinyVisual(), _TinyText())
    batch = make_batch(b=3, n=5, seed=6)
    batch = changed(batch, inputs=make_inputs(batch))
    output = model(batch)
    inputs = batch.inputs
    visual, text = torch.zeros(3, 5, 6), torch.zeros(3, 5, 4)
    for b in range(3):
        for n in range(5):
            there = inputs.has_frame_BNF[b, n]
            if there.any():
                visual[b, n] = model.visual(inputs.frames_BNFHWC[b, n][there]).mean(0)
            if batch.has_text_BN[b, n]:
                text[b, n] = model.text(
                    inputs.token_ids_BNL[b, n][None],
                    inputs.token_types_BNL[b, n][None],
                    inputs.token_mask_BNL[b, n][None],
                )[0]
    expected = model.core(changed(batch, visual_BNV=visual, text_BNT=text)).logits_BN
    assert torch.allclose(output.logits_BN, expected, atol=1e-5)
    config = Config(train=TrainConfig()).loss
    total_loss(loss_sums(output, batch, config), loss_counts(batch), config).backward()
    for encoder in (model.visual, model.text):
        assert all(p.grad.abs().sum() > 0 for p in encoder.parameters())


def test_end_to_end_without_inputs_says_so():
    with pytest.raises(ValueError, match="needs a batch with encoder inputs"):
        EndToEnd(make_model(), _TinyVisual(), _TinyText())(make_batch())
