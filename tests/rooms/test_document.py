"""What a file is made of, told by its content."""

import gzip
from pathlib import Path

import pytest

from contentctr.errors import InputError
from contentctr.rooms.document import read_document
from contentctr.rooms.lines import BadLines


def make(tmp_path: Path, name: str, raw: bytes):
    path = tmp_path / name
    path.write_bytes(raw)
    return read_document(path)


@pytest.mark.parametrize(
    ("name", "raw", "kind"),
    [
        ("a.json", b'{"a": 1}\n{"b": 2}\n', "jsonl"),
        ("a.txt", b'{"a": 1}', "json"),
        ("a.json", b"[1, 2]", "json"),
        ("a.jsonl", b'{"a": 1}\n{"b":', "jsonl"),
        ("a.jsonl", b'{"a', "jsonl"),
        ("a.json.gz", gzip.compress(b'{"a": 1}', mtime=0), "json"),
        ("a.json", gzip.compress(b"<i></i>", mtime=0) + gzip.compress(b"\n", mtime=0), "xml"),
        ("a.log", b"[0:00:01] x: hi\n", "text"),
        ("a.ass", b"[Script Info]\n", "text"),
        ("a.html", b"<!DOCTYPE html>\n<p>", "html"),
        ("a.csv", "t,a\n1,ü\n".encode("utf-16"), "text"),
        ("a.csv", b"\xef\xbb\xbft\r\n1\r\n", "text"),
        ("a", b"", "text"),
    ],
)
def test_kind(tmp_path: Path, name: str, raw: bytes, kind: str) -> None:
    assert make(tmp_path, name, raw).kind == kind


def test_text_is_decoded_and_its_line_ends_are_one(tmp_path: Path) -> None:
    assert make(tmp_path, "a", "t,ü\r\nx\ry".encode("utf-16")).text == "t,ü\nx\ny"
    assert make(tmp_path, "a", b"\xef\xbb\xbfa").text == "a"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"[1, 2", "line 1: not JSON: .*cut off"),
        (b"\xff\xfe\x00", "not UTF-16-LE text"),
        ("中".encode("gb18030"), "line 1: not UTF-8 text .*iconv"),
        (b"PK\x03\x04...", "is a ZIP archive"),
        (b"\0\0\0\x20ftypisom", r"is a video \(MP4\)"),
        (b"\x1f\x8b\x08broken", "not a gzip file that can be read"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, raw: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make(tmp_path, "a.json", raw).kind  # noqa: B018


def test_a_gzip_file_cut_off_gives_what_is_there(tmp_path: Path) -> None:
    lines = b"".join(b'{"n": %d}\n' % n for n in range(5000))
    found = make(tmp_path, "a.jsonl.gz", gzip.compress(lines, mtime=0)[:-100])
    assert found.text and lines.startswith(found.text.encode())


def test_records(tmp_path: Path) -> None:
    document = make(tmp_path, "a.jsonl", '{"t": "a\u2028b"}\n\n[1]\n{"x"\n'.encode())
    bad = BadLines(document.path)
    assert list(document.records(bad)) == [(1, {"t": "a\u2028b"})]
    assert bad.count == 2
    one = make(tmp_path, "b.jsonl", b'{"t": 1}')
    assert list(one.records(bad)) == [(1, {"t": 1})]
