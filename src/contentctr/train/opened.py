"""The task of a prepared folder."""

from __future__ import annotations

from pathlib import Path

from contentctr.store.personal import SOURCE, PreparedPersonal, source_of
from contentctr.store.rooms import PreparedRooms
from contentctr.train.personal import PersonalTask
from contentctr.train.rooms import RoomsTask
from contentctr.train.task import Task

Data = PreparedRooms | PreparedPersonal | Path | str
"""A prepared folder, as users of the package may name it."""


def open_data(data: Data) -> PreparedRooms | PreparedPersonal:
    """The folder as what its manifest says it is."""
    if isinstance(data, PreparedRooms | PreparedPersonal):
        return data
    root = Path(data)
    return PreparedPersonal(root) if source_of(root) == SOURCE else PreparedRooms(root)


def open_task(data: Data) -> Task:
    """What can be trained on the folder."""
    found = open_data(data)
    return PersonalTask(found) if isinstance(found, PreparedPersonal) else RoomsTask(found)
