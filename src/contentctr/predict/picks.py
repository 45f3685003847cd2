"""A user's earlier picks as files: whole clips, folders of clips, or parts of longer videos."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from contentctr.errors import InputError
from contentctr.prepare.phd.downloads import VIDEO_SUFFIXES
from contentctr.rooms.media import VideoInfo, probe
from contentctr.store.personal import MAX_HISTORY

_TIME = r"(?:(?:(\d+):(?=[0-5]?\d:))?(\d+):([0-5]\d(?:\.\d+)?)|(\d+(?:\.\d+)?))"
_PART = re.compile(rf"\s*{_TIME}\s*-\s*{_TIME}\s*")
_ROUNDED_S = 1.0
"""An end is written in whole seconds, and may so lie this much behind the video's."""


@dataclass(frozen=True, kw_only=True)
class Pick:
    """One earlier pick: a part of a video, or all of it."""

    path: Path
    start_s: float
    end_s: float
    length_s: float
    """Of the whole file."""

    def __str__(self) -> str:
        return f"{self.path}@{self.start_s:g}-{self.end_s:g}"


def read_history(
    items: Iterable[Path | str], *, limit: int = MAX_HISTORY
) -> tuple[list[Pick], list[str]]:
    """The picks that a user names, in that order, and what the user should know of them.

    An item is a video file, which is one pick from its start to its end; FILE@START-END or
    FILE@START-END,START-END, a pick a part, with times in seconds or as [h:]m:ss; or a folder,
    whose video files are a pick each, by name. A name with an @ in it is taken as it is if there
    is such a file.

    Args:
        items: what the user names.
        limit: picks to keep at most, the first ones (Section 4.1.2: 20).

    Raises:
        InputError: an item is not of this form, its file is not there or no video, or a part does
            not lie in it.
    """
    found = [part for item in items for part in _parts(str(item))]
    warnings = []
    if len(found) > limit:
        warnings.append(f"the history has {len(found)} picks: the first {limit} count")
    known: dict[Path, VideoInfo] = {}
    picks = []
    for path, span in found[:limit]:
        if path not in known:
            known[path] = probe(path)
            warnings += known[path].warnings
        picks.append(_inside(path, span, known[path].duration_s))
    return picks, warnings


def _parts(item: str) -> Iterator[tuple[Path, tuple[float, float] | None]]:
    """Each pick's file and part; None for the whole of it."""
    path, mark, parts = Path(item), "", ""
    if not path.exists():
        name, mark, parts = item.rpartition("@")
        path = Path(name) if mark else path
    if path.is_dir() and not mark:
        clips = sorted(p for p in path.iterdir() if p.suffix.lower() in VIDEO_SUFFIXES)
        if not clips:
            raise InputError(f"{path}: holds no video ({', '.join(VIDEO_SUFFIXES)})")
        yield from ((clip, None) for clip in clips)
    elif not path.is_file():
        raise InputError(f"{path}: no such video file{' or folder' if not mark else ''}")
    elif not mark:
        yield path, None
    else:
        for part in parts.split(","):
            yield path, _span(path, part)


def _span(path: Path, part: str) -> tuple[float, float]:
    match = _PART.fullmatch(part)
    if match is None:
        raise InputError(
            f"{path}: a part must be START-END, in seconds or as m:ss, such as "
            f"{path.name}@12-15.5,1:02-1:05, not {part!r}"
        )
    times = match.groups()
    start, end = _seconds(*times[:4]), _seconds(*times[4:])
    if not start < end:
        raise InputError(f"{path}: a part must end after its start, not {part!r}")
    return start, end


def _seconds(hours: str | None, minutes: str | None, rest: str | None, plain: str | None) -> float:
    if plain is not None:
        return float(plain)
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(rest or 0)


def _inside(path: Path, span: tuple[float, float] | None, length_s: float) -> Pick:
    start_s, end_s = span or (0.0, length_s)
    if start_s >= length_s or end_s > length_s + _ROUNDED_S:
        raise InputError(
            f"{path}: a part must lie in the video, which ends at {length_s:.1f} s, not at "
            f"{start_s:g}-{end_s:g} s"
        )
    return Pick(path=path, start_s=start_s, end_s=min(end_s, length_s), length_s=length_s)
