"""How found scenes of a film are scored against its labelled parts, as published for danmaku.

Ping and Chen, "Video Highlights Detection and Summarization with Lag-Calibration based on
Concept-Emotion Mapping of Crowd-sourced Time-Sync Comments" (EMNLP workshop 2017, W17-4501): scenes
of 15 s, as many as the film has labels. A label is found, and a scene is right, where the two
overlap within 5 s. Precision is the share of scenes that are right, recall the share of labels that
are found; numbers of films are averaged.

Shape suffixes: K scenes [start, end), L labels [start, end).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from contentctr.errors import InputError

SCENE_S = 15.0
NEAR_S = 5.0
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """How well a film's labels were found; each in [0, 1]."""

    precision: float
    recall: float
    f1: float


def score_scenes(scenes_K2: ArrayLike, labels_L2: ArrayLike, *, near_s: float = NEAR_S) -> Found:
    """Precision, recall and F1 of a film's scenes.

    Args:
        scenes_K2: start and end of each, in seconds.
        labels_L2: the same of each label; at least one.
        near_s: how far apart the two may lie and still count as overlapping.
    """
    scenes, labels = (np.asarray(x, float).reshape(-1, 2) for x in (scenes_K2, labels_L2))
    # A label that ends before it starts (they are cut out by hand) overlaps nothing but by chance.
    near_KL = (scenes[:, None, 0] - near_s <= labels[None, :, 1]) & (
        scenes[:, None, 1] + near_s >= labels[None, :, 0]
    )
    precision = float(near_KL.any(1).mean()) if len(scenes) else 0.0
    recall = float(near_KL.any(0).mean())
    both = precision + recall
    return Found(precision, recall, 2 * precision * recall / both if both else 0.0)


def uniform_scenes(number: int, duration_s: float) -> Floats:
    """So many scenes, evenly over the film, [K, 2]."""
    middle_K = (np.arange(number) + 0.5) * duration_s / number
    return np.stack([middle_K - SCENE_S / 2, middle_K + SCENE_S / 2], axis=1)


def best_scenes(spans_S2: Floats, scores_S: Floats, number: int) -> Floats:
    """The scenes of the highest scores, [K, 2]; of equal ones the earlier."""
    order = np.argsort(-np.nan_to_num(scores_S, nan=-np.inf), kind="stable")
    return spans_S2[np.sort(order[:number])]


def apart_scenes(start_S: Floats, scores_S: Floats, number: int) -> Floats:
    """The scenes of the highest scores that do not overlap, by time, [K, 2].

    Args:
        start_S: where scenes of SCENE_S may start, in seconds.
        scores_S: of each; of equal ones the earlier is taken.
        number: of scenes.
    """
    chosen: list[float] = []
    for start in start_S[np.argsort(-scores_S, kind="stable")].tolist():
        if len(chosen) == number:
            break
        if all(abs(start - other) >= SCENE_S for other in chosen):
            chosen.append(start)
    found_K = np.sort(np.array(chosen))
    return np.stack([found_K, found_K + SCENE_S], axis=1)


def score_films(table: pl.DataFrame, labels: pl.DataFrame, score: str) -> dict[str, Found]:
    """By film, how well the scenes of the highest scores find its labels.

    Args:
        table: room_id, start_s, end_s and the column `score`, a row a scene.
        labels: room_id, start_s, end_s.
        score: name of the column.

    Raises:
        InputError: a film has no label.
    """
    found = {}
    for (room_id,), film in table.group_by("room_id", maintain_order=True):
        own = labels.filter(pl.col("room_id") == room_id).select("start_s", "end_s").to_numpy()
        if not len(own):
            raise InputError(f"film {room_id!r} must have labels, and has none")
        spans, scores = film.select("start_s", "end_s").to_numpy(), film[score].cast(pl.Float64)
        found[str(room_id)] = score_scenes(best_scenes(spans, scores.to_numpy(), len(own)), own)
    return found
