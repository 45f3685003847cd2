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

from contentctr.batch import IN_ROOM_SCALES
from contentctr.config import LATE_COMMENTS
from contentctr.prepare.targets import raw_target
from contentctr.store.statistics import COLUMNS, HALF_LIVES, table_statistics

HALF_LIFE = 3
"""Of the exponential mean, in segments."""
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
KEYS = ("room_id", "segment")
_READ = (*KEYS, "streamer_id", "split", "target", "ctr", *COLUMNS)
_MOST_ROWS = 200_000
"""Training segments that trees are fitted on, of whole rooms; of more rooms, every k-th."""
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

        Ranks inside rooms have no order between rooms, so there only the order inside counts; odds
        are alike in every room.
        """
        if self.is_label:
            return ("average_precision", "kendall_tau", "kendall_tau_in_rooms")
        inside = ("kendall_tau_in_rooms", "kendall_tau")
        return inside if self.scale in IN_ROOM_SCALES else inside[::-1]


def floor_scores(
    own: pl.DataFrame, what: Measured, rooms: pl.Series | None = None
) -> dict[str, pl.DataFrame]:
    """Each floor's score of every segment: room_id, segment, floor. By the keys of FLOORS.

    Trees are missing where there is nothing to fit them on.

    Args:
        own: all rooms' segments; floors that learn do so from the split train.
        what: the target.
        rooms: ids of those that are wanted; None: all.
    """
    # Only these: a column of the user's may have any name.
    raw = own.select(*_READ, raw=raw_target(own, what.target))
    train = raw.filter((pl.col("split") == "train") & pl.col("raw").is_not_null())
    wanted = raw if rooms is None else raw.filter(pl.col("room_id").is_in(rooms.unique().implode()))
    # A room's first segments have nothing before them, and a new streamer no rooms.
    means = _streamer_means(train, wanted)
    scores = {
        "segment_before": wanted.select(pl.col("raw").forward_fill().shift(1).over("room_id")),
        "exponential_mean": wanted.select(earlier_mean(pl.col("raw"), HALF_LIFE)),
        "streamer_mean": means.to_frame(),
    }
    trees = fit_trees(raw.filter(pl.col("split") == "train"), what)
    if trees is not None:
        scores["trees"] = pl.DataFrame({"trees": trees(wanted)})
    return {
        name: wanted.select(*KEYS, floor=scored.to_series().fill_null(means))
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


def _streamer_means(train: pl.DataFrame, wanted: pl.DataFrame) -> pl.Series:
    """The mean of each segment's streamer in the training rooms, else the mean of all."""
    means = train.group_by("streamer_id").agg(mean=pl.col("raw").mean())
    joined = wanted.join(means, on="streamer_id", how="left", maintain_order="left")
    # Without any training target nothing tells, and a constant has no order either way.
    overall = train["raw"].mean() if train.height else 0.5
    return joined["mean"].fill_null(overall)


class Trees:
    """Gradient-boosted trees on what a model's statistics token says, and on earlier targets.

    Args:
        model: of scikit-learn, fitted.
        telling_K: which numbers it was fitted on.
        what: the target.
    """

    def __init__(self, model: Any, telling_K: Bools, what: Measured) -> None:
        self.model, self.telling_K, self.what = model, telling_K, what

    def __call__(self, segments: pl.DataFrame) -> Floats:
        """What they say of each segment; some rooms at a time, for the memory."""
        first_R = np.flatnonzero(
            np.diff(segments["room_id"].rle_id().to_numpy().astype(int), prepend=-1)
        )
        _, at_P = np.unique(first_R // _MOST_ROWS, return_index=True)
        parts = zip(first_R[at_P], np.append(first_R[at_P][1:], segments.height), strict=True)
        return np.concatenate([np.empty(0), *(self._of(segments[a:b]) for a, b in parts)])

    def _of(self, segments: pl.DataFrame) -> Floats:
        known_SK = _known(segments, self.what)[:, self.telling_K]
        with _one_thread():
            if self.what.is_label:
                return np.asarray(self.model.predict_proba(known_SK)[:, 1])
            return np.asarray(self.model.predict(known_SK))


def fit_trees(train: pl.DataFrame, what: Measured) -> Trees | None:
    """Trees fitted on training rooms; None where there is too little to fit them on."""
    # In here: nothing but an evaluation pays for its import.
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    every = -(-train.height // _MOST_ROWS) or 1
    train = train.filter(pl.col("room_id").rle_id() % every == 0)
    fit = train["target"].is_not_null()
    if what.target == "ctr":
        fit &= (train["viewers"] >= what.min_viewers).fill_null(False)
    known_RK = _known(train, what)[fit.to_numpy()]
    targets = _learned(train.filter(fit), what)
    if len(targets) < _LEAST_ROWS or targets.min() == targets.max():
        return None
    # A number that is never known, or always the same, splits nothing, and scikit-learn fails.
    telling_K = np.fmax.reduce(known_RK) > np.fmin.reduce(known_RK)
    if not telling_K.any():
        return None
    kind = HistGradientBoostingClassifier if what.is_label else HistGradientBoostingRegressor
    with _one_thread():
        model = kind(**_TREES).fit(known_RK[:, telling_K], targets)
    return Trees(model, telling_K, what)


def _known(segments: pl.DataFrame, what: Measured) -> Floats:
    """What trees look at, a row a segment; NaN where there is nothing."""
    means = segments.select(
        pl.col("raw").shift(1).over("room_id").alias("before"),
        *(earlier_mean(pl.col("raw"), life).alias(f"mean_{life}") for life in HALF_LIVES),
    )
    # The floor is of whole segments: what parts of one tell beyond it is the model's to show.
    counted = segments.with_columns(pl.lit(None, pl.UInt32).alias(name) for name in LATE_COMMENTS)
    counted_SX = table_statistics(
        counted, horizon=0, target=what.target, scale=what.scale
    ).values_RX
    return np.concatenate([counted_SX, means.to_numpy()], axis=1)


def _learned(segments: pl.DataFrame, what: Measured) -> Floats:
    """What trees are fitted to.

    Of ranks inside rooms they learn little, since another room has another scale; the value itself
    tells what its segment will rank, and in logs its few peaks do not drown the rest.
    """
    if what.is_label:
        return (segments["target"] > 0).cast(pl.Float64).to_numpy()
    if what.scale == "none":
        return segments["target"].to_numpy()
    sizes = segments["raw"].abs()
    typical = sizes.filter(sizes > 0).median()
    return (segments["raw"].sign() * (sizes / (typical or 1.0)).log1p()).to_numpy()


def _one_thread() -> Any:
    """Beside another busy process, two were 11 times slower (docs/log.md)."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, user_api="openmp")
