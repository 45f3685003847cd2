import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kendalltau
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss as sklearn_log_loss

from contentctr.metrics.ctr import (
    GroupMean,
    calibration,
    kendall_tau,
    log_loss,
    mean_over_groups,
    mean_ratio,
    precision_at_top,
    summary,
)


def test_kendall_tau_by_hand():
    # Pairs of (1,1) (2,3) (3,2) (3,4): concordant 4, discordant 1, tied in x alone 1.
    assert kendall_tau([1, 2, 3, 3], [1, 3, 2, 4]) == pytest.approx(3 / math.sqrt(5 * 6))
    assert kendall_tau([1, 2, 3], [3, 2, 1]) == -1
    assert kendall_tau([0.1, 0.2], [5, 9]) == 1


def naive_tau(x, y):
    """Tau-b as a count of all pairs."""
    sign_x, sign_y = np.sign(x[:, None] - x), np.sign(y[:, None] - y)
    below = math.sqrt((sign_x**2).sum() * (sign_y**2).sum())
    return (sign_x * sign_y).sum() / below if below else math.nan


@pytest.mark.parametrize("size", [2, 3, 7, 99, 1_000])
@pytest.mark.parametrize("levels", [2, 5, 1_000, None])
def test_kendall_tau_is_the_count_of_pairs_in_long_vectors(size, levels):
    rng = np.random.default_rng(size)
    for _ in range(3):
        x = rng.normal(size=size) if levels is None else rng.integers(levels, size=size)
        y = np.round(x + rng.normal(size=size), 1)
        assert kendall_tau(x, y) == pytest.approx(naive_tau(x, y), abs=1e-12, nan_ok=True)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.sampled_from([-0.0, 0.0, 1.5, -2.0])), min_size=2))
def test_kendall_tau_is_the_count_of_pairs(pairs):
    x, y = np.array(pairs).T
    assert kendall_tau(x, y) == pytest.approx(naive_tau(x, y), abs=1e-12, nan_ok=True)


def test_kendall_tau_does_not_touch_its_input():
    x, y = np.array([3.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0])
    kendall_tau(x, y)
    assert x.tolist() == [3, 1, 2] and y.tolist() == [1, 2, 3]


@pytest.mark.parametrize(("x", "y"), [([], []), ([1], [1]), ([1, 1], [1, 2]), ([1, 2], [3, 3])])
def test_kendall_tau_is_nan_where_undefined(x, y):
    assert math.isnan(kendall_tau(x, y))


def test_a_mean_over_groups_leaves_undefined_ones_out_and_says_so():
    scores = [1, 2, 3, 5, 5, 7, 1, 2]
    targets = [1, 2, 3, 1, 2, 1, 2, 1]
    groups = ["a", "a", "a", "tied", "tied", "one", "b", "b"]
    expected = GroupMean(mean=pytest.approx(0.0, abs=1e-12), defined=2, undefined=2)
    assert mean_over_groups(kendall_tau, scores, targets, groups) == expected
    alone = mean_over_groups(kendall_tau, [1, 1], [1, 2], [7, 7])
    assert math.isnan(alone.mean) and (alone.defined, alone.undefined) == (0, 1)
    # Interleaved rooms, and ids of any order, give the same.
    order = np.random.default_rng(0).permutation(8)
    shuffled = [np.array(v, dtype=object)[order] for v in (scores, targets, groups)]
    shuffled[2] = shuffled[2].astype(str)
    assert mean_over_groups(kendall_tau, *shuffled) == expected


def test_log_loss_is_scikit_learns_with_soft_labels_as_weights():
    rng = np.random.default_rng(0)
    scores, targets = rng.random((2, 50))
    scores[:2] = 0.0, 1.0
    expected = sklearn_log_loss(
        np.repeat([0, 1], 50), np.tile(scores, 2), sample_weight=np.append(1 - targets, targets)
    )
    assert log_loss(scores, targets) == pytest.approx(expected, rel=1e-9)
    assert log_loss([0.25], [0.25]) == pytest.approx(0.5623351446)
    assert log_loss([0.0, 1.0], [0.0, 1.0]) == pytest.approx(0, abs=1e-12)


def test_mean_ratio_counts_positive_targets_only():
    assert mean_ratio([0.1, 0.3, 0.2], [0.2, 0.1, 0.0]) == (pytest.approx(1.75), 2)
    ratio, count = mean_ratio([0.1], [0.0])
    assert math.isnan(ratio) and count == 0


def test_calibration_by_hand():
    found = calibration([0.4, 0.1, 0.2, 0.3], [0, 0.1, 0.3, 1], bins=2)
    np.testing.assert_allclose(found.mean_score_C, [0.15, 0.35])
    np.testing.assert_allclose(found.mean_target_C, [0.2, 0.5])
    assert found.count_C.tolist() == [2, 2]
    assert found.error == pytest.approx(0.5 * 0.05 + 0.5 * 0.15)
    weighted = calibration([0.4, 0.1, 0.2, 0.3], [0, 0.1, 0.3, 1], bins=2, weights=[3, 1, 1, 1])
    np.testing.assert_allclose(weighted.mean_score_C, [0.15, 1.5 / 4])
    np.testing.assert_allclose(weighted.mean_target_C, [0.2, 0.25])
    assert weighted.count_C.tolist() == [2, 2]
    assert weighted.error == pytest.approx((2 * 0.05 + 4 * 0.125) / 6)


def test_calibration_is_scikit_learns_on_binary_targets():
    rng = np.random.default_rng(0)
    scores = rng.random(1_000)
    targets = (rng.random(1_000) < scores**2).astype(float)
    true, predicted = calibration_curve(targets, scores, n_bins=10, strategy="quantile")
    found = calibration(scores, targets, bins=10)
    np.testing.assert_allclose(found.mean_score_C, predicted)
    np.testing.assert_allclose(found.mean_target_C, true)
    assert found.error == pytest.approx(np.abs(true - predicted).mean())


def test_calibration_keeps_equal_scores_together():
    scores, targets = np.array([0.1] * 5 + [0.2] * 2 + [0.3]), np.linspace(0, 1, 8)
    found = calibration(scores, targets, bins=4)
    assert found.count_C.tolist() == [5, 3]
    order = np.random.default_rng(0).permutation(8)
    again = calibration(scores[order], targets[order], bins=4)
    np.testing.assert_allclose(again.mean_target_C, found.mean_target_C)
    assert calibration([0.5], [1.0], bins=10).count_C.tolist() == [1]
    empty = calibration([], [], bins=10)
    assert len(empty.count_C) == 0 and math.isnan(empty.error)


def test_precision_at_top_by_hand():
    # 20 segments: the top is 2. Predicted: 0 and 1; true: 1 and 2.
    scores, targets = np.linspace(0, 0.1, 20), np.linspace(0, 0.1, 20)
    scores[[0, 1]] = 0.9, 0.8
    targets[[1, 2]] = 0.9, 0.8
    assert precision_at_top(scores, targets) == 0.5
    assert precision_at_top(targets, targets) == 1.0


def test_precision_at_top_with_ties():
    # A constant predictor gets the true top's share of the room, whatever the order.
    targets = np.arange(10) / 10
    assert precision_at_top(np.full(10, 0.5), targets) == pytest.approx(0.1)
    # All that tie with the best are the true top: either of them is a hit.
    assert precision_at_top([0, 0, 1, 0], [0, 1, 1, 0]) == 1.0
    # k = 2 of 4: one place is sure, and two segments share the other.
    found = precision_at_top([3, 2, 2, 1], [4, 3, 2, 1], share=0.5)
    assert found == pytest.approx((1 + 0.5) / 2)


def test_precision_at_top_of_thirty_is_three():
    targets = np.arange(30)
    scores = np.where(targets >= 27, 1.0, np.where(targets == 26, 0.9, 0.0))
    assert precision_at_top(scores, targets) == 1.0
    scores[29] = 0.0
    assert precision_at_top(scores, targets) == pytest.approx(2 / 3)


def test_precision_at_top_is_undefined_where_all_are_the_top():
    scores, targets = [1, 2, 1, 2, 5], [1, 2, 3, 3, 1]
    groups = ["a", "a", "flat", "flat", "one"]
    assert mean_over_groups(precision_at_top, scores, targets, groups) == GroupMean(1.0, 1, 2)


def test_summary_holds_every_metric_with_counts():
    scores, targets = [0.1, 0.2, 0.3, 0.4, 0.5], [0.0, 0.3, 0.2, 0.5, 0.5]
    found = summary(scores, targets, ["a", "a", "a", "b", "b"], bins=2)
    assert found["kendall_tau"] == pytest.approx(kendalltau(scores, targets).statistic)
    assert found["kendall_tau_in_rooms"] == pytest.approx(1 / 3)
    assert found["log_loss"] == log_loss(scores, targets)
    assert found["mean_ratio"] == pytest.approx((2 / 3 + 1.5 + 0.8 + 1) / 4)
    assert found["precision_at_top"] == 0.0
    assert [row["count"] for row in found["calibration"]] == [2, 3]
    assert found["counts"] == {
        "samples": 5,
        "rooms": 2,
        "samples_with_positive_target": 4,
        "rooms_with_tau": 1,
        "rooms_without_tau": 1,
        "rooms_with_top": 1,
        "rooms_without_top": 1,
    }


def test_summary_gives_null_for_undefined():
    one = summary([0.5], [0.0], ["a"])
    assert one["kendall_tau"] is one["kendall_tau_in_rooms"] is one["mean_ratio"] is None
    none = summary([], [], [])
    assert none["log_loss"] is none["calibration_error"] is None
    assert none["counts"]["samples"] == none["counts"]["rooms"] == 0


def test_summary_does_not_depend_on_the_order():
    rng = np.random.default_rng(1)
    scores, targets = np.round(rng.random((2, 300)), 1)
    groups = rng.integers(9, size=300)
    order = rng.permutation(300)
    first, second = (
        summary(scores, targets, groups),
        summary(*(v[order] for v in (scores, targets, groups))),
    )
    assert first["counts"] == second["counts"]
    for name in ("kendall_tau", "kendall_tau_in_rooms", "calibration_error", "precision_at_top"):
        assert first[name] == pytest.approx(second[name], abs=1e-12)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.1, 1.1])
def test_bad_scores_are_refused(bad):
    with pytest.raises(ValueError, match=r"scores must .*\(entry 1\)"):
        summary([0.5, bad], [0.5, 0.5], ["a", "a"])


def test_bad_shapes_and_settings_are_refused():
    with pytest.raises(ValueError, match="as long"):
        kendall_tau([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="one dimension"):
        kendall_tau([[1, 2]], [[1, 2]])
    with pytest.raises(ValueError, match="finite, not nan"):
        kendall_tau([1, math.nan], [1, 2])
    with pytest.raises(ValueError, match="groups"):
        mean_over_groups(kendall_tau, [1, 2], [1, 2], ["a"])
    with pytest.raises(ValueError, match="bins"):
        calibration([1], [1], bins=0)
    with pytest.raises(ValueError, match="weights"):
        calibration([1], [1], weights=[0])
