import json
import re
from pathlib import Path

import polars as pl
import pytest

from contentctr.errors import InputError
from contentctr.rooms.comments import read_comments
from contentctr.rooms.room import COMMENTS_SCHEMA

ROWS = [(0.5, "7", 'hello, "you"'), (12.25, "u1", "你好\u2028!"), (12.25, "u2", "")]


def jsonl(path: Path, rows: list[object]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def test_four_formats_read_the_same(tmp_path: Path) -> None:
    a = jsonl(
        tmp_path / "comments.jsonl",
        [{"t": t, "user_id": int(u) if u == "7" else u, "text": x} for t, u, x in ROWS],
    )
    b = tmp_path / "comments.csv"
    b.write_text(
        '\ufefftext,t,extra,user_id\r\n"hello, ""you""",0.5,x,7\r\n\r\n'
        "你好\u2028!,12.25,,u1\r\n,1.225e1,,u2\r\n",
        newline="",
    )
    c = tmp_path / "comments.json"
    c.write_text(
        json.dumps(
            {
                "streamer": {"name": "s"},
                "comments": [
                    {
                        "content_offset_seconds": t,
                        "commenter": {"display_name": "x", "_id": u},
                        "message": {"body": x, "fragments": []},
                    }
                    for t, u, x in reversed(ROWS)
                ],
            }
        )
    )
    d = tmp_path / "comments.xml"
    d.write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n<i><chatserver>x</chatserver>\n'
        '<d p="0.5,1,25,16777215,1,0,7,99">hello, &quot;you&quot;</d>\n'
        '<d p="12.25,1,25,16777215,1,0,u1,99,11">你好\u2028!</d>\n'
        '<d p="12.25000,4,25,0,1,0,u2,100"></d>\n</i>'
    )
    for path in (a, b, c, d):
        part = read_comments(path)
        assert dict(part.table.schema) == COMMENTS_SCHEMA
        assert sorted(part.table.rows()) == ROWS, path
        assert part.table["t"].is_sorted()
        assert (part.bad_lines, part.duplicates, part.warnings) == (0, 0, [])


def test_large_ids_are_kept_digit_by_digit(tmp_path: Path) -> None:
    part = read_comments(
        jsonl(tmp_path / "comments.jsonl", [{"t": 1, "user_id": 2**60 + 1, "text": "a"}])
    )
    assert part.table["user_id"].to_list() == [str(2**60 + 1)]


def test_twitch_names_and_deleted_users(tmp_path: Path) -> None:
    path = tmp_path / "comments.json"
    message = {"body": "x"}
    comments = [
        {"content_offset_seconds": 1, "commenter": None, "message": message},
        {"content_offset_seconds": 2, "commenter": {"display_name": "nn"}, "message": message},
    ]
    path.write_text(json.dumps({"comments": comments}))
    assert read_comments(path).table["user_id"].to_list() == ["", "nn"]


def test_exact_duplicates_are_dropped_and_order_is_kept(tmp_path: Path) -> None:
    rows = [(5.5, "a", "x"), (5.5, "b", "x"), (5.5, "a", "x"), (1, "a", "x"), (5.5, "a", "y")]
    path = jsonl(
        tmp_path / "comments.jsonl", [{"t": t, "user_id": u, "text": x} for t, u, x in rows]
    )
    part = read_comments(path)
    assert part.duplicates == 1
    assert part.table.rows() == [
        (1.0, "a", "x"),
        (5.5, "a", "x"),
        (5.5, "b", "x"),
        (5.5, "a", "y"),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON: Expecting property name enclosed in double quotes"),
        ("[1, 2]", r"must be a JSON object, not \[1, 2\]"),
        ('{"user_id": "a", "text": "x"}', "t is missing"),
        ('{"t": "so", "user_id": "a", "text": "x"}', "t must be a number of seconds or a time"),
        ('{"t": true, "user_id": "a", "text": "x"}', "t must be a number of seconds, not True"),
        ('{"t": NaN, "user_id": "a", "text": "x"}', "t must be finite, not nan"),
        ('{"t": 1e999, "user_id": "a", "text": "x"}', "t must be finite, not inf"),
        ('{"t": %s, "user_id": "a", "text": "x"}' % ("9" * 400), "t must be finite"),
        ('{"t": 1, "text": "x"}', "user_id is missing"),
        ('{"t": 1, "user_id": "", "text": "x"}', "user_id is missing"),
        ('{"t": 1, "user_id": 1.5, "text": "x"}', "user_id must be text or a whole number"),
        ('{"t": 1, "user_id": "a"}', "text is missing"),
        ('{"t": 1, "user_id": "a", "text": 5}', "text must be text, not 5"),
        ('{"t": 1, "user_id": "a", "text": "\\ud83d"}', "text has half a surrogate pair"),
        ("[" * 100_000, "not JSON"),
        ('{"t": %s}' % ("9" * 5000), "not JSON"),
    ],
)
def test_bad_jsonl_line_is_named_counted_and_limited(
    tmp_path: Path, line: str, reason: str
) -> None:
    good = [json.dumps({"t": i, "user_id": "u", "text": "x"}) for i in range(99)]
    path = tmp_path / "comments.jsonl"
    path.write_text("\n".join([*good[:40], "", line, *good[40:]]))
    part = read_comments(path)
    assert part.bad_lines == 1
    assert part.table.height == 99
    assert re.search(f"left out 1 of 100 lines: line 42: {reason}", part.warnings[0])
    path.write_text("\n".join([*good[:14], *[line] * 5]))
    with pytest.raises(
        InputError, match=f"5 of 19 lines are bad, and at most 4 may be: line 15: {reason}"
    ):
        read_comments(path)


def test_bad_csv_lines_are_numbered_by_line_not_by_record(tmp_path: Path) -> None:
    path = tmp_path / "comments.csv"
    lines = ["t,user_id,text", '1,a,"two\nlines"', "2,a", "x,a,b", "1_0,a,b", '3,a,"b"c']
    path.write_text("\n".join(lines + [f"{i},a,b" for i in range(496)]) + "\n")
    part = read_comments(path)
    assert part.bad_lines == 4
    assert part.table.filter(pl.col("t") == 1)["text"].to_list() == ["two\nlines", "b"]
    assert part.warnings == [
        f"{path}: left out 4 of 501 lines: line 4: has 2 fields, the first line 3; "
        "line 5: t must be a number of seconds or a time, not 'x'; "
        "line 6: t must be a number of seconds or a time, not '1_0'; ..."
    ]


def test_text_after_a_closing_quote_is_bad(tmp_path: Path) -> None:
    path = tmp_path / "comments.csv"
    path.write_text('t,user_id,text\n3,a,"b"c\n' + "".join(f"{i},a,b\n" for i in range(99)))
    part = read_comments(path)
    assert (part.bad_lines, part.table.height) == (1, 99)
    assert "line 2: not CSV: ',' expected after '\"'" in part.warnings[0]


def test_a_quote_left_open_counts_all_lines_that_it_swallows(tmp_path: Path) -> None:
    path = tmp_path / "comments.csv"
    path.write_text('t,user_id,text\n1,a,b\n2,a,"open\n' + "3,a,b\n" * 50)
    with pytest.raises(InputError, match="51 of 52 lines are bad.*line 3: not CSV: unexpected end"):
        read_comments(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("comments.csv", b"a;b;c\n", r"needs a time and a text .*this has 'a;b;c'"),
        ("comments.csv", b"t,t,user_id,text\n", "line 1: names the column 't' twice"),
        ("comments.json", b'{"comments": [\n{"a" 1}]}', "line 2: not JSON: Expecting ':'"),
        ("comments.json", b'[{"a": 1}]', "needs a time and a text .*this has a"),
        ("comments.json", b'{"a": []}', "no reader of chat knows this form"),
        ("comments.xml", b"<rss/>", "must be danmaku XML .*not <rss>"),
        ("comments.xml", b"<html/>", "HTML page without comments of TwitchDownloader"),
        ("comments.txt", b"once upon a time\n", "this has 'once upon a time'"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_comments(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "json", "xml"])
def test_not_utf8_names_line_offset_and_the_way_out(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"comments.{suffix}"
    path.write_bytes("t,user_id,text\n1,a,你好\n".encode("gb18030"))
    with pytest.raises(
        InputError,
        match=r"line 2: not UTF-8 text \(byte 0xc4 at offset 19\); convert .*iconv -f ITS_ENCODING",
    ):
        read_comments(path)


def test_xml_with_entities_is_refused_before_they_grow(tmp_path: Path) -> None:
    path = tmp_path / "comments.xml"
    bomb = "".join(f'<!ENTITY a{i + 1} "{f"&a{i};" * 10}">' for i in range(12))
    path.write_text(f'<!DOCTYPE i [<!ENTITY a0 "lol">{bomb}]>\n<i><d p="">&a12;</d></i>')
    with pytest.raises(InputError, match="a document type .* is not allowed"):
        read_comments(path)


def test_bad_danmaku_are_numbered_by_line(tmp_path: Path) -> None:
    path = tmp_path / "comments.xml"
    good = '<d p="1,1,25,16777215,1,0,7,9">a</d>\n'
    bad = (
        '<d p="x,1,25,16777215,1,0,7,9">a</d>\n<d p="1,2">b</d>\n<d p="1,1,1,1,1,1,,9"/>\n<d>c</d>'
    )
    path.write_text(f"<i>\n{bad}\n{good * 396}</i>")
    part = read_comments(path)
    assert (part.bad_lines, part.table.height, part.duplicates) == (4, 1, 395)  # one id
    assert "line 2: p[0] (t) must be a number of seconds, not 'x'" in part.warnings[0]
    assert "line 3: p must have at least 5 fields, not 2" in part.warnings[0]
    assert "line 4: p[6] (user) is missing" in part.warnings[0]


def test_empty_logs_are_empty_tables(tmp_path: Path) -> None:
    for name, text in (
        ("comments.jsonl", ""),
        ("comments.csv", "t,user_id,text\n"),
        ("comments.json", '{"comments": []}'),
        ("comments.xml", "<i></i>"),
    ):
        (tmp_path / name).write_text(text)
        table = read_comments(tmp_path / name).table
        assert table.height == 0
        assert dict(table.schema) == COMMENTS_SCHEMA
