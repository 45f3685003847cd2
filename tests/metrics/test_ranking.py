import itertools
import json
import math

import numpy as np
import pytest
from scipy.stats import kendalltau, rankdata
from sklearn.metrics import average_precision_score

from contentctr.metrics.ctr import mean_over_groups
from contentctr.metrics.ranking import (
    f1_at_top,
    kendall_above,
    percentile_by_room,
    ranking_summary,
    spearman,
)


def samples(seed=0, rooms=60, ties=True):
    """Scores, true scores, labels and rooms, in random order; some rooms of one segment."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 25, rooms)
    groups = np.repeat(np.arange(rooms), lengths)
    scores, targets = rng.random(len(groups)), rng.random(len(groups))
    if ties:
        scores, targets = np.round(scores, 1), np.round(targets, 1)
    labels = (targets > 0.7).astype(int)
    order = rng.permutation(len(groups))
    return scores[order], targets[order], labels[order], groups[order]


def by_room(function, a, b, groups):
    values = [function(a[groups == g], b[groups == g]) for g in np.unique(groups)]
    defined = [v for v in values if not math.isnan(v)]
    return np.mean(defined), len(defined), len(values) - len(defined)


def same(found, expected, name):
    """Whether a block of `ranking_summary` has this mean, and so many rooms without it."""
    mean, defined, undefined = expected
    assert found[name] == pytest.approx(mean, abs=1e-12)
    assert found["counts"][f"rooms_without_{name}"] == undefined
    assert found["counts"]["rooms"] == defined + undefined


@pytest.mark.parametrize("ties", [True, False])
def test_average_precision_is_scikit_learns(ties):
    scores, targets, labels, groups = samples(ties=ties)

    def one(s, y):
        return average_precision_score(y, s) if y.any() else math.nan

    expected = by_room(one, scores, labels, groups)
    assert expected[2] > 0  # some rooms have no positive
    same(ranking_summary(scores, targets, labels, groups), expected, "mean_ap")


@pytest.mark.parametrize("ties", [True, False])
def test_spearman_is_the_correlation_of_ranks(ties):
    scores, targets, labels, groups = samples(1, ties=ties)

    def one(x, y):
        if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
            return math.nan
        return np.corrcoef(rankdata(x), rankdata(y))[0, 1]

    expected = by_room(one, scores, targets, groups)
    same(ranking_summary(scores, targets, labels, groups), expected, "spearman")


@pytest.mark.parametrize("ties", [True, False])
def test_kendall_is_scipys(ties):
    scores, targets, labels, groups = samples(2, ties=ties)

    def one(x, y):
        return kendalltau(x, y).statistic if len(x) > 1 else math.nan

    expected = by_room(one, scores, targets, groups)
    same(ranking_summary(scores, targets, labels, groups), expected, "kendall")


@pytest.mark.parametrize("gap", [0.0, 0.2, 0.4, 0.95])
def test_kendall_above_a_gap_is_a_loop_over_pairs(gap):
    scores, targets, _, groups = samples(3)

    def one(x, y):
        total = pairs = 0
        for i, j in itertools.combinations(range(len(x)), 2):
            if round(abs(y[i] - y[j]), 6) > gap:
                pairs += 1
                total += np.sign(x[i] - x[j]) * np.sign(y[i] - y[j])
        return total / pairs if pairs else math.nan

    expected = by_room(one, scores, targets, groups)
    assert expected[2] > 0
    found = mean_over_groups(lambda x, y: kendall_above(x, y, gap), scores, targets, groups)
    assert found.mean == pytest.approx(expected[0], abs=1e-12)
    assert (found.defined, found.undefined) == expected[1:]


def test_f1_of_the_top_is_a_mean_over_the_ways_to_break_ties():
    rng = np.random.default_rng(4)
    for _ in range(20):
        n = int(rng.integers(1, 7))
        scores, labels = rng.integers(0, 3, n) / 2, rng.integers(0, 2, n)
        found = f1_at_top(scores, labels)
        if not labels.any():
            assert math.isnan(found)
            continue
        k = math.ceil(n / 2)
        values = []
        for order in itertools.permutations(range(n)):
            top = sorted(order, key=lambda i: -scores[i])[:k]  # stable: the order breaks ties
            hits = labels[top].sum()
            precision, recall = hits / k, hits / labels.sum()
            values.append(2 * precision * recall / (precision + recall) if hits else 0.0)
        assert found == pytest.approx(np.mean(values), abs=1e-12)


def test_by_hand():
    # Room a: order by score is 1, 0, 1, 0: AP = (1 + 2/3) / 2; the top 2 hold 1 of 2.
    # Room b has no highlight.
    scores = [4, 3, 2, 1, 1, 2]
    labels = [1, 0, 1, 0, 0, 0]
    targets = [0.9, 0.5, 0.8, 0.0, 0.1, 0.35]
    groups = ["a"] * 4 + ["b"] * 2
    found = ranking_summary(scores, targets, labels, groups)
    assert found["mean_ap"] == pytest.approx(5 / 6)
    assert found["f1_at_50"] == pytest.approx(0.5)
    # Spearman: a has ranks 4 3 2 1 and 4 2 3 1, rho 0.8; b 1. Kendall: 4 of 6, and 1.
    assert found["spearman"] == pytest.approx(0.9)
    assert found["kendall"] == pytest.approx((4 / 6 + 1) / 2)
    # Above 0.2: a loses (0.9, 0.8), keeps the swapped pair (0.5, 0.8): 3 of 5; b 1.
    assert found["kendall_above_0.2"] == pytest.approx((3 / 5 + 1) / 2)
    # Above 0.4: 0.9 - 0.5 is 0.4 itself: (0.9, 0), (0.5, 0), (0.8, 0) remain; b has none.
    assert found["kendall_above_0.4"] == pytest.approx(1.0)
    assert found["counts"] == {
        "rooms": 2,
        "rooms_without_mean_ap": 1,
        "rooms_without_f1_at_50": 1,
        "rooms_without_spearman": 0,
        "rooms_without_kendall": 0,
        "rooms_without_kendall_above_0.2": 0,
        "rooms_without_kendall_above_0.4": 1,
    }
    json.dumps(found, allow_nan=False)


def test_the_order_of_the_samples_does_not_matter():
    scores, targets, labels, groups = samples(5)
    order = np.random.default_rng(6).permutation(len(scores))
    again = ranking_summary(scores[order], targets[order], labels[order], groups[order])
    assert again == ranking_summary(scores, targets, labels, groups)


def test_a_constant_predictor_orders_nothing():
    _, targets, labels, groups = samples(7)
    found = ranking_summary(np.ones(len(targets)), targets, labels, groups)
    assert found["spearman"] is None
    assert found["kendall"] is None
    assert found["kendall_above_0.2"] == 0.0
    assert found["counts"]["rooms_without_kendall"] == found["counts"]["rooms"]


def test_nothing_is_undefined_not_zero():
    found = ranking_summary([], [], [], [])
    assert found.pop("counts")["rooms"] == 0
    assert set(found.values()) == {None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [0, 2]}, "labels must be 0 or 1, not 2.0"),
        ({"scores": [0.1, math.nan]}, "scores must be finite, not nan"),
        ({"targets": [0.1]}, "must be as long"),
        ({"groups": ["a"]}, "must be as long"),
        ({"scores": [[0.1, 0.2]]}, "one dimension"),
    ],
)
def test_wrong_input(change, message):
    good = {"scores": [0.1, 0.2], "targets": [0.1, 0.2], "labels": [0, 1], "groups": ["a", "a"]}
    with pytest.raises(ValueError, match=message):
        ranking_summary(**{**good, **change})


def test_too_short_or_constant_has_no_spearman():
    one, two = np.ones(1), np.arange(2.0)
    assert math.isnan(spearman(one, one)) and math.isnan(spearman(np.ones(2), two))
    assert math.isnan(spearman(two, np.ones(2))) and spearman(two, -two) == pytest.approx(-1)


@pytest.mark.parametrize("percent", [0, 30, 70, 100])
def test_percentile_is_numpys_to_the_bit(percent):
    rng = np.random.default_rng(0)
    lengths = np.append(rng.integers(1, 40, 300), np.arange(1, 60))
    first = np.append(0, np.cumsum(lengths))
    values = np.where(rng.random(first[-1]) < 0.3, 0.1, rng.random(first[-1]))
    found = percentile_by_room(values, first, percent)
    expected = [np.percentile(v, percent) for v in np.split(values, first[1:-1])]
    assert found.tolist() == expected
