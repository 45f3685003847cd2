"""Transcripts as files: resumed to the bit, and a user's own left alone."""

import json

import pytest

from contentctr.rooms.speech import read_speech
from contentctr.transcribe.segments import Heard, RoomLanguage, Utterance
from contentctr.transcribe.transcript import Growing, made_from, write_speech

KEY = {"media": ["v.mp4", 10, 20], "recogniser": "r"}
HEARD = [
    Heard(
        segment=0,
        utterances=(
            Utterance(0.1 + 0.2, 2.0, "so\u2028it goes"),
            Utterance(3.0, 4.5, "\u4f60\u597d"),
        ),
        voiced_s=3.3,
        language="en",
    ),
    Heard(segment=1),
    Heard(segment=2, utterances=(Utterance(61.0, 62.0, "end"),), voiced_s=1.0, language="en"),
]


def write(path, count, key=KEY):
    language = RoomLanguage()
    growing = Growing(path, key, language)
    for heard in HEARD[len(growing.heard) : count]:
        language.voiced_s += 1.1
        language.votes["en"] = language.votes.get("en", 0.0) + 1 / 3
        growing.write(heard, language)
    return language


def test_a_transcript_goes_on_after_its_last_whole_line(tmp_path):
    whole, path = tmp_path / "whole.jsonl", tmp_path / "t.jsonl"
    expected = write(whole, 3)
    data = whole.read_bytes()
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        found = RoomLanguage()
        lines = max(data[:length].count(b"\n") - 1, 0)
        assert Growing(path, KEY, found).heard == HEARD[:lines]
        write(path, 3)
        assert path.read_bytes() == data
    found = RoomLanguage()
    assert Growing(whole, KEY, found).heard == HEARD and found == expected


def test_of_anything_else_it_begins_anew(tmp_path):
    path = tmp_path / "t.jsonl"
    write(path, 2)
    assert Growing(path, {**KEY, "recogniser": "other"}, RoomLanguage()).heard == []
    assert path.read_text().count("\n") == 1


@pytest.mark.parametrize("line", ['{"segment": 1}', "[]", "{", '{"segment": 7, "utterances": []}'])
def test_a_damaged_line_ends_it(tmp_path, line):
    path = tmp_path / "t.jsonl"
    write(path, 1)
    good = path.read_bytes()
    path.write_bytes(good + line.encode() + b"\n")
    assert Growing(path, KEY, RoomLanguage()).heard == HEARD[:1]
    assert path.read_bytes() == good


def test_what_is_written_is_read_as_any_transcript(tmp_path):
    path = tmp_path / "speech.jsonl"
    write_speech(path, HEARD, "embedded@abc")
    part = read_speech(path)
    assert part.warnings == [] and part.table.rows() == [
        (each.start_s, each.end_s, each.text) for heard in HEARD for each in heard.utterances
    ]


@pytest.mark.parametrize("heard", [HEARD, [Heard(segment=0)]])
def test_whoever_mends_it_makes_it_his_own(tmp_path, heard):
    path = tmp_path / "speech.jsonl"
    write_speech(path, heard, "a folder@abc")
    assert made_from(path) == "a folder@abc"
    lines = path.read_text().split("\n")[:-1]
    first = json.loads(lines[0])
    first["text"] += "!"
    for mended in (
        [json.dumps(first), *lines[1:]],
        lines[1:],
        [*lines, json.dumps({"start": 1, "end": 2, "text": "more"})],
        [*lines, lines[0]],
        ["nonsense"],
        [],
    ):
        path.write_text("".join(f"{line}\n" for line in mended))
        assert made_from(path) is None
    path.write_text('{"start": 1, "end": 2, "text": "mine"}\n')
    assert made_from(path) is None


def test_only_our_own_name_is_ours(tmp_path):
    write_speech(tmp_path / "speech.jsonl", HEARD, "x@y")
    other = (tmp_path / "speech.jsonl").rename(tmp_path / "speech.en.jsonl")
    assert made_from(other) is None and made_from(tmp_path / "speech.jsonl") is None


def test_a_line_nested_deeper_than_python_reads_is_somebody_elses(tmp_path):
    path = tmp_path / "speech.jsonl"
    path.write_text('{"made_by": ' + "[" * 100_000 + "\n")
    assert made_from(path) is None
