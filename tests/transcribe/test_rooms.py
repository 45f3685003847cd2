"""speech.jsonl beside each room's video: made once, mended by people, never overwritten."""

import json
import os
import shutil

import pytest

from contentctr import transcribe_rooms
from contentctr.errors import InputError
from contentctr.prepare.segments import segment_rooms
from contentctr.rooms.folder import read_room
from contentctr.transcribe import recogniser
from contentctr.transcribe import rooms as module
from contentctr.transcribe.recogniser import source_of
from contentctr.transcribe.transcript import made_from
from ears import FakeEars, speaking
from recordings import record

WORDS = [(1.0, 1), (5.8, 2), (7.0, 3), (13.0, 4), (14.0, 5), (22.5, 6)]
TEXTS = ["1", "2 3", "4 5", "6"]


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return speaking(tmp_path_factory.mktemp("recording") / "v.mp4", WORDS, 24.0)


def make(root, name, video=None, **files):
    folder = root / name
    folder.mkdir(parents=True)
    head = {"room_id": name, "streamer_id": "s", "started_at": "2024-05-01T20:00:00Z"}
    (folder / "room.json").write_text(json.dumps(head))
    if video is not None:
        shutil.copy(video, folder / f"video{video.suffix}")
    for file, text in files.items():
        (folder / file.replace("_", ".")).write_text(text)
    return folder


def run(root, ears=None, **options):
    options = {"segment_seconds": 6.0, "show_progress": False, **options}
    return transcribe_rooms(root, asr=ears or FakeEars(), **options)


def test_rooms_with_sound_and_no_transcript_get_one(tmp_path, recording):
    one = make(tmp_path, "one", recording)
    own = make(tmp_path, "own", recording, speech_srt="1\n00:00:01,000 --> 00:00:02,000\nhi\n")
    make(tmp_path, "still", record(tmp_path / "still.ts", 6.0, sound=None))
    make(tmp_path, "logs", comments_csv="t,user_id,text\n1,a,hello\n")
    make(tmp_path, "short", speaking(tmp_path / "short.mp4", [], 2.0))
    found = run(tmp_path)
    assert found == {
        "recogniser": source_of(FakeEars()),
        "rooms": 5,
        "rooms_with_transcript": 1,
        "rooms_without_sound": 2,
        "rooms_too_short": 1,
        "rooms_transcribed": 1,
        "segments_with_speech": 4,
        "warnings": [],
    }
    assert sorted(path.name for path in one.iterdir()) == ["room.json", "speech.jsonl", "video.mp4"]
    assert not (own / "speech.jsonl").exists()
    table = segment_rooms([read_room(one)], segment_seconds=6.0)
    assert table["speech"].to_list() == TEXTS


def test_a_transcript_that_comes_while_the_room_is_heard_is_left_alone(tmp_path, recording):
    folder = make(tmp_path, "one", recording)
    path, row = folder / "speech.jsonl", '{"start": 1, "end": 2, "text": "mine"}\n'

    class Slow(FakeEars):
        def words(self, samples, language):
            path.write_text(row)
            return super().words(samples, language)

    found = run(tmp_path, Slow())
    assert path.read_text() == row and "rooms_transcribed" not in found
    assert found["rooms_with_transcript"] == 1
    assert any("is left alone" in line for line in found["warnings"])


def test_what_was_made_is_kept_and_what_was_mended_is_left_alone(tmp_path, recording):
    folder = make(tmp_path, "one", recording)
    path = folder / "speech.jsonl"
    run(tmp_path)
    made, ears = path.read_text(), FakeEars()
    assert run(tmp_path, ears)["rooms_kept"] == 1 and ears.windows == []
    newer = FakeEars(version=2)
    assert run(tmp_path, newer)["rooms_transcribed"] == 1
    assert made_from(path) == source_of(newer) and path.read_text() != made
    os.utime(path, ns=(1, 1))  # the video is newer
    assert run(tmp_path, newer)["rooms_transcribed"] == 1
    mended = path.read_text().replace('"text": "1"', '"text": "one"')
    path.write_text(mended)
    assert run(tmp_path, FakeEars(version=3))["rooms_with_transcript"] == 1
    assert path.read_text() == mended
    table = segment_rooms([read_room(folder)], segment_seconds=6.0)
    assert table["speech"].to_list() == ["one", *TEXTS[1:]]


def test_a_room_in_which_nobody_speaks_has_a_transcript_too(tmp_path):
    folder = make(tmp_path, "quiet", speaking(tmp_path / "quiet.mp4", [], 12.0))
    run(tmp_path)
    assert run(tmp_path)["rooms_kept"] == 1
    room = read_room(folder)
    assert room.speech is not None and room.speech.height == 0
    assert segment_rooms([room], segment_seconds=6.0)["speech"].to_list() == ["", ""]


def test_a_killed_run_goes_on_where_it_was(tmp_path, recording):
    folders = [make(tmp_path, name, recording) for name in ("a", "b")]
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, FakeEars(breaks_after=6))
    assert [(folder / "speech.jsonl").exists() for folder in folders] == [True, False]
    assert read_room(folders[1]).warnings == []  # what is begun is no part of the room
    ears = FakeEars()
    assert run(tmp_path, ears)["rooms_transcribed"] == 1 and len(ears.windows) == 2
    texts = [(folder / "speech.jsonl").read_text() for folder in folders]
    assert texts[0] == texts[1]


def test_without_a_recogniser_there_is_nothing_to_do(tmp_path, recording):
    make(tmp_path, "one", recording)
    with pytest.raises(InputError, match="--asr none"):
        transcribe_rooms(tmp_path, asr="none")


def test_on_a_cluster_every_machine_has_the_same_recogniser(tmp_path, recording, monkeypatch):
    folders = [make(tmp_path, name, recording) for name in ("a", "b")]
    given = []

    def elsewhere(tasks, make, *, ray, cpus, gpus):
        given.append((ray, cpus, gpus))
        return [make()(task) for task in tasks]

    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr(module, "run_over", elsewhere)
    loaded = []
    monkeypatch.setattr(
        recogniser,
        "load_recogniser",
        lambda name, **options: loaded.append(options["threads"]) or FakeEars(version=len(name)),
    )
    found = transcribe_rooms(
        tmp_path, asr="x", segment_seconds=6.0, ray="auto", show_progress=False
    )
    assert found["rooms_transcribed"] == 2 and given == [("auto", 2, 0)] and loaded == [None, 2, 2]
    assert (folders[0] / "speech.jsonl").read_text() == (folders[1] / "speech.jsonl").read_text()
    versions = iter(range(9))
    monkeypatch.setattr(
        recogniser, "load_recogniser", lambda name, **_: FakeEars(version=next(versions))
    )
    with pytest.raises(InputError, match="must be the same on every machine"):
        transcribe_rooms(tmp_path, asr="x", segment_seconds=6.0, ray="auto", show_progress=False)
