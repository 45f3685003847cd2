import math
from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats

from contentctr.abtest.statistics import (
    METRICS,
    SUMS,
    ArmSums,
    Estimate,
    bootstrap_effect,
    bootstrap_sums,
    compare,
    detectable_effect,
    estimate,
    interval,
    required_days,
    required_users,
    sample_ratio_p,
)
from contentctr.errors import InputError


def make_arm(users, rng, rate=0.2, spread=1.0):
    """Users whose exposures are alike: each has a click rate, and a number of exposures, of their
    own; those who see more click less."""
    exposures = 1 + rng.poisson(rng.exponential(6, users))
    own = rng.beta(rate / spread * 3, (1 - rate) / spread * 3, users) / np.sqrt(exposures)
    clicks = rng.binomial(exposures, own)
    return ArmSums(
        clicks_U=clicks.astype(float),
        exposures_U=exposures.astype(float),
        play_s_U=clicks * rng.exponential(60, users),
    )


def by_hand():
    return ArmSums(
        clicks_U=np.array([1.0, 0.0, 2.0]),
        exposures_U=np.array([2.0, 1.0, 3.0]),
        play_s_U=np.array([30.0, 0.0, 60.0]),
    )


def test_estimates_by_hand():
    # CTR = 3 / 6; residuals 0, -1/2, 1/2, variance 1/4; mean exposures 2: (1/4) / 4 = 1/16.
    found = estimate(by_hand(), "ctr")
    assert (found.value, found.users) == (0.5, 3)
    assert found.unit_variance == pytest.approx(1 / 16)
    assert found.variance == pytest.approx(1 / 48)
    # 15 s an exposure; residuals 0, -15, 15: 225 / 4.
    assert estimate(by_hand(), "play_per_exposure").value == 15
    assert estimate(by_hand(), "play_per_exposure").unit_variance == pytest.approx(225 / 4)
    # 30 s a user, and the plain variance of 30, 0, 60.
    assert estimate(by_hand(), "play_per_user").value == 30
    assert estimate(by_hand(), "play_per_user").unit_variance == pytest.approx(900)


def test_delta_method_as_the_covariance_formula_has_it():
    arm = make_arm(500, np.random.default_rng(0))
    x, y = arm.clicks_U, arm.exposures_U
    cov = np.cov(x, y)
    r = x.mean() / y.mean()
    wanted = (cov[0, 0] - 2 * r * cov[0, 1] + r**2 * cov[1, 1]) / y.mean() ** 2 / len(x)
    assert estimate(arm, "ctr").variance == pytest.approx(wanted, rel=1e-12)


def test_mean_per_user_is_welchs_z():
    rng = np.random.default_rng(1)
    a, b = make_arm(900, rng), make_arm(700, rng)
    effect = compare(estimate(a, "play_per_user"), estimate(b, "play_per_user"), 0.1)
    se = math.sqrt(stats.sem(a.play_s_U) ** 2 + stats.sem(b.play_s_U) ** 2)
    assert effect.difference_se == pytest.approx(se)
    z = NormalDist().inv_cdf(0.95)
    assert effect.difference_interval == pytest.approx(
        (effect.difference - z * se, effect.difference + z * se)
    )
    tail = math.erfc(abs(effect.difference) / se / math.sqrt(2))
    assert effect.p_value == pytest.approx(tail)


def test_lift_by_hand():
    control = Estimate(value=0.2, variance=0.0001, unit_variance=0.01, users=100)
    treatment = Estimate(value=0.25, variance=0.0004, unit_variance=0.04, users=100)
    effect = compare(control, treatment, 0.05)
    assert effect.lift == pytest.approx(0.25)
    half = NormalDist().inv_cdf(0.975) * math.sqrt(0.0004 / 0.04 + 0.0625 * 0.0001 / 0.0016)
    assert effect.lift_interval == pytest.approx((0.25 - half, 0.25 + half))


def test_degenerate_arms():
    none = Estimate(value=0.0, variance=0.0, unit_variance=0.0, users=9)
    some = Estimate(value=0.1, variance=0.0, unit_variance=0.0, users=9)
    effect = compare(none, some, 0.05)
    assert (effect.lift, effect.lift_interval, effect.p_value) == (None, None, None)
    assert compare(some, some, 0.05).p_value == 1
    with pytest.raises(InputError, match="at least 2 users, not 1"):
        estimate(ArmSums(clicks_U=np.ones(1), exposures_U=np.ones(1), play_s_U=np.ones(1)), "ctr")
    with pytest.raises(InputError, match="alpha must lie between 0 and 1"):
        compare(some, some, 1.0)


def test_intervals_cover_and_those_of_independent_exposures_do_not():
    rng = np.random.default_rng(2)
    truth = estimate(make_arm(400_000, rng, spread=3.0), "ctr").value
    covered, naive, rejected, repeats = 0, 0, 0, 600
    for _ in range(repeats):
        a, b = (make_arm(400, rng, spread=3.0) for _ in range(2))
        found = estimate(a, "ctr")
        low, high = interval(found, 0.05)
        covered += low <= truth <= high
        half = 1.96 * math.sqrt(found.value * (1 - found.value) / a.exposures_U.sum())
        naive += abs(found.value - truth) <= half
        rejected += compare(found, estimate(b, "ctr"), 0.05).p_value < 0.05
    # Four standard deviations of a binomial around 95 % and 5 %.
    assert covered / repeats == pytest.approx(0.95, abs=4 * math.sqrt(0.05 * 0.95 / repeats))
    assert rejected / repeats == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / repeats))
    assert naive / repeats < 0.9


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
def test_lift_intervals_cover(metric):
    rng = np.random.default_rng(3)
    c, t = (estimate(make_arm(2_000_000, rng, rate=r), metric).value for r in (0.2, 0.24))
    repeats, covered = 3000, 0
    for _ in range(repeats):
        pair = [estimate(make_arm(1000, rng, rate=r), metric) for r in (0.2, 0.24)]
        low, high = compare(*pair, 0.05).lift_interval
        covered += low <= t / c - 1 <= high
    assert covered / repeats == pytest.approx(0.95, abs=0.02)


# Bootstrap


def test_bootstrap_agrees_with_the_delta_method():
    rng = np.random.default_rng(4)
    a, b = make_arm(3000, rng), make_arm(3000, rng, rate=0.24)
    sums = [bootstrap_sums(arm, 2000, np.random.default_rng(k)) for k, arm in enumerate((a, b))]
    for metric in METRICS:
        effect = compare(estimate(a, metric), estimate(b, metric), 0.05)
        found = bootstrap_effect(*sums, metric, 0.05)
        for name in ("difference_interval", "lift_interval"):
            wanted = getattr(effect, name)
            width = wanted[1] - wanted[0]
            assert found[name] == pytest.approx(wanted, abs=0.08 * width), (metric, name)


def test_bootstrap_weights_are_poisson_and_of_users(monkeypatch):
    arm = make_arm(50, np.random.default_rng(5))
    sums = bootstrap_sums(arm, 20_000, np.random.default_rng(6))
    for k, name in enumerate(SUMS):
        column = arm.column(name)
        # Poisson(1) weights: mean and variance of the sum are sum x and sum x^2.
        assert sums[:, k].mean() == pytest.approx(column.sum(), rel=0.01)
        assert sums[:, k].var() == pytest.approx((column**2).sum(), rel=0.05)
    again = bootstrap_sums(arm, 20_000, np.random.default_rng(6))
    assert (again == sums).all()
    monkeypatch.setattr("contentctr.abtest.statistics._BLOCK", 20_000 * 7)
    blocks = bootstrap_sums(arm, 20_000, np.random.default_rng(6))
    assert blocks.mean(axis=0) == pytest.approx(sums.mean(axis=0), rel=0.01)


# Sample ratio


def test_sample_ratio_by_hand():
    # Two arms: chi-squared 20^2 / 1020, one degree of freedom, whose tail is erfc(sqrt(x / 2)).
    wanted = math.erfc(math.sqrt(20**2 / 1020 / 2))
    assert sample_ratio_p([500, 520], [0.5, 0.5]) == pytest.approx(wanted, rel=1e-12)
    # Three arms, 309, 309 and 412 expected of 1030: two degrees, whose tail is exp(-x / 2).
    wanted = math.exp(-(9**2 / 309 + 1**2 / 309 + 8**2 / 412) / 2)
    assert sample_ratio_p([300, 310, 420], [0.3, 0.3, 0.4]) == pytest.approx(wanted, rel=1e-12)
    assert sample_ratio_p([900, 100], [0.9, 0.1]) == 1
    assert sample_ratio_p([990, 10], [0.5, 0.5]) < 1e-200


@pytest.mark.parametrize("shares", [[0.5, 0.6], [1.0], [1.0, 0.0]])
def test_shares_are_checked(shares):
    with pytest.raises(InputError, match="shares must be"):
        sample_ratio_p([10, 10], shares)


# Power


def test_required_users_by_the_textbook():
    # A plain proportion of 0.1: unit variance 0.09; lift 10 %: difference 0.01.
    control = Estimate(value=0.1, variance=0.09 / 500, unit_variance=0.09, users=500)
    z = NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.8)
    assert required_users(control, 0.1, (0.5, 0.5), 0.05, 0.8) == math.ceil(
        z**2 * 0.09 / 0.01**2 * 4
    )
    uneven = required_users(control, 0.1, (0.9, 0.1), 0.05, 0.8)
    assert uneven == math.ceil(z**2 * 0.09 / 0.01**2 * (1 / 0.9 + 1 / 0.1))
    none = Estimate(value=0.0, variance=0.0, unit_variance=0.0, users=9)
    assert required_users(none, 0.1, (0.5, 0.5), 0.05, 0.8) is None
    with pytest.raises(InputError, match="effect to find must be above 0"):
        required_users(control, 0.0, (0.5, 0.5), 0.05, 0.8)


def test_detectable_effect_is_the_inverse_of_required_users():
    control = Estimate(value=0.1, variance=0.0, unit_variance=0.09, users=500)
    users = required_users(control, 0.03, (0.5, 0.5), 0.05, 0.9)
    se = math.sqrt(0.09 * 4 / users)
    assert detectable_effect(control, se, 0.05, 0.9) == pytest.approx(0.03, rel=1e-4)


def test_a_test_of_the_required_users_finds_the_effect_as_often_as_said():
    rng = np.random.default_rng(7)
    lift = 0.2
    pilot = estimate(make_arm(100_000, rng), "ctr")
    users = required_users(pilot, lift, (0.5, 0.5), 0.05, 0.8)
    found, repeats = 0, 500
    for _ in range(repeats):
        a, b = (make_arm(users // 2, rng, rate=rate) for rate in (0.2, 0.2 * (1 + lift)))
        found += compare(estimate(a, "ctr"), estimate(b, "ctr"), 0.05).p_value < 0.05
    # The treated arm varies a little more than the control, on which the number rests.
    assert found / repeats == pytest.approx(0.8, abs=0.08)


def test_required_days():
    halving = [0.08 * day**-0.5 for day in (1, 2, 3, 4)]
    assert required_days(halving, 0.04) == (4, None)
    assert required_days(halving, 0.2) == (1, None)
    days, slope = required_days(halving, 0.02)
    assert (days, slope) == (16, pytest.approx(0.5))
    assert required_days(halving, 0.005) == (None, pytest.approx(0.5))  # 256 days
    assert required_days([0.08], 0.02) == (None, None)
    assert required_days([0.08, 0.08], 0.02) == (None, 0)
    assert required_days([0.08, 0.079999], 0.02)[0] is None
    assert required_days([0.08, 0.09], 0.02)[0] is None
