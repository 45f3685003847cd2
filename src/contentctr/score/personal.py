"""Scores of every frame of users' target videos, as validation, evaluation and use share them.

Shape suffixes: T frames of a video.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from contentctr.batch import Batch
from contentctr.progress import Progress
from contentctr.windows.personal import Videos, make_batch, whole_video


def score_videos(
    model: nn.Module,
    videos: Videos,
    users: Sequence[int],
    *,
    window_len: int,
    batch_size: int = 8,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Iterator[NDArray[np.float64]]:
    """How likely each user is to pick each frame of the whole target video (Section 4.1.2).

    Args:
        model: a model of highlights; in evaluation mode while scores are taken.
        videos: the videos.
        users: whose videos, in the order wanted.
        window_len: frames of a stretch, n; the last one of a video may be shorter.
        batch_size: stretches at once; the scores do not depend on it beyond rounding.
        device: where the model is.
        progress: advanced by the number of stretches.

    Yields:
        Of each user float64 [T] in (0, 1).

    Raises:
        InputError: a file of the store is damaged.
        ValueError: the model gives a score that is not finite.
    """
    stretches = [s for user in users for s in whole_video(videos, user, window_len)]
    found: list[NDArray[np.float64]] = []
    for first in range(0, len(stretches), batch_size):
        chunk = stretches[first : first + batch_size]
        scores_BN = _scores(model, make_batch(videos, chunk).to(device))
        for stretch, scores_N in zip(chunk, scores_BN, strict=True):
            found.append(scores_N[: stretch.stop - stretch.start])
            if not np.isfinite(found[-1]).all():
                frame = stretch.start + int(np.flatnonzero(~np.isfinite(found[-1]))[0])
                raise ValueError(
                    f"the model's score of user number {stretch.user}, frame {frame}, is not finite"
                )
            if stretch.stop == videos.num_frames(stretch.user):
                yield np.concatenate(found)
                found = []
        if progress is not None:
            progress.advance(len(chunk))


@torch.inference_mode()
def _scores(model: nn.Module, batch: Batch) -> NDArray[np.float64]:
    was_training = model.training
    scores_BN: NDArray[np.float64] = model.eval()(batch).scores_BN.cpu().double().numpy()
    model.train(was_training)
    return scores_BN
