"""A reference without our training: least squares on texts by lag, then trees.

First, for every segment, how like its text is to what is said so long after a goal, a card or a
substitution: ridge regression on the text features, in closed form, and on its words (each cut to
five letters, and pairs of them), by conjugate gradients. Those of the rooms to learn from are
left-out ones too (four inner folds of whole groups). Then trees on the three minutes around each.
Which words there are, how common each is, and the features' mean and spread are of all rooms, those
of the kept-out ones too: no label is in them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_array
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer

from contentctr.evaluate.floors import Floats

LAGS_S = ((-15, 0), (0, 10), (10, 25), (25, 45), (45, 75), (75, 120))
RIDGE = 300.0
RIDGE_WORDS = 2.0
STEPS = 60
"""Of conjugate gradients."""
INNER = 4
LETTERS = 5
"""A word is known by so many: languages inflect."""
LEAST_SEGMENTS = 12
"""A word or pair that stands in fewer is left out."""
_WORD = re.compile(r"\w+")


class Lagged:
    """The reference, for some classes over one set of rooms.

    Args:
        text_ST: float32 features of the segments of all rooms.
        texts_S: what was said in them.
        table: room_id, start_s, end_s of the same rows, room by room, and `group`: rooms that
            must not be parted.
        events: room_id, t, label.
    """

    def __init__(
        self, text_ST: Floats, texts_S: Sequence[str], table: pl.DataFrame, events: pl.DataFrame
    ) -> None:
        self.table, self.has_S = table, np.array([bool(text) for text in texts_S])
        self.group_S = table["group"].to_numpy()
        mean_T, sd_T = text_ST[self.has_S].mean(0), text_ST[self.has_S].std(0) + 1e-6
        text_ST = np.where(self.has_S[:, None], (text_ST - mean_T) / sd_T, 0)
        self.x_ST = np.c_[text_ST, self.has_S].astype(np.float32)
        self.words_SW = _count_words(texts_S)
        self.y_SL = _lag_targets(table, events)
        self._squares, self._products = {}, {}
        for group in np.unique(self.group_S):
            own_S = (self.group_S == group) & self.has_S
            self._squares[group] = self.x_ST[own_S].T @ self.x_ST[own_S]
            self._products[group] = self.x_ST[own_S].T @ self.y_SL[own_S]
        self._known: dict[tuple[int, ...], Floats] = {}

    def around(self, train: Sequence[int], minutes: pl.DataFrame, *, later: bool) -> Floats:
        """What the trees read: [minutes, features]; a group to learn from is told by others.

        Args:
            train: groups to learn from.
            minutes: room_id and minute.
            later: whether the next minute is known.
        """
        key = tuple(train)
        if key not in self._known:
            self._known[key] = self._scores(train)
        return _around(self._known[key], self.has_S, self.table, minutes, later=later)

    def _scores(self, train: Sequence[int]) -> Floats:
        """Of each segment for each class and lag, by features and by words: [S, 2 L]."""
        score_SL = self._fitted(train, np.ones(len(self.group_S), bool))
        for part in range(INNER):
            left_out = list(train)[part::INNER]
            own_S = np.isin(self.group_S, left_out)
            score_SL[own_S] = self._fitted([g for g in train if g not in left_out], own_S)
        return score_SL

    def _fitted(self, groups: Sequence[int], rows_S: NDArray[np.bool_]) -> Floats:
        """Scores of some rows, learned from some groups."""
        squares = sum(self._squares[g] for g in groups) + RIDGE * np.eye(self.x_ST.shape[1])
        by_feature = np.linalg.solve(squares, sum(self._products[g] for g in groups))
        known_S = np.isin(self.group_S, list(groups)) & self.has_S
        y_SL = self.y_SL[known_S]
        mean_L = y_SL.mean(0)
        by_word = _ridge(self.words_SW[known_S], y_SL - mean_L)
        return np.c_[self.x_ST[rows_S] @ by_feature, self.words_SW[rows_S] @ by_word + mean_L]


def _count_words(texts_S: Sequence[str]) -> csr_array:
    """Words and pairs of each segment by tf-idf: [S, W]."""
    counts = TfidfVectorizer(
        analyzer=_stems, min_df=LEAST_SEGMENTS, sublinear_tf=True, dtype=np.float32
    )
    return csr_array(counts.fit_transform(texts_S))


def _stems(text: str) -> list[str]:
    stems = [word[:LETTERS] for word in _WORD.findall(text.lower())]
    return [*stems, *(f"{a} {b}" for a, b in zip(stems, stems[1:], strict=False))]


def _ridge(x_SW: csr_array, y_SL: Floats) -> Floats:
    """Weights [W, L] of ridge regression: conjugate gradients, all targets at once."""
    across_WS = x_SW.T.tocsr()
    found_WL = np.zeros((x_SW.shape[1], y_SL.shape[1]), np.float32)
    left_WL = across_WS @ y_SL
    way_WL, size_L = left_WL.copy(), np.square(left_WL).sum(0)
    for _ in range(STEPS):
        turned_WL = across_WS @ (x_SW @ way_WL) + RIDGE_WORDS * way_WL
        step_L = size_L / np.maximum((way_WL * turned_WL).sum(0), 1e-30)
        found_WL += step_L * way_WL
        left_WL -= step_L * turned_WL
        before_L, size_L = size_L, np.square(left_WL).sum(0)
        way_WL = left_WL + size_L / np.maximum(before_L, 1e-30) * way_WL
    return found_WL


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
