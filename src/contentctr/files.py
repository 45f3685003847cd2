"""Files that are either whole or not there: written beside their place, then renamed into it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from contentctr.errors import InputError
from contentctr.parquet import require_unpackable

_LEFTOVER = re.compile(r"\..*\.[0-9a-f]{8}\.tmp", re.DOTALL)
_LONGEST_NAME = 200
"""Bytes of a name that stand in its temporary one: a name has 255 at most."""


SYSTEM_FAULTS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.EMFILE, errno.ENFILE, errno.EBUSY),
)
"""Faults of a disk, a folder or a machine, and none of ours: a line tells them, no traceback."""
_SECRET_BYTES = 4096
_JSON_BYTES = 256 << 20
"""The index of a store of a million rooms takes less."""


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path that becomes `path` if the block ends well, and is removed if it does not.

    The block makes a file or a folder there. An older file at `path` is replaced in one step; a
    folder must not exist yet. The temporary path is absolute: of a relative one, libraries take
    what stands before a colon for a protocol (`20:00 live/curve.csv`).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    name = _shortened(path.name)
    temporary = path.absolute().with_name(f".{name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with naming(path, temporary):
            yield temporary
            made = [] if temporary.is_symlink() else [temporary, *temporary.rglob("*")]
            for file in made:
                if file.is_file():
                    with file.open("rb") as handle:
                        os.fsync(handle.fileno())
            os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):  # what was wrong before says more
            _remove(temporary)
        raise


@contextlib.contextmanager
def naming(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Faults of the system inside the block name the file, whoever meets them.

    A write that fails says no name by itself, and libraries put it in words of their own.

    Args:
        path: the file that is written.
        temporary: stands for it while it is.

    Raises:
        OSError: with the file's name.
    """
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        known = error.filename is not None and str(error.filename) != str(temporary)
        if known or error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    except Exception as error:
        number = next((n for n in SYSTEM_FAULTS if os.strerror(n) in str(error)), None)
        if number is None:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def append_text(path: Path, text: str) -> None:
    """Append `text` as UTF-8."""
    with naming(path), path.open("a", encoding="utf-8") as file:
        file.write(text)


def _shortened(name: str) -> str:
    """So much of a name that a temporary one fits into what file systems allow."""
    return name.encode(errors="replace")[:_LONGEST_NAME].decode(errors="ignore")


def is_leftover(name: str) -> bool:
    """Whether a name is one of `atomic`'s temporary ones, which only a killed run leaves."""
    return _LEFTOVER.fullmatch(name) is not None


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove what killed runs left half written in a folder, if it is there.

    Args:
        folder: where; ours as a whole, unless `name` is given.
        name: of the file that they were to become; None: of any.
    """
    of_name = ".*" if name is None else re.escape(_shortened(name))
    pattern = re.compile(rf"\.{of_name}\.[0-9a-f]{{8}}\.tmp", re.DOTALL)
    if folder.is_dir():
        for path in folder.iterdir():
            if pattern.fullmatch(path.name):
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


class JsonError(ValueError):
    """A text is not JSON, or none that can be read; `line` is where, from 1, if that is known."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.line = line


def parse_json(text: str | bytes) -> Any:
    """The JSON value in a text of anybody's: the one way in for all JSON that is not our process's.

    Raises:
        JsonError: it is not JSON, is nested too deeply, or holds a number of too many digits.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise JsonError(error.msg, error.lineno) from None
    except UnicodeDecodeError:
        raise JsonError("not UTF-8 text") from None
    except RecursionError:
        raise JsonError("nested too deeply") from None
    except ValueError:  # Python's own bound, against numbers that take minutes to read
        digits = sys.get_int_max_str_digits()
        raise JsonError(f"a number of more than {digits} digits") from None


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`.

    Raises:
        InputError: the file is missing, too large, not UTF-8, not JSON, or not an object; with the
            line.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(f"{path}: must be a file; a pipe would be waited for without end")
    try:
        with path.open("rb") as file:
            data = file.read(_JSON_BYTES + 1)
        if len(data) > _JSON_BYTES:
            raise InputError(f"{path}: must hold at most {_JSON_BYTES >> 20} MB")
        value = parse_json(data.decode("utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: must be UTF-8 text; byte {error.start} is not") from None
    except JsonError as error:
        line = "" if error.line is None else f", line {error.line}"
        raise InputError(f"{path}{line}: not JSON: {error}") from None
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
        require_unpackable(path)
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
