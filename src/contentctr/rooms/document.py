"""The text of a log or transcript, and what it is made of, told by its content."""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from contentctr.errors import InputError
from contentctr.files import JsonError, parse_json
from contentctr.rooms.lines import BadLines, show

Kind = Literal["json", "jsonl", "xml", "html", "text"]
MAX_TEXT_BYTES = 1 << 30
"""A log of more bytes, unpacked, is refused: a day of the busiest chat has a tenth of it."""
GZIP = b"\x1f\x8b"
"""What a gzip file begins with."""
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16's, which it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_NOT_TEXT = (
    (b"PK\x03\x04", 0, "a ZIP archive (or a spreadsheet); unpack it, or export it as CSV"),
    (b"PAR1", 0, "a Parquet file; give it an ending .parquet, or export it as CSV or JSONL"),
    (b"ftyp", 4, "a video (MP4)"),
    (b"FLV\x01", 0, "a video (FLV)"),
    (b"\x1aE\xdf\xa3", 0, "a video (Matroska or WebM)"),
    (b"\x28\xb5\x2f\xfd", 0, "packed with zstd; unpack it (zstd -d)"),
    (b"BZh", 0, "packed with bzip2; unpack it (bunzip2)"),
    (b"\xfd7zXZ", 0, "packed with xz; unpack it (unxz)"),
    (b"SQLite format 3", 0, "an SQLite database"),
)


@dataclass(frozen=True)
class Document:
    """A file's text, unpacked and decoded."""

    path: Path
    text: str
    r"""Without a byte order mark; every line ends in \n."""

    @cached_property
    def kind(self) -> Kind:
        """What the text is made of; an empty one is text."""
        head = self.text[:4096].lstrip().lower()
        if head.startswith(("<!doctype html", "<html")):
            return "html"
        if head.startswith("<"):
            return "xml"
        if not head.startswith(("{", "[")):
            return "text"
        if self._parsed is not None:
            return "json"
        # One value a line: the whole is no JSON, and some line near the beginning is by itself.
        lines = [line for line in self.text[:1_000_000].split("\n") if line.strip()][:5]
        return "jsonl" if any(_is_record(line) for line in lines) else self._broken_kind()

    @property
    def is_jsonl_by_name(self) -> bool:
        """Whether its name says that it has a record a line."""
        return self.path.name.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson"))

    @property
    def value(self) -> Any:
        """The JSON value, where `kind` is json."""
        parsed = self._parsed
        assert parsed is not None, self.path
        return parsed[0]

    @cached_property
    def head(self) -> str:
        """The beginning, for a look at its form."""
        return self.text[:65536]

    def lines(self) -> Iterator[tuple[int, str]]:
        """Each line that is not blank, with its number from 1."""
        # Not splitlines(): a text may hold U+2028 and others that it splits at.
        for number, line in enumerate(self.text.split("\n"), start=1):
            if line.strip():
                yield number, line

    def records(self, bad: BadLines) -> Iterator[tuple[int, dict[str, Any]]]:
        """Number and object of each line of a JSONL file; other lines go to `bad`.

        A file that is one JSON object is one record; one that is a list, its entries.
        """
        if self.kind == "json":
            values = self.value if isinstance(self.value, list) else [self.value]
            for number, value in enumerate(values, start=1):
                if isinstance(value, dict):
                    yield number, value
                else:
                    bad.add(number, f"must be a JSON object, not {show(value)}")
            return
        for number, line in self.lines():
            try:
                value = parse_json(line)
            except JsonError as error:
                bad.add(number, f"not JSON: {error}")
                continue
            if isinstance(value, dict):
                yield number, value
            else:
                bad.add(number, f"must be a JSON object, not {show(value)}")

    @cached_property
    def _parsed(self) -> tuple[Any] | None:
        """The JSON value in a tuple; None where the text is not one JSON value."""
        try:
            return (parse_json(self.text),)
        except JsonError:
            return None

    def _broken_kind(self) -> Kind:
        """JSONL by its name; text that a reader may know; else the error that JSON gives.

        Raises:
            InputError: it begins as JSON and is none.
        """
        if self.is_jsonl_by_name:
            return "jsonl"
        if self.text.lstrip()[:1] == "[" and ".json" not in self.path.name.lower():
            return "text"  # [Script Info], [0:00:01] name: text
        try:
            parse_json(self.text)
        except JsonError as error:
            if error.line is None:
                raise InputError(f"{self.path}: not JSON that can be read: {error}") from None
            raise InputError(
                f"{self.path}, line {error.line}: not JSON: {error} (is the file cut off?)"
            ) from None
        return "json"


def read_document(path: Path, max_bytes: int = MAX_TEXT_BYTES) -> Document:
    r"""Read a text file: plain or packed with gzip, in UTF-8, or with a byte order mark.

    Raises:
        InputError: it cannot be read, is no text, is larger than `max_bytes`, or in another
            encoding; says what it is and the way out.
    """
    try:
        raw = path.read_bytes() if path.stat().st_size <= max_bytes else None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if raw is None:
        raise InputError(f"{path}: must be of at most {max_bytes} bytes")
    return document_of(path, raw, max_bytes)


def document_of(path: Path, raw: bytes, max_bytes: int = MAX_TEXT_BYTES) -> Document:
    r"""The same, of bytes that were read already."""
    if raw.startswith(GZIP):
        raw = unpack(path, raw, max_bytes)
    require_text(path, raw)
    text = _decoded(path, raw)
    return Document(path, text.replace("\r\n", "\n").replace("\r", "\n"))


def require_text(path: Path, raw: bytes) -> None:
    """Refuse bytes that begin as a known file which is no text.

    Raises:
        InputError: says what it is, and what to do.
    """
    for magic, offset, name in _NOT_TEXT:
        if raw[offset : offset + len(magic)] == magic:
            raise InputError(f"{path}: must be a text file, and is {name}")


def unpack(path: Path, raw: bytes, max_bytes: int = MAX_TEXT_BYTES) -> bytes:
    """What gzip holds; a file cut off in the middle gives what is there.

    Raises:
        InputError: it is damaged, or holds more than `max_bytes`.
    """
    parts, left, size = [], raw, 0
    try:
        while left.startswith(GZIP):
            unpacker = zlib.decompressobj(wbits=31)
            parts.append(unpacker.decompress(left, max_bytes + 1 - size))
            size += len(parts[-1])
            left = unpacker.unused_data
            if size > max_bytes:
                raise InputError(f"{path}: must be of at most {max_bytes} bytes, unpacked")
    except zlib.error as error:
        raise InputError(f"{path}: not a gzip file that can be read ({error})") from None
    return b"".join(parts)


def _decoded(path: Path, raw: bytes) -> str:
    mark, encoding = next(
        ((mark, name) for mark, name in BYTE_ORDER_MARKS if raw.startswith(mark)), (b"", "utf-8")
    )
    try:
        return raw.removeprefix(mark).decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}, line {line}: not {encoding.upper()} text (byte 0x{raw[error.start]:02x} at "
            f"offset {error.start}); convert the file, for example with "
            f"`iconv -f ITS_ENCODING -t UTF-8 {path.name} > utf8{path.suffix}`"
        ) from None


def _is_record(line: str) -> bool:
    try:
        return isinstance(parse_json(line), dict)
    except JsonError:
        return False
