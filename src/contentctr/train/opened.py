"""The task of a prepared folder: what opens it, by the name that its manifest has.

Other registries are keyed by the same names: `EVALUATORS` (evaluate/evaluate.py), `FORMS`
(score/evaluation.py), `_PAGES` (report/page.py), `TASKS` and `HEADS` (reproduce/).
"""

from __future__ import annotations

from pathlib import Path

from contentctr.errors import InputError
from contentctr.store.personal import PreparedPersonal
from contentctr.store.rooms import PreparedRooms
from contentctr.store.task import task_of
from contentctr.train.personal import PersonalTask
from contentctr.train.rooms import RoomsTask
from contentctr.train.task import Task

Data = PreparedRooms | PreparedPersonal | Path | str
"""A prepared folder, as users of the package may name it."""
TASKS: dict[str, type[RoomsTask] | type[PersonalTask]] = {
    task.name: task for task in (RoomsTask, PersonalTask)
}
"""By a task's name."""


def open_task(data: Data) -> Task:
    """What can be trained on the folder.

    Raises:
        InputError: it is not a prepared folder, or of no task that is known.
    """
    root = Path(data) if isinstance(data, Path | str) else data.root
    name = task_of(root)
    if name not in TASKS:
        raise InputError(
            f"{root / 'manifest.json'}: task must be {' or '.join(TASKS)}, not {name!r}; prepare "
            "the data again"
        )
    return TASKS[name](root)
