"""From exposure logs to abtest.json: all numbers of an A/B test, for the report page."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from contentctr.abtest import statistics as st
from contentctr.abtest.logs import ExposureLog, read_logs
from contentctr.abtest.statistics import METRICS, SUMS, ArmSums, Estimate
from contentctr.errors import InputError
from contentctr.files import read_json, write_json
from contentctr.outputs import check_output, output_folder
from contentctr.progress import progress_bar

RESULTS, PAGE = "abtest.json", "report.html"
KIND = "an A/B test"
"""What the folder of these files holds, as outputs.py calls it."""
SCHEMA_VERSION = 1
CONTROL_NAMES = ("control", "base")
"""An arm of one of these names is the control unless another is named."""
SRM_LEVEL = 0.001
"""Below this p-value the arms' sizes do not fit the plan."""


@dataclass(frozen=True, kw_only=True)
class TestSettings:
    """Levels, the effect to find, and the bootstrap."""

    __test__ = False  # pytest takes it for a test class, by its name

    alpha: float = 0.05
    """Level of every test; intervals have 1 - alpha."""
    power: float = 0.8
    """Probability of finding an effect of `effect` if it is there."""
    effect: float = 0.01
    """Smallest relative effect worth finding."""
    bootstrap: int = 1000
    """Replicates of the bootstrap; 0: none."""
    seed: int = 0
    """Of the bootstrap."""

    def __post_init__(self) -> None:
        for name in ("alpha", "power"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(f"{name} must lie between 0 and 1, not {getattr(self, name)!r}")
        if not (math.isfinite(self.effect) and self.effect > 0):
            raise InputError(f"effect must be above 0, not {self.effect!r}")
        if self.bootstrap and self.bootstrap < 100:
            raise InputError(f"bootstrap must be 0 or at least 100, not {self.bootstrap!r}")


def analyse_logs(
    source: Path | str,
    out: Path | str,
    *,
    control: str | None = None,
    shares: Mapping[str, float] | None = None,
    settings: TestSettings | None = None,
    show_progress: bool = True,
) -> dict[str, Any]:
    """Analyse the logs of an A/B test and write OUT/abtest.json.

    Args:
        source: log file, or a folder of them (abtest/logs.py).
        out: a new or empty folder, or one of an earlier test or of the replay itself.
        control: name of the control arm. None: the one named as in CONTROL_NAMES.
        shares: planned share of users of each arm; None: equal.
        settings: levels, the effect to find, and the bootstrap.
        show_progress: show bars.

    Returns:
        What abtest.json holds.

    Raises:
        InputError: the logs, the arm or the shares are wrong, or `out` holds files of somebody
            else.
    """
    out = Path(out)
    check_output(out, KIND, [RESULTS, PAGE])
    settings = settings or TestSettings()
    log = read_logs(Path(source), show_progress=show_progress)
    names = _arm_names(log, control)
    planned = _planned(names, shares)
    arms = {name: arm_sums(log.user_days, name) for name in names}
    sizes = [arms[name].users for name in names]
    srm_p = st.sample_ratio_p(sizes, [planned[name] for name in names])
    draws = _bootstrap(arms, settings, show_progress)
    results = {
        "schema_version": SCHEMA_VERSION,
        "simulated": log.simulated,
        "control": names[0],
        "settings": dataclasses.asdict(settings),
        "counts": {
            "exposures": log.rows,
            "users": log.users,
            "users_in_several_arms": log.crossed_users,
            "days": len(log.days),
        },
        "days": log.days,
        "warnings": log.warnings,
        "sample_ratio": {
            "p_value": srm_p,
            "mismatch": srm_p < SRM_LEVEL,
            "planned": planned,
            "users": dict(zip(names, sizes, strict=True)),
        },
        "arms": {name: _arm_block(arm, settings.alpha) for name, arm in arms.items()},
        "effects": {n: _effects(log, arms, names[0], n, draws, settings) for n in names[1:]},
        "by_day": [_day_block(log, names, day, settings.alpha) for day in log.days],
        "manifest": log.manifest,
    }
    with output_folder(out, KIND, [RESULTS, PAGE], keep=True):
        write_json(out / RESULTS, results)
    return read_json(out / RESULTS)


def parse_shares(words: Sequence[str]) -> dict[str, float] | None:
    """Planned shares from words such as `control=0.9`; None where there are none.

    Raises:
        InputError: a word has another form, or names an arm twice.
    """
    shares: dict[str, float] = {}
    for word in words:
        name, _, value = word.rpartition("=")
        try:
            share = float(value)
        except ValueError:
            share = math.nan
        if not name or not math.isfinite(share) or name in shares:
            raise InputError(f"a share must be ARM=NUMBER, each arm once, not {word!r}")
        shares[name] = share
    return shares or None


def arm_sums(user_days: pl.DataFrame, arm: str) -> ArmSums:
    """The sums of each of an arm's users, in the order of their ids."""
    sums = pl.col("clicks", "play_s", "exposures").sum()
    users = (
        user_days.filter(pl.col("arm") == arm).group_by("user_id", maintain_order=True).agg(sums)
    )
    columns = {
        f"{name}_U": users[name].to_numpy().astype(np.float64)
        for name in ("clicks", "play_s", "exposures")
    }
    return ArmSums(**columns)


def _arm_names(log: ExposureLog, control: str | None) -> list[str]:
    """Every arm's name, the control's first."""
    names = sorted(log.user_days["arm"].unique().to_list())
    if control is None:
        known = [name for name in names if name in CONTROL_NAMES]
        if len(known) != 1:
            raise InputError(f"say which arm is the control (--control NAME); there are {names}")
        control = known[0]
    if control not in names:
        raise InputError(f"the control must be one of the arms {names}, not {control!r}")
    return [control, *(name for name in names if name != control)]


def _planned(names: Sequence[str], shares: Mapping[str, float] | None) -> dict[str, float]:
    if shares is None:
        return dict.fromkeys(names, 1 / len(names))
    if set(shares) != set(names):
        raise InputError(f"shares must be given for the arms {sorted(names)}, not {sorted(shares)}")
    return {name: shares[name] for name in names}


def _bootstrap(
    arms: Mapping[str, ArmSums], settings: TestSettings, show: bool
) -> dict[str, st.Floats]:
    if not settings.bootstrap:
        return {}
    # A stream an arm, because users of one say nothing of the other's.
    streams = np.random.SeedSequence(settings.seed).spawn(len(arms))
    total = sum(arm.users for arm in arms.values())
    with progress_bar("Bootstrap", total, show=show) as bar:
        return {
            name: st.bootstrap_sums(arm, settings.bootstrap, np.random.default_rng(stream), bar)
            for (name, arm), stream in zip(arms.items(), streams, strict=True)
        }


def _arm_block(arm: ArmSums, alpha: float) -> dict[str, Any]:
    block: dict[str, Any] = {name: float(arm.column(name).sum()) for name in SUMS}
    for name in ("clicks", "exposures", "users"):
        block[name] = int(block[name])
    block["metrics"] = {}
    for metric in METRICS:
        found = st.estimate(arm, metric)
        block["metrics"][metric] = {
            "value": found.value,
            "interval": list(st.interval(found, alpha)),
        }
    return block


def _effects(
    log: ExposureLog,
    arms: Mapping[str, ArmSums],
    control: str,
    treatment: str,
    draws: Mapping[str, st.Floats],
    settings: TestSettings,
) -> dict[str, Any]:
    """For each metric: effect, bootstrap, the effect from day to day, and the power."""
    running = _running(log, control, treatment)
    found = {}
    for metric in METRICS:
        pairs = [(day, st.estimate(c, metric), st.estimate(t, metric)) for day, c, t in running]
        c, t = (st.estimate(arms[name], metric) for name in (control, treatment))
        resampled = None
        if draws:
            resampled = st.bootstrap_effect(
                draws[control], draws[treatment], metric, settings.alpha
            )
        found[metric] = {
            **dataclasses.asdict(st.compare(c, t, settings.alpha)),
            "bootstrap": resampled,
            "running": [_running_row(*pair, settings.alpha) for pair in pairs],
            "power": _power(pairs, settings),
        }
    return found


def _running(log: ExposureLog, control: str, treatment: str) -> list[tuple[str, ArmSums, ArmSums]]:
    """Both arms' sums from the first day to each day from which they have two users or more."""
    found = []
    for last, day in enumerate(log.days, 1):
        part = log.user_days.filter(pl.col("day").is_in(log.days[:last]))
        pair = (arm_sums(part, control), arm_sums(part, treatment))
        if min(arm.users for arm in pair) >= 2:
            found.append((day, *pair))
    return found


def _running_row(day: str, control: Estimate, treatment: Estimate, alpha: float) -> dict[str, Any]:
    effect = st.compare(control, treatment, alpha)
    return {"day": day, "lift": effect.lift, "lift_interval": effect.lift_interval}


def _power(
    pairs: Sequence[tuple[str, Estimate, Estimate]], settings: TestSettings
) -> dict[str, Any]:
    """What the test can find by now, and what `settings.effect` would need."""
    alpha, power = settings.alpha, settings.power
    detectable = []
    for _, control, treatment in pairs:
        se = st.compare(control, treatment, alpha).difference_se
        detectable.append(st.detectable_effect(control, se, alpha, power))
    known = [effect for effect in detectable if effect]
    _, control, treatment = pairs[-1]
    users = control.users + treatment.users
    shares = (control.users / users, treatment.users / users)
    days, exponent = st.required_days(known, settings.effect) if known else (None, None)
    return {
        "detectable": detectable[-1],
        "users": users,
        "required_users": st.required_users(control, settings.effect, shares, alpha, power),
        "required_days": days,
        "days_exponent": exponent,
    }


def _day_block(log: ExposureLog, names: Sequence[str], day: str, alpha: float) -> dict[str, Any]:
    """Each arm's metrics on one day alone; none where it has fewer than two users."""
    part = log.user_days.filter(pl.col("day") == day)
    sums = {name: arm_sums(part, name) for name in names}
    return {
        "day": day,
        "arms": {n: _arm_block(arm, alpha) if arm.users >= 2 else None for n, arm in sums.items()},
    }
