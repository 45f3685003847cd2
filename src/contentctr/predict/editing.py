"""What is made of highlights for editing: clips of them, a reel, and files for other programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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


def wanted_editing(editing: Editing | None, *, clips: bool) -> Editing:
    """What is wanted, checked, with clips where anything needs them.

    Raises:
        InputError: a setting is out of its range; names it.
    """
    editing = editing or Editing()
    editing.require()
    return replace(editing, clips=clips or editing.wants_clips)


def require_cuttable(source: Path | str, editing: Editing, *, has_video: bool) -> None:
    """Stop where clips are wanted and there are no moving pictures.

    Raises:
        InputError: names the recording.
    """
    if editing.clips and not has_video:
        raise InputError(f"{source}: clips can be cut from a video only; it has none")
