"""What files hold, as hashes: of content, for copies and moved storage have other times.

A hash costs a read of the file. So hashes are remembered beside the data that is made of the files,
by path, size and time of change: as long as these stay, a file is not read again.
"""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path
from typing import Any

import polars as pl

from contentctr.errors import InputError
from contentctr.files import atomic, file_sha256, read_parquet, remove_leftovers

FILE = ".content_hashes.parquet"
"""In a prepared folder. It may be removed at any time: the files are read again then."""
_SCHEMA: dict[str, Any] = {
    "path": pl.String,
    "size": pl.Int64,
    "mtime_ns": pl.Int64,
    "sha256": pl.String,
}
_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


class ContentHashes:
    """SHA-256 of files, read when they are asked for and only if they may have changed.

    Args:
        folder: in which the hashes are remembered; None: nowhere.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._path = None if folder is None else folder / FILE
        self._known: dict[str, tuple[int, int, str]] = {}
        self._asked: set[str] = set()
        self.read = 0
        """Bytes that had to be read."""
        if self._path is not None and self._path.is_file():
            with contextlib.suppress(InputError):  # of a damaged one nothing is lost but time
                table = read_parquet(self._path, _SCHEMA).select(*_SCHEMA)
                self._known = {path: state for path, *state in table.iter_rows()}  # type: ignore[misc]

    def of(self, file: Path) -> str:
        """The hash of a file's content, 64 hex digits.

        Raises:
            OSError: it cannot be read.
        """
        name, state = str(file.absolute()), _state(file)
        self._asked.add(name)
        known = self._known.get(name)
        if known is not None and tuple(known[:2]) == state:
            return known[2]
        found = file_sha256(file)
        self.read += state[0]
        # One that was written to meanwhile is read again the next time.
        if _state(file) == state:
            self._known[name] = (*state, found)
        return found

    def save(self) -> None:
        """Remember what was read; files that are gone are forgotten."""
        if self._path is None or not self.read:
            return
        rows = [
            (name, *state)
            for name, state in sorted(self._known.items())
            if name in self._asked or Path(name).exists()
        ]
        try:
            remove_leftovers(self._path.parent, FILE)
            with atomic(self._path) as temporary:
                pl.DataFrame(rows, _SCHEMA, orient="row").write_parquet(temporary)
        except OSError as error:
            if error.errno not in _READ_ONLY:  # a reader of somebody else's data hashes again
                raise


def _state(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns
