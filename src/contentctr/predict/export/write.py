"""Writes a prediction's highlights in the formats that were asked for, into OUT/export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from contentctr.errors import InputError
from contentctr.files import atomic, write_json, write_text
from contentctr.predict.export.chapters import (
    ffmetadata_text,
    vtt_text,
    youtube_marks,
    youtube_text,
)
from contentctr.predict.export.cuts import FrameCut, chapter_title, frame_cuts
from contentctr.predict.export.fcpxml import fcpxml_text
from contentctr.predict.export.timeline import edl_text, otio_text
from contentctr.report.player.contents import Chapter
from contentctr.rooms.footage import Footage, read_footage

FORMATS = {
    "otio": ("highlights.otio",),
    "edl": ("highlights.edl",),
    "fcpxml": ("highlights.fcpxml",),
    "chapters": ("chapters.txt", "chapters.ffmetadata"),
    "vtt": ("highlights.vtt",),
    "csv": ("highlights.csv",),
    "json": ("highlights.json",),
}
"""By the name of a format, its files in OUT/export."""
_TIMELINES = {"otio": otio_text, "edl": edl_text, "fcpxml": fcpxml_text}
_NONE = Chapter(rank=0, start_s=0, end_s=0, peak_s=0, score=0)
"""Names the columns of a table without highlights."""


def parse_formats(text: str) -> list[str]:
    """Formats as a user lists them, as "otio,edl"; each once, in the order of FORMATS.

    Raises:
        InputError: a name is none of them.
    """
    wanted = [word.strip().lower() for word in text.split(",") if word.strip()]
    for word in wanted:
        if word not in FORMATS:
            raise InputError(f"export: must be of {', '.join(FORMATS)}, not {word!r}")
    if not wanted:
        raise InputError(f"export: name at least one of {', '.join(FORMATS)}")
    return [name for name in FORMATS if name in wanted]


def export_names(formats: Sequence[str]) -> list[str]:
    """Files that `export_highlights` may write, relative to OUT."""
    return [f"export/{file}" for name in formats for file in FORMATS[name]]


def export_highlights(
    out: Path,
    formats: Sequence[str],
    *,
    name: str,
    chapters: Sequence[Chapter],
    duration_s: float,
    video: Path | None,
    pad_s: float = 0.0,
    warnings: list[str],
) -> list[Path]:
    """Write OUT/export/*: a format that cannot be made is named in the warnings, and costs no more.

    Args:
        out: the prediction's folder.
        formats: of FORMATS.
        name: of the recording, for people.
        chapters: its highlights.
        duration_s: of the recording.
        video: its file; None: there is none, and no timeline either.
        pad_s: so much more on each side of a cut.
        warnings: are added to.

    Returns:
        The files that were written.
    """
    footage = None
    # Chapters and subtitles are told by seconds: for them a recording need not be read once more.
    if video is not None and not {"chapters", "vtt"}.issuperset(formats):
        try:
            footage = read_footage(video)
            warnings += footage.notes
        except InputError as error:
            warnings.append(str(error))
    cuts = [] if footage is None else frame_cuts(chapters, footage, pad_s=pad_s)
    whole = {cut.rank for cut in cuts}
    if footage is not None and cuts and not _TIMELINES.keys().isdisjoint(formats):
        warnings += [
            f"export: highlight {chapter.rank} has no frame of the video, and is in no timeline"
            for chapter in chapters
            if chapter.rank not in whole
        ]
    made: list[Path] = []
    for kind in formats:
        paths = [out / "export" / file for file in FORMATS[kind]]
        try:
            _write(kind, paths, name, chapters, duration_s, footage, cuts, warnings)
        except InputError as error:
            warnings.append(f"export {kind}: {error}")
            continue
        made += paths
    return made


def _write(
    kind: str,
    paths: Sequence[Path],
    name: str,
    chapters: Sequence[Chapter],
    duration_s: float,
    footage: Footage | None,
    cuts: Sequence[FrameCut],
    warnings: list[str],
) -> None:
    if kind in _TIMELINES:
        if footage is None:
            raise InputError("a timeline needs a video, whose frames it counts")
        if not cuts:
            raise InputError("there is no highlight to cut")
        write_text(paths[0], _TIMELINES[kind](name, cuts, footage))
    elif kind == "chapters":
        marks, notes = youtube_marks(chapters, duration_s)
        warnings += [f"export chapters: {note}" for note in notes]
        write_text(paths[0], youtube_text(marks))
        write_text(paths[1], ffmetadata_text(name, marks, duration_s))
    elif kind == "vtt":
        write_text(paths[0], vtt_text(chapters))
    else:
        rows = [_row(chapter, footage, cuts) for chapter in chapters]
        if kind == "json":
            table = {"name": name, "duration_s": duration_s, **_media(footage), "highlights": rows}
            write_json(paths[0], table)
            return
        with atomic(paths[0]) as temporary:
            table_of = rows or [_row(_NONE, footage, ())]
            pl.DataFrame(table_of, infer_schema_length=None).head(len(rows)).write_csv(temporary)


def _media(footage: Footage | None) -> dict[str, Any]:
    if footage is None:
        return {"video": None}
    return {
        "video": str(footage.path),
        "rate": [footage.rate.numerator, footage.rate.denominator],
        "frames": footage.frames,
        "timecode": footage.timecode(0),
    }


def _row(chapter: Chapter, footage: Footage | None, cuts: Sequence[FrameCut]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "rank": chapter.rank,
        "title": chapter_title(chapter),
        "start_s": round(chapter.start_s, 6),
        "end_s": round(chapter.end_s, 6),
        "peak_s": round(chapter.peak_s, 6),
        "score": chapter.score,
    }
    cut = next((cut for cut in cuts if cut.rank == chapter.rank), None)
    if footage is not None:
        first, stop, peak = (None,) * 3 if cut is None else (cut.first, cut.stop, cut.peak)
        row |= {"first_frame": first, "stop_frame": stop, "peak_frame": peak}
        row["first_timecode"] = None if first is None else footage.timecode(first)
        row["stop_timecode"] = None if stop is None else footage.timecode(stop)
    return row
