"""What every prepared folder is: tables, and beside them a manifest, written last.

Rooms (rooms.py) and users' videos (personal.py) differ in the tables they hold.
"""

from __future__ import annotations

import contextlib
import copy
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import polars as pl

from contentctr.errors import InputError
from contentctr.files import (
    atomic,
    file_sha256,
    read_json,
    read_parquet,
    remove_leftovers,
    write_json,
)

SCHEMA_VERSION = 2
"""2: a segment's comments are also counted in its last parts."""
MANIFEST = "manifest.json"
_STAGED = ".next"
"""Folder in which tables and manifest wait, whole, to replace those that are there."""
T = TypeVar("T")


@dataclass(frozen=True)
class PreparedFolder(ABC):
    """A prepared folder that exists; reading it checks what it reads, and reads it once."""

    task: ClassVar[str]
    """What the data is for: the one name that every registry of tasks is keyed by."""
    root: Path
    _read: dict[str, tuple[tuple[int, int, int], Any]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """What was read, by file and reader, beside the state that the file had."""

    def __post_init__(self) -> None:
        # Users of the package may well give text.
        object.__setattr__(self, "root", Path(self.root))
        finish_write(self.root)

    @property
    def features_dir(self) -> Path:
        """Folder of the stored features."""
        return self.root / "features"

    @property
    def inputs_dir(self) -> Path:
        """Folder of the stored encoder inputs."""
        return self.root / "inputs"

    def manifest(self) -> dict[str, Any]:
        """What `write` recorded; the caller's own copy.

        Raises:
            InputError: there is none, or it is another schema version's or kind of data's.
        """
        if not (self.root / MANIFEST).is_file():
            raise InputError(f"{self.root}: not a prepared folder (it has no {MANIFEST})")
        return copy.deepcopy(self.once(MANIFEST, self._checked_manifest))

    def _checked_manifest(self, path: Path) -> dict[str, Any]:
        manifest = read_json(path)
        version = manifest.get("schema_version")
        if version != SCHEMA_VERSION:
            raise InputError(
                f"{path}: schema_version must be {SCHEMA_VERSION}, not {version!r}; prepare the "
                "data again"
            )
        if manifest.get("task") != self.task:
            raise InputError(
                f"{path}: task must be {self.task!r} here, not {manifest.get('task')!r}"
            )
        return manifest

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        # To another process goes the place, not what was read there.
        return type(self), (self.root,)

    @abstractmethod
    def content_hash(self) -> str:
        """Hash of all that stored features depend on."""

    def table(self, name: str, schema: Mapping[str, Any], *, sort: str = "") -> pl.DataFrame:
        """The table in NAME.parquet, which must have the columns of `schema`.

        Args:
            name: of the file, without its suffix.
            schema: columns and their types.
            sort: column that the rows are sorted by; "": as they are stored.

        Raises:
            InputError: the file is missing or unreadable, or a column missing or of another type.
        """

        def read(path: Path) -> pl.DataFrame:
            found = read_parquet(path, schema)
            return found.sort(sort) if sort else found

        return self.once(f"{name}.parquet", read)

    def once(self, name: str, read: Callable[[Path], T]) -> T:
        """What `read` makes of a file of the folder, kept until another file is in its place.

        Args:
            name: of the file; one reader a file.
            read: from its path to something that nobody changes.
        """
        path = self.root / name
        if not path.is_file():
            return read(path)  # whose error names the file
        # Taken before the file is read: one that is replaced meanwhile is read again next time.
        found = path.stat()
        state = found.st_ino, found.st_size, found.st_mtime_ns
        if name not in self._read or self._read[name][0] != state:
            self._read[name] = state, read(path)
        return cast(T, self._read[name][1])


def write_tables(
    root: Path, tables: Mapping[str, pl.DataFrame], manifest: Mapping[str, Any]
) -> None:
    """Write a prepared folder's tables and the manifest with their hashes, all at once.

    A kill leaves either what was there before or what was to be written, whole.

    Args:
        root: the folder; of what else is in it, tables that only the manifest before lists go.
        tables: by the name of their file, without its suffix.
        manifest: what the folder tells, schema version and hashes aside.
    """
    finish_write(root)
    remove_leftovers(root, _STAGED)
    with atomic(root / _STAGED) as temporary:
        temporary.mkdir()
        for name, table in tables.items():
            table.write_parquet(temporary / f"{name}.parquet")
        hashes = {f"{name}.parquet": file_sha256(temporary / f"{name}.parquet") for name in tables}
        write_json(
            temporary / MANIFEST,
            {"schema_version": SCHEMA_VERSION, **manifest, "hashes": hashes},
        )
    finish_write(root)


def finish_write(root: Path) -> None:
    """Move what was written beside a prepared folder into its place, the manifest last.

    Only a kill within some renames leaves anything for the next process that opens the folder.

    Raises:
        InputError: it cannot be moved, as in a folder that may only be read.
    """
    staged = root / _STAGED
    if not staged.is_dir():
        return
    try:
        _move_staged(staged, root)
    except FileNotFoundError:
        pass  # somebody else finishes at the same time
    except OSError as error:
        raise InputError(
            f"{root}: a write was cut short and cannot be finished ({error.strerror})"
        ) from None
    with contextlib.suppress(OSError):  # a stranger's file in it stays
        staged.rmdir()


def _move_staged(staged: Path, root: Path) -> None:
    for path in sorted(staged.glob("*.parquet")):
        os.replace(path, root / path.name)
    if (staged / MANIFEST).is_file():
        _remove_tables_left_out(root, read_json(staged / MANIFEST))
        os.replace(staged / MANIFEST, root / MANIFEST)


def _remove_tables_left_out(root: Path, manifest: Mapping[str, Any]) -> None:
    if not (root / MANIFEST).is_file():
        return
    before = read_json(root / MANIFEST).get("hashes")
    for name in before if isinstance(before, dict) else ():
        # The folder may have come from anywhere, and its manifest name any path.
        if name == Path(name).name and name.endswith(".parquet") and name not in manifest["hashes"]:
            (root / name).unlink(missing_ok=True)


def with_schema(table: pl.DataFrame, schema: Mapping[str, Any], *more: str) -> pl.DataFrame:
    """The columns of `schema`, cast to its types, and after them the columns `more`."""
    return table.select(*(pl.col(name).cast(kind) for name, kind in schema.items()), *more)
