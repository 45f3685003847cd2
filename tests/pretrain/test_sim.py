"""The search-based interest model against loops: both searches, the attention, masks, gradients."""

import math

import pytest
import torch
import torch.nn.functional as F

from contentctr.errors import InputError
from contentctr.pretrain.sim import (
    ExactSearch,
    HardSearch,
    Sim,
    SimSettings,
    SoftSearch,
    highest,
    sim_loss,
)
from contentctr.pretrain.watch_logs import NUM_GAPS, WatchBatch

SIZES = {"dim": 5, "category_dim": 3, "num_heads": 2, "head_dim": 4, "hidden_dim": 6, "top_k": 3}


def make_batch(b=6, length=8, streamers=10, categories=3, seed=0):
    """Row 0 has no history, row 1 a full one, row 2 an unknown streamer."""
    g = torch.Generator().manual_seed(seed)
    valid = torch.rand(b, length, generator=g) < 0.7
    valid[0], valid[1] = False, True

    def draw(low, high, *shape):
        return torch.randint(low, high, shape, generator=g)

    streamer = draw(1, streamers + 1, b)
    streamer[2] = 0
    category = draw(1, categories + 1, b)
    category[3] = 0
    return WatchBatch(
        number_B=torch.arange(b),
        streamer_B=streamer,
        category_B=category,
        history_BL=draw(1, streamers + 1, b, length) * valid,
        category_BL=draw(0, categories + 1, b, length) * valid,
        gap_BL=draw(0, NUM_GAPS, b, length) * valid,
        valid_BL=valid,
        clicked_B=draw(0, 2, b).float(),
    )


def make_model(search="soft", seed=0, streamers=10, categories=3, **options):
    torch.manual_seed(seed)
    return Sim(SimSettings(search=search, **{**SIZES, **options}), streamers, categories)


def changed(batch, **fields):
    return WatchBatch(**{**vars(batch), **fields})


def test_highest_never_takes_padding_before_a_click_with_a_negative_score():
    scores = torch.tensor([[-3.0, -1.0, 5.0, -2.0, 0.0]])
    valid = torch.tensor([[True, True, False, True, False]])
    found, is_click = highest(scores, valid, 2)
    assert found.tolist() == [[1, 3]] and is_click.tolist() == [[True, True]]
    found, is_click = highest(scores, valid, 9)
    assert found[0, :3].tolist() == [1, 3, 0] and is_click.tolist() == [[True] * 3 + [False] * 2]


def test_soft_search_is_the_loop():
    torch.manual_seed(0)
    unit, batch = SoftSearch(4, 6), make_batch()
    item, history = torch.randn(6, 4), torch.randn(6, 8, 4)
    found, is_click, logits = unit(item, history, batch, 3)
    for b in range(6):
        with torch.no_grad():
            scores = {
                j: float(unit.behaviour(history[b, j]) @ unit.target(item[b])) / math.sqrt(4)
                for j in range(8)
                if batch.valid_BL[b, j]
            }
        best = sorted(scores, key=scores.__getitem__, reverse=True)[:3]
        assert found[b][is_click[b]].tolist() == best
        pooled = sum((s * history[b, j] for j, s in scores.items()), torch.zeros(4))
        pooled = pooled / max(1, len(scores))
        wanted = unit.classifier(torch.cat((pooled, item[b])))
        torch.testing.assert_close(logits[b : b + 1], wanted)


def test_hard_search_is_the_loop():
    batch = make_batch(b=40, length=12)
    found, is_click, logits = HardSearch()(torch.randn(40, 4), torch.randn(40, 12, 4), batch, 3)
    assert logits is None
    some = 0
    for b in range(40):
        category = int(batch.category_B[b])
        wanted = [
            j
            for j in range(12)
            if batch.valid_BL[b, j] and category > 0 and batch.category_BL[b, j] == category
        ][-3:][::-1]
        assert found[b][is_click[b]].tolist() == wanted
        some += len(wanted) == 3
    assert some > 3


def test_exact_search_is_the_loop():
    torch.manual_seed(1)
    heads, width, z = 2, 4, 7
    unit = ExactSearch(5, z, heads, width)
    item, found = torch.randn(6, 5), torch.randn(6, 3, z)
    is_click = torch.tensor([[1, 1, 1], [0, 0, 0], [0, 1, 0], [1, 1, 0], [0, 1, 1], [1, 0, 1]]) > 0
    result = unit(item, found, is_click)
    for b in range(6):
        if not is_click[b].any():
            assert torch.equal(result[b], unit.nothing)
            continue
        query, keys = unit.query(item[b]).detach(), unit.key(found[b]).detach()
        parts = []
        for h in range(heads):
            part = slice(h * width, (h + 1) * width)
            weights = [
                math.exp(float(query[part] @ keys[k, part]) / math.sqrt(width)) * is_click[b, k]
                for k in range(3)
            ]
            parts.append(sum(w / sum(weights) * found[b, k] for k, w in enumerate(weights)))
        torch.testing.assert_close(result[b], torch.cat(parts))


@pytest.mark.parametrize("search", ["soft", "hard"])
def test_padding_changes_nothing(search):
    model, batch = make_model(search), make_batch()
    there = batch.valid_BL
    noisy = changed(
        batch,
        history_BL=torch.where(there, batch.history_BL, 7),
        category_BL=torch.where(there, batch.category_BL, 1),
        gap_BL=torch.where(there, batch.gap_BL, 9),
    )
    wider = changed(
        batch, **{k: F.pad(v, (0, 5)) for k, v in vars(batch).items() if k.endswith("_BL")}
    )
    wanted = model(batch)
    for other in (noisy, wider):
        found = model(other)
        torch.testing.assert_close(found.logits_B, wanted.logits_B)
        if search == "soft":
            torch.testing.assert_close(found.general_logits_B, wanted.general_logits_B)


@pytest.mark.parametrize("search", ["soft", "hard"])
def test_the_time_since_a_found_click_counts(search):
    model, batch = make_model(search, top_k=8), make_batch(b=40)
    older = changed(batch, gap_BL=(batch.gap_BL + 5) % NUM_GAPS)
    differs = ~torch.isclose(model(batch).logits_B, model(older).logits_B, atol=1e-7)
    assert differs.sum() > 10 and not differs[0]


@pytest.mark.parametrize("search", ["soft", "hard"])
def test_every_parameter_learns_and_users_without_history_are_finite(search):
    model, batch = make_model(search), make_batch(b=40)
    output = model(batch)
    assert output.logits_B.isfinite().all()
    sim_loss(output, batch.clicked_B, SimSettings(search=search, **SIZES)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name
    nobody = changed(batch, valid_BL=torch.zeros_like(batch.valid_BL))
    model.zero_grad()
    sim_loss(model(nobody), batch.clicked_B, SimSettings(search=search, **SIZES)).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("search", ["soft", "hard"])
def test_gradients_are_those_of_finite_differences(search):
    model, batch = make_model(search).double(), make_batch(b=4, length=5)
    settings = SimSettings(search=search, general_weight=0.7, **SIZES)
    batch = changed(batch, clicked_B=batch.clicked_B.double())
    names = ["streamers.weight", "gaps.weight", "exact.query.weight", "exact.nothing"]
    state = dict(model.named_parameters())

    def loss(*values):
        output = torch.func.functional_call(model, dict(zip(names, values, strict=True)), (batch,))
        return sim_loss(output, batch.clicked_B, settings)

    assert torch.autograd.gradcheck(loss, tuple(state[name] for name in names))


def test_loss_by_hand():
    batch, settings = make_batch(), SimSettings(general_weight=0.5, exact_weight=2.0, **SIZES)
    output = make_model()(batch)

    def entropy(logits):
        p, y = logits.detach().sigmoid(), batch.clicked_B
        return -(y * p.log() + (1 - y) * (1 - p).log()).mean().item()

    wanted = 0.5 * entropy(output.general_logits_B) + 2 * entropy(output.logits_B)
    loss = sim_loss(output, batch.clicked_B, settings).item()
    assert loss == pytest.approx(wanted, rel=1e-5)
    hard = make_model("hard")(batch)
    loss = sim_loss(hard, batch.clicked_B, settings).item()
    assert loss == pytest.approx(2 * entropy(hard.logits_B), rel=1e-5)


def test_which_clicks_are_found_has_no_gradient_into_the_soft_search():
    model, batch = make_model(), make_batch()
    settings = SimSettings(general_weight=0.0, **SIZES)
    sim_loss(model(batch), batch.clicked_B, settings).backward()
    assert float(model.general.target.weight.grad.abs().sum()) == 0
    assert float(model.streamers.weight.grad.abs().sum()) > 0


@pytest.mark.parametrize("search", ["soft", "hard"])
def test_one_batch_is_learned_by_heart(search):
    model, batch = make_model(search), make_batch(b=8)
    settings = SimSettings(search=search, **SIZES)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02, fused=True)
    for _ in range(150):
        optimizer.zero_grad()
        loss = sim_loss(model(batch), batch.clicked_B, settings)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.05


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("search", "both"),
        ("dim", 0),
        ("top_k", 0),
        ("held_out", 1.0),
        ("learning_rate", 0.0),
        ("general_weight", -1.0),
        ("exact_weight", 0.0),
    ],
)
def test_settings_are_checked(name, value):
    with pytest.raises(InputError, match=f"setting {name} must be .*, not {value!r}"):
        SimSettings(**{name: value})
