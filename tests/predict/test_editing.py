"""What a prediction gives to look at and to edit with, by the rule: no model is needed."""

import json
import re
import shutil
import sys
from pathlib import Path

import av
import opentimelineio as otio
import polars as pl
import pytest

from browser import Browser, find_browser
from contentctr import cli
from contentctr.errors import InputError
from contentctr.outputs import LOCK, MARKER
from contentctr.predict.by_rule import highlight_recording
from contentctr.predict.editing import Editing
from contentctr.predict.export.write import FORMATS
from contentctr.rooms.footage import read_footage
from contentctr.rooms.media import probe
from contentctr.rooms.video import picture
from contentctr.score.choose import HighlightChoice
from recordings import RATE, record
from videos import make_video, number
from world import NAMES

PEAKS = (60, 150, 240)
"""Seconds at which many people write."""
CHOICE = HighlightChoice(top_k=3, max_length_s=20.0)


def write_chat(path: Path, seconds: int = 300) -> Path:
    rows = [{"t": float(t), "user_id": f"u{t % 7}", "text": "hm"} for t in range(0, seconds, 9)]
    for peak in PEAKS:
        for i in range(40):
            text = "</script> lol" if i == 0 else "lol what"
            rows.append({"t": peak + i / 8, "user_id": f"p{peak}{i}", "text": text})
    rows.sort(key=lambda row: float(row["t"]))  # type: ignore[arg-type]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of five minutes whose frame i is drawn with i, and its chat."""
    folder = tmp_path_factory.mktemp("desk")
    make_video(folder / "20:00 live #1.mp4", seconds=300, rate=5, gop=20, audio=True)
    write_chat(folder / "chat.jsonl")
    return folder


def find(folder: Path, out: Path, video: str = "20:00 live #1.mp4", **editing: object):  # type: ignore[no-untyped-def]
    return highlight_recording(
        folder / video,
        out,
        comments=folder / "chat.jsonl",
        choice=CHOICE,
        editing=Editing(**editing),  # type: ignore[arg-type]
        show_progress=False,
    )


def numbers(path: Path) -> list[int | None]:
    with av.open(str(path)) as clip:
        return [number(picture(frame)) for frame in clip.decode(video=0)]


def test_timeline_clips_and_reel_have_the_same_frames(desk: Path, tmp_path: Path) -> None:
    formats = [name for name in FORMATS if name != "edl"]  # 5 frames a second have no timecode
    found = find(desk, tmp_path / "p", exact=True, reel=True, pad_s=1.0, formats=formats)
    assert found.highlights and not [w for w in found.warnings if "clip" in w or "export" in w]
    out = tmp_path / "p"
    timeline = otio.adapters.read_from_file(str(out / "export" / "highlights.otio"))
    spans = [
        range(int(c.source_range.start_time.value), int(c.source_range.end_time_exclusive().value))
        for c in timeline.video_tracks()[0].find_clips()
    ]
    rows = pl.read_csv(out / "highlights.csv").sort("start_s").to_dicts()
    film = read_footage(desk / "20:00 live #1.mp4")
    for span, row in zip(spans, rows, strict=True):
        assert span.start == film.frame(row["start_s"] - 1.0)
        assert span.stop == film.frame(row["end_s"] + 1.0)
        assert numbers(out / "clips" / row["clip"]) == list(span)
        assert row["clip_start_s"] == pytest.approx(row["start_s"] - 1.0, abs=0.11)
    assert numbers(out / "reel.mp4") == [n for span in spans for n in span]
    for row in rows:
        with av.open(str(out / "clips" / row["clip"])) as clip:
            assert {s.type for s in clip.streams} == {"video", "audio"}
        assert (out / "clips" / row["clip"]).with_suffix(".jpg").read_bytes()[:3] == b"\xff\xd8\xff"
    listed = json.loads((out / MARKER).read_text())["files"]
    assert {str(p.relative_to(out)) for p in found.files} == set(listed)
    again = find(desk, tmp_path / "p")  # what is not wanted any more goes
    assert {p.name for p in out.iterdir()} == NAMES | {MARKER, LOCK}
    assert {p.name for p in again.files} == NAMES


def test_nothing_of_the_users_is_overwritten(desk: Path, tmp_path: Path) -> None:
    out = tmp_path / "p"
    find(desk, out)
    (out / "export").mkdir()
    for name in ("reel.mp4", "export/highlights.otio"):
        (out / name).write_text("mine")
        with pytest.raises(InputError, match="would be overwritten"):
            find(desk, out, reel=True, formats=["otio"])
        assert (out / name).read_text() == "mine"
        (out / name).unlink()
    (out / "export" / "notes.txt").write_text("mine")
    find(desk, out, formats=["csv"])
    find(desk, out)
    assert (out / "export" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("suffix", ["flv", "ts", "mkv"])
def test_what_recorders_write_gives_clips_that_browsers_play(tmp_path: Path, suffix: str) -> None:
    record(tmp_path / f"v.{suffix}", 300)
    write_chat(tmp_path / "chat.jsonl")
    found = find(tmp_path, tmp_path / "p", f"v.{suffix}", clips=True, reel=True)
    expected = ".mkv" if suffix == "mkv" else ".mp4"
    clips = [p for p in found.files if p.parent.name == "clips" and p.suffix != ".jpg"]
    assert clips and {p.suffix for p in clips} == {expected}
    assert (tmp_path / "p" / f"reel{expected}").is_file()
    page = (tmp_path / "p" / "index.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])  # type: ignore[index]
    assert data["video"]["playable"] is (suffix == "mkv")
    assert data["video"]["href"] == f"../v.{suffix}" and "H.264" in data["video"]["format"]
    assert [h["clip"] for h in data["highlights"]] == [f"clips/{p.name}" for p in clips]
    starts = {h["clip"]: h["clipStart"] for h in data["highlights"]}
    for h in data["highlights"]:
        assert starts[h["clip"]] <= h["start"] + 0.01 and h["picture"].startswith("data:image/jpeg")


def test_a_recording_of_sound_alone_has_a_page_and_chapters(tmp_path: Path) -> None:
    record(tmp_path / "v.mp4", 300, pictures=(0, 0.2))
    with av.open(str(tmp_path / "v.mp4")) as source, av.open(str(tmp_path / "v.m4a"), "w") as out:
        track = out.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = track
                out.mux(packet)
    write_chat(tmp_path / "chat.jsonl")
    found = find(tmp_path, tmp_path / "p", "v.m4a", formats=["otio", "chapters", "json"])
    assert [w for w in found.warnings if w.startswith("export otio: a timeline needs a video")]
    assert "AAC" in (tmp_path / "p" / "index.html").read_text()
    assert (tmp_path / "p" / "export" / "chapters.txt").read_text().startswith("0:00 ")
    with pytest.raises(InputError, match="clips can be cut from a video only"):
        find(tmp_path, tmp_path / "q", "v.m4a", reel=True)


def test_a_turned_video_stays_turned_and_is_shown_upright(tmp_path: Path) -> None:
    unit = 1 << 16
    record(
        tmp_path / "v.mp4",
        300,
        turn=lambda a: a[::-1, ::-1],
        matrix=(-unit, 0, 0, 0, -unit, 0, 0, 0, 1 << 30),
    )
    write_chat(tmp_path / "chat.jsonl")
    found = find(tmp_path, tmp_path / "p", "v.mp4", vertical=True, formats=["fcpxml"])
    clip = next(p for p in found.files if p.suffix == ".mp4")
    info = probe(clip)
    assert info.rotation == 180 and info.width <= info.height


def run_command(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["contentctr", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return int(stopped.value.code or 0)


def test_the_commands(
    desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    video, chat = desk / "20:00 live #1.mp4", desk / "chat.jsonl"
    words = ("highlights", video, "--comments", chat, "-o", tmp_path / "p", "--export")
    assert run_command(monkeypatch, *words, "Chapters, VTT") == 0
    assert "export/chapters.txt" in capsys.readouterr().out
    assert {p.name for p in (tmp_path / "p" / "export").iterdir()} == {
        *("chapters.txt", "chapters.ffmetadata", "highlights.vtt")
    }
    assert run_command(monkeypatch, *words, "premiere") == 2
    assert "export: must be of otio, edl" in capsys.readouterr().err
    assert run_command(monkeypatch, *words, "csv", "--pad", "-1") == 2
    assert "pad must be 0 or more seconds" in capsys.readouterr().err


@pytest.mark.skipif(find_browser() is None, reason="no Chromium is installed")
def test_the_page_of_a_prediction_plays_from_where_the_recording_lies(
    desk: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "a #b%"
    shutil.copytree(desk, folder)
    find(folder, folder / "out ?", clips=True)
    browser = Browser(tmp_path / "profile")
    try:
        browser.size(1280, 800)
        browser.open((folder / "out ?" / "index.html").as_uri())
        browser.until("document.querySelector('video').readyState >= 1")
        browser.click("#highlights .go")
        now = "document.querySelector('video').currentTime"
        start = json.loads((folder / "out ?" / "prediction.json").read_text())["highlights"][0]
        browser.until(f"!document.querySelector('video').paused && {now} > {start['start_s']}")
        assert "by a rule, not a trained model" in browser.run("document.body.innerText")
        assert browser.run("document.querySelectorAll('#parts button').length") >= 2
        browser.click("#parts button")
        browser.until("document.querySelectorAll('#curve .line').length === 2")
        assert browser.told("Runtime.exceptionThrown") == []
        asked = [e["request"]["url"] for e in browser.told("Network.requestWillBeSent")]
        assert all(url.startswith(("file:", "data:", "about:")) for url in asked)
    finally:
        browser.close()


def test_a_clip_that_cannot_begin_in_time_says_so(tmp_path: Path) -> None:
    write_chat(tmp_path / "chat.jsonl")
    record(tmp_path / "rare.mkv", 300, gop=153 * RATE)
    found = find(tmp_path, tmp_path / "out", "rare.mkv", clips=True)
    table = pl.read_csv(tmp_path / "out" / "highlights.csv")
    late = table.filter(pl.col("clip_start_s") > pl.col("start_s") + 1)
    told = [note for note in found.warnings if "begins late" in note]
    assert len(told) == late.height > 0
    assert all(Path(clip).name in "".join(told) for clip in late["clip"])
