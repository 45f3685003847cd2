"""Models by their name on the Hugging Face hub: `hf://OWNER/NAME`, or `hf://OWNER/NAME@REVISION`.

Only the files of a checkpoint are fetched; there is no code among them, and no pickle.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from contentctr.errors import InputError

# A path of the command line has lost one of the two slashes.
_NAME = re.compile(r"hf:/{1,2}([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?")
FILES = (
    *("checkpoint.json", "vocabulary.json", "model.safetensors", "calibration.json", "inputs.json"),
    *("encoders/*.safetensors", "encoders/*.json", "encoders/*.txt"),
)
"""That a checkpoint may have, training aside."""


def is_hub_name(path: Path | str) -> bool:
    """Whether it begins as a name on the hub does."""
    return str(path).startswith("hf:/")


def fetch(path: Path | str) -> Path:
    """The folder of a model on the hub, from the cache where it is there already.

    Args:
        path: `hf://OWNER/NAME`.

    Raises:
        InputError: not such a name, or it cannot be had.
    """
    found = _NAME.fullmatch(str(path))
    if found is None:
        raise InputError(f"{path}: must be hf://OWNER/NAME, or hf://OWNER/NAME@REVISION")
    # Imported when used: it takes a second, and nothing else needs it.
    hub = importlib.import_module("huggingface_hub")
    try:
        return Path(
            hub.snapshot_download(
                found[1], revision=found[2], allow_patterns=list(FILES), endpoint=endpoint()
            )
        )
    except Exception as error:  # of three libraries, and of no common kind
        raise InputError(f"{path}: {reason(error)}") from None


def endpoint() -> str | None:
    """The hub's address; None: the library's own."""
    return None


def reason(error: Exception) -> str:
    """What went wrong at the hub, in a line."""
    line = next(iter(str(error).strip().splitlines()), "")
    return f"the hub did not give or take it ({type(error).__name__}: {line[:200]})"
