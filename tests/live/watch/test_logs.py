"""Chats and transcripts that grow: what the readers of `predict` make of the whole ones."""

import gzip
import json
import os

import polars as pl
import pytest

from contentctr.errors import InputError
from contentctr.live.watch import logs
from contentctr.live.watch.logs import GrowingLog
from contentctr.rooms.comments import read_comments
from contentctr.rooms.moments import TimeAxis, parse_started_at
from contentctr.rooms.speech import read_speech

COUNT = 60
AXIS = TimeAxis(started_at=parse_started_at("2024-05-01T20:00:00+08:00"))
ROWS = [(0.5 * n, f"user{n % 7}", f"line {n} of the show") for n in range(COUNT)]


def clock(t, hours=0):
    return f"{hours + int(t) // 3600:02d}:{int(t) // 60 % 60:02d}:{int(t) % 60:02d}"


def jsonl():
    for t, user, text in ROWS:
        yield json.dumps({"t": t, "user_id": user, "text": text}) + "\n"


def csv():
    yield "time,user_name,message\n"
    for t, user, text in ROWS:
        yield f'{t},{user},"{text},\nand more"\n'


def text_log():
    yield "# Start logging at 2024-05-01 19:59:00 CST\n"
    for t, user, text in ROWS:
        yield f"[{clock(t, hours=20)}] {user}: {text} é 好\n"


def youtube():
    for n, (t, user, text) in enumerate(ROWS):
        item = {
            "liveChatTextMessageRenderer": {
                "authorExternalChannelId": user,
                "id": str(n),
                "message": {"runs": [{"text": text}]},
            }
        }
        action = {"actions": [{"addChatItemAction": {"item": item}}]}
        replay = {**action, "videoOffsetTimeMsec": str(int(t * 1000))}
        yield json.dumps({"replayChatItemAction": replay}) + "\n"


def xml():
    yield '<?xml version="1.0" encoding="utf-8"?>\n<i>\n<chatserver>x</chatserver>\n'
    for n, (t, user, text) in enumerate(ROWS):
        yield f'<d p="{t},1,25,16777215,1714,0,{user},{n}">{text} &amp; 好</d>\n'
    yield "</i>\n"


def ass():
    yield "[Script Info]\nScriptType: v4.00+\n\n[Events]\n"
    yield "Format: Layer, Start, End, Style, Name, Effect, Text\n"
    for t, user, text in ROWS:
        yield f"Dialogue: 0,0:{clock(t)[3:]}.50,0:59:00.00,R2L,{user},,{text}\n"


FORMS = {"c.jsonl": jsonl, "c.csv": csv, "c.txt": text_log, "c.live_chat.json": youtube}
FORMS |= {"c.xml": xml, "c.ass": ass}


def pieces(text, count=23):
    """The text's bytes in pieces that end anywhere, in the middle of characters too."""
    data = text.encode()
    size = len(data) // count + 1
    return [data[start : start + size] for start in range(0, len(data), size)]


def given(log, until=36.0, length=6.0):
    spans = [(k * length, (k + 1) * length) for k in range(int(until / length))]
    return pl.concat([log.between(*span) for span in spans])


@pytest.mark.parametrize("piece_bytes", [4 << 20, 500])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("name", FORMS)
def test_a_chat_that_grows_is_the_whole_chat(tmp_path, monkeypatch, name, mark, piece_bytes):
    monkeypatch.setattr(logs, "PIECE_BYTES", piece_bytes)
    monkeypatch.setattr(logs, "_HEAD_BYTES", 300)
    path, lines = tmp_path / name, []
    path.touch()
    log = GrowingLog(path, "comments", axis=AXIS, report=lines.append)
    found, start_s = [], 0.0
    for piece in pieces(mark + "".join(FORMS[name]())):
        with path.open("ab") as file:
            file.write(piece)
        log.poll()
        while log.reaches(start_s + 8.0):  # a line of 2 s after the segment is there
            found.append(log.between(start_s, start_s + 6.0))
            start_s += 6.0
    log.poll(whole=True)
    found.append(log.between(start_s, 36.0))
    expected = read_comments(path, AXIS)
    assert len(found) > 3 and expected.table.height == COUNT
    assert pl.concat(found).equals(expected.table)
    log.finish()
    assert lines[0].startswith(f"{path}: {expected.form}; ") and len(lines) == 2
    assert lines[-1] == f"{path}: {expected.form}; rows: {COUNT} used"


def test_json_that_is_written_anew(tmp_path):
    path, lines = tmp_path / "c.json", []
    path.touch()
    log = GrowingLog(path, "comments", report=lines.append)

    def write(count, cut=None):
        comments = [
            {
                "_id": str(n),
                "content_offset_seconds": t + 20,
                "commenter": {"_id": user},
                "message": {"body": text},
            }
            for n, (t, user, text) in enumerate(ROWS[:count])
        ]
        path.write_text(json.dumps({"video": {"start": 20}, "comments": comments})[:cut])
        log.poll()

    write(12)
    assert log.between(0.0, 6.0).height == 12
    write(20, cut=500)  # only half of it is there: what was read before holds
    assert log.between(6.0, 12.0).is_empty()
    write(40)
    assert log.between(12.0, 18.0).height == 12
    log.finish()
    assert [line.removeprefix(f"{path}") for line in lines] == [
        ": TwitchDownloader JSON; 12 rows, from 0.0 to 5.5 s so far",
        ", line 1: not JSON: Unterminated string starting at (is the file cut off?); it is looked "
        "at again with every segment",
        ": is read again",
        ": TwitchDownloader JSON; rows: 24 used, 12 too late, 4 outside [0, 18) s",
        ": its video starts 20 s into the broadcast: comments are moved by as much",
    ]


def test_packed_chats_are_read(tmp_path):
    path = tmp_path / "c.jsonl.gz"
    path.write_bytes(gzip.compress("".join(jsonl()).encode()))
    assert given(GrowingLog(path, "comments")).height == COUNT


def test_the_counts_of_a_chat_with_everything(tmp_path):
    path, lines = tmp_path / "c.jsonl", []
    rows = list(jsonl())
    path.write_text("".join([*rows, rows[3], rows[5], "{\n", json.dumps({"t": -3}) + "\n"]))
    with path.open("a") as file:
        file.write(json.dumps({"t": -3.5, "user_id": "u", "text": "before"}) + "\n")
        file.write(json.dumps({"t": 99.5, "user_id": "u", "text": "after"}))
    os.utime(path, (0, 0))  # nothing has come for long: a last line without its end is whole
    log = GrowingLog(path, "comments", report=lines.append)
    given(log)
    with path.open("a") as file:
        file.write("\n" + json.dumps({"t": 1.25, "user_id": "u", "text": "late"}) + "\n")
    log.finish()
    assert lines[1] == (
        f"{path}: comments as JSON by names of fields; rows: 60 used, 1 too late, 2 outside "
        "[0, 36) s, 2 bad, 2 duplicates"
    )
    assert "left out 2 of 67 lines: line 63: not JSON" in lines[2]


def test_times_in_another_unit_are_told(tmp_path):
    path, lines = tmp_path / "c.csv", []
    path.write_text("t,user,text\n" + "".join(f"{1000 * t},{u},{x}\n" for t, u, x in ROWS))
    log = GrowingLog(path, "comments", report=lines.append)
    given(log)
    log.finish()
    assert "60 rows, from 0.0 to 29500.0 s so far" in lines[0]
    assert "rows: 1 used, 59 outside" in lines[1] and "(milliseconds?" in lines[2]


def test_own_names_of_columns(tmp_path):
    path = tmp_path / "c.csv"
    path.write_text("when,who,said\n1,a,hi\n")
    names = {"t": "when", "user_id": "who", "text": "said"}
    assert GrowingLog(path, "comments", names=names).between(0.0, 6.0).rows() == [(1.0, "a", "hi")]


def test_what_is_no_chat(tmp_path):
    with pytest.raises(InputError, match=r"no such file; .* must be there, empty \(touch c.xml\)"):
        GrowingLog(tmp_path / "c.xml", "comments")
    with pytest.raises(InputError, match="must be a file, not a folder"):
        GrowingLog(tmp_path, "comments")
    long = tmp_path / "long.txt"
    long.write_text("once upon a time\n" * 500)
    with pytest.raises(InputError, match="no reader of chat knows this form"):
        GrowingLog(long, "comments")
    short, lines = tmp_path / "short.txt", []
    short.write_text("# nothing yet\n")
    log = GrowingLog(short, "comments", report=lines.append)
    assert "no reader of chat" in lines[0] and "looked at again with every segment" in lines[0]
    with short.open("a") as file:
        file.write("[0:00:01] a: hi\n" * 3)
    log.poll()
    assert log.between(0.0, 6.0).height == 3 or "hi" in str(log.between(0.0, 6.0))
    bad = tmp_path / "bad.txt"
    bad.write_text("what is this\n")
    log = GrowingLog(bad, "comments")
    with pytest.raises(InputError, match="no reader of chat knows this form"):
        log.finish()


def test_a_chat_that_was_begun_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "PIECE_BYTES", 200)
    path = tmp_path / "c.jsonl"
    path.write_text("".join(jsonl()))
    log = GrowingLog(path, "comments")
    path.write_text(json.dumps({"t": 1.0, "user_id": "u", "text": "new"}) + "\n")
    log.poll()
    assert log.between(0.0, 6.0).rows() == [(1.0, "u", "new")]


def srt():
    for n, (t, _, text) in enumerate(ROWS[::4]):
        yield f"{n + 1}\n{clock(t)},000 --> {clock(t + 3)},500\n{text}\n\n"


def vtt():
    yield "WEBVTT\n\n"
    for t, _, text in ROWS[::4]:
        yield f"{clock(t)}.000 --> {clock(t + 3)}.500\n{text}\n\n"


def speech_jsonl():
    for t, _, text in ROWS[::4]:
        yield json.dumps({"start": t, "end": t + 3.5, "text": text}) + "\n"


@pytest.mark.parametrize(
    ("name", "form"), [("s.srt", srt), ("s.vtt", vtt), ("s.jsonl", speech_jsonl)]
)
def test_a_transcript_that_grows(tmp_path, name, form):
    path, lines = tmp_path / name, []
    path.touch()
    log = GrowingLog(path, "speech", report=lines.append)
    found, start_s = {}, 0.0
    for piece in [*form(), None]:
        if piece is not None:
            with path.open("a") as file:
                file.write(piece)
        log.poll(whole=piece is None)
        while log.reaches(start_s + 8.0) or (piece is None and start_s < 36.0):
            # An utterance over a border belongs to both segments, word by word.
            for row in log.between(start_s, start_s + 6.0).rows():
                found[row] = True
            start_s += 6.0
    assert list(found) == read_speech(path).table.rows() and len(found) == 15
    log.finish()
    assert lines[-1].endswith("; rows: 15 used")


def test_a_pipe_is_no_log(tmp_path):
    os.mkfifo(tmp_path / "chat.txt")
    with pytest.raises(InputError, match="must be a file"):
        GrowingLog(tmp_path / "chat.txt", "comments")
