"""What a file is, by its content alone."""

import gzip
import json

import polars as pl
import pytest
from PIL import Image

from contentctr.errors import InputError
from contentctr.rooms.inspection.told import tell_file
from recordings import record

CUE = "1\n00:00:01,000 --> 00:00:03,000\n{}\n\n"
TEXTS = {
    "comments": [
        "t,user_id,text\n1,a,hi\n",
        "time;author;message\n1;a;hi\n",
        json.dumps({"t": 1, "user_id": "a", "text": "hi"}) + "\n",
        '<?xml version="1.0"?><i><d p="1,1,25,0,0,0,a,1">hi</d></i>',
        "[0:00:01] anna: hi\n[0:00:02] ben: oh\n",
        "".join(CUE.format(f"viewer{n}: wow") for n in range(9)),
        "",
    ],
    "speech": [
        CUE.format("hello all") * 3,
        "WEBVTT\n\n00:01.000 --> 00:03.000\nhello\n",
        CUE.format("Ann: hello") + CUE.format("Tom: yes") * 9,
        json.dumps({"segments": [{"start": 0, "end": 1, "text": "hello"}]}),
        "start\tend\ttext\n0\t1000\thello\n",
        "[Script Info]\nScriptType: v4.00+\n[Events]\nFormat: Start, End, Text\n"
        "Dialogue: 0:00:01.00,0:00:02.00,hello\n",
    ],
    "events": [
        "user_id,t,kind\na,1,click\n",
        '"uid"\t"timestamp"\t"event_type"\na\t1\tclick\n',
        "\ufeffuser_id;t;kind\na;1;click\n",
    ],
    "columns": ["t,online\n1,5\n", "timestamp|viewers|likes\n1|5|6\n"],
}


@pytest.mark.parametrize(
    ("kind", "text"), [(kind, text) for kind, texts in TEXTS.items() for text in texts if text]
)
@pytest.mark.parametrize("packed", [False, True])
def test_text_is_told_by_what_it_says(tmp_path, kind, text, packed):
    path = tmp_path / "x.dat"
    raw = text.encode()
    path.write_bytes(gzip.compress(raw) if packed else raw)
    assert tell_file(path).kinds[0] == kind


def test_utf16_tables_and_names_of_ones_own(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("t,user_id,text\n1,a,hi\n", encoding="utf-16")
    assert tell_file(path).kinds == ["comments"]
    path.write_text("when,who,said\n1,a,hi\n")
    own = {"t": "when", "user_id": "who", "text": "said"}
    assert tell_file(path, own).kinds == ["comments"]


def test_parquet_by_its_columns(tmp_path):
    path = tmp_path / "no [suffix] *"
    pl.DataFrame({"user_id": ["a"], "t": [1.0], "kind": ["click"]}).write_parquet(path)
    assert tell_file(path).kinds == ["events"]
    pl.DataFrame({"t": [1.0], "online": [5]}).write_parquet(path)
    assert tell_file(path).kinds == ["columns"]


def test_videos_and_playlists(tmp_path):
    video = record(tmp_path / "v.mp4", 1.0)
    bare = video.rename(tmp_path / "recording")
    assert tell_file(bare).kinds == ["video"]
    playlist = tmp_path / "x.txt"
    playlist.write_text("#EXTM3U\n#EXTINF:1,\nrecording\n")
    assert tell_file(playlist).kinds == ["video"]


@pytest.mark.parametrize(
    ("head", "what"),
    [
        ("user_id,arm,time,clicked,play_s\nu,A,1,0,0\n", "contentctr abtest"),
        ("user_id,streamer_id,t,clicked\nu,s,1,0\n", "contentctr pretrain streamer"),
        ("live_id,user_id,like_timestamp\n1,2,3\n", "contentctr prepare klm3"),
        ("", "is empty"),
    ],
)
def test_other_tables_are_named(tmp_path, head, what):
    path = tmp_path / "x.csv"
    path.write_text(head)
    with pytest.raises(InputError, match=what):
        tell_file(path)


def test_images_are_named(tmp_path):
    for ending in ("png", "jpg", "webp", "bmp"):
        path = tmp_path / f"x.{ending}"
        Image.new("RGB", (40, 30), "red").save(path)
        with pytest.raises(InputError, match="is an image"):
            tell_file(path)
