"""Scores of every segment of some rooms: what validation, evaluation and prediction share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from contentctr.progress import Progress
from contentctr.windows import SegmentData, curve_windows, gather


@torch.inference_mode()
def score_segments(
    model: nn.Module,
    data: SegmentData,
    *,
    window_len: int,
    horizon: int = 0,
    batch_size: int = 64,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> npt.NDArray[np.float64]:
    """Predicted CTR of every segment, each from its own past of at most `window_len` segments.

    Args:
        model: any model that takes a Batch and returns an Output.
        data: the segments.
        window_len: n.
        horizon: what the model was trained for. With 1, a segment's score comes from the window
            that ends with the segment before it, and a room's first segment has none.
        batch_size: windows at once; the scores do not depend on it beyond rounding.
        device: where the model is.
        progress: advanced by the number of windows.

    Returns:
        float64 [S] in (0, 1), aligned with the segment that is predicted; NaN where there is none.
    """
    was_training = model.training
    model.eval()
    windows, wanted_WN = curve_windows(data, window_len)
    found = []
    for start in range(0, len(windows), batch_size):
        which = np.arange(start, min(start + batch_size, len(windows)))
        batch = gather(data, windows, which, window_len).to(device)
        scores_BN = model(batch).scores_BN.double().cpu().numpy()
        found.append(scores_BN[wanted_WN[which]])
        if progress is not None:
            progress.advance(len(which))
    model.train(was_training)
    scores_S = np.concatenate(found) if found else np.empty(0)
    assert len(scores_S) == len(data)
    if horizon:
        starts, _ = data.room_bounds
        scores_S = np.roll(scores_S, horizon)
        scores_S[starts] = np.nan
    return scores_S
