import datetime as dt
import json
import os
import re
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from contentctr.errors import InputError
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
        notes_txt="ignored",
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
    with pytest.raises(InputError, match="comments.csv: its last time, 1714564801 s, would make"):
        read_room(make(tmp_path / "e", head, comments_csv="t,user_id,text\n1714564800,a,b\n"))


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
    with pytest.raises(InputError, match="no reader of speech knows the extension '.ass'; known:"):
        read_room(make(tmp_path / "c", speech_ass=""))
    folder = make(tmp_path / "d")
    (folder / "events.parquet").mkdir()
    with pytest.raises(InputError, match="events.parquet: must be a file, not a folder"):
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
    assert room.speech["start"].to_list() == [0.0, 59.9]
    assert room.counts == {"events_outside": 3, "speech_outside": 2}
    assert room.warnings == [
        f"{folder}/speech.jsonl: left out: 2 of 4 rows lie outside the room, [0, 60) s: start from "
        "-1 to 60",
        f"{folder}/events.csv: left out: 3 of 6 rows lie outside the room, [0, 60) s: t from "
        "-0.001 to 60.5",
    ]


@pytest.mark.parametrize(
    ("scale", "shift", "hint"),
    [
        (1000, 0, "(milliseconds? Unix time? another room's log?)"),
        (1, 1714564800, "(these look like Unix time)"),
        (1000, 1714564800000, "(these look like Unix time in milliseconds)"),
        (1, -100, "(another room's log? a wrong duration?)"),
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
