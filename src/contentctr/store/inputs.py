"""Stored encoder inputs, frames and tokens: read row by row, for training the encoders too.

How they are stored says vectors.py. Shape suffixes: batch.py's legend, and R rows.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contentctr.store.vectors import (
    FLAGS,
    Entry,
    open_shard,
    read_entry,
    read_index,
    read_manifest,
    require_rooms,
    shard_rows,
)

_OPEN_FILES = 64
"""Input files held open at once."""


@dataclass(frozen=True, kw_only=True)
class StoredInputs:
    """Encoder inputs of R segments, padded to the longest text among them."""

    frames: Tensor
    """uint8 [R, F, H, W, 3]; a missing one is all zero."""
    has_frame: Tensor
    """bool [R, F]."""
    token_ids: Tensor
    """int64 [R, L]."""
    token_types: Tensor
    """int64 [R, L]."""
    token_mask: Tensor
    """bool [R, L]."""


class InputStore:
    """Reads rows of stored encoder inputs; a row is a segment of `rooms`, one after the other.

    Args:
        folder: the store.
        rooms: room id to its number of segments, in the order wanted.

    Raises:
        InputError: as FeatureStore and its `load`.
    """

    def __init__(self, folder: Path, rooms: Mapping[str, int]) -> None:
        self.folder = folder
        self.spec, _ = read_manifest(folder)
        self.visual_dim, self.text_dim = self.spec.visual_dim, self.spec.text_dim
        index = read_index(folder)
        require_rooms(folder, index, rooms)
        self._entries = [index[room_id] for room_id in rooms]
        self._stops = np.cumsum(list(rooms.values()), dtype=np.int64)
        flags = [read_entry(entry, FLAGS) for entry in self._entries]
        self.has_visual, self.has_speech, self.has_comments = (
            torch.from_numpy(np.concatenate([np.zeros(0), *(f[name] for f in flags)]).astype(bool))
            for name in FLAGS
        )
        self.sound: Tensor | None = None
        self.has_sound: Tensor | None = None
        if self.spec.sound_dim:
            none = np.zeros((0, self.spec.sound_dim), np.float16)
            found = [read_entry(entry, ("sound", "has_sound")) for entry in self._entries]
            self.sound = torch.from_numpy(np.concatenate([none, *(f["sound"] for f in found)]))
            has_sound = np.concatenate([np.zeros(0), *(f["has_sound"] for f in found)])
            self.has_sound = torch.from_numpy(has_sound.astype(bool))
        self._open: OrderedDict[Path, Any] = OrderedDict()

    def __len__(self) -> int:
        return int(self._stops[-1])

    def read(self, rows: NDArray[np.int64]) -> StoredInputs:
        """The inputs of some rows, in their order.

        Raises:
            InputError: a file is damaged.
        """
        names = ("frames", "has_frame", "token_ids", "token_types", "token_mask")
        parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
        for entry, start, stop in self._runs(rows):
            file = self._file(entry.path)
            for name in names:
                parts[name].append(shard_rows(file, entry.path, name, start, stop))
        longest = max(p.any(0).sum() for p in parts["token_mask"])
        for name in ("token_ids", "token_types", "token_mask"):
            parts[name] = [_pad(p, int(longest)) for p in parts[name]]
        found = {name: torch.from_numpy(np.concatenate(parts[name])) for name in names}
        return StoredInputs(
            frames=found["frames"],
            has_frame=found["has_frame"].bool(),
            token_ids=found["token_ids"].long(),
            token_types=found["token_types"].long(),
            token_mask=found["token_mask"].bool(),
        )

    def _runs(self, rows: NDArray[np.int64]) -> Iterator[tuple[Entry, int, int]]:
        """Neighbouring rows of one room: where it is, and its first and past row."""
        room_R = np.searchsorted(self._stops, rows, side="right")
        breaks = np.flatnonzero((np.diff(rows) != 1) | (np.diff(room_R) != 0)) + 1
        for run in np.split(np.arange(len(rows)), breaks):
            room = int(room_R[run[0]])
            entry = self._entries[room]
            shift = entry.stop - int(self._stops[room])
            yield entry, int(rows[run[0]]) + shift, int(rows[run[-1]]) + shift + 1

    def _file(self, path: Path) -> Any:
        if path not in self._open:
            if len(self._open) >= _OPEN_FILES:
                self._open.popitem(last=False)
            self._open[path] = open_shard(path)
        self._open.move_to_end(path)
        return self._open[path]


def _pad(tokens_RL: NDArray[Any], length: int) -> NDArray[Any]:
    """Padding alone is cut off or added, so that rows of several rooms fit together."""
    have = tokens_RL[:, :length]
    return np.pad(have, ((0, 0), (0, length - have.shape[1])))
