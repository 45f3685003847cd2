"""Scores of every segment of some rooms: what validation, evaluation and prediction share."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from contentctr.models.end_to_end import EndToEnd
from contentctr.progress import Progress
from contentctr.segment_data import SegmentData
from contentctr.windows import curve_windows, gather, gather_rows

_ENCODED_AT_ONCE = 8
"""Segments that fine-tuned encoders take at once: as many pictures times frames of a segment."""


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

    Raises:
        ValueError: the model gives a score that is not finite; names the segment.
    """
    was_training = model.training
    model.eval()
    if isinstance(model, EndToEnd):
        data = _encoded(model, data, device)
    core = model.core if isinstance(model, EndToEnd) else model
    windows, wanted_WN = curve_windows(data, window_len)
    found = []
    for start in range(0, len(windows), batch_size):
        which = np.arange(start, min(start + batch_size, len(windows)))
        batch = gather(data, windows, which, window_len, shared=True).to(device)
        scores_BN = core(batch).scores_BN.cpu().double().numpy()
        found.append(scores_BN[wanted_WN[which]])
        if progress is not None:
            progress.advance(len(which))
    model.train(was_training)
    scores_S = np.concatenate(found) if found else np.empty(0)
    assert len(scores_S) == len(data)
    if not np.isfinite(scores_S).all():
        row = data.table.row(int(np.flatnonzero(~np.isfinite(scores_S))[0]), named=True)
        raise ValueError(
            f"the model's score of room {row['room_id']!r}, segment {row['segment']}, is not finite"
        )
    if horizon:
        starts, _ = data.room_bounds
        scores_S = np.roll(scores_S, horizon)
        scores_S[starts] = np.nan
    return scores_S


def _encoded(model: EndToEnd, data: SegmentData, device: torch.device | str) -> SegmentData:
    """The segments with features from the model's encoders, each segment encoded once."""
    visual, text = torch.zeros(data.visual_SV.shape), torch.zeros(data.text_ST.shape)
    for start in range(0, len(data), _ENCODED_AT_ONCE):
        rows = slice(start, min(start + _ENCODED_AT_ONCE, len(data)))
        batch = gather_rows(data, rows).to(device)
        visual_BNV, text_BNT = model.encode(batch)
        visual[rows], text[rows] = visual_BNV[0].float().cpu(), text_BNT[0].float().cpu()
    return dataclasses.replace(data, visual_SV=visual, text_ST=text, inputs=None)
