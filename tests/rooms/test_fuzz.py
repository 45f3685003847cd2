"""Damaged files: a table or a clear error within seconds, whatever the bytes."""

import contextlib
import gzip
import json
import random
import time
from pathlib import Path

import polars as pl
import pytest

from contentctr.errors import InputError
from contentctr.rooms.columns import read_columns
from contentctr.rooms.comments import read_comments
from contentctr.rooms.events import read_events
from contentctr.rooms.moments import TimeAxis, parse_started_at
from contentctr.rooms.speech import read_speech

AXIS = TimeAxis(started_at=parse_started_at("2024-05-01T20:00:00+08:00"))
SEEDS: dict[str, bytes] = {
    "c.jsonl": b'{"t": 1.5, "user_id": "a", "text": "hi"}\n{"t": 2, "user_id": 7, "text": "lol"}\n'
    * 3,
    "c.csv": b't,user_id,text\n1,a,"hi\nthere"\n2.5,b,lol\n3,c,gg\n',
    "c.json": json.dumps(
        {
            "video": {"start": 20},
            "comments": [
                {
                    "_id": str(n),
                    "content_offset_seconds": 20 + n,
                    "commenter": {"_id": "u"},
                    "message": {"body": "x", "fragments": [{"text": "x"}]},
                }
                for n in range(4)
            ],
        }
    ).encode(),
    "live.json": b'{"replayChatItemAction": {"actions": [{"addChatItemAction": {"item": '
    b'{"liveChatTextMessageRenderer": {"message": {"runs": [{"text": "hi"}]}}}}}], '
    b'"videoOffsetTimeMsec": "1000"}}\n' * 3,
    "c.xml": b'<i><d p="1,1,25,1,1,0,u,1">hi</d><sc ts="2" user="b">x</sc>'
    b'<gift ts="3" user="c"/></i>',
    "c.html": b'<html><pre class="comment-root">[0:00:01] <span>a</span>: hi</pre></html>',
    "c.txt": b"[0:00:01] a: hi\n[0:00:02] b: lol\n[20:00:03] c: x\n",
    "c.ass": b"[Script Info]\n[Events]\nFormat: Layer, Start, End, Style, Text\n"
    b"Dialogue: 0,0:00:01.00,0:00:08.00,R,{\\move(1,2)}hi\n",
    "s.srt": b"1\n00:00:01,000 --> 00:00:05,000\nhello\n\n2\n00:00:08,0 --> 00:00:09,0\n<i>x</i>\n",
    "s.vtt": b"WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:900000,LOCAL:00:00.000\n\n00:01.000 --> 00:05.000\n"
    b"<v A>x<00:00:02.000></v>\n\nNOTE y\n",
    "s.json": b'{"segments": [{"start": 1, "end": 2, "text": "x", "words": [{"word": "x", '
    b'"start": 1, "end": 2}]}], "words": [], "events": [{"tStartMs": 1, "segs": [{"utf8": "x"}]}]}',
    "s.lrc": b"[offset:500]\n[00:01.00]hello\n[01:02:03.00]x\n",
    "s.ttml": b'<tt xmlns="http://www.w3.org/ns/ttml"><p begin="1s" end="2s">x</p></tt>',
    "e.csv": b'user_id,t,kind,note\nu1,1.5,exposure,\nu2,2,click,"a\nb"\n',
    "k.csv": b"t,online,title\n0,1,x\n30,2,y\n",
}
READERS = {
    "c": lambda path: read_comments(path, AXIS),
    "l": lambda path: read_comments(path, AXIS),
    "s": read_speech,
    "e": read_events,
    "k": read_columns,
}
PIECES = (
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b'"',
    b"'",
    b"<",
    b">",
    b"&",
    b"]]>",
    b"<!DOCTYPE x>",
    b"\n",
    b"\r",
    b"\t",
    b",",
    b";",
    b"{",
    b"}",
    b"[" * 3000,
    b"-->",
    b"9" * 400,
    b"1e999",
    b"NaN",
    b"null",
    b"\\ud800",
    b"\xed\xa0\x80",
    b"-",
    b"<d ",
    b"</d>",
    b"\\N",
    b"1.03241E+17",
    b"::",
    "\u202e".encode(),
    "٣".encode(),
    b"&#x110000;",
    b"&lt;",
    b"../../etc/passwd",
    b"0:00:00",
)


def damaged(rng: random.Random, raw: bytes) -> bytes:
    out = bytearray(raw)
    for _ in range(rng.randint(1, 6)):
        place, what = rng.randint(0, len(out)), rng.random()
        if what < 0.35:
            out[place:place] = rng.choice(PIECES)
        elif what < 0.6:
            del out[place : place + rng.randint(1, 12)]
        elif what < 0.75:
            out[place : place + 1] = bytes([rng.randrange(256)])
        elif what < 0.85:
            out = out[: rng.randint(0, len(out))]
        elif what < 0.95:
            out += out[place:]
        else:
            out = bytearray(gzip.compress(bytes(out), mtime=0))
    return bytes(out)


@pytest.mark.parametrize(
    "count", [40, pytest.param(700, marks=pytest.mark.slow)], ids=["quick", "slow"]
)
@pytest.mark.parametrize("name", list(SEEDS))
def test_damaged_files(tmp_path: Path, name: str, count: int) -> None:
    read = READERS[name[0]]
    for number in range(count):
        path = tmp_path / f"{number}-{name}"
        path.write_bytes(damaged(random.Random(f"{name}{number}"), SEEDS[name]))
        began = time.monotonic()
        try:
            assert isinstance(read(path).table, pl.DataFrame)
        except InputError as error:
            assert str(path) in str(error)
        assert time.monotonic() - began < 5, path
        path.unlink()


def test_growth_is_not_quadratic(tmp_path: Path) -> None:
    for name, raw in {
        "a.xml": b'<i><d p="1,1' * 200_000,
        "b.xml": b'<d p="1,1,25,1,1,0,u,1">x' * 100_000,
        "c.srt": b"1\n" * 200_000 + b"00:00:01,000 --> 00:00:02,000\n" * 100_000,
        "d.txt": b"[" * 2_000_000,
        "e.csv": b"t,user_id,text\n" + b'"' * 1_000_001,
        "f.html": b"<html>" + b'<pre class="comment-root">' * 100_000,
        "g.lrc": b"[00:01.00]" * 200_000,
    }.items():
        path = tmp_path / name
        path.write_bytes(raw)
        began = time.monotonic()
        read = read_speech if name[0] in "cg" else read_comments
        with contextlib.suppress(InputError):
            read(path)
        assert time.monotonic() - began < 10, name
