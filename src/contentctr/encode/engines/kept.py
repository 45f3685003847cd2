"""Encoders that OpenVINO converted before, kept in the user's cache folder: tracing takes longer.

The folder is CONTENTCTR_CACHE, else `contentctr` in the user's own for caches; with "none", nothing
is kept. What is read from it is held against torch, as what was just converted is. Both come from
the same file, so that features have the same bits.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from contentctr.files import atomic, file_sha256

VARIABLE = "CONTENTCTR_CACHE"
NOTHING = "none"
MOST_BYTES = 128 << 20
"""Weights of a larger encoder are not kept."""
MOST = 4
"""So many programs are, those used last."""
_FILES = ("encoder.xml", "encoder.bin")
_HASHES = "sha256.txt"
"""Hashes of both: a damaged number could be too small a change to be noticed otherwise."""
_NAME = re.compile(r"[0-9a-f]{24}")
"""Of a program: a digest."""
_LEFTOVER = re.compile(rf"\.{_NAME.pattern}\.[0-9a-f]{{8}}\.tmp")
"""Of one that a killed process was writing."""
_LEFTOVER_S = 3600.0
"""So old it is no living process's."""


def kept_folder() -> Path | None:
    """Where programs are kept; None: nowhere."""
    given = os.environ.get(VARIABLE, "")
    if given == NOTHING:
        return None
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    # Without a home, as in some containers, the tilde stays; Path's own raises an error there.
    root = Path(os.path.expanduser(given or f"{caches}/contentctr"))
    return root / "openvino" if root.is_absolute() else None


def read_kept(openvino: Any, name: str) -> Any:
    """The program of that name; None where there is none that can be read.

    Args:
        openvino: the package.
        name: a hash of all that it depends on.
    """
    folder = kept_folder()
    if folder is None:
        return None
    place = folder / name
    try:
        if (place / _HASHES).read_text() != _hashes(place):
            return None
        os.utime(place)
        return _read(openvino, place)
    except (OSError, ValueError, RuntimeError):  # OpenVINO's errors are RuntimeErrors
        return None


def keep(openvino: Any, name: str, model: Any) -> Any:
    """Write a program and read it again; returns that, or the program where it cannot be written.

    Of many that are kept, those that were used longest ago are removed.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="contentctr-", ignore_cleanup_errors=True) as made:
            openvino.save_model(model, Path(made) / _FILES[0], compress_to_fp16=False)
            _copy(Path(made), name)
            return _read(openvino, Path(made))
    except (OSError, RuntimeError):
        return model


def _read(openvino: Any, place: Path) -> Any:
    core = openvino.Core()
    # A mapped file that another host removes, as on NFS, would end the process by a signal.
    core.set_property({"ENABLE_MMAP": False})
    return core.read_model(place / _FILES[0])


def _copy(made: Path, name: str) -> None:
    """Put what was written into the folder, if there is one that can be written to."""
    folder = kept_folder()
    if folder is None:
        return
    with contextlib.suppress(OSError):
        (made / _HASHES).write_text(_hashes(made))
        forget(name)
        _remove_leftovers(folder)
        with atomic(folder / name) as temporary:
            shutil.copytree(made, temporary)
        _remove_old(folder)


def forget(name: str) -> None:
    """Remove a program, if it is there."""
    folder = kept_folder()
    if folder is not None and _is_ours(folder / name):
        shutil.rmtree(folder / name, ignore_errors=True)


def _remove_old(folder: Path) -> None:
    programs = [each for each in folder.iterdir() if _NAME.fullmatch(each.name) and _is_ours(each)]
    programs.sort(key=lambda each: each.stat().st_mtime, reverse=True)
    for old in programs[MOST:]:
        forget(old.name)


def _remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed have left half written."""
    found = [] if not folder.is_dir() else list(folder.iterdir())
    for each in found:
        if _LEFTOVER.fullmatch(each.name) and _is_ours(each):
            if time.time() - each.stat().st_mtime > _LEFTOVER_S:
                shutil.rmtree(each, ignore_errors=True)


def _is_ours(place: Path) -> bool:
    """Whether it is a folder of nothing but a program's files: the user may have others there."""
    try:
        known = not place.is_symlink() and place.is_dir()
        return known and {each.name for each in place.iterdir()} <= {*_FILES, _HASHES}
    except OSError:
        return False


def _hashes(place: Path) -> str:
    return "".join(f"{file_sha256(place / name)}\n" for name in _FILES)
