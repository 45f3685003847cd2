import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from contentctr.batch import Batch, Output
from contentctr.config import LossConfig
from contentctr.models.losses import (
    align_sum,
    alignable,
    cosine_matrix,
    loss_counts,
    loss_sums,
    ordered_pairs,
    pair_sum,
    point_sum,
    total_loss,
)
from make import cut, make_batch


def everywhere(x):
    return torch.ones_like(x, dtype=torch.bool)


def test_point_loss_by_hand():
    # y = 0.25, s = 0.5: -(0.25 ln 0.5 + 0.75 ln 0.5) = ln 2; the null segment adds nothing.
    logits = torch.tensor([[0.0, 3.0]])
    target = torch.tensor([[0.25, math.nan]])
    known = ~torch.isnan(target)
    assert point_sum(logits, target, known).item() == pytest.approx(math.log(2))


def test_point_loss_is_smallest_at_the_soft_label():
    target = torch.tensor([[0.3]])
    logits = torch.tensor([[math.log(0.3 / 0.7)]], requires_grad=True)
    point_sum(logits, target, everywhere(target)).backward()
    assert logits.grad.abs().item() < 1e-6


def test_null_targets_give_no_gradient_and_no_nan():
    logits = torch.zeros(1, 3, requires_grad=True)
    target = torch.tensor([[0.2, math.nan, math.nan]])
    point_sum(logits, target, ~torch.isnan(target)).backward()
    assert logits.grad[0, 0] != 0 and logits.grad[0, 1:].abs().sum() == 0


def naive_pair(scores, target, kind, sigma):
    total, count = 0.0, 0
    for s, y in zip(scores.tolist(), target.tolist(), strict=True):
        for i in range(len(s)):
            for j in range(len(s)):
                if math.isnan(y[i]) or math.isnan(y[j]) or not y[i] > y[j]:
                    continue
                count += 1
                gap, boundary = s[i] - s[j], y[i] - y[j]
                active = {
                    "L0": True,
                    "L1": boundary - gap >= 0,
                    "L2": gap <= 0,
                    "L3": 0 < gap < boundary,
                }[kind]
                total += math.log1p(math.exp(-sigma * gap)) if active else 0.0
    return total, count


@pytest.mark.parametrize("kind", ["L0", "L1", "L2", "L3"])
def test_pair_loss_equals_a_loop_over_pairs(kind):
    g = torch.Generator().manual_seed(1)
    scores = torch.rand(4, 7, generator=g, dtype=torch.float64)
    target = torch.rand(4, 7, generator=g, dtype=torch.float64).round(decimals=1)
    target[1, 2] = math.nan
    known = ~torch.isnan(target)
    total, count = naive_pair(scores, target, kind, 10.0)
    assert pair_sum(scores, target, known, kind=kind).item() == pytest.approx(total, rel=1e-12)
    assert int(ordered_pairs(target, known).sum()) == count


def test_pair_loss_by_hand():
    # One ordered pair, y_1 - y_2 = 0.2; s_1 - s_2 = 0.1: inside the boundary and in part 2.
    scores, target = torch.tensor([[0.3, 0.2]]), torch.tensor([[0.4, 0.2]])
    known, loss = everywhere(target), math.log(1 + math.exp(-1.0))
    values = {k: pair_sum(scores, target, known, kind=k).item() for k in ("L0", "L1", "L2", "L3")}
    assert values == pytest.approx({"L0": loss, "L1": loss, "L2": 0.0, "L3": loss})
    # s_1 - s_2 = 0.3 goes beyond the boundary: part 3, active in L0 alone.
    scores = torch.tensor([[0.5, 0.2]])
    values = {k: pair_sum(scores, target, known, kind=k).item() for k in ("L0", "L1", "L2", "L3")}
    beyond = math.log(1 + math.exp(-3.0))
    assert values == pytest.approx({"L0": beyond, "L1": 0.0, "L2": 0.0, "L3": 0.0})


def test_parts_one_and_two_make_l1_away_from_ties():
    g = torch.Generator().manual_seed(2)
    scores, target = torch.rand(3, 6, generator=g), torch.rand(3, 6, generator=g)
    known = everywhere(target)
    parts = sum(pair_sum(scores, target, known, kind=k) for k in ("L2", "L3"))
    assert torch.allclose(parts, pair_sum(scores, target, known, kind="L1"))


def test_pair_loss_stays_finite_where_exp_overflows():
    scores = torch.tensor([[0.0, 1.0]], requires_grad=True)
    target = torch.tensor([[1.0, 0.0]])
    loss = pair_sum(scores, target, everywhere(target), kind="L0", sigma=1000.0)
    loss.backward()
    assert loss.item() == pytest.approx(1000.0) and torch.isfinite(scores.grad).all()


@pytest.mark.parametrize("kind", ["L0", "L1", "L2", "L3"])
def test_pair_loss_gradcheck_away_from_the_gates(kind):
    # Gaps of y are multiples of 0.2 and gaps of s odd multiples of 0.03: no pair is at a gate.
    target = torch.tensor([[0.0, 0.2, 0.4, 0.8]], dtype=torch.float64)
    scores = torch.tensor([[0.31, 0.22, 0.59, 0.70]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda s: pair_sum(s, target, everywhere(target), kind=kind), (scores,), eps=1e-7
    )


def test_cosines_of_missing_tokens_are_zero_without_gradient():
    g = torch.Generator().manual_seed(0)
    text = torch.randn(1, 3, 4, generator=g, requires_grad=True)
    visual = torch.randn(1, 3, 4, generator=g)
    has_text = torch.tensor([[True, False, True]])
    has_visual = torch.tensor([[True, True, False]])
    cosine = cosine_matrix(text, visual, has_text, has_visual)
    assert cosine[0, 1].abs().sum() == 0 and cosine[0, :, 2].abs().sum() == 0
    expected = F.cosine_similarity(text[0, 0], visual[0, 1], dim=0)
    assert cosine[0, 0, 1].item() == pytest.approx(expected.item())
    cosine.sum().backward()
    assert text.grad[0, 1].abs().sum() == 0


def loop_dtw(cost):
    n = len(cost)
    total = np.full((n + 1, n + 1), math.inf)
    total[0, 0] = 0
    for i in range(n):
        for j in range(n):
            total[i + 1, j + 1] = cost[i, j] + min(total[i, j], total[i, j + 1], total[i + 1, j])
    return total[n, n]


@pytest.mark.parametrize("reading", ["distance", "similarity"])
def test_align_loss_equals_a_plain_computation(reading):
    batch = make_batch(b=4, n=6, k=4, seed=3)
    g = torch.Generator().manual_seed(4)
    visual, text = torch.randn(4, 6, 5, generator=g), torch.randn(4, 6, 5, generator=g)
    output = Output(logits_BN=torch.zeros(4, 6), visual_BND=visual, text_BND=text)
    expected = 0.0
    for b in range(4):
        length = int(batch.valid_BN[b].sum())
        seen, said = batch.has_visual_BN[b], batch.has_text_BN[b]
        if not (seen.any() and said.any()):
            continue
        cosine = np.zeros((length, length))
        for i in range(length):
            for j in range(length):
                if said[i] and seen[j]:
                    a, p = text[b, i].double(), visual[b, j].double()
                    cosine[i, j] = a @ p / (a.norm() * p.norm())
        logits = []
        for order in batch.shuffles_BKN[b].numpy():
            columns = order[:length]
            if reading == "distance":
                logits.append(-loop_dtw(1 - cosine[:, columns]) / length / 0.1)
            else:
                logits.append(loop_dtw(cosine[:, columns]) / 0.1)
        expected -= logits[0] - np.log(np.exp(logits).sum())
    got = align_sum(output, batch, reading=reading, temperature=0.1).item()
    assert got == pytest.approx(expected, rel=1e-4)


def test_windows_without_one_modality_have_no_alignment():
    batch = make_batch(b=2, n=4, missing=False)
    blind = {**vars(batch), "has_visual_BN": batch.has_visual_BN.clone()}
    blind["has_visual_BN"][0] = False
    assert alignable(type(batch)(**blind)).tolist() == [False, True]
    assert alignable(type(batch)(**{**vars(batch), "shuffles_BKN": None})).tolist() == [False] * 2


def test_align_gradient_pulls_aligned_tokens_together():
    batch = make_batch(b=1, n=6, k=9, missing=False, seed=5)
    g = torch.Generator().manual_seed(6)
    text = torch.randn(1, 6, 8, generator=g, requires_grad=True)
    visual = torch.randn(1, 6, 8, generator=g, requires_grad=True)
    optimizer = torch.optim.Adam([text, visual], lr=0.1)
    losses = []
    for _ in range(60):
        output = Output(logits_BN=torch.zeros(1, 6), visual_BND=visual, text_BND=text)
        loss = align_sum(output, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_counts_are_what_the_sums_are_sums_of():
    batch = make_batch(b=5, n=6, seed=7)
    point, pair, align = loss_counts(batch).tolist()
    assert point == int((batch.valid_BN & ~torch.isnan(batch.target_BN)).sum())
    assert pair == naive_pair(torch.zeros(5, 6), batch.target_BN, "L0", 1.0)[1]
    assert align == int(alignable(batch).sum()) > 0


def test_sums_of_pieces_add_up_to_the_sum_of_the_batch():
    batch = make_batch(b=6, n=5, seed=8)
    g = torch.Generator().manual_seed(9)
    output = Output(
        logits_BN=torch.randn(6, 5, generator=g),
        visual_BND=torch.randn(6, 5, 4, generator=g),
        text_BND=torch.randn(6, 5, 4, generator=g),
    )

    def part(thing, rows):
        if isinstance(thing, Batch):
            return cut(thing, rows)
        return type(thing)(**{k: v if v is None else v[rows] for k, v in vars(thing).items()})

    config = LossConfig()
    whole = loss_sums(output, batch, config)
    halves = [
        loss_sums(part(output, r), part(batch, r), config) for r in (slice(0, 2), slice(2, 6))
    ]
    assert torch.allclose(whole, halves[0] + halves[1], rtol=1e-5)
    counts = [loss_counts(part(batch, r)) for r in (slice(0, 2), slice(2, 6))]
    assert torch.equal(loss_counts(batch), counts[0] + counts[1])


def test_total_is_the_weighted_sum_of_means():
    config = LossConfig(point_weight=0.65, align_weight=0.15, pair_weight=0.2)
    sums, counts = torch.tensor([10.0, 20.0, 6.0]), torch.tensor([5.0, 4.0, 2.0])
    assert total_loss(sums, counts, config).item() == pytest.approx(0.65 * 2 + 0.2 * 5 + 0.15 * 3)
    none = torch.tensor([5.0, 0.0, 0.0])
    assert total_loss(torch.tensor([10.0, 0, 0]), none, config).item() == pytest.approx(1.3)


def test_a_weight_of_zero_leaves_its_loss_out():
    batch = make_batch()
    output = Output(logits_BN=torch.zeros(3, 5))
    sums = loss_sums(output, batch, LossConfig(align_weight=0, pair_weight=0))
    assert sums[1] == 0 and sums[2] == 0 and sums[0] > 0


def test_positives_weigh_more_and_scores_stay_what_they_are():
    """By hand, and: whatever the weight, log-odds of the targets' mean have no gradient."""
    logits, target = torch.tensor([[0.3, -1.0]]), torch.tensor([[1.0, 0.25]])
    known = torch.ones(1, 2, dtype=torch.bool)
    s = logits.sigmoid()
    wanted = -(7 * target * s.log() + (1 - target) * (1 - s).log()).sum()
    torch.testing.assert_close(point_sum(logits, target, known, 7.0), wanted)

    rare = torch.zeros(1, 50, dtype=torch.float64)
    rare[0, 7] = 1.0
    for weight in (1.0, 7.0, 49.0):
        odds = torch.full((1, 50), math.log(0.02 / 0.98), dtype=torch.float64, requires_grad=True)
        there = torch.ones(1, 50, dtype=torch.bool)
        point_sum(odds + math.log(weight), rare, there, weight).backward()
        assert odds.grad is not None
        assert abs(float(odds.grad.sum())) < 1e-9 < float(odds.grad.abs().sum())


def test_a_weight_shows_the_pairwise_loss_scores_near_a_half():
    batch = make_batch(missing=False)
    config = LossConfig(positive_weight=49.0, align_weight=0)
    low = Output(logits_BN=torch.full_like(batch.target_BN, math.log(1 / 49)))
    half = Output(logits_BN=torch.zeros_like(batch.target_BN))
    plain = LossConfig(align_weight=0)
    torch.testing.assert_close(
        loss_sums(low, batch, config)[1], loss_sums(half, batch, plain)[1], rtol=1e-5, atol=1e-5
    )
