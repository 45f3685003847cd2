"""Bootstrap over rooms: what a draw weighs is what the drawn rooms give, computed anew."""

import numpy as np
import pytest
from scipy.stats import kendalltau
from sklearn.metrics import average_precision_score

from contentctr.metrics import intervals
from contentctr.metrics.ctr import kendall_tau, mean_over_groups
from contentctr.metrics.intervals import RoomDraws, interval


def made_up(rooms=7, samples=150, seed=0):
    """Samples of rooms in any order, with ties in both numbers."""
    rng = np.random.default_rng(seed)
    room = rng.permutation(np.arange(samples) % rooms)
    target = rng.integers(0, 6, samples) / 5
    score = np.round(target + rng.normal(0, 1, samples), 1)
    return score, target, np.array([f"room{n}" for n in room])


def drawn_rows(draws, number):
    """The samples of a draw, each as often as its room was drawn."""
    return np.repeat(
        np.arange(len(draws.room_M)),
        draws.weight_DG[number][draws.group_G[draws.room_M]].astype(int),
    )


def test_a_draw_is_the_metric_of_the_drawn_rooms():
    score, target, room = made_up()
    draws = RoomDraws(room, draws=40)
    tau = draws.kendall_tau(score, target)
    precision = draws.average_precision(score, target - 0.7)
    inside = draws.kendall_tau_in_rooms(score, target)
    each = [kendall_tau(score[draws.room_M == r], target[draws.room_M == r]) for r in range(7)]
    assert np.unique(draws.weight_DG.sum(axis=1)) == [7]
    for number in range(40):
        rows = drawn_rows(draws, number)
        assert tau[number] == pytest.approx(kendalltau(score[rows], target[rows]).statistic)
        wanted = average_precision_score(target[rows] > 0.7, score[rows])
        assert precision[number] == pytest.approx(wanted)
        weights = draws.weight_DG[number][draws.group_G]
        assert inside[number] == pytest.approx(np.average(each, weights=weights))


def test_the_order_of_the_samples_changes_nothing():
    score, target, room = made_up()
    order = np.random.default_rng(1).permutation(len(score))
    for name in ("kendall_tau", "kendall_tau_in_rooms", "average_precision"):
        one = getattr(RoomDraws(room), name)(score, target)
        other = getattr(RoomDraws(room[order]), name)(score[order], target[order])
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_an_interval_holds_what_other_rooms_give():
    """Of 60 studies with 12 rooms each, nearly all intervals hold the tau of very many rooms."""
    rng = np.random.default_rng(0)

    def study(rooms):
        room = np.repeat(np.arange(rooms), 20)
        level = rng.normal(size=rooms)[room]
        target = level + rng.normal(size=len(room))
        return level + rng.normal(size=len(room)), target, room

    score, target, room = study(2000)
    true = kendall_tau(score, target)
    held = 0
    for _ in range(60):
        score, target, room = study(12)
        low, high = interval(RoomDraws(room, draws=300).kendall_tau(score, target))
        held += low <= true <= high
    assert 50 <= held < 60


def test_undefined_draws_are_left_out_until_they_are_a_tenth():
    values = np.arange(100.0)
    assert interval(values) == pytest.approx((2.475, 96.525))
    values[:9] = np.nan
    low, high = interval(values)
    assert low > 10 and high > 96
    values[:11] = np.nan
    assert interval(values) is None
    assert interval(np.full(5, np.nan)) is None


def test_constant_scores_and_labels_without_a_positive_are_undefined():
    score, target, room = made_up()
    draws = RoomDraws(room, draws=5)
    flat = np.zeros(len(score))
    assert np.isnan(draws.kendall_tau(flat, target)).all()
    assert np.isnan(draws.kendall_tau_in_rooms(flat, target)).all()
    assert np.isnan(draws.average_precision(score, flat)).all()
    base = draws.average_precision(flat, (target > 0.7) * 1.0)
    rows = drawn_rows(draws, 0)
    assert base[0] == pytest.approx((target[rows] > 0.7).mean())


def test_many_rooms_and_samples_are_grouped_and_thinned(monkeypatch):
    score, target, room = made_up(rooms=60, samples=6000)
    whole = interval(RoomDraws(room).kendall_tau(score, target))
    monkeypatch.setattr(intervals, "_MOST_ROOMS", 30)
    monkeypatch.setattr(intervals, "_MOST_SAMPLES", 2000)
    draws = RoomDraws(room)
    assert draws.weight_DG.shape == (1000, 30) and draws.num_rooms == 60
    np.testing.assert_allclose(interval(draws.kendall_tau(score, target)), whole, atol=0.02)
    inside = mean_over_groups(kendall_tau, score, target, room).mean
    low, high = interval(draws.kendall_tau_in_rooms(score, target))
    assert low < inside < high
