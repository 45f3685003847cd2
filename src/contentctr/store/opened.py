"""A prepared folder as what its manifest says it is: of rooms, or of users' videos."""

from __future__ import annotations

from pathlib import Path

from contentctr.errors import InputError
from contentctr.store.folder import MANIFEST, finish_write
from contentctr.store.personal import PreparedPersonal
from contentctr.store.rooms import PreparedRooms
from contentctr.store.task import task_of

Data = PreparedRooms | PreparedPersonal | Path | str
"""A prepared folder, as users of the package may name it."""
FOLDERS: dict[str, type[PreparedRooms] | type[PreparedPersonal]] = {
    folder.task: folder for folder in (PreparedRooms, PreparedPersonal)
}
"""By a task's name."""


def open_data(data: Data) -> PreparedRooms | PreparedPersonal:
    """The folder as what its manifest says it is.

    Raises:
        InputError: it is not a prepared folder, or of no task that is known.
    """
    if isinstance(data, PreparedRooms | PreparedPersonal):
        return data
    root = Path(data)
    finish_write(root)
    name = task_of(root)
    if name not in FOLDERS:
        raise InputError(
            f"{root / MANIFEST}: task must be {' or '.join(FOLDERS)}, not {name!r}; prepare the "
            "data again"
        )
    return FOLDERS[name](root)
