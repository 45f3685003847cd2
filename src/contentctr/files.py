"""Files that are either whole or not there: written beside their place, then renamed into it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from contentctr.errors import InputError

_LEFTOVER = re.compile(r"\..*\.[0-9a-f]{8}\.tmp", re.DOTALL)
_LONGEST_NAME = 200
"""Bytes of a name that stand in its temporary one: a name has 255 at most."""


_SECRET_BYTES = 4096


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path that becomes `path` if the block ends well, and is removed if it does not.

    The block makes a file or a folder there. An older file at `path` is replaced in one step; a
    folder must not exist yet. The temporary path is absolute: of a relative one, libraries take
    what stands before a colon for a protocol (`20:00 live/curve.csv`).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.name.encode(errors="replace")[:_LONGEST_NAME].decode(errors="ignore")
    temporary = path.absolute().with_name(f".{name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        made = [] if temporary.is_symlink() else [temporary, *temporary.rglob("*")]
        for file in made:
            if file.is_file():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:
        _remove(temporary)
        raise


def is_leftover(name: str) -> bool:
    """Whether a name is one of `atomic`'s temporary ones, which only a killed run leaves."""
    return _LEFTOVER.fullmatch(name) is not None


def remove_leftovers(folder: Path) -> None:
    """Remove what killed runs left half written in a folder that is ours, if it is there."""
    if folder.is_dir():
        for path in folder.iterdir():
            if is_leftover(path.name):
                _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, atomically; NaN and infinities are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`.

    Raises:
        InputError: the file is missing, not UTF-8, not JSON, or not an object; with the line.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: must be UTF-8 text; byte {error.start} is not") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: must hold a JSON object, not {type(value).__name__}")
    return value


def read_secret(path: Path, what: str) -> str:
    """The text of a file that holds a secret, which no error tells.

    Args:
        path: the file.
        what: stands in it, for the message.

    Raises:
        InputError: the file is missing, unreadable or empty.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_SECRET_BYTES + 1).decode().strip()
    except UnicodeDecodeError:
        raise InputError(f"{path}: must hold {what}, as UTF-8 text") from None
    except OSError as error:
        raise InputError(f"{path}: not a readable file ({error.strerror})") from None
    if not text or len(text) > _SECRET_BYTES:
        rule = "is blank" if not text else f"is longer than {_SECRET_BYTES} bytes"
        raise InputError(f"{path}: must hold {what}, and {rule}")
    return text


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digest(*parts: object) -> str:
    """A short stable hash of the parts' JSON, for fingerprints."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


ROOM_FILE = re.compile(r"[A-Za-z0-9_-]{0,40}-[0-9a-f]{16}")
"""Names that `room_file` makes."""


def room_file(room_id: str) -> str:
    """A file name without suffix, safe and unique for any room id."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", room_id)[:40]
    return f"{readable}-{hashlib.sha256(room_id.encode()).hexdigest()[:16]}"


def read_parquet(
    path: Path, schema: Mapping[str, Any], *, without: Sequence[str] = ()
) -> pl.DataFrame:
    """The table in `path`, which must have the columns of `schema`; others may follow.

    Args:
        path: the file.
        schema: columns and their types.
        without: columns that are not read.

    Raises:
        InputError: the file is missing or unreadable, or a column is missing or of another type.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    place = path.absolute()
    try:
        # Polars takes [brackets] in a name for a pattern, and `file:` before it for a protocol.
        found = pl.scan_parquet(place, glob=False).collect_schema()
        kept = [name for name in found if name not in without]
        table = pl.read_parquet(place, columns=kept if without else None, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{path}: not a readable Parquet file ({error})") from None
    for name, kind in schema.items():
        if name in without:
            continue
        if name not in table.columns:
            raise InputError(f"{path}: column {name!r} is missing; it has {table.columns}")
        if table.schema[name] != kind:
            raise InputError(f"{path}: column {name!r} must be {kind}, not {table.schema[name]}")
    return table
