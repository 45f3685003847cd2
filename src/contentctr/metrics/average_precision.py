"""Average precision: `average_precision` for both worlds, and what else is taken of users' picks.

KuaiLive-M3's mean AP and PHD's mAP are means of the same function, over rooms and over users.

A user's frames are ranked by score; the frames that the user selected are the positives. Each
number is computed for each user and then averaged over users (Section 4.2: mAP). A user whose
video has no positive has no average precision: such users are counted, not averaged in.

What the papers on PHD call mAP differs in detail; docs/decisions.md, "PHD: mAP", says how these
relate. Shape suffixes: T frames of a video, S stretches of a video, U users.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

STRETCH_SECONDS = 5.0
"""Length of a stretch in the evaluation that was published with PHD."""
TOP_K = 5


def average_precision(labels_T: ArrayLike, scores_T: ArrayLike) -> float:
    """Average precision as scikit-learn's `average_precision_score` has it.

    The precision at each distinct score, weighted by the recall that it adds: frames of equal
    score come in together, so their order does not matter.

    Args:
        labels_T: which frames are positive, [T].
        scores_T: their scores, [T], finite; higher is better.

    Returns:
        From 0 to 1; NaN without a positive.
    """
    hits_D, seen_D = _curve(labels_T, scores_T)
    if not len(hits_D) or hits_D[-1] == 0:
        return math.nan
    return float((hits_D / seen_D) @ np.diff(hits_D, prepend=0) / hits_D[-1])


def interpolated_average_precision(labels_T: ArrayLike, scores_T: ArrayLike) -> float:
    """Average precision as the evaluation has it that was published with PHD.

    Differs from `average_precision` in two ways: the precision at a recall is the best one at
    that recall or a higher one, and the distinct recalls above 0 count equally, however much
    recall each adds.

    Args:
        labels_T: which frames are positive, [T].
        scores_T: their scores, [T], finite.

    Returns:
        From 0 to 1; NaN without a positive.
    """
    hits_D, seen_D = _curve(labels_T, scores_T)
    if not len(hits_D) or hits_D[-1] == 0:
        return math.nan
    best_D = np.maximum.accumulate((hits_D / seen_D)[::-1])[::-1]
    return float(best_D[np.diff(hits_D, prepend=0) > 0].mean())


def top_k_average_precision(labels_S: ArrayLike, scores_S: ArrayLike, k: int = TOP_K) -> float:
    """Average precision among the k best: the mean over min(k, positives) of hits' precisions.

    Equal scores are ranked against the model, negatives first, so that a constant score gains
    nothing.

    Args:
        labels_S: which stretches are positive, [S].
        scores_S: their scores, [S], finite.
        k: how many are looked at, at least 1.

    Returns:
        From 0 to 1; NaN without a positive.
    """
    labels_S, scores_S = _checked(labels_S, scores_S)
    assert k >= 1
    possible = min(k, int(labels_S.sum()))
    if not possible:
        return math.nan
    order_K = np.lexsort((labels_S, -scores_S))[:k]
    hit_K = labels_S[order_K]
    precision_K = np.cumsum(hit_K) / np.arange(1, len(hit_K) + 1)
    return float(precision_K[hit_K].sum() / possible)


def chance_precision(frames_U: ArrayLike, selected_U: ArrayLike) -> NDArray[np.float64]:
    """Average precision that a random order is expected to have.

    The frame of rank k is selected with probability m / n, and each rank above it then with
    (m - 1) / (n - 1): the mean over all orders is (H_n + (m - 1) / (n - 1) (n - H_n)) / n, with
    H_n = 1 + 1/2 + ... + 1/n.

    Args:
        frames_U: frames n of each user's video, at least 1.
        selected_U: selected ones m, from 1 to n.

    Returns:
        float64 [U], in (0, 1].
    """
    n_U, m_U = np.asarray(frames_U, np.int64), np.asarray(selected_U, np.int64)
    assert (n_U >= 1).all() and (m_U >= 1).all() and (m_U <= n_U).all()
    harmonic_U = np.cumsum(1 / np.arange(1, n_U.max(initial=0) + 1))[n_U - 1]
    share_U = (m_U - 1) / np.maximum(n_U - 1, 1)
    return np.asarray((harmonic_U + share_U * (n_U - harmonic_U)) / n_U, np.float64)


def stretch_scores(scores_T: ArrayLike, length: int) -> NDArray[np.float64]:
    """Mean score of each stretch of `length` frames, [S]; the last one may be shorter."""
    scores_T = np.asarray(scores_T, np.float64)
    starts_S = np.arange(0, len(scores_T), length)
    sizes_S = np.diff(starts_S, append=len(scores_T))
    return np.asarray(np.add.reduceat(scores_T, starts_S) / sizes_S, np.float64)


def stretch_labels(labels_T: ArrayLike, length: int) -> NDArray[np.bool_]:
    """Whether each stretch of `length` frames holds a positive one, [S]."""
    labels_T = np.asarray(labels_T, np.bool_)
    return np.logical_or.reduceat(labels_T, np.arange(0, len(labels_T), length))


def user_metrics(
    labels_T: ArrayLike, scores_T: ArrayLike, *, frame_rate: float
) -> dict[str, float]:
    """Every number of one user; all NaN where the video has no positive.

    Args:
        labels_T: which frames the user selected, [T], T at least 1.
        scores_T: the model's scores, [T], finite.
        frame_rate: frames a second; a stretch has as many as make up STRETCH_SECONDS.

    Returns:
        `ap`: over frames. `ap_stretches`: over stretches, by their mean score; positive is one
        with a selected frame. `ap_top5`: the same among the five best. `ap_published`: over frames
        with the mean score of their stretch, interpolated, as the published evaluation has it.
    """
    labels_T, scores_T = _checked(labels_T, scores_T)
    assert len(labels_T)
    length = max(round(STRETCH_SECONDS * frame_rate), 1)
    means_S, holds_S = stretch_scores(scores_T, length), stretch_labels(labels_T, length)
    spread_T = np.repeat(means_S, length)[: len(labels_T)]
    return {
        "ap": average_precision(labels_T, scores_T),
        "ap_stretches": average_precision(holds_S, means_S),
        "ap_top5": top_k_average_precision(holds_S, means_S),
        "ap_published": interpolated_average_precision(labels_T, spread_T),
    }


def mean_over_users(
    labels: Sequence[ArrayLike], scores: Sequence[ArrayLike], *, frame_rate: float
) -> dict[str, float | int]:
    """Means of `user_metrics` over users (mAP), and how many users they are of.

    Args:
        labels: each user's [T].
        scores: each user's [T].
        frame_rate: frames a second.

    Returns:
        `map`, `map_stretches`, `map_top5`, `map_published` (NaN if nobody has one), `users` that
        they are the means of, `users_undefined` (no positive frame: left out) and
        `users_all_positive` (every frame selected: 1 whatever the scores, and averaged in).
    """
    found = [
        user_metrics(label_T, score_T, frame_rate=frame_rate)
        for label_T, score_T in zip(labels, scores, strict=True)
    ]
    defined = [metrics for metrics in found if not math.isnan(metrics["ap"])]
    means: dict[str, float | int] = {
        name.replace("ap", "map", 1): (
            float(np.mean([metrics[name] for metrics in defined])) if defined else math.nan
        )
        for name in ("ap", "ap_stretches", "ap_top5", "ap_published")
    }
    return {
        **means,
        "users": len(defined),
        "users_undefined": len(found) - len(defined),
        "users_all_positive": sum(bool(np.all(np.asarray(label_T) != 0)) for label_T in labels),
    }


def _curve(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positives, and all, at or above each distinct score, [D] each, from the highest one down."""
    labels_T, scores_T = _checked(labels, scores)
    order_T = np.argsort(-scores_T, kind="stable")
    sorted_T = scores_T[order_T]
    last_D = np.flatnonzero(np.diff(sorted_T, append=-np.inf))
    hits_T = np.cumsum(labels_T[order_T], dtype=np.int64)
    return hits_T[last_D], last_D.astype(np.int64) + 1


def _checked(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    labels_T, scores_T = np.asarray(labels, np.bool_), np.asarray(scores, np.float64)
    assert labels_T.ndim == 1 and labels_T.shape == scores_T.shape, (labels_T.shape, scores_T.shape)
    assert np.isfinite(scores_T).all(), "scores must be finite"
    return labels_T, scores_T
