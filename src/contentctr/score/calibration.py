"""From a model's scores to the targets' mean at those scores: a map that keeps their order.

    platt     logit p = a logit s + b
    beta      logit p = a log s - b log(1 - s) + c (Kull et al., 2017)
    isotonic  the rising steps nearest to the targets, joined through the steps' middles

The log loss of rooms that were left out chooses among them and none at all. All learned targets
lie in [0, 1] and are learned by log loss, so all are calibrated alike: of a CTR the result is a
click probability, of a rank inside the room the mean rank.

Shape suffixes: M samples, K knots.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contentctr.counting import counted
from contentctr.errors import InputError
from contentctr.files import read_json, write_json

FILE = "calibration.json"
"""In a checkpoint's folder."""
Method = Literal["none", "platt", "beta", "isotonic"]
LEAST_ROOMS = 10
"""Of fewer rooms nothing is fitted: what is won is less than what chance moves."""
FOLDS = 5
LEAST_SLOPE = 1e-4
"""So much of the score itself is in every calibrated one: what differs stays different."""
_MOST_SLOPE = 5.0
"""Against log-odds, a sigmoid's being 1: live scores are the offline ones to rounding of log-odds,
which steeper maps would blow up."""
_BINS = 50
_MOST_KNOTS = _BINS + 2
_MOST_BYTES = 1 << 16
_SIZES = {"none": 0, "platt": 2, "beta": 3}
_LIMITS = (1e-2, _MOST_SLOPE)
"""Of slopes in log-odds."""
_CLIP = 1e-12
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A strictly rising map of [0, 1] into itself."""

    method: Method = "none"
    parameters: tuple[float, ...] = ()
    """a, b of platt; a, b, c of beta."""
    knots: tuple[tuple[float, float], ...] = ()
    """Of isotonic: scores and calibrated scores, from (0, ...) to (1, ...), straight between."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What it was fitted on, and the methods' losses; or why nothing was."""

    def __call__(self, scores: ArrayLike) -> Floats:
        """Calibrated scores, of the same shape; NaN stays.

        Args:
            scores: in [0, 1].
        """
        given = np.asarray(scores, np.float64)
        if self.method == "none":
            return given
        if self.method == "isotonic":
            x_K, y_K = np.array(self.knots).T
            found: Floats = np.interp(given, x_K, y_K)
        else:
            found = _sigmoid(_log_odds(self.method, self.parameters, given))
        mixed: Floats = (1 - LEAST_SLOPE) * found + LEAST_SLOPE * given
        return mixed

    def one(self, score: float | None) -> float | None:
        """A single score; None stays."""
        return score if score is None or self.method == "none" else float(self(score))

    @property
    def why_none(self) -> str:
        """Why scores stay as they are, in words; "" where they do not."""
        if self.method != "none":
            return ""
        return str(self.about.get("why", "the checkpoint was made before it could be fitted"))


def _features(method: str, scores: Floats) -> Floats:
    """What the log-odds are linear in, [M, F]."""
    safe = np.clip(scores, _CLIP, 1 - _CLIP)
    ones = np.ones_like(safe)
    if method == "platt":
        return np.stack([np.log(safe) - np.log1p(-safe), ones], -1)
    return np.stack([np.log(safe), -np.log1p(-safe), ones], -1)


def _sigmoid(log_odds: Floats) -> Floats:
    """1 / (1 + exp(-x)), also where that is far below 1e-16; NaN stays."""
    with np.errstate(invalid="ignore"):
        found: Floats = np.exp(-np.logaddexp(0, -log_odds))
    return found


def _log_odds(method: str, parameters: tuple[float, ...], scores: Floats) -> Floats:
    found: Floats = _features(method, scores) @ np.array(parameters)
    return found


def fit_calibration(scores: ArrayLike, targets: ArrayLike, rooms: ArrayLike) -> Calibration:
    """The calibration that predicts the targets of rooms best that it was not fitted on.

    Args:
        scores: shape (M,), in [0, 1].
        targets: shape (M,), in [0, 1].
        rooms: shape (M,), the room of each sample: one is never in two folds.

    Returns:
        None at all (method "none") where there are fewer than LEAST_ROOMS rooms, where the targets
        do not differ, or where nothing predicts better.
    """
    scores_M, targets_M = np.asarray(scores, np.float64), np.asarray(targets, np.float64)
    names, room_M = np.unique(np.asarray(rooms), return_inverse=True)
    about: dict[str, Any] = {"rooms": len(names), "samples": len(scores_M)}
    if len(names) < LEAST_ROOMS:
        few = counted(len(names), "validation room")
        return Calibration(about={**about, "why": f"{few}, and it needs {LEAST_ROOMS}"})
    if np.ptp(targets_M) == 0 or np.ptp(scores_M) == 0:
        return Calibration(about={**about, "why": "the scores or the targets do not differ"})
    fold_M = (np.random.default_rng(0).permutation(len(names)) % FOLDS)[room_M]
    losses = {
        method: _left_out_loss(method, scores_M, targets_M, fold_M) for method in get_args(Method)
    }
    best: Method = min(losses, key=lambda name: losses[name])
    about |= {"log_loss": {k: None if math.isinf(v) else v for k, v in losses.items()}}
    if best == "none":
        about["why"] = "no calibration predicts left-out rooms better"
    found = _fit(best, scores_M, targets_M)
    if found is None:
        return Calibration(about={**about, "why": f"{best} cannot be fitted on all rooms"})
    return Calibration(
        method=found.method, parameters=found.parameters, knots=found.knots, about=about
    )


def _left_out_loss(method: Method, scores_M: Floats, targets_M: Floats, fold_M: Any) -> float:
    """Log loss of each fold under what the others say; infinite where they say nothing."""
    found_M = np.empty_like(scores_M)
    for fold in range(FOLDS):
        out_M = fold_M == fold
        fitted = _fit(method, scores_M[~out_M], targets_M[~out_M])
        if fitted is None:
            return math.inf
        found_M[out_M] = fitted(scores_M[out_M])
    # Imported when used, as the others below: what serves a model fits nothing.
    from contentctr.metrics.ctr import log_loss

    return log_loss(np.clip(found_M, 0, 1), targets_M)


def _fit(method: Method, scores_M: Floats, targets_M: Floats) -> Calibration | None:
    """None where the map would fall, or be too steep."""
    if method == "none":
        return Calibration()
    if method == "isotonic":
        knots = _isotonic_knots(scores_M, targets_M)
        return None if knots is None else Calibration(method=method, knots=knots)
    features_MF = _features(method, scores_M)

    def loss(weights_F: Floats) -> tuple[float, Floats]:
        z_M = features_MF @ weights_F
        # log(1 + exp z) - y z is the cross-entropy of a soft label.
        value = float(np.mean(np.logaddexp(0, z_M) - targets_M * z_M))
        return value, (_sigmoid(z_M) - targets_M) @ features_MF / len(z_M)

    from scipy.optimize import minimize

    slopes = features_MF.shape[1] - 1
    found = minimize(
        loss,
        [1.0] * slopes + [0.0],
        jac=True,
        method="L-BFGS-B",
        bounds=[_LIMITS] * slopes + [(None, None)],
    )
    parameters = tuple(float(value) for value in found.x)
    # A slope at its limit is a model whose scores say nothing, or the contrary.
    at_limit = any(value <= 2 * _LIMITS[0] for value in parameters[:slopes])
    if not np.isfinite(found.x).all() or (method == "platt" and at_limit):
        return None
    return Calibration(method=method, parameters=parameters)


def _isotonic_knots(scores_M: Floats, targets_M: Floats) -> tuple[tuple[float, float], ...] | None:
    """Middles of the steps of an isotonic regression over bins of equal count."""
    order_M = np.argsort(scores_M, kind="stable")
    bins = [rows for rows in np.array_split(order_M, _BINS) if len(rows)]
    x_K = np.array([scores_M[rows].mean() for rows in bins])
    y_K = np.array([targets_M[rows].mean() for rows in bins])
    weights_K = np.array([len(rows) for rows in bins], np.float64)
    from sklearn.isotonic import IsotonicRegression

    level_K = IsotonicRegression(y_min=0, y_max=1).fit_transform(x_K, y_K, sample_weight=weights_K)
    knots = [(0.0, 0.0)]
    for level in np.unique(level_K):
        same_K = level_K == level
        x = float(np.average(x_K[same_K], weights=weights_K[same_K]))
        # Too near to the one before for its height: the next one may be far enough.
        if _is_gentle(knots[-1], (x, float(level))):
            knots.append((x, float(level)))
    end = (1.0, 1.0)
    return (*knots, end) if len(knots) > 2 and _is_gentle(knots[-1], end) else None


def _is_gentle(a: tuple[float, float], b: tuple[float, float]) -> bool:
    """Whether a straight line may go from one knot to a later one."""
    if not (a[0] < b[0] and a[1] <= b[1]):
        return False
    middle = min(max(0.5, a[0]), b[0])
    # A score moves most against its log-odds where it is nearest to 0.5.
    return (b[1] - a[1]) / (b[0] - a[0]) * 4 * middle * (1 - middle) <= _MOST_SLOPE * (1 + 1e-9)


def write_calibration(folder: Path, found: Calibration) -> None:
    """Write a calibration into a checkpoint's folder."""
    write_json(
        folder / FILE,
        {
            "method": found.method,
            "parameters": list(found.parameters),
            "knots": [list(knot) for knot in found.knots],
            "about": dict(found.about),
        },
    )


def read_calibration(folder: Path) -> Calibration:
    """The calibration of a checkpoint's folder; none where it has none.

    Raises:
        InputError: it is damaged, or does not keep the scores' order.
    """
    path = folder / FILE
    if not path.is_file():
        return Calibration()
    if path.stat().st_size > _MOST_BYTES:
        raise InputError(f"{path}: must have at most {_MOST_BYTES} bytes")
    values = read_json(path)
    given, about = values.get("method"), values.get("about", {})
    method: Method | None = next((name for name in get_args(Method) if name == given), None)
    if method is None or not isinstance(about, dict):
        raise InputError(f"{path}: method must be {', '.join(get_args(Method))}, not {given!r}")
    if method == "isotonic":
        return Calibration(method=method, knots=_checked_knots(path, values), about=about)
    parameters = values.get("parameters")
    size = _SIZES[method]
    if (
        not isinstance(parameters, list)
        or len(parameters) != size
        or not all(map(_is_number, parameters))
    ):
        raise InputError(f"{path}: parameters of {method} must be {size} numbers")
    slopes = parameters[: max(0, size - 1)]
    if not all(_LIMITS[0] <= value <= _LIMITS[1] for value in slopes):
        raise InputError(f"{path}: slopes must be from {_LIMITS[0]} to {_LIMITS[1]}, not {slopes}")
    return Calibration(method=method, parameters=tuple(map(float, parameters)), about=about)


def _checked_knots(path: Path, values: Mapping[str, Any]) -> tuple[tuple[float, float], ...]:
    knots = values.get("knots")
    rule = f"{path}: knots must be 3 to {_MOST_KNOTS} rising pairs from 0, 0 to 1, 1"
    if not isinstance(knots, list) or not 3 <= len(knots) <= _MOST_KNOTS:
        raise InputError(rule)
    if not all(isinstance(k, list) and len(k) == 2 and all(map(_is_number, k)) for k in knots):
        raise InputError(rule)
    pairs = tuple((float(x), float(y)) for x, y in knots)
    rising = all(_is_gentle(a, b) for a, b in zip(pairs, pairs[1:], strict=False))
    if pairs[0] != (0.0, 0.0) or pairs[-1] != (1.0, 1.0) or not rising:
        raise InputError(rule)
    return pairs


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
