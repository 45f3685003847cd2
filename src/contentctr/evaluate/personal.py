"""A model of personalized highlights on whole videos: mAP over users (Sections 4.1.2 and 4.2).

Shape suffixes: T frames of a video, U users.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from contentctr.errors import InputError
from contentctr.files import digest
from contentctr.metrics.average_precision import mean_over_users, user_metrics
from contentctr.progress import progress_bar
from contentctr.score.checkpoint import Checkpoint
from contentctr.score.evaluation import write_evaluation
from contentctr.score.personal import score_videos
from contentctr.store.personal import PreparedPersonal
from contentctr.windows.personal import UserSamples, whole_video

Floats = NDArray[np.float64]
RANDOM_DRAWS = 20
"""Of the random scorer, whose metrics are the means over them."""


def evaluate_personal(
    checkpoint: Checkpoint,
    data: PreparedPersonal,
    out: Path,
    *,
    split: str,
    batch_size: int,
    device: torch.device | str,
    ray: str | None,
    show_progress: bool,
) -> dict[str, Any]:
    """What `evaluate_model` does with personalized highlights.

    OUT/predictions.parquet has one row a frame of a user's target video, OUT/users.parquet one a
    user with the user's own metrics. Beside the model stand a random scorer and, where the users
    are simulated, an oracle.

    Raises:
        InputError: the data does not fit the checkpoint, has no user in the split, or is to be
            scored on a cluster.
    """
    if ray is not None:
        raise InputError(f"{data.root}: --ray is not for personalized highlights")
    users = UserSamples(data, None if split == "all" else split)
    checkpoint.require_fits(users.spec, data.root)
    if not len(users):
        raise InputError(f"{data.root}: has no user in the split {split}")
    model = checkpoint.load_model(device)
    numbers, length = range(len(users)), checkpoint.config.data.window_len
    labels = [users.labels(user) for user in numbers]
    total = sum(len(whole_video(users, user, length)) for user in numbers)
    with progress_bar("evaluate", total, show=show_progress) as bar:
        scores = list(
            score_videos(
                model,
                users,
                numbers,
                window_len=length,
                batch_size=batch_size,
                device=device,
                progress=bar,
            )
        )
    predictions, people = _predictions(users, scores, labels), _people(users, scores, labels)
    metrics = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "metrics": _means(labels, scores, users.frame_rate),
        "references": _references(users, labels, _oracle(data, predictions)),
        "counts": _counts(people),
    }
    return write_evaluation(
        out,
        {"predictions": predictions, "users": people},
        metrics,
        checkpoint=checkpoint,
        data=users.spec,
        split=split,
    )


def _counts(people: pl.DataFrame) -> dict[str, int]:
    """Counts of the table of users."""
    return {
        "users": people.height,
        "videos": people["video_id"].n_unique(),
        "frames": int(people["frames"].sum()),
        "highlight_frames": int(people["highlight_frames"].sum()),
        "users_without_history": people.filter(pl.col("history") == 0).height,
        "users_with_captions": people.filter("captions").height,
    }


def _predictions(
    users: UserSamples, scores: Sequence[Floats], labels: Sequence[NDArray[np.bool_]]
) -> pl.DataFrame:
    """One row a frame of each user's target video."""
    lengths = [len(scores_T) for scores_T in scores]
    frame = np.concatenate([np.arange(length, dtype=np.int32) for length in lengths])
    ids = users.users.select(
        pl.col(name).repeat_by(pl.Series(lengths)).list.explode()
        for name in ("user_id", "video_id")
    )
    return ids.with_columns(
        frame=frame,
        start_s=frame / users.frame_rate,
        end_s=(frame + 1) / users.frame_rate,
        score=np.concatenate(scores),
        selected=np.concatenate(labels),
    )


def _people(
    users: UserSamples, scores: Sequence[Floats], labels: Sequence[NDArray[np.bool_]]
) -> pl.DataFrame:
    """One row a user: history, captions, frames, and the user's own metrics."""
    rows = [
        {
            "frames": len(label_T),
            "highlight_frames": int(label_T.sum()),
            **user_metrics(label_T, scores_T, frame_rate=users.frame_rate),
        }
        for label_T, scores_T in zip(labels, scores, strict=True)
    ]
    # Clips that the model saw: one without a picture that can be decoded is not among them.
    history = [len(users.history(user)) for user in range(len(users))]
    captions = [users.has_captions(user) for user in range(len(users))]
    return pl.concat(
        [
            users.users.select("user_id", "video_id"),
            pl.DataFrame(
                {"history": history, "captions": captions},
                {"history": pl.Int32, "captions": pl.Boolean},
            ),
            pl.DataFrame(rows).fill_nan(None),
        ],
        how="horizontal",
    )


def _oracle(data: PreparedPersonal, predictions: pl.DataFrame) -> Sequence[Floats] | None:
    """The true chance [T] that each user selects each frame; None where it is not known.

    Raises:
        InputError: the truth is not that of these users.
    """
    truth = data.truth()
    if truth is None:
        return None
    key = ["user_id", "frame"]
    joined = predictions.select(key).join(truth, on=key, how="left", maintain_order="left")
    unknown = joined.filter(pl.col("selection_probability").is_null())
    if unknown.height:
        user_id, frame = unknown.row(0)[:2]
        raise InputError(
            f"{data.root / 'truth.parquet'}: knows nothing of user {user_id!r}, frame {frame}"
        )
    by_user = joined.partition_by("user_id", maintain_order=True)
    return [rows["selection_probability"].to_numpy() for rows in by_user]


def _references(
    users: UserSamples, labels: Sequence[NDArray[np.bool_]], oracle: Sequence[Floats] | None
) -> dict[str, Any]:
    """What scorers reach that have learned nothing, or that know the true chances (`oracle`)."""
    drawn = []
    for draw in range(RANDOM_DRAWS):
        rng = np.random.default_rng(int(digest("random scorer", draw), 16))
        drawn.append(
            mean_over_users(
                labels,
                [rng.random(len(label_T)) for label_T in labels],
                frame_rate=users.frame_rate,
            )
        )
    means = {name: float(np.mean([found[name] for found in drawn])) for name in drawn[0]}
    counts = {name: value for name, value in drawn[0].items() if name.startswith("users")}
    found = {"random": _json({**means, **counts})}
    if oracle is not None:
        found["oracle"] = _means(labels, oracle, users.frame_rate)
    return found


def _means(
    labels: Sequence[NDArray[np.bool_]], scores: Sequence[Floats], frame_rate: float
) -> dict[str, float | int | None]:
    return _json(mean_over_users(labels, scores, frame_rate=frame_rate))


def _json(found: Mapping[str, float | int]) -> dict[str, float | int | None]:
    """JSON knows no NaN: what is undefined is null."""
    return {name: None if math.isnan(value) else value for name, value in found.items()}
