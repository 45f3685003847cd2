import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from contentctr.metrics.labels import label_summary, roc_auc


def test_numbers_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    targets = (rng.random(400) < 0.05).astype(float)
    scores = np.round(rng.random(400) + 0.3 * targets, 2)
    rooms = np.arange(400) % 8
    found = label_summary(scores, targets, rooms)
    assert found["average_precision"] == pytest.approx(average_precision_score(targets, scores))
    assert found["roc_auc"] == pytest.approx(roc_auc_score(targets, scores))
    inside = [
        average_precision_score(targets[rooms == room], scores[rooms == room])
        for room in range(8)
        if targets[rooms == room].any()
    ]
    assert found["average_precision_in_rooms"] == pytest.approx(np.mean(inside))
    assert found["rooms_with_positives"] == len(inside)
    assert found["base_rate"] == targets.mean() and found["positives"] == targets.sum()


def test_precision_among_the_best_by_hand():
    scores = np.arange(12.0)[::-1]
    targets = np.array([1, 0, 0.2, 0, 0, 0, 0, 0, 0, 0, 1, 0])
    found = label_summary(scores, targets, np.zeros(12))
    # Of the ten best two; of the three best (as many as are positive) the same two.
    assert found["precision_at"] == {"10": 0.2, "positives": pytest.approx(2 / 3)}


def test_what_is_undefined_is_none():
    found = label_summary(np.arange(3.0), np.zeros(3), np.zeros(3))
    assert found["average_precision"] is found["roc_auc"] is None
    assert found["average_precision_in_rooms"] is None
    assert found["precision_at"] == {"positives": None} and found["base_rate"] == 0
    assert np.isnan(roc_auc(np.arange(3.0), np.ones(3)))
    assert label_summary([], [], [])["base_rate"] is None
