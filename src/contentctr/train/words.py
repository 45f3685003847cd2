"""What words and text features say of the segments after them, fitted in closed form.

Ridge regression of the target k segments later on what is said now (models/words.py). Training
itself then sees scores of weights that other rooms taught: with those that a room taught itself,
the rest of the model would learn to believe them more than they deserve elsewhere.

Shape suffixes as in models/words.py, and: S training segments, C = P K scores.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor, nn

from contentctr.errors import InputError, require
from contentctr.models.words import BUCKETS, KNOWN, NO_WORD, PARTS, SCORES, Words, buckets
from contentctr.windows.rooms import WindowLoader
from contentctr.windows.segment_data import ExtraRows, SegmentData

RIDGE_WORDS, RIDGE_FEATURES = 6.0, 300.0
LEAST_SEGMENTS = 12
"""A word that stands in fewer training segments has no weight."""
FOLDS = 4
"""Parts of the training rooms, for the scores of each by the others."""
_TOGETHER = 2
"""Rooms in a row that are in one fold, as two halves of a match; with longer rows a fold could have
all rooms of a language."""
MOST_SEGMENTS = 200_000
"""That are fitted on; of more, whole rooms evenly among them."""
_STEPS, _AT_ONCE = 60, 2048
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


class WordsFit:
    """Fits the Words of models of one run: once, for it is of the data alone."""

    def __init__(self) -> None:
        self._buffers: list[Tensor] = []
        self._scores_SC: Tensor | None = None

    def __call__(self, model: nn.Module, loader: WindowLoader) -> WindowLoader:
        """Fit each Words in a model; the loader with scores that other rooms' weights gave.

        Without such a part the loader is returned as it is.

        Raises:
            InputError: there are fewer than two training rooms, or texts in one part of them alone.
        """
        found = [part for part in model.modules() if isinstance(part, Words)]
        if not found:
            return loader
        data = loader.data
        if self._scores_SC is None:
            self._scores_SC = _fit(found[0], data)
            self._buffers = [buffer.clone() for buffer in found[0].buffers()]
        for words in found:
            for mine, fitted in zip(words.buffers(), self._buffers, strict=True):
                mine.copy_(fitted)
        # The words themselves are not read again: no batch has to carry them.
        extra = {name: rows for name, rows in data.extra.items() if name != "words"}
        there_S = torch.ones(len(data), dtype=torch.bool)
        extra[SCORES] = ExtraRows(values_SX=self._scores_SC, has_S=there_S)
        return dataclasses.replace(loader, data=dataclasses.replace(data, extra=extra))


def _fit(words: Words, data: SegmentData) -> Tensor:
    """Fit a Words; what weights of other rooms say of each segment, standardised: [S, C]."""
    rooms = int(data.room_S.max()) + 1
    require(rooms >= 2, "training rooms", "at least 2 with model.words", rooms)
    said = _Said(data, words)
    fold_S = _folds(data)
    texts = len(np.unique(fold_S[said.fitted_S & said.has_text_S]))
    if texts < 2:  # the rooms of one fold have nothing that the others taught
        raise InputError(
            "training rooms must have texts with model.words in at least 2 of the "
            f"{fold_S.max() + 1} parts that teach each other, not {texts}"
        )
    raw_SC = np.zeros((len(data), PARTS * words.lags), np.float32)
    for fold in range(fold_S.max() + 1):
        said.fit(words, said.fitted_S & (fold_S != fold))
        raw_SC[fold_S == fold] = said.raw(words, fold_S == fold)
    said.fit(words, said.fitted_S)
    words.scale.fit(torch.from_numpy(raw_SC[said.has_text_S]))
    return words.standardised(torch.from_numpy(raw_SC), data.extra["words"].has_S, data.has_text_S)


class _Said:
    """What is said in training segments, and the target of those after each."""

    def __init__(self, data: SegmentData, words: Words) -> None:
        self.data = data
        self.has_words_S = data.extra["words"].has_S.numpy()
        self.has_text_S = data.has_text_S.numpy()
        self.fitted_S = data.room_S % _step(data) == 0
        self.bucket_FU = _bag(data, np.flatnonzero(self.fitted_S))
        self.later_SK = _later(data, words.first_lag, words.lags)

    def fit(self, words: Words, rows_S: Bools) -> None:
        """Fill a Words from some of the fitted rows."""
        self._fit_words(words, rows_S & self.has_words_S)
        self._fit_features(words, rows_S & self.has_text_S)

    def _fit_words(self, words: Words, rows_S: Bools) -> None:
        bucket_RU = self.bucket_FU[rows_S[self.fitted_S]]
        count_U = np.bincount(bucket_RU.indices, minlength=BUCKETS)
        known_V = np.flatnonzero(count_U >= LEAST_SEGMENTS)
        known_V = known_V[np.argsort(-count_U[known_V], kind="stable")][: KNOWN - 1]
        idf_V = (np.log((1 + len(bucket_RU.indptr)) / (1 + count_U[known_V])) + 1).astype(
            np.float32
        )
        found_VK = np.zeros((len(known_V), words.lags), np.float32)
        if len(known_V):
            y_RK = _centred(self.later_SK[rows_S])
            found_VK = _ridge(
                _weighted(bucket_RU[:, known_V], idf_V), y_RK, RIDGE_WORDS, "sparse_cg"
            )
        words.know(*(torch.from_numpy(x) for x in (known_V, idf_V, found_VK)))

    def _fit_features(self, words: Words, rows_S: Bools) -> None:
        text_RT = self._text(np.flatnonzero(rows_S))
        words.by_feature_TK.zero_()
        if len(text_RT):
            words.feature.fit(text_RT)
            x_RT = words.feature(text_RT).numpy()
            y_RK = _centred(self.later_SK[rows_S])
            found_TK = _ridge(x_RT, y_RK, RIDGE_FEATURES, "cholesky")
            words.by_feature_TK.copy_(torch.from_numpy(found_TK))

    def _text(self, rows: Ints) -> Tensor:
        return self.data.text_ST[torch.from_numpy(rows)].float()

    def raw(self, words: Words, rows_S: Bools) -> Floats:
        """What a Words says of some rows, not standardised: [R, C]."""
        parts_RC = []
        for rows in np.array_split(np.flatnonzero(rows_S), -(-rows_S.sum() // _AT_ONCE) or 1):
            numbers_RX = self.data.extra["words"].values_SX[torch.from_numpy(rows)].float()
            parts_RC.append(words.raw(numbers_RX, self._text(rows)))
        return torch.cat(parts_RC).numpy()


def _bag(data: SegmentData, rows: Ints) -> csr_array:
    """Which buckets stand in each of some segments: ones, [R, U]."""
    columns, lengths = [], []
    for start in range(0, len(rows), _AT_ONCE):
        some = torch.from_numpy(rows[start : start + _AT_ONCE])
        bucket_RW = buckets(data.extra["words"].values_SX[some].float()).numpy()
        there_RW = bucket_RW != NO_WORD
        columns.append(bucket_RW[there_RW].astype(np.int32))
        lengths.append(there_RW.sum(1))
    column, ends = np.concatenate(columns), np.cumsum(np.concatenate(lengths))
    ones, starts = np.ones(len(column), np.float32), np.concatenate([[0], ends])
    return csr_array((ones, column, starts), shape=(len(rows), BUCKETS))


def _weighted(there_RV: csr_array, idf_V: Floats) -> csr_array:
    """The same with idf in place of ones, each row of length 1, as `Words.of_words` has it."""
    weight = idf_V[there_RV.indices]
    row = np.repeat(np.arange(there_RV.shape[0]), np.diff(there_RV.indptr))
    norm_R = np.sqrt(np.bincount(row, weight.astype(np.float64) ** 2, there_RV.shape[0]))
    weight = (weight / np.maximum(norm_R, 1e-6)[row]).astype(np.float32)
    return csr_array((weight, there_RV.indices, there_RV.indptr), shape=there_RV.shape)


def _later(data: SegmentData, first_lag: int, lags: int) -> Floats:
    """The target so many segments after each, in its room: [S, K]; NaN where there is none."""
    target_S, room_S = data.target_S.numpy(), data.room_S
    found_SK = np.full((len(data), lags), np.nan, np.float32)
    rows_S = np.arange(len(data))
    for k in range(lags):
        later_S = rows_S + first_lag + k
        near_S = later_S.clip(0, len(data) - 1)
        same_S = (later_S == near_S) & (room_S[near_S] == room_S)
        found_SK[:, k] = np.where(same_S, target_S[near_S], np.nan)
    return found_SK


def _step(data: SegmentData) -> int:
    """Of so many rooms the first is fitted on, for MOST_SEGMENTS of them or few more."""
    return -(-len(data) // MOST_SEGMENTS)


def _folds(data: SegmentData) -> Ints:
    """The fold of each row's room, [S]; those that are fitted on are evenly among the folds."""
    number_S = data.room_S // _step(data)
    rooms = int(number_S.max()) + 1
    folds = min(FOLDS, rooms)
    fold_S: Ints = number_S // (_TOGETHER if rooms >= _TOGETHER * folds else 1) % folds
    return fold_S


def _centred(later_RK: Floats) -> Floats:
    """Less their mean; unknown ones say nothing."""
    known_RK = ~np.isnan(later_RK)
    sum_K = np.where(known_RK, later_RK, 0).sum(0, dtype=np.float64)
    mean_K = sum_K / np.maximum(known_RK.sum(0), 1)
    found_RK: Floats = np.where(known_RK, later_RK - mean_K, 0).astype(np.float32)
    return found_RK


def _ridge(x_RU: csr_array | Floats, y_RK: Floats, ridge: float, solver: str) -> Floats:
    """Weights [U, K] of ridge regression without an intercept."""
    from sklearn.linear_model import Ridge  # takes a second to import

    found = Ridge(alpha=ridge, fit_intercept=False, solver=solver, max_iter=_STEPS, tol=1e-4)
    weights: Floats = found.fit(x_RU, y_RK).coef_.reshape(y_RK.shape[1], -1).T
    return np.ascontiguousarray(weights, np.float32)
