"""A strip of coverage over time in the terminal: a line a part, with time marks below."""

from __future__ import annotations

from contentctr.report.ticks import moment, tick_seconds
from contentctr.rooms.inspection.coverage import count_cells, span_cells, time_range
from contentctr.rooms.inspection.facts import Floats, Inspection, PartFacts

BLOCKS, ASCII = " ▁▂▃▄▅▆▇█", " .:-=+*%#"
"""From nothing to the most, and what stands for it where the terminal is not in UTF-8."""
MIN_CELLS, MAX_CELLS = 60, 100
FRAME_S = 5.0
"""An image stands for so long before and after its second."""
WORD_S = 0.3
_SPANNED = ("frames", "speech")
_LABEL = 9


def strip_lines(found: Inspection, cells: int, *, unicode: bool = True) -> list[str]:
    """The strip: parts that have times, then the marks; nothing where no part has any.

    Args:
        found: what was inspected.
        cells: how many characters stand for the whole time.
        unicode: use blocks, else ASCII.
    """
    rows = coverage_rows(found, cells)
    if not rows:
        return []
    ramp = BLOCKS if unicode else ASCII
    begin_s, end_s = time_range(found)
    lines = [
        f"{name:<{_LABEL}}{''.join(_level(value, ramp) for value in values)} {scale}".rstrip()
        for name, values, scale in rows
    ]
    return [*lines, *_marks(begin_s, end_s, cells, unicode)]


def coverage_rows(found: Inspection, cells: int) -> list[tuple[str, Floats, str]]:
    """Name, height of each cell in [0, 1], and what full height is, of every part with times."""
    begin_s, end_s = time_range(found)
    spans: list[tuple[str, list[tuple[float, float]]]] = []
    if found.duration_s is not None and (begin_s < 0 or end_s > found.duration_s):
        spans.append(("room", [(0.0, found.duration_s)]))
    if found.recording is not None:
        spans.append(("pictures", found.recording.picture_spans))
        spans.append(("sound", found.recording.sound_spans))
    spans += [(part.name, part_spans) for part in found.parts if (part_spans := _spans(part))]
    rows = [(name, span_cells(some, begin_s, end_s, cells), "") for name, some in spans if some]
    for part in found.parts:
        if part.name not in _SPANNED and part.starts_s.size:
            counts = count_cells(part.starts_s, begin_s, end_s, cells)
            most = float(counts.max()) or 1.0
            scale = f"to {_rate(most, (end_s - begin_s) / cells)}"
            rows.append((part.name, counts / most, scale))
    return rows


def _spans(part: PartFacts) -> list[tuple[float, float]]:
    """What a part covers, where its rows last."""
    starts = part.starts_s.tolist()
    if part.name == "frames":
        return [(second - FRAME_S, second + FRAME_S) for second in starts]
    if part.ends_s is None:
        return []
    # A word that is placed by its middle has no length of its own.
    return [
        (start, max(end, start + WORD_S))
        for start, end in zip(starts, part.ends_s.tolist(), strict=True)
    ]


def _level(value: float, ramp: str) -> str:
    top = len(ramp) - 1
    # What is there at all is seen.
    return ramp[0] if value <= 0 else ramp[max(1, min(top, round(value * top)))]


def _rate(count: float, cell_s: float) -> str:
    a_minute = 60 * count / cell_s
    return f"{a_minute:.0f}/min" if a_minute >= 10 else f"{a_minute:.1f}/min"


def _marks(begin_s: float, end_s: float, cells: int, unicode: bool) -> list[str]:
    """A line of ticks and one of times."""
    line, labels = ["─" if unicode else "-"] * cells, [" "] * (cells + 8)
    for second in tick_seconds(begin_s, end_s, cells / 12):
        place = min(int((second - begin_s) / (end_s - begin_s) * cells), cells - 1)
        line[place] = "┴" if unicode else "+"
        text = moment(second)
        labels[place : place + len(text)] = text
    pad = " " * _LABEL
    return [pad + "".join(line), (pad + "".join(labels)).rstrip()]
