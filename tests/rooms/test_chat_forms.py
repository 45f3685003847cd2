"""Chat logs in the forms that recorders, downloaders and chat clients write."""

import gzip
import json
from pathlib import Path

import pytest

from contentctr.errors import InputError
from contentctr.rooms.comments import read_comments
from contentctr.rooms.moments import TimeAxis, parse_started_at

AXIS = TimeAxis(started_at=parse_started_at("2024-05-01T20:00:00+08:00"))
TWO = [(1.0, "a", "hi"), (2.5, "b", "lol")]


def read(tmp_path: Path, name: str, text: str, **options):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    return read_comments(path, **options)


def youtube(renderer: str, offset_ms: object = "1000", **fields) -> str:
    item = {renderer: {"authorExternalChannelId": "a", "id": "1", **fields}}
    action = {"actions": [{"addChatItemAction": {"item": item}}], "videoOffsetTimeMsec": offset_ms}
    return json.dumps({"replayChatItemAction": action})


def runs(*parts: object) -> dict:
    return {"runs": [{"text": part} if isinstance(part, str) else part for part in parts]}


def test_youtubes_live_chat(tmp_path: Path) -> None:
    emoji = {"emoji": {"emojiId": "x", "shortcuts": [":cat:"]}}
    lines = [
        youtube("liveChatTextMessageRenderer", message=runs("hi ", emoji)),
        youtube("liveChatPaidMessageRenderer", "2500", message=runs("take this"), id="2"),
        youtube("liveChatPaidStickerRenderer", "3000", id="3"),
        youtube("liveChatViewerEngagementMessageRenderer", "0", message=runs("Welcome!")),
        youtube(
            "liveChatTextMessageRenderer",
            "0",
            message=runs("early"),
            timestampText={"simpleText": "-1:56"},
            id="4",
        ),
        json.dumps({"replayChatItemAction": {"actions": [{"markChatItemAsDeletedAction": {}}]}}),
    ]
    part = read(tmp_path, "v.live_chat.json", "\n".join(lines))
    assert part.form == "YouTube live chat (yt-dlp)"
    assert part.table.rows() == [
        (-116.0, "a", "early"),
        (1.0, "a", "hi :cat:"),
        (2.5, "a", "take this"),
    ]
    assert part.events.rows() == [("a", 2.5, "gift"), ("a", 3.0, "gift")]
    assert sum(part.left_out.values()) == 2


def twitch(offsets, start=None, **video):
    comments = [
        {
            "_id": str(n),
            "content_offset_seconds": t,
            "commenter": {"_id": "u"},
            "message": {"body": "x"},
        }
        for n, t in enumerate(offsets)
    ]
    video = {} if start is None else {"video": {"start": start, **video}}
    return json.dumps({**video, "comments": comments})


@pytest.mark.parametrize(
    ("offsets", "start", "times"),
    [
        ([20, 50], 20, [0.0, 30.0]),
        ([8000.5, 8010], 8000, [0.5, 10.0]),
        ([5, 50], 0, [5.0, 50.0]),
        ([5, 50], None, [5.0, 50.0]),
        ([1, 2, 50], 5000, [1.0, 2.0, 50.0]),  # already the clip's own
    ],
)
def test_twitch_downloaders_offsets_count_from_the_videos_start(tmp_path, offsets, start, times):
    part = read(tmp_path, "chat.json", twitch(offsets, start))
    assert part.table["t"].to_list() == times
    assert bool(part.warnings) == (bool(start))


def test_comments_with_ids_of_their_own_are_no_duplicates(tmp_path: Path) -> None:
    assert read(tmp_path, "chat.json", twitch([3] * 40)).table.height == 40
    twice = json.loads(twitch([3] * 40))
    twice["comments"] *= 2
    part = read(tmp_path, "chat.json", json.dumps(twice))
    assert (part.table.height, part.duplicates) == (40, 40)


@pytest.mark.parametrize("name", ["chat.json.gz", "chat.json"])
def test_gzip_is_told_by_its_bytes(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(twitch([1, 2]).encode()))
    assert read_comments(tmp_path / name).table.height == 2


NODES = [
    {"id": "1", "contentOffsetSeconds": 1, "commenter": {"id": "a"}, "message": runs("hi")},
    {"id": "2", "contentOffsetSeconds": 2.5, "commenter": {"id": "b"}, "message": runs("lol")},
]
for _node in NODES:
    _node["message"] = {"fragments": _node["message"]["runs"]}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.csv", "time,user_name,user_color,message\n1,a,#fff,hi\n2.5,b,#fff,lol\n"),
        ("c.csv", "message;user_name;time\nhi;a;0:01\nlol;b;0:02.5\n"),
        ("c.tsv", "Time\tUser\tText\n1\ta\thi\n2.5\tb\tlol\n"),
        ("c.txt", "[0:00:01] a: hi\n[0:00:02.5] b: lol\n"),
        ("c.txt", "[2024-05-01 12:00:01 UTC] a: hi\n[2024-05-01 12:00:02.5 UTC] b: lol\n"),
        ("c.log", "# Start logging at 2024-05-01\n[20:00:01]  a: hi\n[20:00:02.5]  b: lol\n"),
        ("c.log", "[20:00:01] <@a> hi\n[20:00:02.5] <b> lol\n[20:00:03] c has joined\n"),
        (
            "c.html",
            '<!DOCTYPE html><body><pre class="comment-root">[0:00:01] <a href="x"><span>a</span>'
            '</a><span>: hi</span></pre>\n<pre class="comment-root">[0:00:02.5] <span>b</span>: '
            '<img title="lol"></pre></body>',
        ),
        (
            "c.srt",
            "1\n00:00:01,000 --> 00:00:02,000\na: hi\n\n2\n00:00:02,500 --> 00:00:03,000\nb: lol\n",
        ),
        (
            "c.ass",
            "[Script Info]\n\n[Events]\nFormat: Layer, Start, End, Style, Name, Text\n"
            "Dialogue: 0,0:00:01.00,0:00:08.00,R2L,a,{\\move(1,2,3,4)}hi\n"
            "Dialogue: 0,0:00:02.50,0:00:09.00,R2L,b,lol\n",
        ),
        (
            "c.json",
            json.dumps(
                {
                    "data": {
                        "messages": [
                            {
                                "id": str(t),
                                "content": x,
                                "sender": {"id": 5, "username": u},
                                "created_at": f"2024-05-01T12:00:0{t}Z",
                            }
                            for t, u, x in TWO
                        ]
                    }
                }
            ).replace('"id": 5, ', ""),
        ),
        ("c.json", json.dumps([{"node": node} for node in NODES])),
        (
            "c.xml",
            '<packet><chat vpos="100" user_id="a">hi</chat><chat vpos="250" user_id="b">lol</chat>',
        ),
        (
            "c.xml",
            '<i><d p="34656419668550000,0,1000,1,25,1,1,0,a">hi</d>'
            '<d p="34656419668550001,0,2500,1,25,1,1,0,b">lol</d></i>',
        ),
    ],
)
def test_forms(tmp_path: Path, name: str, text: str) -> None:
    part = read(tmp_path, name, text, axis=AXIS)
    assert part.table.rows() == TWO
    assert part.bad_lines == 0 and part.form


def test_chat_downloader(tmp_path: Path) -> None:
    rows = [
        {
            "message_id": str(n),
            "message": text,
            "message_type": kind,
            "timestamp": 1613761148565924,
            "time_in_seconds": t,
            "author": {"id": "a", "name": "Ann"},
        }
        for n, (t, text, kind) in enumerate(
            [
                (1.0, "hi", "text_message"),
                (2.0, "take this", "paid_message"),
                (3.0, None, "membership_item"),
                (4.0, None, "paid_sticker"),
            ]
        )
    ]
    whole = read(tmp_path, "c.json", json.dumps(rows))
    lines = read(tmp_path, "c.jsonl", "\n".join(map(json.dumps, rows)))
    for part in (whole, lines):
        assert part.table.rows() == [(1.0, "a", "hi"), (2.0, "a", "take this")]
        assert part.events.rows() == [("a", 2.0, "gift"), ("a", 4.0, "gift")]
        assert part.left_out == {"messages of type membership_item": 1}


def test_names_that_the_user_gives(tmp_path: Path) -> None:
    text = "when,note,who\n1,hi,a\n2.5,lol,b\n"
    with pytest.raises(InputError, match=r"--columns t=NAME,text=NAME.*'when,note,who'"):
        read(tmp_path, "c.csv", text)
    names = {"t": "when", "text": "note", "user_id": "who"}
    assert read(tmp_path, "c.csv", text, names=names).table.rows() == TWO
    rows = "\n".join(json.dumps({"when": t, "note": x, "who": u}) for t, u, x in TWO)
    assert read(tmp_path, "c.jsonl", rows, names=names).table.rows() == TWO


def test_clock_times_without_a_start_are_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="when the room started is not known: give started_at"):
        read(tmp_path, "c.jsonl", '{"t": 1714564801, "user_id": "a", "text": "hi"}\n' * 3)


RECORDED = """<?xml version="1.0"?><i><BililiveRecorder version="2.0" />
<d p="1.0,1,25,1,1,0,2000,0" user="a" raw="[&quot;x>y&quot;]">hi</d>
<sc ts="2.5" user="b" uid="7" price="30" time="60">lol</sc>
<gift ts="3" user="b" giftname="f" giftcount="3" />
<guard ts="4" user="b" level="3" count="1" />
"""


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        (RECORDED + "</i>", 0),
        (RECORDED, 0),  # still being recorded
        (RECORDED + '<d p="5,1,25,1,1,0,1,0" user="c">cut o', 1),
        (RECORDED + '<d p="5,1,25', 1),
        (RECORDED.replace(">hi<", ">h\x08i & <3<").replace("h\x08i & <3", "hi"), 0),
    ],
)
def test_a_recorders_danmaku(tmp_path: Path, text: str, bad: int) -> None:
    part = read(tmp_path, "c.xml", text)
    assert part.table.rows() == [(1.0, "2000", "hi"), (2.5, "7", "lol")]
    assert part.events.rows() == [("7", 2.5, "gift"), ("b", 3.0, "gift"), ("b", 4.0, "gift")]
    assert part.bad_lines == bad


@pytest.mark.parametrize("said", ["a\x08b", "Tom & Ann", "1 < 2", "x &amp; y", "a</i>b"])
def test_damage_in_a_danmaku_costs_no_other(tmp_path: Path, said: str) -> None:
    lines = [f'<d p="{n},1,25,1,1,0,u,{n}">{said if n == 3 else "ok"}</d>' for n in range(1, 9)]
    part = read(tmp_path, "c.xml", "<i>\n" + "\n".join(lines) + "\n</i>\n")
    assert part.table.height == 8


def test_two_danmaku_files_joined(tmp_path: Path) -> None:
    one = '<?xml version="1.0"?><i><d p="1,1,25,1,1,0,u,{}">ok</d></i>'
    assert read(tmp_path, "c.xml", one.format(1) + one.format(2)).table.height == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [("c.xml", "<?xml version='1.0'?><i>"), ("c.xml", ""), ("c.jsonl", ""), ("c.json", "[]")],
)
def test_a_log_that_holds_nothing_says_so(tmp_path: Path, name: str, text: str) -> None:
    part = read(tmp_path, name, text)
    assert part.table.height == 0
    assert "holds no comment" in part.warnings[0]


def test_equal_rows_of_a_whole_second_log_are_no_duplicates(tmp_path: Path) -> None:
    row = '{"t": %s, "user_id": "a", "text": "lol"}\n'
    once = row % 1 + row % 1 + row % 2
    assert read(tmp_path, "c.jsonl", once).table.height == 3
    part = read(tmp_path, "c.jsonl", once * 2)
    assert (part.table.height, part.duplicates) == (3, 3)
    assert read(tmp_path, "c.jsonl", row % 1.5 * 2).table.height == 1
