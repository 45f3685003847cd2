import json
import re
from pathlib import Path

import pytest

from contentctr.errors import InputError
from contentctr.rooms.room import SPEECH_SCHEMA
from contentctr.rooms.speech import read_speech

ROWS = [(0.3, 2.5, "hello there"), (30.0, 31.25, "今天 & more"), (3600.0, 3600.0, "end")]
SRT = """\ufeff1\r
00:00:00,300 --> 00:00:02,500\r
<i>hello</i>\r
{\\an8}there\r
\r
2
00:00:30.000 --> 00:00:31,25 X1:10 X2:20
今天 & more

01:00:00,000 --> 01:00:00,000
end

4
01:00:02,000 --> 01:00:03,000
"""
VTT = """WEBVTT - a title

STYLE
::cue { color: red }

NOTE a --> b is no cue
really

intro
00:00.300 --> 00:02.500 align:start position:0%
<v Anna>hello <00:00:01.000><c.red>there</c></v>

00:30.000 --> 00:31.250
今天 &amp; more

01:00:00.000 --> 01:00:00.000
end
"""


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_four_formats_read_the_same(tmp_path: Path) -> None:
    records = [{"start": a, "end": b, "text": f" {text} "} for a, b, text in ROWS]
    for path in (
        write(tmp_path / "speech.srt", SRT),
        write(tmp_path / "speech.vtt", VTT),
        write(tmp_path / "speech.json", json.dumps({"text": "", "segments": records})),
        write(tmp_path / "speech.jsonl", "\n".join(map(json.dumps, reversed(records)))),
    ):
        part = read_speech(path)
        assert part.table.rows() == ROWS, path
        assert dict(part.table.schema) == SPEECH_SCHEMA
        assert (part.bad_lines, part.warnings) == (0, [])


def test_whisper_words_stand_at_their_own_middle(tmp_path: Path) -> None:
    timed = [
        {"start": 1.0, "end": 2.0, "word": " Hi", "probability": 0.9},
        {"start": 2.0, "end": 5.0, "word": "今天"},
    ]
    untimed = [{"start": 8.0, "end": 9.0, "word": "a"}, {"word": "2014"}]
    segments = [
        {"start": 1.0, "end": 5.0, "text": " Hi今天", "words": timed},
        {"start": 8.0, "end": 10.0, "text": "a 2014", "words": untimed},
        {"start": 11.0, "end": 12.0, "text": "b", "words": []},
    ]
    path = write(tmp_path / "speech.json", json.dumps({"segments": segments}))
    assert read_speech(path).table.rows() == [
        (1.5, 1.5, "Hi"),
        (3.5, 3.5, "今天"),
        (8.0, 10.0, "a 2014"),
        (11.0, 12.0, "b"),
    ]


@pytest.mark.parametrize(
    ("cue", "line", "reason"),
    [
        ("00:00:61,000 --> 00:02:00,000\nx", 3, "start must be a time such as .*'00:00:61,000'"),
        ("00:00:02,000 --> 00:00:01,000\nx", 3, r"end \(1\) must not be before start \(2\)"),
        ("00:00:02,000 -->\nx", 3, "end must be a time such as .*not ''"),
        ("no times\nx", 2, "a line of times .* is missing at '7'"),
    ],
)
def test_bad_cue_is_named_and_counted(tmp_path: Path, cue: str, line: int, reason: str) -> None:
    good = "00:00:01,000 --> 00:00:02,000\nx\n\n" * 99
    part = read_speech(write(tmp_path / "speech.srt", f"\n7\n{cue}\n\n{good}"))
    assert part.bad_lines == 1
    assert part.table.height == 99
    assert re.search(f"left out 1 of 100 lines: line {line}: {reason}", part.warnings[0])


def test_bad_records(tmp_path: Path) -> None:
    path = write(tmp_path / "speech.jsonl", '{"start": 1, "end": "2", "text": "x"}')
    with pytest.raises(InputError, match="line 1: end must be a number of seconds, not '2'"):
        read_speech(path)
    bad = {"segments": [{"start": 2, "end": 1, "text": "x"}, 5, {"start": 1, "end": 2}]}
    path = write(tmp_path / "speech.json", json.dumps(bad))
    with pytest.raises(InputError) as caught:
        read_speech(path)
    assert str(caught.value) == (
        f"{path}: 3 of 3 segments are bad, and at most 1 may be: segment 1: end (1) must not be "
        "before start (2); segment 2: must be an object, not 5; segment 3: text is missing"
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("speech.vtt", "1\n00:00.000 --> 00:01.000\nx", "line 1: a WebVTT file must start with"),
        ("speech.json", '{"verses": []}', "no reader of speech knows this JSON; .*it has verses"),
        ("speech.json", "{", "line 1: not JSON"),
        ("speech.txt", "once upon", "no reader of speech knows this form .*'once upon'"),
        ("speech.xml", "<i/>", "known is TTML"),
        ("speech.xml", "<!DOCTYPE tt [<!ENTITY a 'b'>]><tt/>", "document type .* is not allowed"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_speech(write(tmp_path / name, text))
