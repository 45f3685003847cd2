"""What is made of highlights for editing: clips of them, a reel, and files for other programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from contentctr.errors import InputError
from contentctr.predict.export.write import FORMATS


@dataclass(frozen=True, kw_only=True)
class Editing:
    """What is wanted of a prediction's highlights, beside their list."""

    clips: bool = False
    """A file of each highlight, and a picture of its peak."""
    exact: bool = False
    """Clips that begin and end to the frame: their pictures are encoded again."""
    vertical: bool = False
    """Exact clips, cropped to 9:16."""
    reel: bool = False
    """All clips in one file, by time."""
    pad_s: float = 0.0
    """So much more on each side of a clip, and of a cut in a timeline."""
    formats: Sequence[str] = ()
    """Of FORMATS: files for other programs."""

    @property
    def wants_clips(self) -> bool:
        """Whether anything needs clips."""
        return self.clips or self.exact or self.vertical or self.reel

    @property
    def encodes(self) -> bool:
        """Whether the clips' pictures are encoded again."""
        return self.exact or self.vertical

    def require(self) -> None:
        """Stop at a setting out of its range, before anything is scored.

        Raises:
            InputError: names the setting.
        """
        if not (math.isfinite(self.pad_s) and self.pad_s >= 0):
            raise InputError(f"pad must be 0 or more seconds, not {self.pad_s:g}")
        for name in self.formats:
            if name not in FORMATS:
                raise InputError(f"export: must be of {', '.join(FORMATS)}, not {name!r}")
