"""Prepared rooms whose speech is heard: where it is from, kept, and taken up again."""

import json
import shutil

import pytest

from contentctr import transcribe_rooms
from contentctr.prepare.rooms import prepare_rooms
from contentctr.transcribe.recogniser import source_of
from ears import FakeEars, speaking

WORDS = [(1.0, 1), (5.8, 2), (7.0, 3), (13.0, 4), (14.0, 5), (22.5, 6)]
TEXTS = ["1", "2 3", "4 5", "6"]
EVENTS = "user_id,t,kind\na,1,exposure\nb,2,exposure\nb,3,click\nc,13,exposure\n"
SUBTITLES = "1\n00:00:01,000 --> 00:00:02,000\nhello\n"


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return speaking(tmp_path_factory.mktemp("recording") / "v.mp4", WORDS, 24.0)


def make(root, number, video=None, **files):
    folder = root / f"room{number}"
    folder.mkdir(parents=True)
    head = {
        "room_id": f"r/{number}",
        "streamer_id": "s",
        "started_at": f"2024-05-{number:02}T20:00:00Z",
        "duration_s": 24,
    }
    (folder / "room.json").write_text(json.dumps(head))
    if video is not None:
        shutil.copy(video, folder / f"video{video.suffix}")
    for name, text in {"events_csv": EVENTS, **files}.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


def prepare(root, out, asr, **options):
    options = {"segment_seconds": 6.0, "show_progress": False, **options}
    return prepare_rooms(root, out, asr=asr, **options)


def speech(data):
    table = data.segments()
    return {
        room: table.filter(room_id=room)["speech"].to_list() for room in data.rooms()["room_id"]
    }


def test_rooms_with_sound_and_no_transcript_are_heard(tmp_path, recording):
    make(tmp_path / "in", 1, recording)
    make(tmp_path / "in", 2, recording, speech_srt=SUBTITLES)
    make(tmp_path / "in", 3)
    make(tmp_path / "in", 4, speaking(tmp_path / "v.m4v", [], 24.0))
    ears = FakeEars()
    data = prepare(tmp_path / "in", tmp_path / "out", ears)
    assert speech(data) == {
        "r/1": TEXTS,
        "r/2": ["hello", "", "", ""],
        "r/3": [None] * 4,
        "r/4": [""] * 4,
    }
    manifest = data.manifest()
    assert manifest["speech_source"] == f"files | {source_of(ears)}"
    assert manifest["counts"]["rooms_heard"] == 2


def test_transcripts_are_kept_and_taken_up_again(tmp_path, recording):
    for number in (1, 2, 3):
        make(tmp_path / "in", number, recording)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "in", out, FakeEars(breaks_after=5))
    assert not (out / "manifest.json").exists()
    ears = FakeEars()
    data = prepare(tmp_path / "in", out, ears)
    assert len(ears.windows) == 12 - 5 and set(map(tuple, speech(data).values())) == {tuple(TEXTS)}
    again = FakeEars()
    assert speech(prepare(tmp_path / "in", out, again)) == speech(data) and again.windows == []
    shutil.rmtree(tmp_path / "in" / "room2")
    prepare(tmp_path / "in", out, "none")  # which is no reason to lose what was heard
    assert len(list((out / "speech").iterdir())) == 2


def test_who_wants_nothing_heard_is_told_of_it(tmp_path, recording):
    make(tmp_path / "in", 1, recording)
    for asr, reason in {"none": "--asr none", None: "in tests"}.items():
        data = prepare(tmp_path / "in", tmp_path / f"{asr}", asr)
        assert speech(data) == {"r/1": [None] * 4}
        manifest = data.manifest()
        assert manifest["speech_source"] == "none" and "rooms_heard" not in manifest["counts"]
        told = [line for line in manifest["warnings"] if reason in line]
        assert told == [
            f"sound without a transcript in 1 room, whose speech is not recognised: {reason}"
        ]


def test_a_transcript_that_we_made_is_its_recognisers_until_it_is_mended(tmp_path, recording):
    folder, ears = make(tmp_path / "in", 1, recording), FakeEars()
    transcribe_rooms(tmp_path / "in", asr=ears, segment_seconds=6.0, show_progress=False)
    data = prepare(tmp_path / "in", tmp_path / "a", "none")
    assert speech(data) == {"r/1": TEXTS}
    assert data.manifest()["speech_source"] == source_of(ears)
    path = folder / "speech.jsonl"
    path.write_text(path.read_text().replace('"text": "6"', '"text": "six"'))
    data = prepare(tmp_path / "in", tmp_path / "b", "none")
    assert speech(data)["r/1"][3] == "six" and data.manifest()["speech_source"] == "files"
