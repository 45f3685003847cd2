"""Visual features that came with the data, as of data sets that publish no pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from contentctr.store.vectors import read_entry, read_index, read_manifest, require_rooms


class StoredVectors:
    """Visual features that came with the data: in the place of a visual encoder's.

    Raises:
        InputError: there are none, not all, or a shard is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        spec, _ = read_manifest(folder)
        self.name, self.revision = spec.visual_encoder, spec.visual_revision
        self.dim = spec.visual_dim
        self.index = read_index(folder)

    def fingerprint(self, room_id: str) -> str:
        """Hash of a room's vectors; "" if it has none."""
        return self.index[room_id].visual_fingerprint if room_id in self.index else ""

    def read(self, room_id: str, num_segments: int) -> dict[str, NDArray[Any]]:
        """A room's `visual` and `has_visual`.

        Raises:
            InputError: it is missing, has another number of segments, or its shard is damaged.
        """
        require_rooms(self.folder, self.index, {room_id: num_segments})
        return read_entry(self.index[room_id], ("visual", "has_visual"))
