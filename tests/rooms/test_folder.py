import datetime as dt
import json
import os
import re
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from contentctr.errors import InputError
from contentctr.prepare.segments import segment_rooms
from contentctr.rooms import folder as module
from contentctr.rooms.folder import find_rooms, read_room, room_from_video
from contentctr.rooms.media import VideoInfo

HEAD = {
    "room_id": "r1",
    "streamer_id": 7,
    "started_at": "2024-05-01T20:00:00+08:00",
    "duration_s": 60,
    "title": "ignored",
}


def make(folder: Path, head: object = HEAD, **files: str) -> Path:
    """A room folder; a file's key is its name with _ for the dot."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "room.json").write_text(json.dumps(head))
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


@pytest.fixture
def video_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def probe(path: Path, *, sound_alone: bool) -> VideoInfo:
        notes = [f"{path}: truncated"] if path.read_text() == "cut" else []
        return VideoInfo(duration_s=100.5, width=4, height=4, warnings=notes)

    monkeypatch.setattr(module, "probe", probe)


def events(*rows: str) -> str:
    return "\n".join(["user_id,t,kind", *rows]) + "\n"


def test_a_whole_room(tmp_path: Path, video_of: None) -> None:
    folder = make(
        tmp_path / "a",
        {**HEAD, "duration_s": 100},
        video_FLV="cut",
        comments_jsonl='{"t": 1, "user_id": "u", "text": "x"}\n' * 2,
        speech_srt="1\n00:00:01,000 --> 00:00:02,000\nhi\n",
        events_csv=events("u,1,exposure", "u,2,click", "v,3,click"),
        columns_csv="t,gmv\n1,5\n",
        notes_txt="named",
    )
    room = read_room(folder)
    assert (room.room_id, room.streamer_id, room.duration_s) == ("r1", "7", 100.0)
    assert room.started_at == dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)
    assert room.media is not None
    assert (room.media.path, room.media.kind) == (folder.resolve() / "video.FLV", "video")
    for table in (room.comments, room.speech, room.columns):
        assert table is not None
        assert table.height == 1
    assert room.events is not None
    assert room.events.height == 3
    assert room.counts == {"comments_duplicates": 1, "clicks_without_exposure": 1}
    assert room.warnings == [
        f"{folder}: did not read notes.txt: no name of a part (video, frames, comments, speech, "
        "events, columns)",
        f"{folder}/video.FLV: truncated",
        f"{folder}/comments.jsonl: left out 1 exact duplicates",
        f"{folder}/events.csv: 1 clicks are by users without an exposure in the room; they count "
        "as viewers",
    ]


def test_everything_may_be_missing(tmp_path: Path) -> None:
    room = read_room(make(tmp_path / "a"))
    assert room.media is room.comments is room.speech is room.events is room.columns is None
    assert room.duration_s == 60
    assert room.counts == {}
    assert room.warnings == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"room_id": None}, "room_id is missing"),
        ({"room_id": 1.5}, "room_id must be text or a whole number, not 1.5"),
        ({"streamer_id": True}, "streamer_id must be text or a whole number, not True"),
        ({"started_at": "2024-05-01T20:00:00"}, "started_at must have a zone, such as 2024-05-01T"),
        ({"started_at": "2024-05-01"}, "started_at must have a zone"),
        ({"started_at": "yesterday"}, "started_at must be ISO 8601 with a zone.* not 'yesterday'"),
        ({"started_at": 1714564800}, "started_at must be ISO 8601 with a zone.* not 1714564800"),
        ({"duration_s": "60"}, "duration_s must be a number of seconds, not '60'"),
        ({"duration_s": 0}, "duration_s must be above 0 and at most 2678400 seconds"),
        ({"duration_s": 3.6e6}, r"duration_s must be .* \(31 days\), not 3.6e\+06"),
        ({"duration_s": None, "ended_at": "2024-05-01T12:00:00Z"}, "ended_at - started_at must be"),
        (
            {"duration_s": None, "started_at": None, "ended_at": "2024-05-01T12:00:00Z"},
            "ended_at needs started_at",
        ),
    ],
)
def test_wrong_room_json(tmp_path: Path, change: dict[str, object], message: str) -> None:
    folder = make(tmp_path / "a", {**HEAD, **change})
    with pytest.raises(InputError, match=message) as caught:
        read_room(folder)
    assert str(caught.value).startswith(f"{folder}/room.json: ")


def test_where_the_duration_comes_from(tmp_path: Path, video_of: None) -> None:
    head = {k: v for k, v in HEAD.items() if k != "duration_s"}
    ended = {**head, "ended_at": "2024-05-01T12:10:00.5Z"}
    assert read_room(make(tmp_path / "a", ended)).duration_s == 600.5
    logs = {
        "comments_csv": "t,user_id,text\n70.25,a,b\n",
        "speech_jsonl": '{"start": 69, "end": 80.5, "text": "x"}',
    }
    folder = make(tmp_path / "b", head, **logs)
    assert read_room(folder).duration_s == 80.5
    (folder / "speech.jsonl").unlink()
    room = read_room(folder)
    assert room.duration_s == 71.0
    assert room.comments is not None
    assert room.comments.height == 1
    (folder / "frames").mkdir()
    for name in ("000005.jpg", "12.5.png", "000090.jpg"):
        Image.new("RGB", (2, 2)).save(folder / "frames" / name)
    room = read_room(folder)
    assert room.duration_s == 91.0
    assert room.media is not None
    assert room.media.kind == "frames"
    folder = make(tmp_path / "c", head, video_mp4="", **logs)
    assert read_room(folder).duration_s == 100.5
    with pytest.raises(InputError, match="d: how long the room lasted is unknown: give duration_s"):
        read_room(make(tmp_path / "d", head))
    unix = {"comments_csv": "t,user_id,text\n1714564860,a,b\n"}  # 60 s after started_at
    assert read_room(make(tmp_path / "e", head, **unix)).duration_s == 61.0


@pytest.mark.parametrize("factor", [1000, 1e3 + 1e-7])
def test_milliseconds_without_a_video_stop(tmp_path: Path, factor: float) -> None:
    head = {k: v for k, v in HEAD.items() if k != "duration_s"}

    def room(name: str, times: list[float], **more: object) -> Path:
        rows = [f"u{i % 9},{t:.9g},like" for i, t in enumerate(times)]
        return make(tmp_path / name, {**head, **more}, events_csv=events(*rows))

    seconds = [i * 2.0 for i in range(300)]  # ten minutes
    assert read_room(room("a", seconds)).duration_s == 599.0
    milliseconds = [t * factor for t in seconds]
    with pytest.raises(InputError, match="a room of 166 hours; times must be seconds.*give durat"):
        read_room(room("b", milliseconds))
    assert read_room(room("c", milliseconds, duration_s=600000)).counts == {}
    # Sparse, but not over a day: read, and doubted aloud.
    sparse = read_room(room("d", [t * 30 for t in seconds[:250]]))
    assert sparse.warnings == []
    sparse = read_room(room("e", [t * 1000 for t in seconds[:30]]))
    assert "reach 16.1 hours and fill 30 half minutes of 1933: are the times" in sparse.warnings[0]
    folder = room("f", [t * 1000 for t in seconds[:30]])
    (folder / "frames").mkdir()
    Image.new("RGB", (2, 2)).save(folder / "frames" / "58.jpg")
    with pytest.raises(InputError, match="though the frames end at 59 s"):
        read_room(folder)


def test_a_video_of_another_length_is_told(tmp_path: Path, video_of: None) -> None:
    room = read_room(make(tmp_path / "a", video_mp4=""))
    assert room.duration_s == 60
    assert room.warnings == [f"{tmp_path}/a: the video lasts 100.5 s, the room 60.0 s"]


def test_two_candidates_and_strange_files(tmp_path: Path) -> None:
    folder = make(tmp_path / "a", comments_csv="t,user_id,text\n", comments_jsonl="")
    with pytest.raises(InputError, match="comments.csv and comments.jsonl are both comments; keep"):
        read_room(folder)
    folder = make(tmp_path / "b", video_mp4="")
    (folder / "frames").mkdir()
    with pytest.raises(InputError, match="video.mp4 and frames are both its pictures"):
        read_room(folder)
    with pytest.raises(InputError, match="is a ZIP archive"):
        read_room(make(tmp_path / "c", comments_docx="PK\x03\x04"))
    folder = make(tmp_path / "d")
    (folder / "events.parquet").mkdir()
    with pytest.raises(InputError, match="events.parquet: is a folder without a part file"):
        read_room(folder)
    folder = make(tmp_path / "e")
    (folder / "frames").mkdir()
    with pytest.raises(InputError, match="frames: holds no image named by its second"):
        read_room(folder)


def test_an_unreadable_video_stops(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="video.mp4"):
        read_room(make(tmp_path / "a", video_mp4="this is no video"))


def test_rows_outside_the_room_are_left_out_and_counted(tmp_path: Path) -> None:
    folder = make(
        tmp_path / "a",
        events_csv=events(
            "u,-0.001,exposure",
            "u,0,exposure",
            "u,59.999,like",
            "u,60,like",
            "u,60.5,like",
            "u,3,like",
        ),
        speech_jsonl="\n".join(
            json.dumps({"start": s, "end": 70, "text": "x"}) for s in (-1, 0, 59.9, 60)
        ),
    )
    room = read_room(folder)
    assert room.events is not None
    assert room.events["t"].to_list() == [0.0, 3.0, 59.999]
    assert room.speech is not None
    assert room.speech["start"].to_list() == [0.0, 0.0, 59.9]
    assert room.counts == {"events_outside": 3, "speech_outside": 1}
    assert room.warnings == [
        f"{folder}/speech.jsonl: left out: 1 of 4 rows lie outside the room, [0, 60) s: start from "
        "60 to 60",
        f"{folder}/events.csv: left out: 3 of 6 rows lie outside the room, [0, 60) s: t from "
        "-0.001 to 60.5",
    ]


@pytest.mark.parametrize(
    ("scale", "shift", "hint"),
    [
        (1000, 0, "(milliseconds? another room's log? a wrong started_at?)"),
        (1, 1714568400, "(milliseconds? another room's log? a wrong started_at?)"),
        (1, -100, "(another room's log? a wrong duration or started_at?)"),
    ],
)
def test_wrong_units_are_guessed_aloud(tmp_path: Path, scale: int, shift: int, hint: str) -> None:
    rows = [f"u,{t * scale + shift},click" for t in range(0, 60, 5)]
    folder = make(tmp_path / "a", events_csv=events(*rows))
    with pytest.raises(InputError, match="rows lie outside the room") as caught:
        read_room(folder)
    text = str(caught.value)
    assert text.startswith(f"{folder}/events.csv: 1")
    assert text.endswith(f"times must be seconds from the room's start {hint}")


def test_clicks_without_any_exposure(tmp_path: Path) -> None:
    room = read_room(make(tmp_path / "a", events_csv=events("u,1,click", "u,2,click", "v,2,like")))
    assert room.counts == {"clicks_without_exposure": 2}
    assert "has 2 clicks and no exposure, so that every CTR is 1" in room.warnings[0]


def test_find_rooms(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such folder of rooms"):
        find_rooms(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no room in it; a room is a folder with a room.json"):
        find_rooms(tmp_path)
    elsewhere = make(tmp_path / "elsewhere" / "z")
    root = tmp_path / "root"
    for name in ("b", "a/deep/er", "a/b"):
        make(root / name)
    make(root / "b" / "inner")  # inside a room: not one of its own
    os.symlink(elsewhere, root / "linked")
    os.symlink(root, root / "a" / "circle")
    (root / "empty").mkdir()
    found = [str(p.relative_to(root)) for p in find_rooms(root)]
    assert found == ["a/b", "a/deep/er", "b", "linked"]
    assert find_rooms(root / "b") == [root / "b"]


def test_a_bare_recording(tmp_path: Path, video_of: None) -> None:
    folder = make(
        tmp_path,
        my_mkv="",
        chat_xml='<i><d p="1,1,1,1,1,1,u,1">x</d></i>',
        subs_vtt="WEBVTT\n\n00:01.000 --> 00:02.000\nhi",
        log_csv=events("u,1,exposure"),
    )
    room = room_from_video(
        folder / "my.mkv",
        comments=folder / "chat.xml",
        speech=folder / "subs.vtt",
        events=folder / "log.csv",
    )
    assert (room.room_id, room.streamer_id, room.started_at) == ("my", "", None)
    assert room.duration_s == 100.5
    for table in (room.comments, room.speech, room.events):
        assert isinstance(table, pl.DataFrame)
        assert table.height == 1
    room = room_from_video(folder / "my.mkv", streamer_id="s", room_id="x")
    assert (room.room_id, room.streamer_id, room.comments) == ("x", "s", None)
    with pytest.raises(InputError, match=re.escape(f"{folder}/no.srt: no such file")):
        room_from_video(folder / "my.mkv", speech=folder / "no.srt")


def test_clock_times_are_counted_from_the_start(tmp_path: Path, video_of: None) -> None:
    rows = ["u,2024-05-01 20:00:10,exposure", "u,2024-05-01T12:00:12.5Z,click", "v,1714564815,like"]
    folder = make(
        tmp_path / "a",
        my_mkv="",
        events_csv=events(*rows),
        columns_csv="time,x\n2024-05-01T20:00:30+08:00,1\n",
        comments_jsonl='{"t": "2024-05-01T12:00:01Z", "user_id": "u", "text": "x"}',
    )
    room = read_room(folder)
    for table in (room.events, room.columns, room.comments):
        assert table is not None
    assert room.events is not None
    assert room.events["t"].to_list() == [10.0, 12.5, 15.0]
    assert room.columns is not None
    assert room.columns["t"].to_list() == [30.0]
    assert f"{folder}/events.csv: t names no zone: taken as in that of started_at, UTC+08:00" in (
        room.warnings
    )
    given = {"events": folder / "events.csv"}
    with pytest.raises(InputError, match="give started_at .room.json, or --started-at"):
        room_from_video(folder / "my.mkv", **given)
    start = dt.datetime.fromisoformat("2024-05-01T20:00:00+08:00")
    room = room_from_video(folder / "my.mkv", **given, started_at=start)
    assert room.started_at == start
    assert room.events is not None
    assert room.events["t"].to_list() == [10.0, 12.5, 15.0]


def test_gifts_of_a_chat_join_the_events(tmp_path: Path) -> None:
    chat = (
        '<i><d p="1,1,25,1,1,0,u,1">hi</d><gift ts="31" user="v" giftname="x" giftcount="1"/>'
        '<gift ts="99" user="v"/></i>'
    )
    alone = read_room(make(tmp_path / "a", comments_xml=chat))
    assert alone.events is None
    assert alone.gifts is not None
    assert alone.gifts.rows() == [("v", 31.0, "gift")]
    table = segment_rooms([alone])
    assert table["gifts"].to_list() == [0, 1]
    for name in ("viewers", "clickers", "ctr", "exposures", "likes"):
        assert table[name].null_count() == 2, name
    both = read_room(make(tmp_path / "b", comments_xml=chat, events_csv=events("u,1,exposure")))
    assert both.gifts is None
    assert both.events is not None
    assert both.events.rows() == [("u", 1.0, "exposure"), ("v", 31.0, "gift")]
    table = segment_rooms([both])
    assert table["viewers"].to_list() == [1, 0]
    assert table["gifts"].to_list() == [0, 1]
    own = read_room(make(tmp_path / "c", comments_xml=chat, events_csv=events("u,1,gift")))
    assert own.events is not None
    assert own.events.height == 1
    assert "1 gifts are not counted: the event log has gifts itself" in own.warnings[-1]


def test_a_part_that_yields_nothing_is_said(tmp_path: Path) -> None:
    folder = make(
        tmp_path / "a", comments_csv="t,user_id,text\n", events_csv=events(), speech_srt=""
    )
    room = read_room(folder)
    assert [warning.partition(": ")[2] for warning in room.warnings] == [
        "holds no comment",
        "holds no speech",
        "holds no event",
    ]


def test_names_of_columns_reach_the_readers(tmp_path: Path) -> None:
    folder = make(
        tmp_path / "a",
        comments_csv="when,who,what\n1,a,b\n",
        events_csv="when,who,kind\n2,a,click\n",
        columns_csv="when,x\n3,5\n",
    )
    room = read_room(folder, names={"t": "when", "user_id": "who", "text": "what"})
    for table, t in ((room.comments, 1.0), (room.events, 2.0), (room.columns, 3.0)):
        assert table is not None
        assert table["t"].to_list() == [t]


def test_a_picture_of_the_far_future_makes_no_room(tmp_path: Path) -> None:
    head = {key: value for key, value in HEAD.items() if key != "duration_s"}
    folder = make(tmp_path / "r", head)
    (folder / "frames").mkdir()
    for name in ("0", "30", "1000000000"):
        Image.new("RGB", (4, 4)).save(folder / "frames" / f"{name}.jpg")
    with pytest.raises(InputError, match="at most 2678400 s"):
        read_room(folder)
