"""Which file of a room folder is which part."""

import gzip
import json
from pathlib import Path

import pytest

from contentctr.errors import InputError
from contentctr.rooms.parts import find_parts

TEXTS = {
    ".xml": '<i><d p="1,1,25,1,1,0,u,1">x</d></i>',
    ".json": json.dumps({"comments": []}),
    ".tsv": "start\tend\ttext\n",
}


def find(folder: Path, *names: str) -> tuple[dict[str, str], list[str]]:
    folder.mkdir()
    for name in (*names, "room.json", "truth.parquet", "video.jpg", ".DS_Store"):
        if name.endswith("/"):
            (folder / name).mkdir()
        else:
            text = next((text for end, text in TEXTS.items() if name.endswith(end)), "")
            (folder / name).write_text(text)
    found = find_parts(folder)
    return (
        {part: path.name for part, path in found.paths.items()},
        [warning.removeprefix(f"{folder}: ") for warning in found.warnings],
    )


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("comments.json.gz", "comments"),
        ("comments.live_chat.json", "comments"),
        ("Comments.json", "comments"),
        ("comments_2024.csv", "comments"),
        ("chat.json", "comments"),
        ("live_chat.json", "comments"),
        ("Chat Log.txt", "comments"),
        ("danmaku.xml", "comments"),
        ("弹幕.xml", "comments"),
        ("video.xml", "comments"),
        ("video.live_chat.json", "comments"),
        ("video.json", "comments"),
        ("video.danmaku.srt", "comments"),
        ("speech.srt", "speech"),
        ("video.zh-CN.srt", "speech"),
        ("video.tsv", "speech"),
        ("subtitles.srt", "speech"),
        ("captions.en.vtt", "speech"),
        ("transcript.json", "speech"),
        ("events.csv.gz", "events"),
        ("EVENTS.TSV", "events"),
        ("events.parquet/", "events"),
        ("events-2024.parquet", "events"),
        ("columns.csv", "columns"),
        ("video.FLV", "video"),
        ("video.mp4.part", "video"),
        ("frames/", "frames"),
    ],
)
def test_names(tmp_path: Path, name: str, part: str) -> None:
    paths, _ = find(tmp_path / "room", name)
    assert paths == {part: name.rstrip("/")}


@pytest.mark.parametrize(
    "name",
    [
        "notes.txt",
        "events.json.bak",
        "video.info.json",
        "video.mp4.md5",
        "comments.csv~",
        "clips/",
        "chat.mp3",
        "download.log",
        "video.txt",
    ],
)
def test_what_is_no_part_is_named(tmp_path: Path, name: str) -> None:
    paths, warnings = find(tmp_path / "room", "video.mp4", name)
    assert paths == {"video": "video.mp4"}
    assert warnings == [
        f"did not read {name}: no name of a part (video, frames, comments, speech, events, columns)"
    ]


def test_a_recorders_files_by_their_own_name(tmp_path: Path) -> None:
    names = ("1234-20240501.flv", "1234-20240501.xml", "1234-20240501.zh.srt", "other.xml")
    paths, warnings = find(tmp_path / "a", *names)
    assert paths == {"video": names[0], "comments": names[1], "speech": names[2]}
    assert warnings[:3] == [
        f"took {names[0]} as its video",
        f"took {names[1]} as its comments",
        f"took {names[2]} as its speech",
    ]
    assert warnings[3].startswith("did not read other.xml: ")
    paths, warnings = find(tmp_path / "b", "video.mp4", "x.flv", "video.xml")
    assert paths == {"video": "video.mp4", "comments": "video.xml"}
    assert "did not read x.flv" in warnings[1]
    paths, warnings = find(tmp_path / "c", "x.mp4", "y.flv", "frames/")
    assert paths == {"frames": "frames"}
    paths, warnings = find(tmp_path / "d", "p1.flv", "p2.flv")
    assert paths == {"video": "p1.flv"}
    assert warnings == ["took p1.flv as its video, and did not read p2.flv"]


def test_the_better_name_wins_and_the_other_is_named(tmp_path: Path) -> None:
    paths, warnings = find(
        tmp_path / "a", "video.mp4", "chat.json", "Comments.json", "comments.csv", "video.xml"
    )
    assert paths == {"video": "video.mp4", "comments": "comments.csv"}
    assert warnings == [
        "took comments.csv as its comments, and did not read Comments.json, chat.json, video.xml"
    ]
    with pytest.raises(InputError, match="comments.csv and comments.json.gz are both comments"):
        find(tmp_path / "b", "comments.json.gz", "comments.csv")
    paths, _ = find(tmp_path / "c", "comments.csv", "comments.bak")
    assert paths == {"comments": "comments.csv"}


def test_content_tells_chat_from_speech(tmp_path: Path) -> None:
    def part_of(name: str, data: bytes) -> list[str]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        (folder / "video.mp4").write_bytes(b"")
        (folder / name).write_bytes(data)
        return sorted(find_parts(folder).paths)[:-1]

    assert part_of("video.json", b'{"segments": []}') == ["speech"]
    assert part_of("video.json.gz", gzip.compress(b'{"comments": []}')) == ["comments"]
    assert part_of("video.json", b'{"width": 3}') == []
    assert part_of("video.ass", rb"Dialogue: {\move(1,2)}x") == ["comments"]
    assert part_of("video.ass", b"Dialogue: x") == ["speech"]
    assert part_of("video.txt", b"[0:00:01] ann: hello") == ["comments"]
    assert part_of("video.csv", b"time,user_name,message\n") == ["comments"]
    assert part_of("video.xml", b"<tt><p/></tt>") == ["speech"]
    assert part_of("video.xml", b"<MediaInfo/>") == []
