"""Statistics of an A/B test whose users, not exposures, are the independent units.

A metric is a ratio of sums over users, R = sum X / sum Y: CTR is clicks over exposures. With U
users, the delta method gives var R = var(X_u - R Y_u) / (U mean(Y)^2) (Deng et al., *Applying the
Delta Method in Metric Analytics*, KDD 2018). Treating exposures as independent would make the
intervals too narrow, because one user's exposures are alike. The bootstrap draws users too.

Shape suffixes: U users of an arm, B bootstrap replicates, M sums that are drawn together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chisquare, norm

from contentctr.errors import InputError
from contentctr.progress import Progress

Floats = NDArray[np.float64]

METRICS: dict[str, tuple[str, str]] = {
    "ctr": ("clicks", "exposures"),
    "play_per_exposure": ("play_s", "exposures"),
    "play_per_user": ("play_s", "users"),
}
"""Each metric's sum above and below the line."""
SUMS = ("clicks", "play_s", "exposures", "users")
FORESEEN = 10
"""The days that a test needs are extrapolated to so many times those that it had, no further."""
_BLOCK = 4_000_000
"""Bootstrap weights drawn at once."""


@dataclass(frozen=True, kw_only=True)
class ArmSums:
    """One arm's users: what each of them adds to every sum."""

    clicks_U: Floats
    play_s_U: Floats
    exposures_U: Floats

    @property
    def users(self) -> int:
        """U."""
        return len(self.clicks_U)

    def column(self, name: str) -> Floats:
        """One of SUMS, [U]."""
        if name == "users":
            return np.ones(self.users)
        found: Floats = getattr(self, f"{name}_U")
        return found


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A metric of one arm."""

    value: float
    variance: float
    """Of `value`."""
    unit_variance: float
    """`variance` times the number of users: what one user's worth of data has."""
    users: int


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Treatment against control; intervals are two-sided, of level 1 - alpha."""

    difference: float
    difference_se: float
    difference_interval: tuple[float, float]
    lift: float | None
    """Relative difference; None where the control's value is 0."""
    lift_interval: tuple[float, float] | None
    p_value: float | None
    """Of no difference, two-sided; None where nothing varies but the arms differ."""


def estimate(arm: ArmSums, metric: str) -> Estimate:
    """A metric of one arm, with its variance by the delta method, clustered by user.

    Raises:
        InputError: fewer than two users.
    """
    if arm.users < 2:
        raise InputError(f"an arm must have at least 2 users, not {arm.users}")
    above, below = (arm.column(name) for name in METRICS[metric])
    value = float(above.sum() / below.sum())
    unit = float((above - value * below).var(ddof=1) / below.mean() ** 2)
    return Estimate(value=value, variance=unit / arm.users, unit_variance=unit, users=arm.users)


def interval(found: Estimate, alpha: float) -> tuple[float, float]:
    """Two-sided normal interval of level 1 - alpha around an arm's metric."""
    half = _quantile(1 - alpha / 2) * math.sqrt(found.variance)
    return found.value - half, found.value + half


def compare(control: Estimate, treatment: Estimate, alpha: float) -> Effect:
    """Difference and relative lift of a metric between two arms, by the delta method.

    The lift's variance is var(T) / C^2 + T^2 var(C) / C^4; arms are independent.
    """
    _require_level("alpha", alpha)
    z = _quantile(1 - alpha / 2)
    # Normal, not Student's t: arms have users by the hundred and more.
    c, t = control.value, treatment.value
    difference, se = t - c, math.sqrt(control.variance + treatment.variance)
    p_value = float(2 * norm.sf(abs(difference) / se)) if se > 0 else None
    if se == 0 and difference == 0:
        p_value = 1.0
    lift, lift_interval = None, None
    if c != 0:
        lift = t / c - 1
        half = z * math.sqrt(treatment.variance / c**2 + t**2 * control.variance / c**4)
        lift_interval = (lift - half, lift + half)
    return Effect(
        difference=difference,
        difference_se=se,
        difference_interval=(difference - z * se, difference + z * se),
        lift=lift,
        lift_interval=lift_interval,
        p_value=p_value,
    )


# Bootstrap


def bootstrap_sums(
    arm: ArmSums, replicates: int, rng: np.random.Generator, progress: Progress | None = None
) -> Floats:
    """Sums of an arm under the Poisson bootstrap: each user counts Poisson(1) times.

    Args:
        arm: the users.
        replicates: B.
        rng: where the weights come from.
        progress: advanced by the users done.

    Returns:
        [B, M], M in the order of SUMS.
    """
    columns_UM = np.stack([arm.column(name) for name in SUMS], axis=1)
    sums_BM = np.zeros((replicates, len(SUMS)))
    step = max(1, _BLOCK // replicates)
    for start in range(0, arm.users, step):
        block_UM = columns_UM[start : start + step]
        weights_BU = rng.poisson(1.0, (replicates, len(block_UM))).astype(np.float64)
        sums_BM += weights_BU @ block_UM
        if progress is not None:
            progress.advance(len(block_UM))
    return sums_BM


def bootstrap_effect(
    control_BM: Floats, treatment_BM: Floats, metric: str, alpha: float
) -> dict[str, list[float] | None]:
    """Percentile intervals of a metric's difference and lift, from both arms' bootstrap sums."""
    above, below = (SUMS.index(name) for name in METRICS[metric])
    c_B = control_BM[:, above] / control_BM[:, below]
    t_B = treatment_BM[:, above] / treatment_BM[:, below]
    levels = [alpha / 2, 1 - alpha / 2]
    lift = None if (c_B == 0).any() else np.quantile(t_B / c_B - 1, levels).tolist()
    return {"difference_interval": np.quantile(t_B - c_B, levels).tolist(), "lift_interval": lift}


# Sample-ratio mismatch


def sample_ratio_p(users: Sequence[int], shares: Sequence[float]) -> float:
    """P-value that arms of these sizes come from the planned shares: Pearson's chi-squared test.

    Args:
        users: of each arm, two arms or more.
        shares: planned, above 0, summing to 1.

    Raises:
        InputError: the shares do not fit.
    """
    if len(users) != len(shares) or len(users) < 2:
        raise InputError(f"shares must be one for each of {len(users)} arms, not {len(shares)}")
    if min(shares) <= 0 or not math.isclose(sum(shares), 1, abs_tol=1e-9):
        raise InputError(f"shares must be above 0 and sum to 1, not {list(shares)}")
    expected = [share * sum(users) for share in shares]
    return float(chisquare(users, expected).pvalue)


# Power


def required_users(
    control: Estimate, effect: float, shares: tuple[float, float], alpha: float, power: float
) -> int | None:
    """Users of both arms together that a test needs to find a relative effect.

    Both arms are taken to vary as the control does; normal, two-sided, the far tail neglected.

    Args:
        control: the metric in the control arm.
        effect: smallest relative change worth finding, above 0: 0.01 is +1 % or -1 %.
        shares: of the users, control and treatment, summing to 1.
        alpha: level of the test.
        power: probability of finding the effect if it is there.

    Returns:
        The number; None where the control's value is 0.
    """
    _require_level("alpha", alpha)
    _require_level("power", power)
    if not (math.isfinite(effect) and effect > 0):
        raise InputError(f"the effect to find must be above 0, not {effect!r}")
    if control.value == 0:
        return None
    needed = (_quantile(1 - alpha / 2) + _quantile(power)) / (effect * control.value)
    return math.ceil(needed**2 * control.unit_variance * sum(1 / share for share in shares))


def detectable_effect(
    control: Estimate, difference_se: float, alpha: float, power: float
) -> float | None:
    """Smallest relative effect that a test of this standard error finds with this power.

    None where the control's value is 0.
    """
    if control.value == 0:
        return None
    return (_quantile(1 - alpha / 2) + _quantile(power)) * difference_se / abs(control.value)


def required_days(effects_D: Sequence[float], wanted: float) -> tuple[int | None, float | None]:
    """Days until the detectable effect is down to `wanted`.

    Users come back, so twice the days is not twice the users. Where the test has not got there
    yet, its own course is continued: effect = a days^-b, b from the log of the first and the last
    day. It is an extrapolation.

    Args:
        effects_D: smallest detectable effect after 1, 2, ... days of the test, above 0.
        wanted: relative effect to find, above 0.

    Returns:
        The days, and b if it was used. No days where one day alone is known and does not suffice,
        or where they would be more than FORESEEN times the days known.
    """
    for day, effect in enumerate(effects_D, 1):
        if effect <= wanted:
            return day, None
    last = len(effects_D)
    if last < 2:
        return None, None
    slope = math.log(effects_D[0] / effects_D[-1]) / math.log(last)
    # In logarithms: with a slope near 0 the days overflow.
    if slope <= 0 or math.log(effects_D[-1] / wanted) > slope * math.log(FORESEEN):
        return None, slope
    return math.ceil(last * (effects_D[-1] / wanted) ** (1 / slope)), slope


def _quantile(p: float) -> float:
    """Of the standard normal distribution."""
    return float(norm.ppf(p))


def _require_level(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise InputError(f"{name} must lie between 0 and 1, not {value!r}")
