"""What is understood of room folders and files, part by part."""

import json
import os
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from PIL import Image

from contentctr.rooms.folder import read_room
from contentctr.rooms.inspection.facts import as_json
from contentctr.rooms.inspection.inspect import Given, find_inputs, inspect
from recordings import RATE, join, record

HEAD = {"room_id": "r1", "streamer_id": "s1", "started_at": "2024-05-01T20:00:00+08:00"}


@pytest.fixture
def room(tmp_path):
    folder = tmp_path / "room"
    folder.mkdir()
    (folder / "room.json").write_text(json.dumps(HEAD))
    record(folder / "video.mp4", 20.0)
    rows = ["t,user_id,text", "-3,a,before", "1,a,hi", "2,b,oh", "2.5,b,oh", "nan,c,x", "33,c,late"]
    (folder / "comments.csv").write_text("\n".join(rows) + "\n")
    (folder / "speech.srt").write_text("1\n00:00:04,000 --> 00:00:06,500\nhello all\n")
    (folder / "notes.docx").write_bytes(b"PK")
    events = {
        "user_id": ["a", "a", "b"],
        "t": [1.0, 1.5, 3.0],
        "kind": ["exposure", "click", "like"],
    }
    pl.DataFrame(events).write_parquet(folder / "events.parquet")
    return folder


def parts(found):
    return {part["name"]: part for part in as_json(found)["parts"]}


def test_a_whole_room(room):
    found = inspect(room)
    assert (found.kind, found.room_id, found.streamer_id) == ("room", "r1", "s1")
    assert found.started_at == "2024-05-01T20:00:00+08:00" and not found.problems
    assert found.duration_s == pytest.approx(20.0, abs=0.2)
    of = parts(found)
    assert list(of) == ["speech", "comments", "events"]
    comments = of["comments"]
    assert comments["form"] == "comments as CSV"
    assert (comments["rows"], comments["used"], comments["outside"]) == (5, 3, 2)
    assert comments["bad_lines"] == 1 and "line 6" in comments["warnings"][0]
    assert (comments["first_s"], comments["last_s"]) == (-3.0, 33.0)
    assert comments["details"]["users"] == 3
    assert (of["speech"]["first_s"], of["speech"]["last_s"]) == (4.0, 6.5)
    assert of["events"]["details"]["kinds"] == {"exposure": 1, "click": 1, "like": 1}
    assert any("notes.docx" in note for note in found.notes)
    json.dumps(as_json(found), allow_nan=False)


def test_it_says_what_the_reader_of_rooms_does(room):
    found, read = inspect(room), read_room(room)
    assert found.duration_s == read.duration_s
    used = {name: part["used"] for name, part in parts(found).items()}
    assert used == {name: getattr(read, name).height for name in used}
    said = {note for part in parts(found).values() for note in part["warnings"]}
    said |= set(found.notes) | set(found.recording.warnings)
    assert set(read.warnings) <= said


def test_a_part_that_cannot_be_read_costs_itself_alone(room):
    (room / "events.parquet").write_bytes(b"PAR1 no more")
    (room / "speech.srt").write_bytes(b"\xff\xfe\x00")
    found = inspect(room)
    assert parts(found)["events"]["problem"] and len(found.problems) == 2
    assert parts(found)["comments"]["rows"] == 5 and found.recording is not None
    (room / "video.mp4").write_bytes(bytes(1000))
    found = inspect(room)
    assert found.recording is None and found.is_read


def test_most_rows_outside_are_a_problem_with_their_numbers(room):
    rows = ["t,user_id,text", *(f"{1000 * n},a,hi{n}" for n in range(60))]
    (room / "comments.csv").write_text("\n".join(rows) + "\n")
    found = inspect(room)
    assert any("milliseconds" in problem for problem in found.problems)
    assert parts(found)["comments"]["outside"] == 59 and found.duration_s is not None


def test_a_folder_without_room_json_is_read_and_the_lack_named(room):
    (room / "room.json").unlink()
    found = inspect(room)
    assert found.kind == "room" and parts(found)["comments"]["rows"] == 5
    assert any("room.json: no such file" in problem for problem in found.problems)


def test_frames_and_tables_in_parts(tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    for second in (5, 15, 25):
        Image.new("RGB", (8, 8)).save(frames / f"{second}.jpg")
    found = inspect(frames)
    assert found.kind == "frames" and parts(found)["frames"]["last_s"] == 25.0
    spark = tmp_path / "log"
    spark.mkdir()
    table = pl.DataFrame({"user_id": ["a"], "t": [1.0], "kind": ["click"]})
    table.write_parquet(spark / "part-00000.parquet")
    (spark / "_SUCCESS").touch()
    found = inspect(spark)
    assert found.kind == "events" and parts(found)["events"]["rows"] == 1
    empty = tmp_path / "empty"
    empty.mkdir()
    assert not inspect(empty).is_read and "neither a room folder" in inspect(empty).problems[0]
    (empty / "live_like.csv").write_text("live_id,user_id,like_timestamp\n1,2,3\n")
    (empty / "other.txt").touch()
    assert "contentctr prepare klm3" in inspect(empty).problems[0]


def test_a_recording_with_its_logs(room, tmp_path):
    clock = tmp_path / "chat.jsonl"
    start = datetime(2024, 5, 1, 12, tzinfo=UTC)
    rows = [{"t": f"2024-05-01T12:00:{n:02d}Z", "user_id": "a", "text": "hi"} for n in range(9)]
    clock.write_text("\n".join(map(json.dumps, rows)))
    alone = inspect(clock)
    assert alone.kind == "comments" and "--started-at" in alone.problems[0]
    given = Given(beside={"comments": clock}, started_at=start)
    found = inspect(room / "video.mp4", given)
    assert parts(found)["comments"]["used"] == 9 and not found.problems
    wrong = inspect(clock, Given(beside={"comments": clock}))
    assert "is no video" in wrong.problems[0]


def test_streams_clock_and_turn_of_a_recording(tmp_path):
    first = record(tmp_path / "a.flv", 12.0)
    second = record(tmp_path / "b.flv", 12.0, first=12 * RATE)
    found = inspect(join(tmp_path / "v.flv", first, second)).recording
    assert found is not None
    assert [s.kind for s in found.streams] == ["video", "audio"]
    assert found.streams[0].codec == "h264" and "pictures" in found.streams[0].use
    assert found.duration_s == pytest.approx(24.0, abs=0.3)
    assert len(found.clock) == 1 and "starts again" in found.clock[0]
    assert found.keyframe_every_s == pytest.approx(2.0)
    assert found.frame_rate == pytest.approx(RATE, rel=0.1)
    assert len(found.picture_spans) == 1
    turned = record(
        tmp_path / "t.mp4",
        2.0,
        turn=lambda p: np.rot90(p),
        matrix=[0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30],
    )
    found = inspect(turned).recording
    assert found is not None and found.rotation in (90, 270)
    assert found.width > found.height


def test_pictures_that_begin_late_and_end_early(tmp_path):
    path = record(tmp_path / "v.mkv", 100.0, pictures=(8.0, 30.0))
    found = inspect(path).recording
    assert found is not None and found.pictures_s == pytest.approx((8.0, 30.0), abs=0.3)
    assert found.picture_spans == [pytest.approx((8.0, 30.0), abs=0.3)]
    assert found.sound_s == pytest.approx((0.0, 100.0), abs=0.3)


def test_what_holds_nothing_is_said(tmp_path):
    found = inspect(tmp_path / "nothing.mp4")
    assert not found.is_read and "no such file" in found.problems[0]
    noise = tmp_path / "noise.bin"
    noise.write_bytes(np.random.default_rng(0).bytes(5000))
    assert (
        not inspect(noise).is_read and "cannot be opened as a video" in inspect(noise).problems[0]
    )
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "not a device or a pipe" in inspect(pipe).problems[0]


def test_as_forces_a_kind(tmp_path):
    path = tmp_path / "x.srt"
    path.write_text("1\n00:00:01,000 --> 00:00:03,000\nhello all\n")
    assert inspect(path).kind == "speech"
    found = inspect(path, Given(kind="comments"))
    assert found.kind == "comments" and found.told == "--as"
    assert "danmaku as SRT" in parts(found)["comments"]["form"]


def test_folders_of_rooms_become_their_rooms(room, tmp_path):
    other = tmp_path / "deep" / "r2"
    other.mkdir(parents=True)
    (other / "room.json").write_text(json.dumps(HEAD))
    assert find_inputs([tmp_path]) == [other, room]
    assert find_inputs([room / "room.json", room]) == [room]
    assert find_inputs([room / "video.mp4"]) == [room / "video.mp4"]
