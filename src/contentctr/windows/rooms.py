"""Windows: the samples, from the segments of some rooms (Section 4.1.1).

Shape suffixes as in batch.py, and: S segments of all rooms in a row, W windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from contentctr.batch import Batch, EncoderInputs, ExtraInput, IdFeatures
from contentctr.config import DataConfig
from contentctr.counting import counted
from contentctr.errors import InputError
from contentctr.store.inputs import InputStore
from contentctr.windows.loader import EpochLoader, uniform
from contentctr.windows.segment_data import IntArray, SegmentData

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Windows:
    """Windows over a SegmentData: first row and number of real segments of each."""

    first_W: IntArray
    length_W: IntArray

    def __len__(self) -> int:
        return len(self.first_W)

    @property
    def last_W(self) -> IntArray:
        """Row of each window's last segment."""
        return self.first_W + self.length_W - 1


def is_sample(data: SegmentData, config: DataConfig, target: str) -> npt.NDArray[np.bool_]:
    """Segments that may end a sample: full history, a target, and enough viewers. Bool [S].

    The viewer filter is for CTR alone; other targets do not come from viewers.
    """
    starts, ends = data.room_bounds
    position_S = data.position_S
    keep_S = ~np.isnan(data.target_S.numpy())
    if target == "ctr":
        keep_S &= data.viewers_S.numpy() >= config.min_viewers  # false for NaN
    full_S = position_S >= config.window_len - 1
    if config.short_windows:
        short_S = (ends - starts)[data.room_S] < config.window_len
        last_S = np.arange(len(data)) == ends[data.room_S] - 1 - max(0, config.horizon)
        full_S |= short_S & last_S
    sample_S: npt.NDArray[np.bool_] = keep_S & full_S
    return sample_S


def sample_windows(data: SegmentData, config: DataConfig, target: str) -> Windows:
    """The windows to train on: those that end at a sample, `stride` apart from a room's start."""
    position_S = data.position_S
    on_stride_S = (position_S - (config.window_len - 1)) % config.stride == 0
    on_stride_S |= position_S < config.window_len - 1  # short rooms have one window only
    last_W = np.flatnonzero(is_sample(data, config, target) & on_stride_S)
    length_W = np.minimum(position_S[last_W] + 1, config.window_len)
    return Windows(last_W - length_W + 1, length_W)


def curve_windows(
    data: SegmentData, window_len: int, *, both_sides: bool = False
) -> tuple[Windows, Bools]:
    """Windows that score every segment once: one starts at each segment that has a whole one.

    Each scores the segment at one place in it, its last: so a score comes from the segment's own
    past. A room's first window also scores the segments before that place, since padding and later
    segments do not reach earlier ones.

    Args:
        data: the segments.
        window_len: n.
        both_sides: for a model that sees later segments. The place is the middle (place n // 2 from
            0), and a room's last window also scores the segments after it: so a segment sees as
            many on either side as its room and one window have.

    Returns:
        The windows, and bool [W, N]: the positions whose score is wanted; read row by row they
        are the segments, in order.
    """
    starts, ends = data.room_bounds
    first = [
        np.arange(start, max(start + 1, end - window_len + 1))
        for start, end in zip(starts, ends, strict=True)
    ]
    first_W = np.concatenate(first) if first else np.empty(0, np.int64)
    end_W = ends[data.room_S[first_W]]
    length_W = np.minimum(window_len, end_W - first_W)
    place = window_len // 2 if both_sides else window_len - 1
    position_N = np.arange(window_len)
    opens_W1 = np.isin(first_W, starts)[:, None]
    closes_W1 = (first_W + length_W == end_W)[:, None]
    wanted_WN = position_N == place
    wanted_WN = wanted_WN | opens_W1 & (position_N < place) | closes_W1 & (position_N > place)
    return Windows(first_W, length_W), wanted_WN & (position_N < length_W[:, None])


def gather(
    data: SegmentData,
    windows: Windows,
    which: IntArray,
    window_len: int,
    *,
    shared: bool = False,
    hide: tuple[Bools, Bools] | None = None,
) -> Batch:
    """The batch of the windows numbered `which`, without shuffles.

    Args:
        data: the segments.
        windows: windows over them.
        which: int64 [B], numbers of windows.
        window_len: n.
        shared: give each distinct segment once (`Batch.distinct`).
        hide: for each of the B, whether its streamer and whether its room is shown as unknown.
    """
    position_N = np.arange(window_len)
    valid_BN = position_N < windows.length_W[which, None]
    first_BN = windows.first_W[which, None]
    row_BN = np.where(valid_BN, first_BN + position_N, first_BN)
    no_one = np.zeros(len(which), bool)
    streamer_B, room_B = hide or (no_one, no_one)
    content = _distinct if shared else _in_windows
    rows, valid = torch.from_numpy(row_BN), torch.from_numpy(valid_BN)
    return Batch(
        **content(data, row_BN, streamer_B, room_B),
        has_visual_BN=data.has_visual_S[rows] & valid,
        has_speech_BN=data.has_speech_S[rows] & valid,
        has_comments_BN=data.has_comments_S[rows] & valid,
        valid_BN=valid,
        target_BN=torch.where(valid, data.target_S[rows], torch.nan),
        mean_logit_BN=None if data.mean_logit_S is None else data.mean_logit_S[rows],
        window_B=torch.from_numpy(which.astype(np.int64)),
    )


def _in_windows(
    data: SegmentData, row_BN: IntArray, no_streamer_B: Bools, no_room_B: Bools
) -> dict[str, Any]:
    """The content of the rows, window by window: fields of a Batch."""
    rows, first_B = torch.from_numpy(row_BN), torch.from_numpy(row_BN[:, 0])
    streamer_B, room_B = (
        torch.where(torch.from_numpy(hidden_B), 0, table_S[first_B])
        for hidden_B, table_S in ((no_streamer_B, data.streamer_S), (no_room_B, data.known_room_S))
    )
    return {
        "visual_BNV": data.visual_SV[rows].float(),
        "text_BNT": data.text_ST[rows].float(),
        "streamer_B": streamer_B,
        "extra": {
            name: ExtraInput(values_BNX=part.values_SX[rows].float(), has_BN=part.has_S[rows])
            for name, part in data.extra.items()
        },
        "inputs": None if data.inputs is None else _gather_inputs(data.inputs, rows),
        "ids": IdFeatures(
            room_B=room_B,
            hour_BN=data.hour_S[rows],
            position_BN=data.next_position_S[rows],
            counts_BNA=data.counts_SA[rows],
        ),
    }


def _distinct(
    data: SegmentData, row_BN: IntArray, no_streamer_B: Bools, no_room_B: Bools
) -> dict[str, Any]:
    """The content of the rows, each distinct segment once: fields of a Batch.

    A segment whose streamer or room is hidden in some windows alone counts as two.
    """
    hidden_BN = np.broadcast_to((2 * no_streamer_B + no_room_B)[:, None], row_BN.shape)
    key_R, place = np.unique(4 * row_BN + hidden_BN, return_inverse=True)
    row_R1, hidden_R = (key_R // 4)[:, None], key_R % 4
    rows = torch.from_numpy(row_R1)
    there = torch.ones(rows.shape, dtype=torch.bool)
    inner = _in_windows(data, row_R1, hidden_R >= 2, hidden_R % 2 == 1)
    nothing = torch.empty(*row_BN.shape, 0)
    return {
        "visual_BNV": nothing,
        "text_BNT": nothing,
        "streamer_B": torch.where(
            torch.from_numpy(no_streamer_B), 0, data.streamer_S[torch.from_numpy(row_BN[:, 0])]
        ),
        "row_BN": torch.from_numpy(place.reshape(row_BN.shape)),
        "distinct": Batch(
            **inner,
            has_visual_BN=data.has_visual_S[rows],
            has_speech_BN=data.has_speech_S[rows],
            has_comments_BN=data.has_comments_S[rows],
            valid_BN=there,
            target_BN=data.target_S[rows],
            window_B=torch.arange(len(rows)),
        ),
    }


def gather_rows(data: SegmentData, rows: slice) -> Batch:
    """Some consecutive segments as one window, whatever their rooms: for encoding them."""
    count = rows.stop - rows.start
    return gather(data, Windows(np.array([rows.start]), np.array([count])), np.array([0]), count)


def _gather_inputs(store: InputStore, row_BN: Tensor) -> EncoderInputs:
    """Encoder inputs of the rows; each distinct row is read once."""
    distinct, where = torch.unique(row_BN, return_inverse=True)
    found = store.read(distinct.numpy())
    return EncoderInputs(
        frames_BNFHWC=found.frames[where],
        has_frame_BNF=found.has_frame[where].bool(),
        token_ids_BNL=found.token_ids[where].long(),
        token_types_BNL=found.token_types[where].long(),
        token_mask_BNL=found.token_mask[where].bool(),
    )


@dataclass(frozen=True, kw_only=True)
class WindowLoader(EpochLoader):
    """Training batches of live rooms' windows."""

    data: SegmentData
    windows: Windows
    hide_streamers: float = 0.0
    """Share of windows whose streamer is shown as unknown."""
    hide_rooms: float = 0.0
    """Share of windows whose room's id is shown as unknown, drawn apart from the streamers'."""
    block: int = 1
    """Consecutive windows of a room that stand together in an epoch's order. Above 1, a batch
    gives each distinct segment once, which is faster; after equal epochs on simulated rooms the
    validation tau was lower (docs/log.md)."""

    def __len__(self) -> int:
        """Windows."""
        return len(self.windows)

    def order(self, epoch: int) -> IntArray:
        """The epoch's order of windows, [W]: a random one, of blocks if `block` is above 1.

        A room's windows are cut into blocks from a random offset, which is another one in every
        epoch, so no two windows always come together.
        """
        if self.block == 1:
            return super().order(epoch)
        generator = np.random.default_rng((self.seed, epoch))
        room_W = self.data.room_S[self.windows.first_W]
        starts_W = np.flatnonzero(np.diff(room_W, prepend=-1))
        sizes = np.diff(starts_W, append=len(room_W))
        place_W = np.arange(len(room_W)) - np.repeat(starts_W, sizes)
        offset_W = generator.integers(self.block, size=int(room_W.max()) + 1)[room_W]
        begins_W = np.diff(room_W, prepend=-1) != 0
        begins_W |= (place_W + offset_W) % self.block == 0
        blocks = np.split(np.arange(len(room_W)), np.flatnonzero(begins_W)[1:])
        return np.concatenate([blocks[i] for i in generator.permutation(len(blocks))])

    def batch(self, which: IntArray, epoch: int) -> Batch:
        """The windows numbered `which` (-1: one without target or modality), for training."""
        hide = [
            uniform(self.seed, epoch, purpose, which[:, None])[:, 0] < share
            for purpose, share in ((1, self.hide_streamers), (3, self.hide_rooms))
        ]
        number_B = np.maximum(which, 0)
        batch = gather(
            self.data,
            self.windows,
            number_B,
            self.window_len,
            shared=self.block > 1,
            hide=(hide[0], hide[1]),
        )
        return self.finished(batch, which, self.windows.length_W[number_B], epoch)


def require_windows(windows: Windows, data: SegmentData, config: DataConfig, where: str) -> None:
    """Stop where no window passed the filters.

    Raises:
        InputError: names `where`, the rooms and segments there are, and the filters.
    """
    if len(windows):
        return
    starts, ends = data.room_bounds
    longest = int((ends - starts).max()) if len(starts) else 0
    known = int((~torch.isnan(data.target_S)).sum())
    raise InputError(
        f"{where}: no window passed the filters: {counted(len(starts), 'room')}, the longest of "
        f"{counted(longest, 'segment')}, {counted(known, 'segment')} with a target; a window "
        f"needs data.window_len="
        f"{config.window_len} segments (or data.short_windows=true), and its last segment a "
        f"target and data.min_viewers={config.min_viewers} viewers"
    )
