"""The linear probe: what it minimises, which rows it sees, and rooms whose activity is known."""

from __future__ import annotations

import numpy as np
import pytest

from contentctr.encode import encoders
from contentctr.errors import InputError
from probe import PENALTIES, fit_probe, probe_features, probe_text, probe_visual
from tiny_models import make_tiny_bert, make_tiny_swin
from tiny_rooms import write_tiny_rooms


def blobs(count=300, width=5, classes=4, *, spread=1.5, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, width)) * 2
    labels = rng.integers(classes, size=count)
    scale = np.array([1.0, 10.0, 0.1, 1.0, 5.0])[:width]
    return (centres[labels] + spread * rng.normal(size=(count, width))) * scale + 3, labels


@pytest.mark.parametrize("penalty", [1e-3, 0.1])
def test_fit_is_at_the_least_of_the_penalised_loss(penalty):
    features, labels = blobs()
    scaler, fitted = fit_probe(features.astype(np.float32), labels, penalty)
    standard = (features - features.mean(0)) / features.std(0)
    assert scaler.transform(features) == pytest.approx(standard, abs=1e-4)
    error = fitted.predict_proba(standard) - np.eye(4)[labels]
    # Of mean log loss + penalty / 2 x squared weights; the biases are free.
    assert standard.T @ error / len(labels) + penalty * fitted.coef_.T == pytest.approx(0, abs=1e-5)
    assert error.mean(0) == pytest.approx(0, abs=1e-5)


def test_a_feature_that_never_changes_does_no_harm():
    features, labels = blobs()
    still = np.concatenate([features, np.full((len(labels), 1), 7.0)], axis=1)
    one, other = fit_probe(features, labels, 0.01), fit_probe(still, labels, 0.01)
    assert other.decision_function(still) == pytest.approx(
        one.decision_function(features), abs=1e-4
    )


def test_accuracy_is_of_test_rows_and_the_penalty_of_validation_rows():
    features, labels = blobs(600)
    split = np.repeat(["train", "val", "test"], 200)
    found = probe_features(features, labels, split)
    fits = {p: fit_probe(features[:200], labels[:200], p) for p in PENALTIES}
    losses = {}
    for penalty, fit in fits.items():
        chances = fit.predict_proba(features[200:400])[np.arange(200), labels[200:400]]
        losses[penalty] = -np.log(chances).mean()
    best = min(losses, key=losses.get)
    assert found.penalty == best
    expected = fits[best].predict(features[400:]) == labels[400:]
    assert found.accuracy == pytest.approx(expected.mean())
    guess = np.bincount(labels[:200]).argmax()
    assert found.majority == pytest.approx((labels[400:] == guess).mean())
    assert (found.train_segments, found.test_segments) == (200, 200)
    shuffled = np.concatenate([labels[:400], np.random.default_rng(0).permutation(labels[400:])])
    assert probe_features(features, shuffled, split).accuracy < found.accuracy - 0.2


def test_test_rows_do_not_change_the_fit():
    features, labels = blobs(600)
    split = np.repeat(["train", "val", "test"], 200)
    moved = features.copy()
    moved[500:] = 1e6
    kept = np.arange(600) < 500
    one = probe_features(features[kept], labels[kept], split[kept])
    other = probe_features(moved, labels, split)
    wrong = other.accuracy * 200 - one.accuracy * 100
    assert other.penalty == one.penalty and -1e-6 <= wrong <= 100 + 1e-6


def test_a_missing_split_is_named():
    features, labels = blobs(20)
    with pytest.raises(InputError, match="val has none"):
        probe_features(features, labels, np.repeat(["train", "test"], 10))


def test_activity_of_rooms(tmp_path):
    data = write_tiny_rooms(tmp_path / "data")
    visual = encoders.load_visual(str(make_tiny_swin(tmp_path / "swin")))
    text = encoders.load_text(str(make_tiny_bert(tmp_path / "bert")))
    for found in (
        probe_visual(data, visual, show_progress=False),
        probe_text(data, text, show_progress=False),
    ):
        assert found.accuracy == 1.0 and found.majority == 0.5
        assert (found.train_segments, found.test_segments) == (18, 6)


def test_rooms_without_truth_are_refused(tmp_path):
    data = write_tiny_rooms(tmp_path / "data", frames=False, truth=False)
    text = encoders.load_text(str(make_tiny_bert(tmp_path / "bert")))
    with pytest.raises(InputError, match="only simulated rooms have a known activity"):
        probe_text(data, text)
