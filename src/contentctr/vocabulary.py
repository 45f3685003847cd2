"""Known ids, in the order of a model's tables; row 0 of every table is the unknown one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """What a model may know by name; row i + 1 of a table belongs to entry i."""

    streamers: Sequence[str]
    """Streamers of the training rooms, or of an imported table; sorted."""
    rooms: Sequence[str] = ()
    """Training rooms (live ids), sorted; only the ID baselines have a table of them."""
    vectors_UE: npt.NDArray[np.float32] | None = None
    """Imported streamers' vectors, one row a streamer; None for a learned table, and where a
    checkpoint's weights hold them already."""
