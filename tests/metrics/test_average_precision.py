"""Average precision: against scikit-learn, naive loops, and numbers worked by hand."""

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve

from contentctr.metrics.average_precision import (
    average_precision,
    interpolated_average_precision,
    mean_over_users,
    stretch_labels,
    stretch_scores,
    top_k_average_precision,
    user_metrics,
)

CASES = [(seed, length, ties) for seed in range(12) for length in (2, 7, 90) for ties in (2, 5, 0)]


def drawn(seed: int, length: int, ties: int):
    rng = np.random.default_rng(seed)
    labels = rng.random(length) < 0.3
    labels[rng.integers(length)] = True
    scores = rng.integers(0, ties, length).astype(float) if ties else rng.normal(size=length)
    return labels, scores


@pytest.mark.parametrize(("seed", "length", "ties"), CASES)
def test_equal_to_scikit_learn_with_and_without_ties(seed, length, ties):
    labels, scores = drawn(seed, length, ties)
    expected = average_precision_score(labels, scores)
    assert average_precision(labels, scores) == pytest.approx(expected, abs=1e-12)
    mixed = np.random.default_rng(seed).permutation(length)
    assert average_precision(labels[mixed], scores[mixed]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("seed", "length", "ties"), CASES)
def test_interpolated_is_the_best_precision_at_each_distinct_recall(seed, length, ties):
    labels, scores = drawn(seed, length, ties)
    precision, recall, _ = precision_recall_curve(labels, scores)
    recalls = sorted({r for r in recall if r > 0})
    expected = np.mean(
        [max(p for p, r in zip(precision, recall, strict=True) if r >= level) for level in recalls]
    )
    assert interpolated_average_precision(labels, scores) == pytest.approx(expected, abs=1e-12)


def test_by_hand():
    labels, scores = [0, 1, 0, 1, 0], [0.9, 0.8, 0.7, 0.6, 0.5]
    assert average_precision(labels, scores) == pytest.approx((1 / 2 + 2 / 4) / 2)
    # The precision at recall 1/2 is 1/2, at recall 1 it is 1/2.
    assert interpolated_average_precision(labels, scores) == pytest.approx(0.5)
    # 1, then 2/3 after two hits of equal score beside a miss: three positives, two recalls.
    labels, scores = [1, 1, 0, 1], [3, 2, 2, 2]
    assert average_precision(labels, scores) == pytest.approx(1 / 3 + 2 / 3 * 3 / 4)
    assert interpolated_average_precision(labels, scores) == pytest.approx((1 + 3 / 4) / 2)
    # A miss first: the precision at the lower recall is lifted to the best one further down.
    labels, scores = [0, 1, 1, 1], [4, 3, 2, 1]
    assert average_precision(labels, scores) == pytest.approx((1 / 2 + 2 / 3 + 3 / 4) / 3)
    assert interpolated_average_precision(labels, scores) == pytest.approx(3 / 4)


def test_without_a_positive_there_is_none_and_with_positives_alone_it_is_one():
    for metric in (average_precision, interpolated_average_precision, top_k_average_precision):
        assert math.isnan(metric([0, 0], [1, 2]))
        assert math.isnan(metric([], []))
        assert metric([1, 1, 1], [0.2, 0.1, 0.1]) == 1


def test_top_five_by_hand():
    # Hits at ranks 1, 3 and 5; a fourth positive is sixth.
    labels = [1, 0, 1, 0, 1, 1]
    assert top_k_average_precision(labels, [6, 5, 4, 3, 2, 1]) == pytest.approx(
        (1 + 2 / 3 + 3 / 5) / 4
    )
    # Seven positives, five of them on top: as good as it gets.
    assert top_k_average_precision([1] * 7 + [0], range(8, 0, -1)) == 1
    assert top_k_average_precision([0] * 5 + [1], range(6, 0, -1)) == 0
    assert top_k_average_precision([0, 1], [1, 2], k=1) == 1


def test_a_constant_score_gains_nothing_among_the_best_five():
    assert top_k_average_precision([1] + [0] * 9, [0.5] * 10) == 0
    assert top_k_average_precision([0] * 9 + [1], [0.5] * 10) == 0


def test_stretches_have_the_mean_score_and_any_label():
    scores = [1.0, 2.0, 3.0, 4.0, 5.0]
    np.testing.assert_allclose(stretch_scores(scores, 2), [1.5, 3.5, 5.0])
    assert stretch_labels([0, 1, 0, 0, 1], 2).tolist() == [True, False, True]
    np.testing.assert_allclose(stretch_scores(scores, 9), [3.0])


def test_a_user_by_hand():
    # One frame a second: stretches 0-4, 5-9 and 10-11; frame 6 is selected.
    labels = np.zeros(12, bool)
    labels[6] = True
    scores = np.array([9.0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 5, 5])
    found = user_metrics(labels, scores, frame_rate=1.0)
    # Above or beside frame 6 are all but the four frames of score 0.
    assert found["ap"] == pytest.approx(1 / 8)
    # Means 1.8, 1 and 5: the stretch of the selection is the last.
    assert found["ap_stretches"] == pytest.approx(1 / 3)
    assert found["ap_top5"] == pytest.approx(1 / 3)
    # All frames of that stretch come in last, together.
    assert found["ap_published"] == pytest.approx(1 / 12)
    # At a frame in five seconds, stretches are frames.
    slow = user_metrics(labels, scores, frame_rate=0.2)
    assert slow["ap_stretches"] == slow["ap"]


def test_the_mean_is_over_users_and_counts_those_it_leaves_out():
    labels = [[1, 0], [0, 1, 0, 0], [0, 0], [1, 1, 1]]
    scores = [[2, 1], [4, 3, 2, 1], [1, 2], [1, 1, 1]]
    found = mean_over_users(labels, scores, frame_rate=1.0)
    assert found["map"] == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert (found["users"], found["users_undefined"], found["users_all_positive"]) == (3, 1, 1)
    nobody = mean_over_users([[0, 0]], [[1, 2]], frame_rate=1.0)
    assert math.isnan(nobody["map"]) and nobody["users"] == 0


def test_scores_must_be_finite():
    with pytest.raises(AssertionError, match="finite"):
        average_precision([0, 1], [0.0, math.nan])
