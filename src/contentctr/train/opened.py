"""The task of a prepared folder."""

from __future__ import annotations

from pathlib import Path

from contentctr.store.personal import SOURCE, HighlightData, source_of
from contentctr.store.rooms import Prepared
from contentctr.train.personal import HighlightsTask
from contentctr.train.rooms import RoomsTask
from contentctr.train.task import Task

Data = Prepared | HighlightData | Path | str
"""A prepared folder, as users of the package may name it."""


def open_data(data: Data) -> Prepared | HighlightData:
    """The folder as what its manifest says it is."""
    if isinstance(data, Prepared | HighlightData):
        return data
    root = Path(data)
    return HighlightData(root) if source_of(root) == SOURCE else Prepared(root)


def open_task(data: Data) -> Task:
    """What can be trained on the folder."""
    found = open_data(data)
    return HighlightsTask(found) if isinstance(found, HighlightData) else RoomsTask(found)
