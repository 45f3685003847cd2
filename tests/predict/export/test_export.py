"""Highlights for editors: opened again by OpenTimelineIO, with the same cuts to the frame."""

import csv
import json
import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import av
import opentimelineio as otio
import pytest

from contentctr.errors import InputError
from contentctr.predict.export import timeline
from contentctr.predict.export.chapters import youtube_marks
from contentctr.predict.export.cuts import frame_cuts
from contentctr.predict.export.write import FORMATS, export_highlights, export_names, parse_formats
from contentctr.report.player.contents import Chapter, Reason
from contentctr.rooms.footage import RATES, Footage, read_footage
from videos import make_video

NTSC = Fraction(30000, 1001)
EVIL = "</script>\n* LOC: 1 & <b> ]]> \u202e=;#\\ 'what'"


def chapter(rank: int, start_s: float, end_s: float, text: str = "") -> Chapter:
    reasons = [Reason(part="chat", text=text)] if text else []
    peak_s = (start_s + end_s) / 2
    return Chapter(
        rank=rank, start_s=start_s, end_s=end_s, peak_s=peak_s, score=0.5, reasons=reasons
    )


def footage(rate: Fraction, **changes: object) -> Footage:
    settings: dict[str, object] = {
        "path": Path("/rec #1/20:00 live?.mp4"),
        "rate": rate,
        "first_s": 0.0,
        "frames": round(6 * 3600 * rate),
        "width": 1920,
        "height": 1080,
        "drop": rate in (NTSC, 2 * NTSC),
        "start_frame": 3600 * round(rate),
        "channels": 2,
        "sample_rate": 48000,
    }
    return Footage(**{**settings, **changes})  # type: ignore[arg-type]


CHAPTERS = [
    chapter(1, 7203.37, 7290.0, EVIL),
    chapter(2, 10.01, 40.5),
    chapter(3, 21580.2, 21599.99),
]


def spans(found: otio.schema.Timeline, kind: str, start: int) -> list[tuple[int, int]]:
    """First frame and length of every clip of a track, counted from the first picture."""
    track = next(t for t in found.tracks if t.kind == kind)
    return [
        (
            round(clip.source_range.start_time.value) - start,
            round(clip.source_range.duration.value),
        )
        for clip in track.find_clips()
    ]


@pytest.mark.parametrize("rate", RATES)
def test_timelines_opened_again_have_the_same_cuts_to_the_frame(rate: Fraction) -> None:
    film = footage(rate)
    cuts = frame_cuts(CHAPTERS, film)
    expected = [(cut.first, cut.length) for cut in cuts]
    assert [cut.rank for cut in cuts] == [2, 1, 3]
    for cut, c in zip(cuts, sorted(CHAPTERS, key=lambda c: c.start_s), strict=True):
        assert abs(cut.first / rate - Fraction(c.start_s)) <= 1 / (2 * rate)
    text = timeline.otio_text("x", cuts, film)
    found = otio.adapters.read_from_string(text, "otio_json")
    start = 3600 * round(rate)
    assert spans(found, "Video", start) == expected == spans(found, "Audio", start)
    clip = next(iter(found.find_clips()))
    assert clip.source_range.start_time.rate == float(rate)
    reference = clip.media_reference
    assert reference.target_url == "file:///rec%20%231/20%3A00%20live%3F.mp4"
    assert round(reference.available_range.duration.value) == film.frames
    assert [round(m.marked_range.start_time.value) - start for m in clip.markers] == [cuts[0].peak]
    if rate > 60:
        with pytest.raises(InputError, match="no edit decision list has"):
            timeline.edl_text("x", cuts, film)
        return
    text = timeline.edl_text("x", cuts, film)
    assert "FCM: DROP FRAME" in text if film.drop else "FCM: NON-DROP FRAME" in text
    found = otio.adapters.read_from_string(text, "cmx_3600", rate=float(rate))
    assert spans(found, "Video", start) == expected == spans(found, "Audio", start)
    assert "FROM CLIP NAME:  20:00 live?.mp4" in text
    mono = timeline.edl_text("x", cuts, footage(rate, channels=1))
    assert len(otio.adapters.read_from_string(mono, "cmx_3600", rate=float(rate)).tracks) == 2
    silent = timeline.edl_text("x", cuts, footage(rate, channels=0))
    assert len(otio.adapters.read_from_string(silent, "cmx_3600", rate=float(rate)).tracks) == 1


def read_fcpxml(text: str, start: int) -> tuple[Fraction, list[tuple[int, int]]]:
    """Its rate and cuts, read as the format's rules have them; breaks of a rule fail."""
    root = ElementTree.fromstring(text)
    frame = seconds(root.find("./resources/format").get("frameDuration"))  # type: ignore[union-attr]
    ids = [e.get("id") for e in root.findall("./resources/*")]
    assert len(set(ids)) == len(ids)
    for element in root.iter():
        for name in ("offset", "start", "duration", "tcStart"):
            if (value := element.get(name)) is not None:
                assert re.fullmatch(r"\d+(/\d+)?s", value)
                assert (seconds(value) / frame).denominator == 1, (element.tag, name, value)
                assert all(int(n) < 2**63 for n in re.findall(r"\d+", value))
        for name in ("ref", "format"):
            assert element.get(name) in {None, *ids}
    asset = root.find("./resources/asset")
    assert asset is not None
    (sequence,) = root.findall("./library/event/project/sequence")
    clips = sequence.findall("./spine/asset-clip")
    offset, found = Fraction(0), []
    for clip in clips:
        first, length = (seconds(clip.get(name)) for name in ("start", "duration"))
        assert seconds(clip.get("offset")) == offset
        assert seconds(asset.get("start")) <= first
        assert first + length <= seconds(asset.get("start")) + seconds(asset.get("duration"))
        offset += length
        marker = clip.find("marker")
        assert marker is not None and first <= seconds(marker.get("start")) < first + length
        found.append((int(first / frame) - start, int(length / frame)))
    assert seconds(sequence.get("duration")) == offset
    return 1 / frame, found


def seconds(text: str | None) -> Fraction:
    assert text is not None and text.endswith("s")
    return Fraction(text[:-1])


@pytest.mark.parametrize("rate", RATES)
def test_fcpxml_holds_to_its_rules(rate: Fraction) -> None:
    from contentctr.predict.export.fcpxml import fcpxml_text

    film = footage(rate)
    cuts = frame_cuts(CHAPTERS, film)
    text = fcpxml_text(f"a {EVIL}", cuts, film)
    expected = [(cut.first, cut.length) for cut in cuts]
    assert read_fcpxml(text, film.start_frame) == (rate, expected)
    assert "\u202e" not in text
    if rate.denominator == 1 and rate != 48:  # the adapter rounds other rates to whole ones
        found = otio.adapters.read_from_string(text, "fcpx_xml")
        if not isinstance(found, otio.schema.Timeline):
            found = next(iter(found.find_children(descended_from_type=otio.schema.Timeline)))
        clips = list(found.find_clips())
        assert [round(c.source_range.duration.value) for c in clips] == [n for _, n in expected]
    silent = fcpxml_text("x", cuts, footage(rate, channels=0))
    assert "audio" not in silent and read_fcpxml(silent, film.start_frame)[1] == expected


def test_all_formats_of_a_real_file(tmp_path: Path) -> None:
    video = tmp_path / "20:00 live #1.mp4"
    make_video(video, seconds=60, rate=25, audio=True)
    chapters = [chapter(1, 20.0, 35.0, EVIL), chapter(2, 5.02, 18.0)]
    warnings: list[str] = []
    made = export_highlights(
        tmp_path / "p",
        list(FORMATS),
        name=f"night {EVIL}",
        chapters=chapters,
        duration_s=60.0,
        video=video,
        warnings=warnings,
    )
    assert {str(p.relative_to(tmp_path / "p")) for p in made} == set(export_names(list(FORMATS)))
    assert warnings == [] and all(p.is_file() for p in made)
    film = read_footage(video)
    expected = [(cut.first, cut.stop) for cut in frame_cuts(chapters, film)]
    folder = tmp_path / "p" / "export"
    again = otio.adapters.read_from_file(str(folder / "highlights.otio"))
    assert [(a, a + n) for a, n in spans(again, "Video", 0)] == expected
    with (folder / "highlights.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(int(r["first_frame"]), int(r["stop_frame"])) for r in rows] == expected[::-1]
    assert rows[0]["first_timecode"] == "00:00:20:00"
    table = json.loads((folder / "highlights.json").read_text())
    assert table["rate"] == [25, 1] and table["highlights"][0]["rank"] == 1
    vtt = (folder / "highlights.vtt").read_text()
    assert vtt.startswith("WEBVTT\n\n2\n00:00:05.020 --> 00:00:18.000\n") and "</script>" not in vtt
    edl = (folder / "highlights.edl").read_text()
    assert edl.count("LOC:") - edl.count("* LOC: 1 &") == 2 and "\n* LOC: 1" not in edl


def test_ffmpeg_reads_the_chapters(tmp_path: Path) -> None:
    export_highlights(
        tmp_path,
        ["chapters"],
        name="x",
        chapters=[chapter(1, 20.0, 35.0, "a=b;c#d\\e")],
        duration_s=60.0,
        video=None,
        warnings=[],
    )
    with av.open(str(tmp_path / "export" / "chapters.ffmetadata"), format="ffmetadata") as found:
        chapters = found.chapters()
    times = [(c["start"] * c["time_base"], c["end"] * c["time_base"]) for c in chapters]
    assert times == [(0, 20), (20, 35), (35, 60)]
    assert chapters[1]["metadata"]["title"] == "Highlight 1: a=b;c#d\\e"
    text = (tmp_path / "export" / "chapters.txt").read_text()
    assert text == "0:00 Start\n0:20 Highlight 1: a=b;c#d\\e\n0:35 The stream goes on\n"


@pytest.mark.parametrize(
    ("found", "duration_s"),
    [
        ([], 3600.0),
        ([(0.0, 30.0)], 60.0),
        ([(3.0, 30.0)], 3600.0),
        ([(30.0, 60.0), (62.0, 70.0), (71.0, 100.0)], 100.0),
        ([(3590.0, 3600.0)], 3600.0),
        ([(3595.0, 3600.0)], 3600.0),
        ([(5.0, 9.0), (9.5, 12.0), (13.0, 30.0)], 40.0),
        ([(0.0, 30.0)], 30.9),
    ],
)
def test_chapters_are_as_youtube_wants_them(
    found: Sequence[tuple[float, float]], duration_s: float
) -> None:
    marks, notes = youtube_marks([chapter(i, *span) for i, span in enumerate(found, 1)], duration_s)
    starts = [mark.start_s for mark in marks]
    assert starts[0] == 0 and len(marks) >= 3 and starts == sorted(set(starts))
    assert min(b - a for a, b in zip(starts, [*starts[1:], int(duration_s)], strict=True)) >= 10
    assert sum(mark.is_highlight for mark in marks) + len(notes) == len(found)


def test_what_cannot_be_made_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_formats(" JSON,otio ,otio") == ["otio", "json"]
    for text in ("", "otio,premiere"):
        with pytest.raises(InputError, match="export: "):
            parse_formats(text)
    marks, notes = youtube_marks([], 25.0)
    assert len(marks) == 2 and "too short for the three chapters" in notes[0]
    warnings: list[str] = []
    made = export_highlights(
        tmp_path,
        ["otio", "csv"],
        name="x",
        chapters=[chapter(1, 1.0, 2.0)],
        duration_s=60.0,
        video=None,
        warnings=warnings,
    )
    assert [p.name for p in made] == ["highlights.csv"]
    assert warnings == ["export otio: a timeline needs a video, whose frames it counts"]
    monkeypatch.setitem(__import__("sys").modules, "opentimelineio", None)
    with pytest.raises(InputError, match=r"pip install .*\[editors\]"):
        timeline.otio_text("x", [], footage(NTSC))


def test_a_table_of_no_highlights_has_its_columns(tmp_path):
    export_highlights(
        tmp_path, ["csv"], name="r", chapters=[], duration_s=60.0, video=None, warnings=[]
    )
    text = (tmp_path / "export" / "highlights.csv").read_text()
    assert text == "rank,title,start_s,end_s,peak_s,score\n"


def test_chapters_do_without_the_recording(tmp_path):
    warnings = []
    gone = tmp_path / "gone.mp4"
    export_highlights(
        tmp_path, ["vtt"], name="r", chapters=[], duration_s=60.0, video=gone, warnings=warnings
    )
    assert warnings == [] and (tmp_path / "export" / "highlights.vtt").is_file()
