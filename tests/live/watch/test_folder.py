"""A room folder that is watched: the parts of `predict`, or why there is nothing to watch."""

import json
from datetime import UTC, datetime

import pytest

from contentctr.errors import InputError
from contentctr.live.watch.folder import folder_parts


def make_room(folder, *names, **head):
    folder.mkdir()
    (folder / "room.json").write_text(json.dumps({"room_id": "r1", **head}))
    for name in names:
        (folder / name).write_text('{"t": 1, "user_id": "u", "text": "hi"}\n')
    return folder


def test_parts_are_found_by_name(tmp_path):
    names = ["stream.flv", "stream.jsonl", "subtitles.srt", "notes.doc", "events.csv"]
    room = make_room(
        tmp_path / "r",
        *names,
        streamer_id="s",
        started_at="2024-05-01T20:00:00Z",
        duration_s=60,
        simulated=True,
    )
    parts = folder_parts(room)
    assert parts.source == str(room / "stream.flv")
    assert (parts.comments, parts.speech) == (room / "stream.jsonl", room / "subtitles.srt")
    assert parts.started_at == datetime(2024, 5, 1, 20, tzinfo=UTC)
    assert (parts.room_id, parts.streamer_id, parts.simulated) == ("r1", "s", True)
    told = "\n".join(parts.warnings)
    for words in (
        "took stream.flv as its video",
        "took stream.jsonl as its comments",
        "did not read notes.doc",
        "events.csv: not read; no score needs it",
        "room.json says that the room lasts 60 s; watched is the whole video",
    ):
        assert words in told
    assert folder_parts(make_room(tmp_path / "q", "video.ts")).warnings == []


def test_what_cannot_be_watched(tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"none: is a folder without a room\.json; watch takes a"):
        folder_parts(tmp_path / "none")
    room = make_room(tmp_path / "r", "comments.jsonl")
    with pytest.raises(InputError, match="r: has no video to watch; `contentctr predict` takes"):
        folder_parts(room)
    (room / "frames").mkdir()
    with pytest.raises(InputError, match=r"no video to watch \(its frames are images of a room"):
        folder_parts(room)
