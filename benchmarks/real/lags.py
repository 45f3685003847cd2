"""A reference without our training: least squares on the text features by lag, then trees.

First, for every segment, how like its text is to what is said so long after a goal, a card, a
substitution or a kick-off: ridge regression in closed form. Those of the rooms to learn from are
left-out ones too (four inner folds of whole groups). Then trees on the three minutes around each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from sklearn.ensemble import HistGradientBoostingClassifier

from contentctr.evaluate.floors import Floats

LAGS_S = ((-15, 0), (0, 10), (10, 25), (25, 45), (45, 75), (75, 120))
RIDGE = 300.0
INNER = 4


class Lagged:
    """The reference, for some classes over one set of rooms.

    Args:
        text_ST: float32 features of the segments of all rooms.
        has_S: bool, whether there is any.
        table: room_id, start_s, end_s of the same rows, room by room, and `group`: rooms that
            must not be parted.
        events: room_id, t, label.
    """

    def __init__(
        self, text_ST: Floats, has_S: Floats, table: pl.DataFrame, events: pl.DataFrame
    ) -> None:
        self.table, self.has_S = table, has_S.astype(bool)
        self.group_S = table["group"].to_numpy()
        mean_T, sd_T = text_ST[self.has_S].mean(0), text_ST[self.has_S].std(0) + 1e-6
        text_ST = np.where(self.has_S[:, None], (text_ST - mean_T) / sd_T, 0)
        self.x_ST = np.c_[text_ST, self.has_S].astype(np.float32)
        self.y_SL = _lag_targets(table, events)
        self._squares, self._products = {}, {}
        for group in np.unique(self.group_S):
            own_S = (self.group_S == group) & self.has_S
            self._squares[group] = self.x_ST[own_S].T @ self.x_ST[own_S]
            self._products[group] = self.x_ST[own_S].T @ self.y_SL[own_S]

    def around(self, train: Sequence[int], minutes: pl.DataFrame, *, later: bool) -> Floats:
        """What the trees read: [minutes, features]; a group to learn from is told by others.

        Args:
            train: groups to learn from.
            minutes: room_id and minute.
            later: whether the next minute is known.
        """
        score_SL = self.x_ST @ self._fitted(train)
        for part in range(INNER):
            left_out = list(train)[part::INNER]
            own_S = np.isin(self.group_S, left_out)
            kept = [group for group in train if group not in left_out]
            score_SL[own_S] = self.x_ST[own_S] @ self._fitted(kept)
        return _around(score_SL, self.has_S, self.table, minutes, later=later)

    def _fitted(self, groups: Sequence[int]) -> Floats:
        squares = sum(self._squares[g] for g in groups) + RIDGE * np.eye(self.x_ST.shape[1])
        return np.linalg.solve(squares, sum(self._products[g] for g in groups))


def fit_trees(x_MF: Floats, y_M: Floats, seed: int) -> HistGradientBoostingClassifier:
    """Small trees: there are some hundred positive minutes."""
    trees = HistGradientBoostingClassifier(
        max_iter=120,
        learning_rate=0.05,
        max_leaf_nodes=8,
        min_samples_leaf=30,
        l2_regularization=5.0,
        max_features=0.3,
        random_state=seed,
    )
    return trees.fit(x_MF, y_M)


def _lag_targets(table: pl.DataFrame, events: pl.DataFrame) -> Floats:
    """1 where a segment's middle is so long after such a moment, [S, classes x lags]."""
    room_S = table["room_id"].to_numpy()
    middle_S = (table["start_s"] + table["end_s"]).to_numpy() / 2
    columns = []
    for name in sorted(events["label"].unique()):
        own = events.filter(pl.col("label") == name)
        found_SL = np.zeros((len(room_S), len(LAGS_S)), np.float32)
        for room, t in own.select("room_id", "t").iter_rows():
            rows = np.flatnonzero(room_S == room)
            for lag, (low, high) in enumerate(LAGS_S):
                inside = (middle_S[rows] >= t + low) & (middle_S[rows] < t + high)
                found_SL[rows[inside], lag] = 1
        columns.append(found_SL)
    return np.concatenate(columns, axis=1)


def _around(
    score_SL: Floats, has_S: Floats, table: pl.DataFrame, minutes: pl.DataFrame, *, later: bool
) -> Floats:
    """Highest and mean score of each lag in pieces of 20 s, from a minute before each minute on."""
    room_S, start_S = table["room_id"].to_numpy(), table["start_s"].to_numpy()
    score_SL = np.where(has_S[:, None], score_SL, np.nan)
    bounds = {room: np.searchsorted(room_S, (room,), "left")[0] for room in np.unique(room_S)}
    stops = {room: np.searchsorted(room_S, (room,), "right")[0] for room in bounds}
    rows = []
    for room, minute in minutes.select("room_id", "minute").iter_rows():
        low, high = bounds[room], stops[room]
        edges = np.arange(60 * minute - 60, 60 * minute + (121 if later else 61), 20)
        at = low + np.searchsorted(start_S[low:high], edges)
        parts = [score_SL[a:b] for a, b in zip(at[:-1], at[1:], strict=True)]
        rows.append(np.concatenate([[minute], *(_summary(part) for part in parts)]))
    return np.array(rows, np.float32)


def _summary(part_KL: Floats) -> Floats:
    known = part_KL[~np.isnan(part_KL[:, 0])] if len(part_KL) else part_KL
    if not len(known):
        return np.full(2 * part_KL.shape[1], np.nan)
    return np.concatenate([known.max(0), known.mean(0)])
