"""Chapters: for YouTube's descriptions, as FFmpeg's metadata, and as WebVTT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from contentctr.predict.export.cuts import chapter_title
from contentctr.report.player.contents import Chapter, visible

SHORTEST_S = 10
"""YouTube takes no shorter chapter, and shows none of a list that has one."""
FEWEST = 3
"""YouTube shows chapters from so many on."""
_START, _ON = "Start", "The stream goes on"


@dataclass(frozen=True)
class Mark:
    """Where a chapter begins, in whole seconds."""

    start_s: int
    title: str
    is_highlight: bool = False


def youtube_marks(chapters: Sequence[Chapter], duration_s: float) -> tuple[list[Mark], list[str]]:
    """Chapters that YouTube takes: from 0:00 on, at least three, none shorter than 10 s.

    What lies between highlights is a chapter of its own where it is long enough; else the highlight
    goes on to the next. Where there are too few, the longest that is no highlight is parted.

    Returns:
        The chapters by time, and notes on highlights that are in none of their own.
    """
    end_s = int(duration_s)
    marks, notes = [Mark(0, _START)], []
    for chapter in sorted(chapters, key=lambda c: c.start_s):
        start_s, stop_s = int(chapter.start_s), min(int(chapter.end_s), end_s)
        last = marks[-1]
        if not last.is_highlight and start_s - last.start_s < SHORTEST_S:
            # Too short to stand before it: the highlight begins there, as nothing else does.
            marks.pop()
            start_s = last.start_s
        if end_s - start_s < SHORTEST_S or (marks and start_s - marks[-1].start_s < SHORTEST_S):
            notes.append(f"{chapter_title(chapter)} has no chapter: it would be under 10 s")
            marks += [last] if last not in marks else []
            continue
        marks.append(Mark(start_s, chapter_title(chapter), True))
        if stop_s - start_s >= SHORTEST_S and end_s - stop_s >= SHORTEST_S:
            marks.append(Mark(stop_s, _ON))
    while len(marks) < FEWEST:
        ends = [mark.start_s for mark in marks[1:]] + [end_s]
        spans = [
            (not mark.is_highlight, stop - mark.start_s, i)
            for i, (mark, stop) in enumerate(zip(marks, ends, strict=True))
            if stop - mark.start_s >= 2 * SHORTEST_S
        ]
        if not spans:
            notes.append("too short for the three chapters of 10 s that YouTube wants")
            break
        _, length_s, i = max(spans)
        step_s = max(length_s // (FEWEST - len(marks) + 1), SHORTEST_S)
        marks.insert(i + 1, Mark(marks[i].start_s + step_s, _ON))
    return marks, notes


def youtube_text(marks: Sequence[Mark]) -> str:
    """The chapters as lines of a description."""
    return "".join(f"{_clock(mark.start_s)} {mark.title}\n" for mark in marks)


def ffmetadata_text(name: str, marks: Sequence[Mark], duration_s: float) -> str:
    """The chapters as FFmpeg takes them (`ffmpeg -i FILE -i THIS -map_metadata 1 -codec copy`)."""
    lines = [";FFMETADATA1", f"title={_escaped(visible(name))}"]
    ends = [mark.start_s * 1000 for mark in marks[1:]] + [round(duration_s * 1000)]
    for mark, end in zip(marks, ends, strict=True):
        lines += ["[CHAPTER]", "TIMEBASE=1/1000", f"START={mark.start_s * 1000}", f"END={end}"]
        lines.append(f"title={_escaped(mark.title)}")
    return "\n".join(lines) + "\n"


def vtt_text(chapters: Sequence[Chapter]) -> str:
    """The highlights as cues of WebVTT, for a <track kind="chapters">."""
    cues = [
        f"{chapter.rank}\n{_stamp(chapter.start_s)} --> {_stamp(chapter.end_s)}\n"
        f"{_entities(chapter_title(chapter))}\n"
        for chapter in sorted(chapters, key=lambda c: c.start_s)
    ]
    return "WEBVTT\n\n" + "\n".join(cues)


def _clock(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    text = f"{rest // 60:02d}:{rest % 60:02d}"
    return f"{hours}:{text}" if hours else text.removeprefix("0")


def _stamp(seconds: float) -> str:
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}.{thousandths:03d}"


def _escaped(text: str) -> str:
    return "".join(f"\\{c}" if c in "=;#\\" else c for c in text)


def _entities(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
