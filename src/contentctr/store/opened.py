"""A prepared folder as what its manifest says it is: of rooms, or of users' videos."""

from __future__ import annotations

from pathlib import Path

from contentctr.files import read_json
from contentctr.store.folder import MANIFEST, PERSONAL
from contentctr.store.personal import PreparedPersonal
from contentctr.store.rooms import PreparedRooms

Data = PreparedRooms | PreparedPersonal | Path | str
"""A prepared folder, as users of the package may name it."""


def open_data(data: Data) -> PreparedRooms | PreparedPersonal:
    """The folder as what its manifest says it is; rooms where it says nothing."""
    if isinstance(data, PreparedRooms | PreparedPersonal):
        return data
    root, path = Path(data), Path(data) / MANIFEST
    personal = path.is_file() and read_json(path).get("source") == PERSONAL
    return PreparedPersonal(root) if personal else PreparedRooms(root)
