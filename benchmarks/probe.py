"""A linear probe: what of the simulated rooms' activity stands in an encoder's frozen features.

Multinomial logistic regression (scikit-learn's, on standardised features), fitted on the features
of training rooms, its penalty chosen on validation rooms, its accuracy measured on test rooms.
Only simulated rooms have a known activity, so every number from here is one of simulated rooms.
Shape suffixes: S segments, D feature width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from contentctr.encode.encoders import TextEncoder, VisualEncoder
from contentctr.encode.rooms import room_media
from contentctr.encode.segments import (
    default_batch_size,
    encode_frames,
    encode_texts,
    segment_spans,
    text_pairs,
)
from contentctr.errors import InputError
from contentctr.progress import progress_bar
from contentctr.store.rooms import SPLITS, PreparedRooms

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
"""Tried on the validation rooms; times half the squared weights, beside the mean log loss."""


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """What a probe finds; of simulated rooms, always."""

    accuracy: float
    """Share of the test rooms' segments whose activity is right."""
    majority: float
    """The same for always saying the training rooms' most frequent activity."""
    penalty: float
    """Of PENALTIES, the best on the validation rooms."""
    train_segments: int
    test_segments: int


def fit_probe(features_SD: NDArray[Any], labels_S: NDArray[np.int64], penalty: float) -> Pipeline:
    """Minimise mean log loss + penalty / 2 x sum of squared weights; biases are free.

    Args:
        features_SD: features.
        labels_S: classes.
        penalty: above 0.
    """
    # scikit-learn weighs the sum of the log losses by C, and the penalty by 1/2.
    classifier = LogisticRegression(C=1 / (penalty * len(labels_S)), tol=1e-7, max_iter=5000)
    # In float64: features are stored in half precision, and L-BFGS stops early on coarse sums.
    return make_pipeline(StandardScaler(), classifier).fit(features_SD.astype(np.float64), labels_S)


def probe_features(
    features_SD: NDArray[Any], labels_S: NDArray[np.int64], split_S: NDArray[Any]
) -> ProbeResult:
    """Fit on `train`, choose the penalty on `val`, measure on `test`.

    Args:
        features_SD: features of segments.
        labels_S: their classes, 0, 1, 2, ...
        split_S: train, val or test of each; a room's segments share it.

    Raises:
        InputError: one of the splits has no segment.
    """
    rows = {split: split_S == split for split in SPLITS}
    for split, chosen in rows.items():
        if not chosen.any():
            raise InputError(f"a probe needs segments of train, val and test; {split} has none")
    train, val, test = (rows[split] for split in SPLITS)
    fitted = {p: fit_probe(features_SD[train], labels_S[train], p) for p in PENALTIES}

    def loss(penalty: float) -> float:
        probe = fitted[penalty]
        found: float = log_loss(
            labels_S[val], probe.predict_proba(features_SD[val]), labels=probe.classes_
        )
        return found

    best = min(PENALTIES, key=loss)
    guess = np.bincount(labels_S[train]).argmax()
    right = fitted[best].predict(features_SD[test]) == labels_S[test]
    return ProbeResult(
        accuracy=float(right.mean()),
        majority=float((labels_S[test] == guess).mean()),
        penalty=best,
        train_segments=int(train.sum()),
        test_segments=int(test.sum()),
    )


def probe_visual(
    data: PreparedRooms, encoder: VisualEncoder, *, show_progress: bool = True
) -> ProbeResult:
    """Probe a visual encoder's features, averaged over a segment's frames, for the activity.

    Args:
        data: prepared simulated rooms with media and truth.
        encoder: f; put into evaluation mode.
        show_progress: show a bar on a terminal.

    Raises:
        InputError: no truth, no pictures, or a split without a segment.
    """
    parts = []
    for room, segments in _rooms(data, show_progress):
        features_SD, has_S = encode_frames(
            room_media(room),
            segment_spans(segments),
            encoder,
            frames_per_segment=data.manifest()["frames_per_segment"],
            batch_size=_batch(encoder),
        )
        parts.append(_labelled(features_SD, has_S, segments))
    return _probe(data, parts)


def probe_text(
    data: PreparedRooms, encoder: TextEncoder, *, show_progress: bool = True
) -> ProbeResult:
    """Probe a text encoder's features for the activity; see `probe_visual`."""
    parts = []
    lag = data.manifest()["comment_lag"]
    for _, segments in _rooms(data, show_progress):
        pairs = text_pairs(segments, lag)
        features_SD = encode_texts(pairs, encoder, batch_size=_batch(encoder))
        parts.append(_labelled(features_SD, np.array([any(p) for p in pairs], bool), segments))
    return _probe(data, parts)


def _rooms(data: PreparedRooms, show: bool) -> Iterator[tuple[dict[str, Any], pl.DataFrame]]:
    """Rooms and their segments with the column `activity`."""
    truth = data.truth()
    if truth is None:
        raise InputError(
            f"{data.root}: has no truth.parquet; only simulated rooms have a known activity"
        )
    labels = {name: k for k, name in enumerate(sorted(set(truth["activity"])))}
    table = data.segments().join(
        truth.select("room_id", "segment", pl.col("activity").replace_strict(labels)),
        on=("room_id", "segment"),
        how="inner",
        maintain_order="left",
    )
    with progress_bar("probe", data.rooms().height, show=show) as bar:
        for room in data.rooms().iter_rows(named=True):
            segments = table.filter(room_id=room["room_id"])
            if segments.height:
                yield room, segments
            bar.advance()


def _labelled(
    features_SD: NDArray[np.float32], has_S: NDArray[np.bool_], segments: pl.DataFrame
) -> tuple[NDArray[Any], ...]:
    labels_S, split_S = segments["activity"].to_numpy(), segments["split"].to_numpy()
    return features_SD[has_S], labels_S[has_S], split_S[has_S]


def _probe(data: PreparedRooms, parts: list[tuple[NDArray[Any], ...]]) -> ProbeResult:
    features_SD, labels_S, split_S = (np.concatenate(part) for part in zip(*parts, strict=True))
    try:
        return probe_features(features_SD, labels_S.astype(np.int64), split_S)
    except InputError as error:
        raise InputError(f"{data.root}: {error}") from None


def _batch(encoder: Any) -> int:
    return default_batch_size(next(iter(encoder.parameters())).device)
