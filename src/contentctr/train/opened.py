"""The task of a prepared folder."""

from __future__ import annotations

from contentctr.store.opened import Data, open_data
from contentctr.store.personal import PreparedPersonal
from contentctr.train.personal import PersonalTask
from contentctr.train.rooms import RoomsTask
from contentctr.train.task import Task


def open_task(data: Data) -> Task:
    """What can be trained on the folder."""
    found = open_data(data)
    return PersonalTask(found) if isinstance(found, PreparedPersonal) else RoomsTask(found)
