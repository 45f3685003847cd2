import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import kendalltau
from sklearn.linear_model import LogisticRegression

from contentctr.errors import InputError
from contentctr.metrics.ctr import log_loss
from contentctr.score import calibration as module
from contentctr.score.calibration import (
    FILE,
    Calibration,
    fit_calibration,
    read_calibration,
    write_calibration,
)


def world(shape, rooms=40, length=50, seed=0):
    """Scores whose true probability is `shape` of them, and 0/1 targets of it."""
    rng = np.random.default_rng(seed)
    scores = expit(rng.normal(-2, 1.0, rooms * length)).astype(np.float32).astype(np.float64)
    targets = (rng.random(len(scores)) < shape(scores)).astype(np.float64)
    return scores, targets, np.repeat(np.arange(rooms), length)


def overconfident(s):
    return expit(0.5 * logit(s) + 1)


def stepped(s):
    return np.interp(s, [0, 0.1, 0.12, 0.25, 0.35, 1], [0.02, 0.03, 0.25, 0.26, 0.7, 0.72])


@pytest.mark.parametrize("shape", [overconfident, stepped])
def test_it_brings_scores_to_the_targets(shape):
    scores, targets, rooms = world(shape)
    found = fit_calibration(scores, targets, rooms)
    assert found.method != "none" and found.why_none == ""
    fresh, fresh_targets, _ = world(shape, seed=1)
    after, best = log_loss(found(fresh), fresh_targets), log_loss(shape(fresh), fresh_targets)
    assert after < log_loss(fresh, fresh_targets) - 0.01
    assert after < best + 0.03
    losses = found.about["log_loss"]
    assert losses[found.method] == min(losses.values())
    assert fit_calibration(scores, targets, rooms) == found


def test_platt_is_scikit_learns():
    scores, targets, _ = world(overconfident)
    theirs = LogisticRegression(C=1e9, tol=1e-10).fit(logit(scores)[:, None], targets)
    found = module._fit("platt", scores, targets)
    np.testing.assert_allclose(found.parameters, [theirs.coef_[0, 0], theirs.intercept_[0]], 1e-3)


def test_beta_is_a_logistic_regression_on_two_logs():
    scores, targets, _ = world(overconfident)
    features = np.stack([np.log(scores), -np.log1p(-scores)], 1)
    theirs = LogisticRegression(C=1e9, tol=1e-10, max_iter=1000).fit(features, targets)
    found = module._fit("beta", scores, targets)
    np.testing.assert_allclose(
        found.parameters, [*theirs.coef_[0], theirs.intercept_[0]], atol=5e-3
    )


@pytest.mark.parametrize("method", ["platt", "beta", "isotonic"])
@pytest.mark.parametrize("shape", [overconfident, stepped])
def test_ranks_never_change(method, shape):
    scores, targets, _ = world(shape)
    found = module._fit(method, scores, targets)
    every = np.concatenate([scores, np.linspace(1e-6, 1, 101)]).astype(np.float32)
    above = np.nextafter(every, np.float32(1))  # sigmoids are float32
    neighbours = np.unique(np.concatenate([every, above]))
    mapped = found(neighbours.astype(np.float64))
    assert (np.diff(mapped) > 0).all()
    assert mapped[0] >= 0 and mapped[-1] <= 1
    assert kendalltau(found(scores), targets).statistic == kendalltau(scores, targets).statistic
    # So that a live score is the offline one to 1e-6, where log-odds are to rounding of float32.
    assert np.abs(found(scores + 6e-7 * scores * (1 - scores)) - found(scores)).max() < 1e-6
    assert np.isnan(found([np.nan, 0.5])).tolist() == [True, False]
    assert found.one(0.3) == found([0.3])[0] and found.one(None) is None


def test_it_is_off_where_it_cannot_help():
    scores, targets, rooms = world(overconfident, rooms=9)
    few = fit_calibration(scores, targets, rooms)
    assert (few.method, few.why_none) == ("none", "9 validation rooms, and it needs 10")
    np.testing.assert_array_equal(few(scores), scores)
    assert few.one(0.25) == 0.25
    same = fit_calibration(scores, np.zeros_like(scores), np.arange(len(scores)))
    assert same.why_none == "the scores or the targets do not differ"
    scores, _, rooms = world(overconfident)
    good = fit_calibration(scores, scores, rooms)
    assert np.abs(good(scores) - scores).max() < 0.02
    assert fit_calibration([], [], []).method == "none"
    falling = fit_calibration(scores, 1 - scores, rooms)
    assert (np.diff(falling(np.sort(np.unique(scores)))) > 0).all()


def test_it_is_stored_as_json_and_checked(tmp_path: Path):
    assert read_calibration(tmp_path) == Calibration()
    for shape in (overconfident, stepped):
        found = fit_calibration(*world(shape))
        write_calibration(tmp_path, found)
        assert read_calibration(tmp_path) == found
    for values, message in (
        ({"method": "magic"}, "method must be none, platt, beta, isotonic, not 'magic'"),
        ({"method": "platt", "parameters": [1.0]}, "parameters of platt must be 2 numbers"),
        ({"method": "beta", "parameters": [1.0, -1.0, 0.0]}, "slopes must be from 0.01 to 5"),
        ({"method": "beta", "parameters": [1.0, "x", 0.0]}, "parameters of beta must be 3 numbers"),
        ({"method": "isotonic", "knots": [[0, 0], [1, 1]]}, "knots must be 3 to"),
        ({"method": "isotonic", "knots": [[0, 0], [0.5, 0.6], [0.4, 0.7], [1, 1]]}, "rising"),
        ({"method": "isotonic", "knots": [[0, 0], [0.5, 0.6], [0.7, 0.5], [1, 1]]}, "rising"),
        ({"method": "isotonic", "knots": [[0, 0], [0.4, 0.1], [0.41, 0.6], [1, 1]]}, "rising"),
        ({"method": "isotonic", "knots": [[0, 0]] * 1000}, "knots must be 3 to"),
    ):
        (tmp_path / FILE).write_text(json.dumps(values))
        with pytest.raises(InputError, match=message):
            read_calibration(tmp_path)
    (tmp_path / FILE).write_text(" " * 70_000)
    with pytest.raises(InputError, match="must have at most 65536 bytes"):
        read_calibration(tmp_path)
