"""Tables as people have them: delimiters, encodings, quotes, packing, folders."""

import gzip
from pathlib import Path

import polars as pl
import pytest

from contentctr.errors import InputError
from contentctr.rooms.comments import read_comments
from contentctr.rooms.events import read_events
from contentctr.rooms.tables import read_table

ROWS = [("a", 0.5, "exposure"), ("b", 1.5, "click"), ("c", 2.5, "like")]
CSV = "user_id,t,kind\n" + "".join(f"{u},{t},{kind}\n" for u, t, kind in ROWS)


def write(path: Path, data: str | bytes) -> Path:
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


FORMS = {
    "plain.csv": CSV.encode(),
    "mark.csv": b"\xef\xbb\xbf" + CSV.encode(),
    "windows.csv": CSV.replace("\n", "\r\n").encode(),
    "old-mac.csv": CSV.replace("\n", "\r").encode(),
    "no-end.csv": CSV.rstrip().encode(),
    "tabs.tsv": CSV.replace(",", "\t").encode(),
    "tabs.csv": CSV.replace(",", "\t").encode(),
    "bars.csv": CSV.replace(",", "|").encode(),
    "semicolons.csv": CSV.replace(",", ";").replace(".5", ",5").encode(),
    "excel.csv": b"sep=;\r\n" + CSV.replace(",", ";").replace("\n", "\r\n").encode(),
    "excel.txt": CSV.replace(",", "\t").encode("utf-16"),
    "big-endian.csv": b"\xfe\xff" + CSV.encode("utf-16-be"),
    "spaces.csv": CSV.replace(",", " , ").encode(),
    "blank-lines.csv": b"\n" + CSV.replace("\n", "\n\n").encode(),
    "case.csv": CSV.replace("user_id,t,kind", "User_ID,T,Kind").encode(),
    "index.csv": b",user_id,t,kind\n0,a,0.5,exposure\n1,b,1.5,click\n2,c,2.5,like\n",
    "trailing.csv": CSV.replace(".5,", ".5,").replace("\n", ",,\n").encode(),
    "trailing-rows.csv": ("user_id,t,kind\n" + CSV[15:].replace("\n", ",\n")).encode(),
    "packed.csv.gz": gzip.compress(CSV.encode()),
    "packed.tsv.gz": gzip.compress(CSV.replace(",", "\t").encode()),
    "packed-unsaid.csv": gzip.compress(CSV.encode()),
    "two-packs.csv.gz": gzip.compress(CSV[:20].encode()) + gzip.compress(CSV[20:].encode()),
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_csv(tmp_path: Path, name: str) -> None:
    part = read_events(write(tmp_path / name, FORMS[name]))
    assert part.table.rows() == ROWS
    assert (part.bad_lines, part.warnings) == (0, [])


def test_brackets_in_a_name_are_no_pattern(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", CSV.replace("like", "gift"))
    assert read_events(write(tmp_path / "[a].csv", CSV)).table.rows() == ROWS


def test_parquet_is_told_by_content(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    pl.DataFrame(ROWS, schema=["user_id", "t", "kind"], orient="row").write_parquet(path)
    part = read_events(path)
    assert part.table.rows() == ROWS
    assert part.form == "events: Parquet"


def test_quoted_line_ends_in_any_column_keep_the_line_numbers(tmp_path: Path) -> None:
    text = (
        'note,user_id,t,kind,more\n"said ""hi""\nand, left",a,0.5,exposure,x\n'
        'plain,b,1.5,click,"one\n\n\ntwo, three"\nx,u,oh,like,\n"",c,2.5,like,"""\n"""\n'
    )
    part = read_events(write(tmp_path / "events.csv", text))
    assert part.table.rows() == ROWS
    assert part.warnings == [
        f"{tmp_path}/events.csv: left out 1 of 4 lines: line 8: t must be a number of seconds or a "
        "time, not 'oh'"
    ]
    text = 'user_id,t,kind\n"a\nb",0.5,like\n"c\n\nd\ne",1.5,like\nf,2.5,like\n'
    assert read_events(write(tmp_path / "events.csv", text)).table.rows() == [
        ("a b", 0.5, "like"),
        ("c d e", 1.5, "like"),
        ("f", 2.5, "like"),
    ]


@pytest.mark.parametrize(
    ("damage", "lost"),
    [
        ({5: '"u3,3.5,click'}, {5}),
        ({5: 'u3,3.5,cl"ick'}, {5}),
        ({5: '"u3,3.5,click', 9: 'u7",7.5,click'}, {5, 9}),
        ({5: '"u3,3.5,click', 6: 'u4",4.5,click'}, {5, 6}),
        ({5: '"u3', 9: 'u7",7.5,click'}, {5, 9}),
        ({60: '"u58,58.5,click'}, {60}),
        ({5: "u3,3.5,click,,9"}, {5}),
        ({5: "u3"}, {5}),
        ({5: "u3,3.5,click,,"}, set()),
        ({5: '"u3"x,3.5,click'}, set()),
        ({5: ""}, {5}),
    ],
)
def test_damage_costs_its_line_alone(
    tmp_path: Path, damage: dict[int, str], lost: set[int]
) -> None:
    lines = ["user_id,t,kind", *(f"u{i},{i}.5,click" for i in range(59))]
    for number, line in damage.items():
        lines[number - 1] = line
    part = read_events(write(tmp_path / "events.csv", "\n".join(lines)))
    assert set(part.table["t"]) == {i + 0.5 for i in range(59)} - {n - 1.5 for n in lost}
    for number in lost & damage.keys():
        if damage[number]:
            assert f"line {number}: " in part.warnings[0]


def test_what_is_no_table_is_said(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    with pytest.raises(InputError, match="UTF-16 without a byte order mark.*iconv -f UTF-16LE"):
        read_events(write(path, CSV.encode("utf-16-le")))
    with pytest.raises(InputError, match="not a gzip file that can be read"):
        read_events(write(path, b"\x1f\x8bnonsense"))
    with pytest.raises(InputError, match=r"'user_id' is missing; it has \['a', '1.5', 'click'\]"):
        read_events(write(path, "a,1.5,click\nb,2.5,click\n"))
    with pytest.raises(InputError, match="must name the columns; it is empty"):
        read_events(write(path, "\n\n"))


def test_a_packed_table_that_grows_without_bound_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contentctr.rooms.delimited.MAX_TABLE_BYTES", 1000)
    path = write(tmp_path / "events.csv.gz", gzip.compress(CSV.encode() + b"\n" * 10**6))
    with pytest.raises(InputError, match="must be of at most 1000 bytes, unpacked"):
        read_events(path)


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_folders_of_parts(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / f"events.{kind}"
    (folder / "inner").mkdir(parents=True)
    write(folder / "_SUCCESS", b"")
    write(folder / ".part-00000.crc", b"crc")
    write(folder / "part-00002.csv", b"")
    table = pl.DataFrame(ROWS, schema=["user_id", "t", "kind"], orient="row")
    other = pl.DataFrame({"user_id": ["d", "e"], "t": ["3.5", "oh"], "kind": ["gift", "gift"]})
    for number, part in enumerate((table, other)):
        getattr(part, f"write_{kind}")(folder / f"part-0000{number}.{kind}")
    read = read_events(folder)
    assert read.table.rows() == [*ROWS, ("d", 3.5, "gift")]
    place = "row 5" if kind == "parquet" else "row 7"
    assert read.warnings == [
        f"{folder}/inner: not read: folders inside a folder of parts are not followed",
        f"{folder}: left out 1 of 5 rows: {place}: t must be a number of seconds or a time, not "
        f"'oh' (part-00001.{kind}, row {2 if kind == 'parquet' else 3})",
    ]
    (folder / f"part-00000.{kind}").unlink()
    (folder / f"part-00001.{kind}").unlink()
    with pytest.raises(InputError, match="is a folder without a part file"):
        read_events(folder)


def test_exact_names_come_first_and_are_there_once(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "T,t,x,x,Other\n1,2,3,4,5\n")
    raw = read_table(path, {"t": ("other",)})
    assert raw.table["t"].to_list() == ["2"]
    assert raw.named == {"t": "t"}
    with pytest.raises(InputError, match="names the column 'x' more than once"):
        read_table(path, ["x"])
    assert read_table(path, {"u": ("other",)}).table["u"].to_list() == ["5"]


def test_a_chat_between_semicolons_has_decimal_commas(tmp_path: Path) -> None:
    path = write(tmp_path / "comments.csv", "t;user_id;text\n0,5;a;hi\n10,25;b;1,5 kg\n")
    assert read_comments(path).table.rows() == [(0.5, "a", "hi"), (10.25, "b", "1,5 kg")]
