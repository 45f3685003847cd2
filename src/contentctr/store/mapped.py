"""Rows of a tensor that stay in their safetensors files: memory-mapped, and gathered by index.

Nothing is read before it is asked for, and what was read stays in the system's page cache alone,
which gives it up when memory is wanted. So a process's own memory does not grow with the data.

Shape suffixes as in batch.py, and: S rows of all files one after the other.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contentctr.errors import InputError
from contentctr.files import parse_json

_OPEN_FILES = 128
"""Files of one tensor mapped at once; opening one takes microseconds, systems allow some 1,000."""
_INFINITE_BITS = np.uint16(0x7C00)
"""The exponent of float16's infinities and NaNs."""


@dataclass(frozen=True)
class FileRows:
    """Consecutive rows of one file's tensor."""

    path: Path
    offset: int
    """Bytes from the file's start to the tensor's first row."""
    start: int
    stop: int


class MappedRows:
    """A float16 matrix [S, D] in many files; `mapped[rows]` reads rows, as a tensor's would.

    The files must not be shortened while they are in use (writers put a new file in the old one's
    place; that is noticed when it is opened again).

    Args:
        name: the tensor's, for messages.
        parts: where the rows are, in their order.
        width: D.
    """

    dtype = torch.float16

    def __init__(self, name: str, parts: Sequence[FileRows], width: int) -> None:
        filled = [s for s in parts if s.stop > s.start]
        self._paths = list(dict.fromkeys(s.path for s in filled))
        number = {path: i for i, path in enumerate(self._paths)}
        offsets = {s.path: s.offset for s in filled}
        self._offsets = [offsets[path] for path in self._paths]
        self._states = [_state(os.stat(path)) for path in self._paths]
        lengths = np.array([s.stop - s.start for s in filled], np.int64)
        self._stops = np.cumsum(lengths)
        self._shifts = np.array([s.start for s in filled], np.int64) - (self._stops - lengths)
        self._files = np.array([number[s.path] for s in filled], np.int64)
        self._name = name
        self.shape = (int(lengths.sum()), width)
        self._mapped = lru_cache(maxsize=_OPEN_FILES)(self._map)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Rows by their numbers, int64 of any shape: float16 [*rows.shape, D].

        Raises:
            InputError: a file has changed since this object was made, or a number in the rows is
                not finite; names the file.
        """
        row_R: NDArray[np.int64] = rows.flatten().numpy()
        assert not len(row_R) or 0 <= row_R.min() <= row_R.max() < len(self)
        part_R = np.searchsorted(self._stops, row_R, side="right")
        file_R = self._files[part_R]
        place_R = row_R + self._shifts[part_R]
        out_RD = np.empty((len(row_R), self.shape[1]), np.float16)
        for run in _runs(file_R):
            matrix = self._mapped(int(file_R[run.start]))
            np.take(matrix, place_R[run], axis=0, out=out_RD[run], mode="clip")
        bad_R = _not_finite(out_RD)
        if bad_R is not None:
            path = self._paths[int(file_R[bad_R][0])]
            raise InputError(
                f"{path}: {self._name} holds numbers that are not finite; encode again"
            )
        return torch.from_numpy(out_RD).view(*rows.shape, self.shape[1])

    def _map(self, file: int) -> NDArray[np.float16]:
        """The tensor of one file, from its first row on."""
        path = self._paths[file]
        try:
            with path.open("rb") as handle:
                changed = _state(os.fstat(handle.fileno())) != self._states[file]
                # A shared map for reading alone takes no part of the memory the system promises.
                whole = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # ValueError: an empty file
            raise InputError(f"{path}: cannot be read any more ({error})") from None
        if changed:
            raise InputError(f"{path}: was changed while it was in use; start again")
        offset, width = self._offsets[file], self.shape[1]
        count = (len(whole) - offset) // (2 * width)
        return np.frombuffer(whole, np.float16, count * width, offset).reshape(count, width)


@dataclass(frozen=True, kw_only=True)
class MappedFeatures:
    """Features of S segments, where they are stored."""

    visual: MappedRows
    """[S, V], as of SegmentFeatures."""
    text: MappedRows
    """[S, T]."""
    has_visual: NDArray[np.bool_]
    has_speech: NDArray[np.bool_]
    has_comments: NDArray[np.bool_]
    sound: MappedRows | None = None
    """[S, X]; None: none is stored."""
    has_sound: NDArray[np.bool_] | None = None
    words: MappedRows | None = None
    """[S, X], as `sound`."""
    has_words: NDArray[np.bool_] | None = None


def matrix_offsets(path: Path, widths: Mapping[str, int], rows: int) -> dict[str, int]:
    """Bytes from a safetensors file's start to each of some float16 matrices.

    The format: the header's length as uint64, the header in JSON, then the tensors, each
    contiguous and as it is in memory.

    Args:
        path: a file that safetensors has found whole.
        widths: name of each matrix to its width.
        rows: that they must have at least.

    Raises:
        InputError: one is missing, or of another type, width or length.
    """
    with path.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        header: dict[str, Any] = parse_json(handle.read(length))
    offsets = {}
    for name, width in widths.items():
        if name not in header:
            raise InputError(f"{path}: holds no {name}; remove it, encode again")
        kind, (count, *widths_found) = header[name]["dtype"], header[name]["shape"]
        if kind != "F16" or widths_found != [width]:
            raise InputError(
                f"{path}: {name} must be float16 of width {width}, as the manifest says, not "
                f"{kind} of {widths_found}; encode again"
            )
        if count < rows:
            raise InputError(
                f"{path}: not a whole file of the store ({name} has {count} rows, not {rows}); "
                "remove it, encode again"
            )
        offsets[name] = 8 + length + header[name]["data_offsets"][0]
    return offsets


def _state(found: os.stat_result) -> tuple[int, int]:
    return found.st_size, found.st_mtime_ns


def _runs(file_R: NDArray[np.int64]) -> list[slice]:
    """Neighbours in `file_R` that are the same."""
    breaks = np.flatnonzero(np.diff(file_R)) + 1
    edges = [0, *breaks.tolist(), len(file_R)]
    return [slice(a, b) for a, b in zip(edges, edges[1:], strict=False) if b > a]


def _not_finite(values_RD: NDArray[np.float16]) -> NDArray[np.bool_] | None:
    """The rows that hold NaN or infinity; None if there are none.

    Looks at the bits: several times faster than NumPy's isfinite on float16.
    """
    bits_RD = values_RD.view(np.uint16) & _INFINITE_BITS
    if not bits_RD.size or bits_RD.max() < _INFINITE_BITS:
        return None
    bad_R: NDArray[np.bool_] = (bits_RD == _INFINITE_BITS).any(axis=1)
    return bad_R
