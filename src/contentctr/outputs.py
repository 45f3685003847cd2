"""Whose a folder of results is: new, or an earlier run's of the same kind; a user's own is refused.

A marker in the folder says what it holds, and lists the files that were written. It is there before
the first of them, so that a killed run's folder is known as ours by the next run, and only what it
lists is ever replaced or removed.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from contentctr.errors import InputError
from contentctr.files import is_leftover, read_json, remove_leftovers, write_json
from contentctr.printing import say

MARKER = ".contentctr.json"
LOCK = ".contentctr.lock"
"""Held by the process that is at work in a folder; the empty file stays, and is nobody's."""
_ABOUT = "Made by contentctr, which will replace or remove the files listed here, and no others."
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP)
"""Of a drive that has none, as some of a network."""
_SHOWN = 3
"""Of somebody else's files, so many are named."""


@contextlib.contextmanager
def alone(folder: Path, work: str = "in it") -> Iterator[None]:
    """Keep a folder for this process while the block works there; it is made if it is not there.

    The system drops the lock with the process, however that ends. A folder that was made goes again
    if the block has written nothing. On a drive without locks the user is warned.

    Args:
        folder: the folder.
        work: what another process would be at, for the message.

    Raises:
        InputError: another process is at work there, or the folder cannot be made.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{_shown(folder)}: cannot be made a folder ({error.strerror})") from None
    lock = FileLock(folder / LOCK, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            f"{_shown(folder)}: another process is at work {work}; wait for it, or stop it"
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        say(
            f"warning: {_shown(folder)}: its drive has no locks ({error.strerror}), so nothing "
            f"keeps another process from being at work {work} too"
        )
    try:
        yield
    finally:
        if made:
            # Still locked: a lock is never taken from another process.
            _remove_empty(made)
        lock.release()


def _remove_empty(folders: list[Path]) -> None:
    """Remove a folder that holds no more than its lock, and those around it that it leaves empty.

    Args:
        folders: from the inside out.
    """
    with contextlib.suppress(OSError):
        if set(os.listdir(folders[0])) <= {LOCK}:
            (folders[0] / LOCK).unlink()
            for folder in folders:
                folder.rmdir()


def require_new(path: Path, what: str) -> None:
    """Stop where a folder holds anything but what a killed write left.

    Args:
        path: the folder.
        what: goes into it, for the message.

    Raises:
        InputError: names the folder and what stands in it.
    """
    if strangers := _entries(path):
        raise InputError(
            f"{_shown(path)}: holds {_some(strangers)}; choose a new or empty folder for {what}"
        )


def check_output(path: Path, kind: str, names: Iterable[str] = ()) -> list[str]:
    """See whether results may be written into a folder; nothing is written yet.

    Args:
        path: the folder.
        kind: what the results are, such as "a prediction".
        names: files that will be written, relative to the folder.

    Returns:
        What an earlier run of the same kind wrote there.

    Raises:
        InputError: the folder, or a file of one of the names, is somebody else's.
    """
    entries = _entries(path)
    if not entries:
        return []
    if MARKER not in entries:
        raise InputError(
            f"{_shown(path)}: holds {_some(entries)}, which contentctr did not write there; choose "
            f"a new or empty folder for {kind}"
        )
    found, files = _read_marker(path / MARKER)
    if found != kind:
        raise InputError(f"{_shown(path)}: holds {found}; choose another folder for {kind}")
    for name in names:
        if name not in files and os.path.lexists(path / name):
            raise InputError(
                f"{path / name}: would be overwritten, and contentctr did not write it; move it, "
                "or choose another folder"
            )
    return files


@contextlib.contextmanager
def output_folder(
    path: Path, kind: str, names: Iterable[str], *, keep: bool = False
) -> Iterator[None]:
    """Make a folder ours before the block writes its results there.

    What an earlier run wrote goes first, in the order in which it was named.

    Args:
        path: the folder.
        kind: what the results are, such as "a prediction".
        names: files that the block may write, relative to the folder; first the one without which
            the others do not read as whole.
        keep: leave the files of an earlier run: the block replaces them itself.

    Raises:
        InputError: as `check_output`, or the folder cannot be made.
    """
    names = list(names)
    earlier = check_output(path, kind, names)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{_shown(path)}: cannot be made a folder ({error.strerror})") from None
    _write_marker(path, kind, [*earlier, *names])
    for folder in dict.fromkeys((path / name).parent for name in [*earlier, *names]):
        remove_leftovers(folder)
    if not keep:
        for name in earlier:
            _remove(path, name)
    yield
    # A file that was not written after all may later be one of the user's.
    there = [name for name in [*earlier, *names] if os.path.lexists(path / name)]
    for name in names:
        if name not in there:
            _remove(path, name)  # the folder that it would have been in
    _write_marker(path, kind, there)


def _entries(path: Path) -> list[str]:
    """Names in a folder, without what killed writes left; none where it is not there yet."""
    try:
        return sorted(name for name in os.listdir(path) if not is_leftover(name) and name != LOCK)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(
            f"{_shown(path)}: must be a folder, or not there yet ({error.strerror})"
        ) from None


def _remove(root: Path, name: str) -> None:
    path = root / name
    if path.is_symlink() or not path.is_dir():  # a folder in its place is not ours
        path.unlink(missing_ok=True)
    for folder in path.parents:
        if folder == root or not folder.is_dir() or any(folder.iterdir()):
            break
        folder.rmdir()


def _write_marker(path: Path, kind: str, names: Iterable[str]) -> None:
    files = list(dict.fromkeys(names))
    assert all(map(_is_inside, files)), files
    write_json(path / MARKER, {"kind": kind, "about": _ABOUT, "files": files})


def _read_marker(path: Path) -> tuple[str, list[str]]:
    marker = read_json(path)
    kind, files = marker.get("kind"), marker.get("files")
    # It may have come with somebody else's folder: nothing outside of that is ours to remove.
    if (
        not isinstance(kind, str)
        or not isinstance(files, list)
        or not all(isinstance(name, str) and _is_inside(name) for name in files)
    ):
        raise InputError(f"{path}: damaged; choose another folder")
    return kind, files


def _is_inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and "/" not in parts and ".." not in parts and name != MARKER


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _shown(path: Path) -> Path:
    """A folder's name in a message, also where the user wrote `.`."""
    return path if path.name else path.absolute()
