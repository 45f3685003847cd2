"""How large a Parquet file becomes when it is read, by its footer alone.

A file of some kilobytes can unpack to gigabytes, and Polars would take the memory before anybody
could say no. The footer (Thrift's compact protocol) states the size of each row group unpacked;
what a run of equal values takes beyond that follows from the number of rows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from contentctr.errors import InputError

MAX_RATIO = 200
"""Unpacked to packed: tables of people compress to a tenth, columns of one value much further."""
FREE_BYTES = 1 << 30
"""What may be taken in any case."""
_MAX_FOOTER = 16 << 20
_ROW_BYTES = 8
"""Of a value in a column, where its pages say nothing of how often it is repeated."""
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12


def require_unpackable(path: Path) -> None:
    """Stop where reading a file would take far more memory than the file itself.

    A damaged footer is left to the reader, which knows more of it.

    Raises:
        InputError: names the file and both sizes.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 8))
        length = int.from_bytes(file.read(4), "little")
        if not 0 < length <= min(size - 8, _MAX_FOOTER):
            return
        file.seek(size - 8 - length)
        footer = _Compact(file.read(length))
    try:
        unpacked = _unpacked_bytes(footer)
    except (IndexError, RecursionError, ValueError):
        return
    if unpacked > max(FREE_BYTES, MAX_RATIO * size):
        raise InputError(
            f"{path}: {size} bytes that unpack to {unpacked}: must be at most {FREE_BYTES >> 20} MB"
            f", or {MAX_RATIO} times the file"
        )


def _unpacked_bytes(footer: _Compact) -> int:
    total = 0
    for field, kind in footer.fields():
        if field == 4 and kind == _LIST:  # FileMetaData.row_groups
            total += sum(_group_bytes(footer) for _ in range(footer.list_size()))
        else:
            footer.skip(kind)
    return total


def _group_bytes(footer: _Compact) -> int:
    columns = stated = rows = 0
    for field, kind in footer.fields():
        if field == 1 and kind == _LIST:  # RowGroup.columns
            columns = footer.list_size()
            for _ in range(columns):
                footer.skip(_STRUCT)
        elif field in (2, 3) and kind == 6:  # total_byte_size, num_rows
            value = footer.number()
            stated, rows = (value, rows) if field == 2 else (stated, value)
        else:
            footer.skip(kind)
    return max(stated, rows * columns * _ROW_BYTES)


class _Compact:
    """Reads Thrift's compact protocol, as far as a footer needs it; IndexError at its end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def fields(self) -> Iterator[tuple[int, int]]:
        """Number and kind of each field of a struct; each must be read or skipped."""
        last = 0
        while head := self._byte():
            step, kind = head >> 4, head & 15
            last = last + step if step else self.number()
            yield last, kind

    def list_size(self) -> int:
        """How many structs a list holds.

        Raises:
            ValueError: it holds anything else.
        """
        size, kind = self._list_head()
        if kind != _STRUCT:
            raise ValueError("not a list of structs")
        return size

    def number(self) -> int:
        """A signed number."""
        value = self._varint()
        return (value >> 1) ^ -(value & 1)

    def skip(self, kind: int) -> None:
        """Pass over a value."""
        if kind in (_TRUE, _FALSE):
            return
        if kind == _STRUCT:
            for _, inner in self.fields():
                self.skip(inner)
        elif kind in (_LIST, _SET):
            size, inner = self._list_head()
            for _ in range(size):
                self._skip_element(inner)
        elif kind == _MAP:
            if size := self._varint():
                kinds = self._byte()
                for _ in range(size):
                    self._skip_element(kinds >> 4)
                    self._skip_element(kinds & 15)
        elif kind == _BINARY:
            length = self._varint()  # which moves on too
            self._at += length
        elif kind in (_BYTE, _DOUBLE):
            self._at += 1 if kind == _BYTE else 8
        else:
            self._varint()

    def _skip_element(self, kind: int) -> None:
        if kind in (_TRUE, _FALSE):  # in a list they take a byte
            self._byte()
        else:
            self.skip(kind)

    def _list_head(self) -> tuple[int, int]:
        head = self._byte()
        size = head >> 4
        return (self._varint() if size == 15 else size), head & 15

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise ValueError("a number of more than 64 bits")

    def _byte(self) -> int:
        byte = self._data[self._at]
        self._at += 1
        return byte
