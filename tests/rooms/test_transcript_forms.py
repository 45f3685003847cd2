"""Subtitles and transcripts in the forms that transcribers and downloaders write."""

import json
from pathlib import Path

import pytest

from contentctr.rooms.speech import read_speech

TWO = [(1.0, 5.0, "hello there"), (8.0, 12.5, "42 & more")]
WORDS = [
    {"word": "hello", "start": 1.0, "end": 2.0},
    {"word": "there", "start": 2.0, "end": 3.0},
]


def read(tmp_path: Path, name: str, text: str):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    return read_speech(path)


def srt(*cues: str) -> str:
    return "".join(cues)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "s.srt",
            "1\n00:00:01 --> 00:00:05\nhello there\n\n2\n00:00:08 --> 00:00:12.5\n42 & more\n",
        ),
        ("s.srt", "1\n0:0:1,0 --> 0:0:5,0\nhello there\n2\n0:0:8,0 --> 0:0:12,5\n42 &amp; more\n"),
        ("s.srt", "00:01,000 --> 00:05,000\nhello\n\nthere\n\n00:08,0 --> 00:12,500000\n42 & more"),
        (
            "s.srt",
            "7\n00:01.000->00:05.000\nhello\nthere\n8\n00:08.000-->00:12.500 X1:3\n42\n& more\n",
        ),
        (
            "s.vtt",
            "WEBVTT\n00:01.000 --> 00:05.000\nhello there\n00:08.000 --> 00:12.500\n42 &amp; more",
        ),
        (
            "s.vtt",
            "WEBVTT\n\nNOTE a --> b\n\n1\n00:01.000 --> 00:05.000\n"
            "<v Ann Lee>hello there</v>\n\nWEBVTT\n"
            "Kind: x\n\nname of it\n00:08.000 --> 00:12.500 line:0\n42 &amp; more\n",
        ),
        (
            "s.ass",
            "[Script Info]\n[Events]\nFormat: Layer, Start, End, Style, Text\n"
            "Dialogue: 0,0:00:01.00,0:00:05.00,D,{\\b1}hello\\Nthere\n"
            "Comment: 0,0:00:02.00,0:00:03.00,D,no\n"
            "Dialogue: 0,0:00:08.00,0:00:12.50,D,42 & more\n",
        ),
        ("s.tsv", "start\tend\ttext\n1000\t5000\thello there\n8000\t12500\t42 & more\n"),
        (
            "s.ttml",
            '<tt xmlns="http://www.w3.org/ns/ttml"><body><div><p begin="00:00:01.000" '
            'end="00:00:05.000">hello<br/>there</p>'
            '<p begin="8s" dur="4.5s">42 &amp; more</p></div></body></tt>',
        ),
        (
            "s.json",
            json.dumps(
                {
                    "transcription": [
                        {"offsets": {"from": 1000, "to": 5000}, "text": " hello there"},
                        {"offsets": {"from": 8000, "to": 12500}, "text": "42 & more"},
                    ]
                }
            ),
        ),
        (
            "s.json",
            json.dumps(
                [
                    {"start": 1, "end": 5, "text": "hello there"},
                    {"start": 8, "end": 12.5, "text": "42 & more", "words": None},
                ]
            ),
        ),
        (
            "s.json",
            json.dumps(
                {
                    "body": [
                        {"from": 1, "to": 5, "content": "hello there"},
                        {"from": 8, "to": 12.5, "content": "42 & more"},
                    ]
                }
            ),
        ),
        (
            "s.json",
            json.dumps(
                {
                    "chunks": [
                        {"timestamp": [1, 5], "text": "hello there"},
                        {"timestamp": [8, 12.5], "text": "42 & more"},
                    ]
                }
            ),
        ),
        (
            "s.json3",
            json.dumps(
                {
                    "events": [
                        {"tStartMs": 0},
                        {
                            "tStartMs": 1000,
                            "dDurationMs": 4000,
                            "segs": [{"utf8": "hello "}, {"utf8": "there"}],
                        },
                        {"tStartMs": 5000, "segs": [{"utf8": "\n"}]},
                        {"tStartMs": 8000, "dDurationMs": 4500, "segs": [{"utf8": "42 & more"}]},
                    ]
                }
            ),
        ),
        (
            "s.jsonl",
            '{"start": 1, "end": 5, "text": "hello there"}\n'
            '{"start": 8, "end": 12.5, "text": "42 & more"}',
        ),
    ],
)
def test_forms(tmp_path: Path, name: str, text: str) -> None:
    part = read(tmp_path, name, text)
    assert part.table.rows() == TWO
    assert (part.bad_lines, part.warnings) == (0, [])


@pytest.mark.parametrize("segments", [None, [], "missing"])
def test_openais_words(tmp_path: Path, segments: object) -> None:
    whole = {"text": "hello there", "words": WORDS, "segments": segments}
    if segments == "missing":
        del whole["segments"]
    part = read(tmp_path, "s.json", json.dumps(whole))
    assert part.table.rows() == [(1.5, 1.5, "hello"), (2.5, 2.5, "there")]


def test_a_word_that_ends_before_it_starts_leaves_the_segments_own_times(tmp_path: Path) -> None:
    words = [WORDS[0], {"word": "there", "start": 3.0, "end": 2.0}]
    segment = {"start": 1.0, "end": 3.0, "text": "hello there", "words": words}
    part = read(tmp_path, "s.json", json.dumps({"segments": [segment]}))
    assert part.table.rows() == [(1.0, 3.0, "hello there")]


def test_lrc(tmp_path: Path) -> None:
    part = read(tmp_path, "s.lrc", "[ar:x]\n[00:01.00]one\n[00:03.50][00:08.00]two\n")
    assert part.table.rows() == [(1.0, 3.5, "one"), (3.5, 8.0, "two"), (8.0, 13.0, "two")]


def test_what_begins_below_zero_is_cut(tmp_path: Path) -> None:
    part = read(tmp_path, "s.srt", "1\n-00:00:02,000 --> 00:00:01,500\nhi\n")
    assert part.table.rows() == [(0.0, 1.5, "hi")]


ROLLING = """WEBVTT
Kind: captions

00:00:00.000 --> 00:00:06.990 align:start position:0%
 
one<00:00:00.400><c> two</c>

00:00:06.990 --> 00:00:07.000 align:start position:0%
one two
 

00:00:07.000 --> 00:00:13.990 align:start position:0%
one two
three<00:00:07.400><c> four</c>

00:00:13.990 --> 00:00:14.000 align:start position:0%
three four
 

00:00:14.000 --> 00:00:20.000 align:start position:0%
three four
three four
"""


def test_rolling_captions_say_each_line_once(tmp_path: Path) -> None:
    part = read(tmp_path, "s.vtt", ROLLING)
    assert part.table.rows() == [
        (0.0, 6.99, "one two"),
        (7.0, 13.99, "three four"),
        (14.0, 20.0, "three four"),  # said again
    ]


@pytest.mark.parametrize(("mpegts", "second"), [(900_000, 1.0), (1_800_000, 11.0)])
def test_joined_pieces_of_a_stream(tmp_path: Path, mpegts: int, second: float) -> None:
    piece = (
        "WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:{},LOCAL:00:00:00.000\n\n00:01.000 --> 00:02.000\nhi\n\n"
    )
    part = read(tmp_path, "s.vtt", piece.format(900_000) + piece.format(mpegts))
    assert part.table["start"].to_list() == [1.0, second]
    assert bool(part.warnings) == (second > 1)


@pytest.mark.parametrize(
    "broken",
    [
        "13\n00:01:0x,000 --> 00:01:05,000\nsubscribe!\n",
        "13\nsubscribe!\n",
        "13\n--> \nsubscribe!\n",
        "13\n00:01:05,000 --> 00:01:01,000\nsubscribe!\n",
    ],
)
def test_one_broken_cue_is_left_out(tmp_path: Path, broken: str) -> None:
    cues = "".join(f"{n}\n00:00:{n:02},000 --> 00:00:{n:02},500\nx{n}\n\n" for n in range(1, 13))
    part = read(tmp_path, "s.srt", cues + broken)
    assert part.table["text"].to_list() == [f"x{n}" for n in range(1, 13)]
    assert part.bad_lines == 1


@pytest.mark.parametrize(
    ("name", "text"), [("s.srt", ""), ("s.vtt", "WEBVTT\n"), ("s.json", '{"segments": []}')]
)
def test_a_file_that_yields_nothing_says_so(tmp_path: Path, name: str, text: str) -> None:
    part = read(tmp_path, name, text)
    assert part.table.height == 0
    assert "holds no speech" in part.warnings[0]
