"""A linear probe: what of the simulated rooms' activity stands in an encoder's frozen features.

Multinomial logistic regression, fitted on the features of training rooms, its penalty chosen on
validation rooms, its accuracy measured on test rooms. Only simulated rooms have a known activity,
so every number from here is one of simulated rooms. Shape suffixes: S segments, D feature width,
K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

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
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A fitted probe: standardise, then a linear layer."""

    mean_D: Floats
    std_D: Floats
    weight_DK: Floats
    bias_K: Floats

    def logits(self, features_SD: NDArray[Any]) -> Floats:
        """Unnormalised log-probabilities [S, K]."""
        out: Floats = (features_SD - self.mean_D) / self.std_D @ self.weight_DK + self.bias_K
        return out


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


def fit_probe(
    features_SD: NDArray[Any], labels_S: NDArray[np.int64], *, num_classes: int, penalty: float
) -> Probe:
    """Multinomial logistic regression by L-BFGS in float64.

    Minimises mean log loss + penalty / 2 x sum of squared weights; biases are free, and features
    are standardised first.

    Args:
        features_SD: features.
        labels_S: classes, 0 to num_classes - 1.
        num_classes: K.
        penalty: at least 0.
    """
    mean_D: Floats = features_SD.mean(0, dtype=np.float64)
    std_D: Floats = features_SD.std(0, dtype=np.float64)
    # A feature that never changes says nothing; divided by 1 it stays zero.
    std_D = np.where(std_D > 1e-12, std_D, 1.0)
    inputs_SD = torch.from_numpy((features_SD - mean_D) / std_D)
    labels = torch.from_numpy(labels_S)
    weight = torch.zeros(inputs_SD.shape[1], num_classes, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(num_classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=500,
        history_size=20,
        tolerance_grad=1e-7,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(inputs_SD @ weight + bias, labels)
        value = value + penalty / 2 * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return Probe(
        mean_D=mean_D, std_D=std_D, weight_DK=weight.detach().numpy(), bias_K=bias.detach().numpy()
    )


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
    classes = int(labels_S.max()) + 1
    train, val, test = (rows[split] for split in SPLITS)
    fitted = {
        penalty: fit_probe(
            features_SD[train], labels_S[train], num_classes=classes, penalty=penalty
        )
        for penalty in PENALTIES
    }
    best = min(
        PENALTIES, key=lambda p: _log_loss(fitted[p].logits(features_SD[val]), labels_S[val])
    )
    guess = np.bincount(labels_S[train]).argmax()
    right = fitted[best].logits(features_SD[test]).argmax(1) == labels_S[test]
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


def _log_loss(logits_SK: Floats, labels_S: NDArray[np.int64]) -> float:
    loss = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits_SK), torch.from_numpy(labels_S)
    )
    return float(loss)
