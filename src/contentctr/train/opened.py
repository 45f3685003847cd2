"""The task of a prepared folder: what opens it, by the name that its manifest has.

Other registries are keyed by the same names: `EVALUATORS` (evaluate/evaluate.py), `FORMS`
(score/evaluation.py), `_PAGES` (report/page.py), `TASKS` and `HEADS` (reproduce/).
"""

from __future__ import annotations

from typing import Any

from contentctr.store.opened import Data, open_data
from contentctr.train.personal import PersonalTask
from contentctr.train.rooms import RoomsTask
from contentctr.train.task import Task

TASKS: dict[str, type[RoomsTask] | type[PersonalTask]] = {
    task.name: task for task in (RoomsTask, PersonalTask)
}
"""By a task's name."""


def open_task(data: Data) -> Task:
    """What can be trained on the folder.

    Raises:
        InputError: it is not a prepared folder, or of no task that is known.
    """
    found: Any = open_data(data)
    return TASKS[found.task](found)
