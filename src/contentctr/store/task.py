"""The task that a prepared folder is for: the one name that every registry of tasks is keyed by.

"rooms": the CTR of segments of live rooms. "personal": which frames of a video one user selects.
"""

from __future__ import annotations

from pathlib import Path

from contentctr.errors import InputError
from contentctr.files import read_json


def task_of(root: Path | str) -> str:
    """What the folder's manifest says; "" where it says nothing.

    Raises:
        InputError: there is no manifest.
    """
    path = Path(root) / "manifest.json"
    if not path.is_file():
        raise InputError(f"{root}: not a prepared folder (it has no manifest.json)")
    return str(read_json(path).get("task", ""))
