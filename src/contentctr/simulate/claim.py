"""Whose a folder of simulated things is: begun with the same settings, or new."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from contentctr.errors import InputError
from contentctr.files import read_json, remove_leftovers, write_json
from contentctr.outputs import require_new


def claim_folder(out: Path, name: str, settings: dict[str, Any], *, may_grow: bool = False) -> None:
    """Record settings in a folder, or see that it was begun with the same ones.

    So a killed run goes on, and what different settings made is never mixed.

    Args:
        out: a new or empty folder, or one that this function recorded settings in.
        name: of the file that they stand in.
        settings: as JSON gives them back; those below `config` count like the others.
        may_grow: whether `num_rooms` may be more than it was.

    Raises:
        InputError: the settings are others, or the folder holds files of somebody else.
    """
    path = out / name
    if path.is_file():
        before, now = _flat(read_json(path)), _flat(settings)
        if may_grow and before.get("num_rooms", 0) < now["num_rooms"]:
            before["num_rooms"] = now["num_rooms"]
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key):
                raise InputError(
                    f"{path}: this folder was made with {key} = {before.get(key)!r}, not "
                    f"{now.get(key)!r}; use those settings or another folder"
                )
    else:
        require_new(out, "another simulation")
    write_json(path, settings)
    remove_leftovers(out)


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings without the level of `config`."""
    config = settings.get("config")
    return {**settings, **(config if isinstance(config, dict) else {}), "config": None}
