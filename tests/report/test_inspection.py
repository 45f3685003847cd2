"""What an inspection looks like: lines for a terminal, and a picture."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from contentctr.errors import InputError
from contentctr.report.coverage import draw_coverage, require_png
from contentctr.report.inspection import describe
from contentctr.report.strip import ASCII, BLOCKS, strip_lines
from contentctr.report.ticks import moment, tick_seconds
from contentctr.rooms.inspection.facts import Inspection, PartFacts
from contentctr.rooms.lines import Part


def part(name, times, ends=None, path="x.csv"):
    table = pl.DataFrame({"t": list(times)}, schema={"t": pl.Float64})
    return PartFacts(
        name=name,
        path=Path(path),
        part=Part(path=Path(path), table=table, form="made up"),
        starts_s=np.asarray(times, dtype=np.float64),
        ends_s=None if ends is None else np.asarray(ends, dtype=np.float64),
    )


def inspection(*parts, duration_s=600.0, **more):
    return Inspection(path=Path("room"), kind="room", duration_s=duration_s, parts=[*parts], **more)


def test_density_and_coverage_in_cells():
    comments = part("comments", [*np.arange(0, 60, 1.0), *np.arange(300, 360, 2.0)])
    speech = part("speech", [0.0, 330.0], [30.0, 600.0])
    lines = strip_lines(inspection(speech, comments), 60)
    # Cells of 10 s: ten comments, then five; speech for 30 s, then from 330 s on.
    assert lines[0] == "speech   " + "█" * 3 + " " * 30 + "█" * 27
    assert lines[1] == "comments " + "█" * 6 + " " * 24 + "▄" * 6 + " " * 24 + " to 60/min"
    assert lines[2].startswith("         ┴") and "06:00" in lines[3]
    assert lines[3].index("06:00") == 9 + 36 == lines[2].index("┴", 9 + 25)


def test_ascii_and_little_that_is_seen():
    found = inspection(part("comments", [*[10.0] * 500, 400.0]))
    line = strip_lines(found, 60, unicode=False)[0]
    assert line[9 + 1] == ASCII[-1] and line[9 + 40] == ASCII[1]
    assert all(ord(c) < 128 for c in "".join(strip_lines(found, 60, unicode=False)))
    assert strip_lines(found, 60)[0][9 + 40] == BLOCKS[1]


def test_rows_outside_stretch_the_strip_a_little_and_the_room_is_marked():
    lines = strip_lines(inspection(part("comments", [-60.0, 5.0, 1e6])), 60)
    assert (
        lines[0].startswith("room     ") and lines[0][9] == " " and lines[0].endswith("█") is False
    )
    assert lines[-1].lstrip().startswith("00:00")
    assert strip_lines(inspection(part("comments", [])), 60) == []


def test_marks_are_few_and_round():
    assert tick_seconds(0.0, 600.0, 5) == [0, 120, 240, 360, 480, 600]
    assert (
        tick_seconds(-60.0, 31 * 86400.0, 5)[0] == 0 and len(tick_seconds(0, 31 * 86400.0, 5)) < 8
    )
    assert moment(-90.0) == "-01:30" and moment(3725.0) == "1:02:05" and moment(-0.2) == "00:00"


def test_nothing_of_others_controls_the_terminal():
    evil = "a\x1b[2Jb\u202ec\nd\u2066\x07\u2028e\x85"
    found = inspection(room_id=evil, streamer_id=evil, notes=[evil], problems=[evil])
    assert all(c.isprintable() for line in describe(found, 60) for c in line)


def test_counts_are_told():
    found = inspection(part("comments", [-1.0, 5.0, 700.0]), problems=["x: is bad"])
    text = "\n".join(describe(found, 60))
    assert "x.csv: made up" in text and "3 rows, 1 used, 2 outside the room" in text
    assert "600.0 s (10:00), 20 segments of 30 s" in text and "problem: x: is bad" in text


def test_the_picture_is_drawn_and_only_ours_is_replaced(tmp_path):
    path = tmp_path / "new" / "主播 [1].png"
    found = inspection(part("comments", [1.0, 700.0]), part("speech", [2.0], [9.0]))
    require_png(path, 1)
    assert draw_coverage([found, found], path)
    with Image.open(path) as image:
        assert image.width == 1920 and image.height > 300
        colors = {c for _, c in image.convert("RGB").getcolors(1 << 20) or []}
    assert {(0xC2, 0x40, 0x2A), (0xEA, 0xB3, 0x2E)} <= colors
    require_png(path, 1)
    theirs = tmp_path / "holiday.png"
    Image.new("RGB", (9, 9)).save(theirs)
    for bad, count in ((theirs, 1), (tmp_path / "x.jpg", 1), (tmp_path / "x.png", 21)):
        with pytest.raises(InputError):
            require_png(bad, count)
    assert not draw_coverage([inspection()], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
