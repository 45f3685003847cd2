"""What needs no model: rules of thumb on the segments before.

Each floor of segment j knows what the rooms did up to segment j - 1, whose target counts as known,
whatever the horizon: a model of horizon 0 has heard segment j beside, one of horizon 1 has not.
Floors of a target that is ranked or spread inside its room are of the values before that
(`raw_target`), since a room's ranks are known at its end alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contentctr.prepare.targets import raw_target
from contentctr.store.statistics import HALF_LIVES, table_statistics

HALF_LIFE = 3
"""Of the exponential mean, in segments."""
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
KEYS = ("room_id", "segment")
_MOST_ROWS = 200_000
"""Training segments that trees are fitted on; of more, every k-th."""
_LEAST_ROWS = 50
_TREES: dict[str, Any] = {
    # Slower and smaller than scikit-learn's own, which learn some thousand segments by heart.
    "learning_rate": 0.05,
    "max_leaf_nodes": 8,
    "min_samples_leaf": 50,
    "early_stopping": False,
    "random_state": 0,
}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What floors are taken of."""

    target: str
    scale: str
    """Of `set_target`."""
    is_label: bool
    """Whether the target says yes or no."""
    min_viewers: int
    """Training segments with fewer have no say, where the target is CTR."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics that are compared; the verdict is of the first.

        Ranks inside rooms have no order between rooms, so there only the order inside counts.
        """
        if self.is_label:
            return ("average_precision", "kendall_tau", "kendall_tau_in_rooms")
        inside = ("kendall_tau_in_rooms", "kendall_tau")
        return inside if self.scale != "none" else inside[::-1]


def floor_scores(own: pl.DataFrame, what: Measured) -> dict[str, pl.DataFrame]:
    """Each floor's score of every segment: room_id, segment, floor. By the keys of FLOORS.

    Trees are missing where there is nothing to fit them on.

    Args:
        own: all rooms' segments; floors that learn do so from the split train.
        what: the target.
    """
    raw = own.with_columns(raw=raw_target(own, what.target))
    # A room's first segments have nothing before them, and a new streamer no rooms.
    means = _streamer_means(raw)
    scores = {
        "segment_before": raw.select(pl.col("raw").forward_fill().shift(1).over("room_id")),
        "exponential_mean": raw.select(earlier_mean(pl.col("raw"), HALF_LIFE)),
        "streamer_mean": means.to_frame(),
    }
    trees = _trees(raw, what)
    if trees is not None:
        scores["trees"] = trees.to_frame()
    return {
        name: own.select(*KEYS, floor=scored.to_series().fill_null(means))
        for name, scored in scores.items()
    }


def earlier_mean(values: pl.Expr, half_life: float) -> pl.Expr:
    """Exponential mean of the values of all earlier segments of the room.

    The segment k before counts for 2^(-(k - 1) / half_life), and for nothing where its value is
    null; the weights sum to one.
    """
    mean = values.ewm_mean(half_life=half_life, adjust=True, ignore_nulls=False)
    # Polars gives none at a null itself, where the mean of the values before it still stands.
    return mean.forward_fill().shift(1).over("room_id")


def _streamer_means(raw: pl.DataFrame) -> pl.Series:
    """The mean of each segment's streamer in the training rooms, else the mean of all."""
    known = raw.filter((pl.col("split") == "train") & pl.col("raw").is_not_null())
    means = known.group_by("streamer_id").agg(mean=pl.col("raw").mean())
    joined = raw.join(means, on="streamer_id", how="left", maintain_order="left")
    # Without any training target nothing tells, and a constant has no order either way.
    overall = known["raw"].mean() if known.height else 0.5
    return joined["mean"].fill_null(overall)


def _trees(raw: pl.DataFrame, what: Measured) -> pl.Series | None:
    """Gradient-boosted trees on what a model's statistics token says, and on earlier targets."""
    means = raw.select(
        pl.col("raw").shift(1).over("room_id").alias("before"),
        *(
            earlier_mean(pl.col("raw"), half_life).alias(f"mean_{half_life}")
            for half_life in HALF_LIVES
        ),
    )
    counted_SX = table_statistics(raw, horizon=0, target=what.target).values_RX
    known_SK = np.concatenate([counted_SX, means.to_numpy()], axis=1)
    fit = (raw["split"] == "train") & raw["target"].is_not_null()
    if what.target == "ctr":
        fit &= (raw["viewers"] >= what.min_viewers).fill_null(False)
    rows = np.flatnonzero(fit.to_numpy())
    rows = rows[:: -(-len(rows) // _MOST_ROWS) or 1]
    if len(rows) < _LEAST_ROWS:
        return None
    targets = raw["target"].to_numpy()[rows]
    if what.scale != "none":
        # Of ranks inside rooms trees learn little, since another room has another scale; the value
        # itself tells what its segment will rank, and in logs its few peaks do not drown the rest.
        targets = _in_logs(raw["raw"].to_numpy()[rows])
    # A number that is never known, or always the same, splits nothing, and scikit-learn fails.
    fitted_RK = known_SK[rows]
    telling_K = np.fmax.reduce(fitted_RK) > np.fmin.reduce(fitted_RK)
    if not telling_K.any() or targets.min() == targets.max():
        return None
    known_SK = known_SK[:, telling_K]
    return pl.Series(_fit_and_predict(known_SK, rows, targets, what.is_label))


def _fit_and_predict(known_SK: Floats, rows: Ints, targets: Floats, is_label: bool) -> Floats:
    """Trees fitted on some rows, and what they say of all."""
    # In here: nothing but an evaluation pays for its import.
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from threadpoolctl import threadpool_limits

    # One thread: beside another busy process two were 11 times slower (docs/log.md).
    with threadpool_limits(1, user_api="openmp"):
        if is_label:
            chances = HistGradientBoostingClassifier(**_TREES).fit(known_SK[rows], targets > 0)
            return np.asarray(chances.predict_proba(known_SK)[:, 1])
        means = HistGradientBoostingRegressor(**_TREES).fit(known_SK[rows], targets)
        return np.asarray(means.predict(known_SK))


def _in_logs(values: Floats) -> Floats:
    """log(1 + |value| / typical value), with the value's sign."""
    sizes = np.abs(values)
    typical = np.median(sizes[sizes > 0]) if sizes.any() else 1.0
    return np.sign(values) * np.log1p(sizes / typical)
