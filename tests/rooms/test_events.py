import time
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from contentctr.errors import InputError
from contentctr.rooms.columns import read_columns
from contentctr.rooms.events import read_events
from contentctr.rooms.room import EVENT_KINDS, EVENTS_SCHEMA

ROWS = [("007", 1.5, "exposure"), ("9007199254740993", 2.0, "click"), ("b", 2.5, "exit")]


def csv(tmp_path: Path, text: str, name: str = "events.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


def test_csv_and_parquet_read_the_same(tmp_path: Path) -> None:
    a = csv(
        tmp_path,
        "\ufeffkind,user_id,x,t\r\nexit,b,,2.5\r\n"
        'click,"9007199254740993",é, 2\r\n\r\nexposure,007,,1.5',
    )
    b = tmp_path / "events.parquet"
    pl.DataFrame(ROWS, schema=["user_id", "t", "kind"], orient="row").write_parquet(b)
    for path in (a, b):
        part = read_events(path)
        assert part.table.rows() == ROWS
        assert dict(part.table.schema) == EVENTS_SCHEMA
        assert (part.bad_lines, part.duplicates, part.warnings) == (0, 0, [])


def test_parquet_with_other_good_types(tmp_path: Path) -> None:
    path = tmp_path / "events.parquet"
    pl.DataFrame(
        {"user_id": [2**63 + 1, 5], "t": [1, 2], "kind": ["like", "gift"]},
        schema={"user_id": pl.UInt64, "t": pl.Int32, "kind": pl.Categorical},
    ).write_parquet(path)
    assert read_events(path).table.rows() == [(str(2**63 + 1), 1.0, "like"), ("5", 2.0, "gift")]


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("user_id", [True, False], "'user_id' must be text or a whole number, not Boolean"),
        ("user_id", [1.5, 2.5], "row 1: user_id must be text or a whole number, not 1.5"),
        ("user_id", [1e17, 2e17], "row 1: user_id has lost digits, as a float has at 1e.17"),
        ("t", [True, False], r"'t' must be a time: .*, not Boolean"),
        ("t", [datetime(2024, 1, 1)] * 2, "t is a clock time .*give started_at"),
        ("kind", [1, 2], "'kind' must be text, not Int64"),
    ],
)
def test_wrong_parquet_type(
    tmp_path: Path, column: str, values: list[object], message: str
) -> None:
    path = tmp_path / "events.parquet"
    good = {"user_id": ["a", "b"], "t": [1.0, 2.0], "kind": ["click", "click"]}
    pl.DataFrame({**good, column: values}).write_parquet(path)
    with pytest.raises(InputError, match=message) as caught:
        read_events(path)
    assert str(path) in str(caught.value)


def test_bad_lines_are_named_by_line(tmp_path: Path) -> None:
    lines = ["user_id,t,kind", *(f"u{i},{i},click" for i in range(1000))]
    for number, text in {
        3: "u,x,click",
        5: ",1,click",
        9: "u,inf,click",
        11: "u,1,share",
        13: "u,1",
        20: "u,,click",
        21: "u,-inf,like",
    }.items():
        lines[number - 1] = text
    part = read_events(csv(tmp_path, "\n".join(lines) + "\n\n\n"))
    assert (part.bad_lines, part.table.height) == (7, 993)
    assert part.warnings == [
        f"{tmp_path}/events.csv: left out 7 of 1000 lines: "
        "line 3: t must be a number of seconds or a time, not 'x'; line 5: user_id is "
        "missing; line 9: t must be finite, not inf; ..."
    ]
    lines[30:35] = ["u,1,share"] * 5
    with pytest.raises(InputError, match="12 of 1000 lines are bad, and at most 10 may be: line 3"):
        read_events(csv(tmp_path, "\n".join(lines)))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("u,1,share", f"kind must be one of {', '.join(EVENT_KINDS)}, not 'share'"),
        ("u,1", "kind is missing"),
        ("u,,click", "t is missing"),
        ("u,-inf,like", "t must be finite, not -inf"),
        ("u,1_0,like", "t must be a number of seconds or a time, not '1_0'"),
    ],
)
def test_reasons(tmp_path: Path, line: str, reason: str) -> None:
    rows = [f"u,{i},click" for i in range(198)]
    part = read_events(csv(tmp_path, "\n".join(["user_id,t,kind", *rows, line, "u,999,gift"])))
    assert part.warnings == [f"{tmp_path}/events.csv: left out 1 of 200 lines: line 200: {reason}"]


def test_damaged_lines_do_not_cost_their_neighbours(tmp_path: Path) -> None:
    lines = ["user_id,t,kind", *(f'"u{i}",{i},click' for i in range(600))]
    lines[10] = 'u,"1,click'
    lines[20] = "u,1,click,more"
    lines[30] = ""
    lines[40] = "u,oh,click"
    lines[50] = 'u,1,cl"ick'
    part = read_events(csv(tmp_path, "\r\n".join(lines)))
    assert (part.bad_lines, part.table.height) == (4, 595)
    assert part.warnings == [
        f"{tmp_path}/events.csv: left out 4 of 599 lines: "
        "line 11: a quoted field is not closed; "
        "line 21: has 4 fields, the first line 3; "
        "line 51: a quoted field is not closed; ..."
    ]
    assert set(part.table["t"]) == set(range(600)) - {9, 19, 29, 39, 49}


def test_a_quote_that_swallows_lines_unseen_is_found(tmp_path: Path) -> None:
    lines = ["user_id,t,kind", *(f"u{i},{i},click" for i in range(400))]
    lines[10] = '"u9,9,click'
    lines[13] = 'u12",12,click'
    part = read_events(csv(tmp_path, "\n".join(lines)))
    assert part.bad_lines == 2
    assert part.table.height == 398


def test_wrong_csv_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"column 'kind' is missing; it has \['user_id', 't'\]"):
        read_events(csv(tmp_path, "user_id,t\na,1\n"))
    with pytest.raises(InputError, match="line 1: must name the columns; it is empty"):
        read_events(csv(tmp_path, ""))
    with pytest.raises(InputError, match="line 1: names the column 't' more than once"):
        read_events(csv(tmp_path, "user_id,t,t,kind\n"))
    path = tmp_path / "events.csv"
    path.write_bytes("user_id,t,kind\na,1,click\n你,1,click\n".encode("gb18030"))
    with pytest.raises(InputError, match=r"line 3: not UTF-8 text \(byte 0xc4 at offset 25\)"):
        read_events(path)
    path.write_bytes("用户,t,kind\n".encode("gb18030"))
    with pytest.raises(InputError, match="line 1: not UTF-8"):
        read_events(path)
    path = tmp_path / "events.parquet"
    path.write_bytes(b"PAR1 nonsense")
    with pytest.raises(InputError, match="events.parquet: not a readable Parquet file"):
        read_events(path)
    path = tmp_path / "events.xlsx"
    with pytest.raises(InputError, match="events.xlsx: cannot be read"):
        read_events(path)
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="is a ZIP archive .or a spreadsheet.*export it as CSV"):
        read_events(path)
    with pytest.raises(InputError, match="is JSON, and must be a table"):
        read_events(csv(tmp_path, '{"user_id": "u", "t": 1, "kind": "click"}', "events.jsonl"))


def test_exact_duplicates_are_dropped(tmp_path: Path) -> None:
    part = read_events(
        csv(tmp_path, "user_id,t,kind\na,2,click\na,1.5,click\na,2.0,click\na,2,like\nb,2,click\n")
    )
    assert part.duplicates == 1
    assert part.table.rows() == [
        ("a", 1.5, "click"),
        ("a", 2.0, "click"),
        ("a", 2.0, "like"),
        ("b", 2.0, "click"),
    ]


def test_header_alone_is_an_empty_log(tmp_path: Path) -> None:
    table = read_events(csv(tmp_path, "user_id,t,kind\n")).table
    assert table.height == 0
    assert dict(table.schema) == EVENTS_SCHEMA


@pytest.mark.slow
def test_large_logs_are_fast(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    size = 5_000_000
    path = tmp_path / "events.csv"
    pl.DataFrame(
        {
            "user_id": rng.integers(0, 1_000_000, size),
            "t": rng.integers(0, 7_200_000, size) / 1000,
            "kind": pl.Series(EVENT_KINDS).gather(rng.integers(0, 8, size)),
        }
    ).write_csv(path)
    with path.open("a") as handle:
        handle.write("u,x,click\n")
    start = time.perf_counter()
    part = read_events(path)
    assert part.bad_lines == 1
    assert f"line {size + 2}:" in part.warnings[0]
    assert time.perf_counter() - start < 60


def test_columns(tmp_path: Path) -> None:
    path = csv(tmp_path, "t,gmv,heat\n30,2,\n1.5,1e3,nan\n", "columns.csv")
    assert read_columns(path).table.rows() == [(1.5, 1000.0, None), (30.0, 2.0, None)]
    other = tmp_path / "columns.parquet"
    pl.DataFrame({"t": [1.5, 30.0], "gmv": [1000, 2], "heat": [float("nan"), None]}).write_parquet(
        other
    )
    assert read_columns(other).table.equals(read_columns(path).table)


def test_bad_columns(tmp_path: Path) -> None:
    rows = "".join(f"{i},{i}\n" for i in range(298))
    part = read_columns(csv(tmp_path, f"t,gmv\n{rows}1,x\n1,inf\n", "columns.csv"))
    assert part.warnings == [
        f"{tmp_path}/columns.csv: left out 2 of 300 lines: line 300: gmv must be a number, not "
        "'x'; line 301: gmv must be finite, not inf"
    ]
    with pytest.raises(InputError, match="column of numbers beside 't'; gmv hold text"):
        read_columns(csv(tmp_path, "t,gmv\n1,a\n2,b\n", "columns.csv"))
    with pytest.raises(InputError, match="must have a column of numbers beside 't'"):
        read_columns(csv(tmp_path, "t\n1\n", "columns.csv"))


def test_columns_of_text_are_left_out_and_named(tmp_path: Path) -> None:
    text = 't,title,online,live,mixed\n0,x,"1,000",true,1.0\n30,y,"12,345.5",false,0.0\n60,,7,,\n'
    part = read_columns(csv(tmp_path, text, "columns.csv"))
    assert part.table.columns == ["t", "online", "live", "mixed"]
    assert part.table.rows() == [(0, 1000, 1, 1), (30, 12345.5, 0, 0), (60, 7, None, None)]
    assert part.warnings == [f"{tmp_path}/columns.csv: left out columns of text: title"]
    path = tmp_path / "columns.parquet"
    table = {"t": [1.0], "flag": [True], "day": [datetime(2024, 1, 1)]}
    pl.DataFrame(table).write_parquet(path)
    part = read_columns(path)
    assert part.table.rows() == [(1.0, 1.0)]
    assert "left out columns of text: day" in part.warnings[0]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("t;x\n0;1,5\n1;2\n", [1.5, 2.0]),
        ("t;x\n0;1,500\n1;2\n", [1.5, 2.0]),
        ("t;x\n0;1,500,000\n1;2\n", [1.5e6, 2.0]),
        ("t;x\n0;1.500,5\n1;2\n", [1500.5, 2.0]),
        ("t\tx\n0\t1,500\n1\t2\n", [1500.0, 2.0]),
        ("t\tx\n0\t0,500\n1\t2\n", [0.5, 2.0]),
        ('t,x\n0,"1,500"\n1,2\n', [1500.0, 2.0]),
    ],
)
def test_commas_in_numbers(tmp_path: Path, text: str, values: list[float]) -> None:
    part = read_columns(csv(tmp_path, text, "columns.csv"))
    assert part.table["x"].to_list() == values
    assert part.bad_lines == 0


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["21", "21.0", "21.00", " 21 "], ["21"] * 4),
        ([21.0, 22.0, None, 23.0], ["21", "22", "23"]),
        ([b"a", b"b", b"", b"c"], ["a", "b", "c"]),
        (["007", "2e7", "12e34567", "9007199254740993"], None),
        (["a", "NULL", "b", "c"], ["a", "b", "c"]),
        (["a", "\\N", "b", "c"], ["a", "b", "c"]),
        (["a", "nan", "b", "c"], ["a", "b", "c"]),
        (["a", "<NA>", "b", "c"], ["a", "b", "c"]),
        (["a", "1.03241E+17", "b", "c"], ["a", "b", "c"]),
        (["a", "1,03241E+17", "b", "c"], ["a", "b", "c"]),
        ([Decimal("1.00"), Decimal("12345678901234567.00"), Decimal(3), Decimal(4)], None),
    ],
)
def test_ids(tmp_path: Path, given: list[object], kept: list[str] | None) -> None:
    path = tmp_path / "events.parquet"
    pl.DataFrame({"user_id": given, "t": [0.5, 1.5, 2.5, 3.5], "kind": ["like"] * 4}).write_parquet(
        path
    )
    part = read_events(path)
    wanted = kept or [str(value).removesuffix(".00") for value in given]
    assert part.table["user_id"].to_list() == wanted
    assert part.bad_lines == 4 - len(wanted)


def test_ids_that_a_spreadsheet_damaged_stop(tmp_path: Path) -> None:
    rows = "".join(f"1.03241E+17,{i},click\n" for i in range(60))
    with pytest.raises(
        InputError, match="60 of 60 lines are bad.*lost its digits in a spreadsheet"
    ):
        read_events(csv(tmp_path, "user_id,t,kind\n" + rows))


@pytest.mark.parametrize("kind", ["text", "integers"])
def test_ids_that_a_spreadsheet_rounded_are_doubted(tmp_path: Path, kind: str) -> None:
    def warnings(*ids: str) -> list[str]:
        users = [*ids, *ids, "7"] if kind == "text" else [int(i) for i in (*ids, *ids, "7")]
        path = tmp_path / "events.parquet"
        times = [float(i) for i in range(len(users))]
        pl.DataFrame({"user_id": users, "t": times, "kind": "like"}).write_parquet(path)
        return read_events(path).warnings

    rounded = ["103241000000000000", "103241765432109000", "103241765432108000"]
    (told,) = warnings(*rounded)
    assert told.startswith(f"{tmp_path / 'events.parquet'}: all 3 values of user_id with more than")
    assert "end in zeros, as 103241000000000000: a spreadsheet rounds so" in told
    assert warnings(*rounded, "103241765432108001") == []
    assert warnings(rounded[0]) == []  # a single one may be what it says
    assert warnings("1032417654321090", "1032417654321080") == []  # one in a hundred by chance
    assert len(warnings(*(f"10324176543210{i}0" for i in range(6)))) == 1


def test_kinds_by_other_names(tmp_path: Path) -> None:
    words = ["Exposure", " click ", "VIEW", "thumb_up", "Super Chat", "join", "quit", "点赞"]
    text = "".join(f"u,{n}.5,{word}\n" for n, word in enumerate(words))
    part = read_events(csv(tmp_path, "user_id,t,kind\n" + text))
    assert part.table["kind"].to_list() == [
        "exposure",
        "click",
        "exposure",
        "like",
        "gift",
        "enter",
        "exit",
        "like",
    ]
    assert part.warnings == [
        f"{tmp_path}/events.csv: kinds taken by their usual names: Super Chat as gift, VIEW as "
        "exposure, join as enter, quit as exit, thumb_up as like, 点赞 as like"
    ]


def test_columns_by_other_names(tmp_path: Path) -> None:
    path = csv(tmp_path, "Event Time,viewer_id,action,when\n1,a,click,3\n", "events.csv")
    with pytest.raises(InputError, match="column 't' is missing.*--columns t=ITS_NAME"):
        read_events(path)
    assert read_events(path, names={"t": "when"}).table.rows() == [("a", 3.0, "click")]
    path = csv(tmp_path, "timestamp,uid,event_type\n1,a,click\n", "events.csv")
    part = read_events(path, names={"t": "offset"})
    assert part.table.rows() == [("a", 1.0, "click")]
    assert "has no column 'offset' to take as t" in part.warnings[0]


def test_rows_with_ids_of_their_own(tmp_path: Path) -> None:
    text = "event_id,user_id,t,kind\n1,a,2.5,like\n2,a,2.5,like\n2,a,2.5,like\n"
    part = read_events(csv(tmp_path, text))
    assert (part.table.height, part.duplicates) == (2, 1)


def test_whole_seconds_are_no_duplicates_but_whole_copies_are(tmp_path: Path) -> None:
    likes = [f"u{i % 10},{i % 10},like" for i in range(60)]
    exposures = [f"u{i},{i // 4},exposure" for i in range(40)]

    def count(rows: list[str]) -> int:
        return read_events(csv(tmp_path, "\n".join(["user_id,t,kind", *rows]))).table.height

    assert count(sorted(likes)) == 60
    assert count(exposures + likes) == 100
    assert count((exposures + likes) * 2) == 100
    assert count(sorted((exposures + likes) * 2)) == 100
    assert count(sorted((exposures + likes) * 2)[1:]) == 199
