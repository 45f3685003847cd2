"""Scores of every segment of some rooms: what validation, evaluation and prediction share."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from contentctr.models.end_to_end import EndToEnd
from contentctr.models.ensemble import sees_later
from contentctr.progress import Progress
from contentctr.score.checkpoint import Checkpoint
from contentctr.store.rooms import PreparedRooms
from contentctr.windows.rooms import curve_windows, gather, gather_rows
from contentctr.windows.segment_data import SegmentData, load_segments

_ENCODED_AT_ONCE = 8
"""Segments that fine-tuned encoders take at once: as many pictures times frames of a segment."""


def segments_for(checkpoint: Checkpoint, data: PreparedRooms, split: str) -> SegmentData:
    """Segments of a prepared folder with all that a trained model reads, and no more.

    Args:
        checkpoint: the model.
        data: the prepared folder.
        split: of `load_segments`.

    Raises:
        InputError: as `load_segments`.
    """
    config = checkpoint.config
    return load_segments(
        data,
        checkpoint.vocabulary,
        split=split,
        horizon=config.data.horizon,
        inputs=checkpoint.finetuned,
        content=checkpoint.reads_content,
        model=config.model,
        same_segment=config.ids.same_segment,
    )


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

    A model that sees later segments scores each from a window with some on both sides.

    Args:
        model: any model that takes a Batch and returns an Output.
        data: the segments.
        window_len: n.
        horizon: what the model was trained for. With 1, a segment's score comes from the window
            that ends with the segment before it, and a room's first segment has none; with -k from
            the one that ends k segments after it, and a room's last k have none.
        batch_size: windows at once; the scores do not depend on it beyond rounding.
        device: where the model is.
        progress: advanced by the number of windows.

    Returns:
        float64 [S] in (0, 1), aligned with the segment that is predicted; NaN where there is none.

    Raises:
        ValueError: the model gives a score that is not finite; names the segment.
    """
    was_training = model.training
    scorer = RoomsScorer(
        model, data, window_len=window_len, horizon=horizon, batch_size=batch_size, device=device
    )
    scores_S = scorer((0, len(data.room_bounds[0])), progress)
    model.train(was_training)
    return scores_S


class RoomsScorer:
    """Scores the segments of some rooms at a time; arguments as of `score_segments`.

    Rooms that are scored together share batches, and sums of floats depend on those in their last
    bits. So whoever wants the same bits asks for the same rooms together.
    """

    def __init__(
        self,
        model: nn.Module,
        data: SegmentData,
        *,
        window_len: int,
        horizon: int = 0,
        batch_size: int = 64,
        device: torch.device | str = "cpu",
    ) -> None:
        self.model, self.data, self.device = model.eval(), data, device
        self.window_len, self.horizon, self.batch_size = window_len, horizon, batch_size
        core = model.core if isinstance(model, EndToEnd) else model
        self.windows, self.wanted_WN = curve_windows(data, window_len, both_sides=sees_later(core))

    @torch.inference_mode()
    def __call__(
        self, rooms: tuple[int, int], progress: Progress | None = None
    ) -> npt.NDArray[np.float64]:
        """The scores of rooms.

        Args:
            rooms: number of the first, and the one after the last, in the order of the data.
            progress: advanced by the number of windows.
        """
        starts, ends = self.data.room_bounds
        starts, ends = starts[slice(*rooms)], ends[slice(*rooms)]
        if not len(starts):
            return np.empty(0)
        first, stop = int(starts[0]), int(ends[-1])
        data, core = self.data, self.model
        if isinstance(core, EndToEnd):
            data, core = _encoded(core, data, slice(first, stop), self.device), core.core
        low, high = np.searchsorted(self.windows.first_W, (first, stop)).tolist()
        found = []
        for start in range(low, high, self.batch_size):
            which = np.arange(start, min(start + self.batch_size, high))
            batch = gather(data, self.windows, which, self.window_len, shared=True)
            scores_BN = core(batch.to(self.device)).scores_BN.cpu().double().numpy()
            found.append(scores_BN[self.wanted_WN[which]])
            if progress is not None:
                progress.advance(len(which))
        scores_S = np.concatenate(found)
        assert len(scores_S) == stop - first
        self._require_finite(scores_S, first)
        if self.horizon:
            scores_S = np.roll(scores_S, self.horizon)
            for start, end in zip(starts - first, ends - first, strict=True):
                # What came round from another room, or from the room's other end.
                own_S = scores_S[start:end]
                own_S[: max(0, self.horizon)] = np.nan
                own_S[max(0, len(own_S) - max(0, -self.horizon)) :] = np.nan
        return scores_S

    def _require_finite(self, scores_S: npt.NDArray[np.float64], first: int) -> None:
        if not np.isfinite(scores_S).all():
            number = first + int(np.flatnonzero(~np.isfinite(scores_S))[0])
            row = self.data.table.row(number, named=True)
            raise ValueError(
                f"the model's score of room {row['room_id']!r}, segment {row['segment']}, is not "
                "finite"
            )


def _encoded(
    model: EndToEnd, data: SegmentData, wanted: slice, device: torch.device | str
) -> SegmentData:
    """The segments, the wanted ones with features from the model's encoders, each encoded once."""
    visual, text = torch.zeros(data.visual_SV.shape), torch.zeros(data.text_ST.shape)
    for start in range(wanted.start, wanted.stop, _ENCODED_AT_ONCE):
        rows = slice(start, min(start + _ENCODED_AT_ONCE, wanted.stop))
        batch = gather_rows(data, rows).to(device)
        visual_BNV, text_BNT = model.encode(batch)
        visual[rows], text[rows] = visual_BNV[0].float().cpu(), text_BNT[0].float().cpu()
    return dataclasses.replace(data, visual_SV=visual, text_ST=text, inputs=None)
