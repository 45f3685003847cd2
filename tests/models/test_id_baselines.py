import dataclasses
import math

import pytest
import torch

from contentctr.batch import Batch, DataSpec, IdFeatures, Vocabulary
from contentctr.config import Config, IdConfig, LossConfig
from contentctr.models.id_baselines import DCNM, DIFM, DeepFM, WideDeep
from contentctr.models.id_layers import (
    CROSSES,
    Deep,
    InputAwareWeights,
    Linear,
    LowRankCross,
    MatrixCross,
    MixtureCross,
    factorization_machine,
)
from contentctr.models.losses import loss_counts, loss_sums, total_loss
from make import cut, make_batch

SMALL = IdConfig(
    embedding_dim=4, hidden_dim=16, attention_dim=2, attention_heads=3, rank=3, num_experts=3
)
VOCABULARY = Vocabulary(streamers=["a", "b"], rooms=["r", "s", "t"])
LOSS = LossConfig(align_weight=0.0)
BASELINES = [
    (WideDeep, {}),
    (DeepFM, {}),
    (DIFM, {}),
    (DCNM, {}),
    (DCNM, {"cross": "low_rank"}),
    (DCNM, {"cross": "matrix"}),
]
CASES = [
    pytest.param(
        made, {**changes, "counts": counts}, id="-".join((made.__name__, *changes.values(), counts))
    )
    for made, changes in BASELINES
    for counts in ("buckets", "dense")
]


def id_batch(b=3, n=5) -> Batch:
    """Windows without content; some counts are missing, and a streamer and a room are unknown."""
    return make_batch(b, n, v=0, t=0, missing=n > 1)


def changed_ids(batch: Batch, **values) -> Batch:
    ids = IdFeatures(**{**vars(batch.ids), **values})
    return Batch(**{**vars(batch), "ids": ids})


def make(made, **changes):
    torch.manual_seed(0)
    config = Config(ids=dataclasses.replace(SMALL, **changes), loss=LOSS)
    return made(config, DataSpec(), VOCABULARY)


def loss_of(model, batch):
    output = model(batch)
    return total_loss(loss_sums(output, batch, LOSS), loss_counts(batch), LOSS)


def test_factorization_machine_by_hand():
    # (1,2).(3,4) + (1,2).(0,1) + (3,4).(0,1) = 11 + 2 + 4
    vectors = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [0.0, 1.0]]])
    assert factorization_machine(vectors).tolist() == [17.0]


def test_factorization_machine_equals_the_loop_over_pairs_in_value_and_gradient():
    torch.manual_seed(0)
    v = torch.randn(4, 6, 3, dtype=torch.float64, requires_grad=True)
    pairs = [(v[:, i] * v[:, j]).sum(1) for i in range(6) for j in range(i)]
    loop = torch.stack(pairs).sum(0)
    found = factorization_machine(v)
    assert torch.allclose(found, loop, atol=1e-12)
    weight = torch.randn(4).double()
    grads = [
        torch.autograd.grad((x * weight).sum(), v, retain_graph=True)[0] for x in (found, loop)
    ]
    assert torch.allclose(*grads, atol=1e-12)


def test_linear_part_by_hand():
    linear = Linear(2)
    with torch.no_grad():
        linear.bias.fill_(0.5)
        linear.dense.weight.copy_(torch.tensor([[2.0, -1.0]]))
    found = linear(torch.tensor([[0.1, 0.2]]), torch.tensor([[3.0, 4.0]]))
    assert found.tolist() == pytest.approx([0.1 + 0.2 + 6 - 4 + 0.5])
    assert Linear(0)(torch.tensor([[1.0, 2.0]]), torch.empty(1, 0)).tolist() == [3.0]


def test_deep_part_equals_its_layers_one_by_one():
    torch.manual_seed(0)
    deep, x = Deep(5, 2, SMALL), torch.randn(3, 5)
    first, second, last = (layer for layer in deep if isinstance(layer, torch.nn.Linear))
    assert last.bias is None and first.out_features == SMALL.hidden_dim
    by_hand = second(first(x).clamp(min=0)).clamp(min=0) @ last.weight.T
    assert torch.allclose(deep(x), by_hand, atol=1e-6)


def test_matrix_cross_by_hand():
    cross = MatrixCross(2, dataclasses.replace(SMALL, cross_layers=2))
    for layer in cross.layers:
        torch.nn.init.constant_(layer.weight, 1.0)
        torch.nn.init.constant_(layer.bias, 0.5)
    # layer 1: (1,2) * (3.5,3.5) + (1,2) = (4.5,9); layer 2: (1,2) * (14,14) + (4.5,9)
    assert cross(torch.tensor([[1.0, 2.0]])).tolist() == [[18.5, 37.0]]


def test_a_low_rank_cross_is_the_matrix_cross_of_the_product():
    torch.manual_seed(0)
    low, full = LowRankCross(5, SMALL).double(), MatrixCross(5, SMALL).double()
    with torch.no_grad():
        for pair, layer in zip(low.layers, full.layers, strict=True):
            pair[1].bias.normal_()
            layer.weight.copy_(pair[1].weight @ pair[0].weight)
            layer.bias.copy_(pair[1].bias)
    x = torch.randn(4, 5).double()
    assert torch.allclose(low(x), full(x), atol=1e-12)


def loop_over_experts(cross: MixtureCross, x0):
    """DCN-V2, Eq. 3 and 4, row by row and expert by expert."""
    experts, rank = cross.shape
    rows = []
    for row in x0:
        x = row
        for layer in range(len(cross.bias_LX)):
            gates = torch.softmax(torch.stack([x @ w for w in cross.gates.weight]), 0)
            total = x
            for m in range(experts):
                cut = slice(m * rank, (m + 1) * rank)
                low = torch.tanh(cross.down_LXQ[layer][:, cut].T @ x)
                low = torch.tanh(cross.core_LMPP[layer, m].T @ low)
                up = cross.up_LQX[layer][cut].T @ low + cross.bias_LX[layer]
                total = total + gates[m] * row * up
            x = total
        rows.append(x)
    return torch.stack(rows)


def test_mixture_equals_the_loop_over_experts_in_value_and_gradient():
    torch.manual_seed(0)
    cross = MixtureCross(5, SMALL).double()
    torch.nn.init.normal_(cross.bias_LX)
    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    fast, loop = cross(x), loop_over_experts(cross, x)
    assert torch.allclose(fast, loop, atol=1e-12)
    weight = torch.randn(4, 5).double()
    inputs = (x, *cross.parameters())
    found, expected = (torch.autograd.grad((y * weight).sum(), inputs) for y in (fast, loop))
    for name, a, b in zip(("x", *dict(cross.named_parameters())), found, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-10), name


def test_one_expert_is_a_low_rank_cross_with_tanh():
    torch.manual_seed(0)
    one = MixtureCross(5, dataclasses.replace(SMALL, num_experts=1, cross_layers=1))
    x = torch.randn(3, 5)
    low = torch.tanh(torch.tanh(x @ one.down_LXQ[0]) @ one.core_LMPP[0, 0])
    assert torch.allclose(one(x), x * (low @ one.up_LQX[0]) + x, atol=1e-6)


def attention_loop(layer: InputAwareWeights, v):
    """DIFM's vector-wise part, row by row and head by head."""
    heads, width = layer.heads
    rows = []
    for row in v:
        q, k, val, res = (row @ w.T for w in layer.projections.weight.chunk(4))
        out = []
        for h in range(heads):
            cut = slice(h * width, (h + 1) * width)
            shares = torch.softmax(q[:, cut] @ k[:, cut].T / math.sqrt(width), 1)
            out.append(shares @ val[:, cut])
        mixed = torch.relu(torch.cat(out, 1) + res)
        rows.append(layer.vector_wise.weight @ mixed.flatten())
    return torch.stack(rows)


@pytest.mark.parametrize("chunk", [2, 5, 64])
def test_input_aware_weights_equal_the_loop_over_heads_whatever_the_chunk(chunk):
    torch.manual_seed(0)
    layer = InputAwareWeights(6, SMALL).double()
    layer.chunk = chunk
    v = torch.randn(5, 6, 4, dtype=torch.float64, requires_grad=True)
    fast, loop = layer(v), attention_loop(layer, v) + layer.bit_wise(v.flatten(1))
    assert torch.allclose(fast, loop, atol=1e-12)
    weight = torch.randn(5, 6).double()
    inputs = (v, *layer.parameters())
    found, expected = (torch.autograd.grad((y * weight).sum(), inputs) for y in (fast, loop))
    for name, a, b in zip(("v", *dict(layer.named_parameters())), found, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-10), name


def test_the_default_chunk_splits_a_large_batch():
    assert InputAwareWeights(12, IdConfig(attention_heads=8, attention_dim=8)).chunk == 64
    assert 64 < InputAwareWeights(12, IdConfig()).chunk < 4096


@pytest.mark.parametrize("cross", CROSSES)
def test_gradcheck_of_the_cross_networks(cross):
    torch.manual_seed(0)
    layer = CROSSES[cross](3, dataclasses.replace(SMALL, rank=2, num_experts=2)).double()
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,))


@pytest.mark.parametrize(("made", "changes"), CASES)
def test_logits_are_finite_at_padding_and_for_missing_counts(made, changes):
    batch = id_batch()
    batch = changed_ids(batch, counts_BNA=torch.full_like(batch.ids.counts_BNA, torch.nan))
    assert not batch.valid_BN.all()
    output = make(made, **changes)(batch)
    assert output.logits_BN.shape == batch.valid_BN.shape
    assert output.logits_BN.isfinite().all()
    assert output.visual_BND is None and output.text_BND is None


@pytest.mark.parametrize(("made", "changes"), CASES)
def test_every_parameter_gets_a_gradient(made, changes):
    model = make(made, **changes)
    with torch.no_grad():
        for parameter in model.parameters():  # nothing rests at an initial zero
            parameter.add_(0.1 * torch.randn_like(parameter))
    loss_of(model, id_batch()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(("made", "changes"), CASES)
def test_overfits_one_batch(made, changes):
    model, batch = make(made, **changes), id_batch(b=4)
    known = batch.has_target_BN
    y = batch.target_BN[known]
    floor = -(y * y.log() + (1 - y) * (1 - y).log()).mean().item()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    point = dataclasses.replace(LOSS, point_weight=1.0, pair_weight=0.0)
    for _ in range(100):
        optimizer.zero_grad()
        loss = total_loss(loss_sums(model(batch), batch, point), loss_counts(batch), point)
        loss.backward()
        optimizer.step()
    assert loss.item() - floor < 2e-3


@pytest.mark.parametrize(("made", "changes"), CASES)
def test_a_batch_of_one_segment_gives_what_it_gives_in_a_larger_batch(made, changes):
    model, batch = make(made, **changes), id_batch(n=1)
    one = cut(batch, slice(1, 2))
    alone = model(one).logits_BN
    assert alone.shape == (1, 1)
    assert torch.allclose(alone[0, 0], model(batch).logits_BN[1, 0], atol=1e-6)


@pytest.mark.parametrize(("made", "changes"), CASES)
@pytest.mark.parametrize("field", ["streamer_B", "room_B", "hour_BN", "position_BN", "counts_BNA"])
def test_every_field_tells_and_only_for_its_own_window_or_segment(made, changes, field):
    model, batch = make(made, **changes), id_batch()
    if model.linear.dense is not None:  # starts at zero, which would hide the counts from DIFM
        torch.nn.init.normal_(model.linear.dense.weight)
    before = model(batch).logits_BN
    if field == "streamer_B":
        streamer = batch.streamer_B.clone()
        streamer[1] = 2
        after = model(Batch(**{**vars(batch), "streamer_B": streamer})).logits_BN
    elif field == "room_B":
        after = model(changed_ids(batch, room_B=torch.tensor([0, 3, 2]))).logits_BN
    else:
        value = getattr(batch.ids, field).clone()
        value[1, 2] = 20
        after = model(changed_ids(batch, **{field: value})).logits_BN
    changed = ~torch.isclose(before, after, atol=1e-9, rtol=0)
    expected = torch.zeros_like(changed)
    if field in ("streamer_B", "room_B"):
        expected[1] = True
    else:
        expected[1, 2] = True
    assert torch.equal(changed, expected)


def test_baselines_look_at_no_content():
    for made, _ in BASELINES:
        assert made.reads_content is False
        model, batch = make(made), id_batch()
        other = Batch(
            **{
                **vars(batch),
                "visual_BNV": torch.randn(3, 5, 7),
                "has_speech_BN": ~batch.has_speech_BN,
            }
        )
        assert torch.equal(model(batch).logits_BN, model(other).logits_BN)


def test_dropout_is_active_in_training_alone():
    model, batch = make(DeepFM, deep_dropout=0.5), id_batch()
    torch.manual_seed(1)
    first, second = model(batch).logits_BN, model(batch).logits_BN
    assert not torch.equal(first, second)
    model.eval()
    assert torch.equal(model(batch).logits_BN, model(batch).logits_BN)
