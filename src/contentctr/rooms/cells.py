"""Cells of a column as ids, numbers, flags and kinds, a whole column at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

MISSING = (
    "",
    "\\N",
    "NULL",
    "null",
    "Null",
    "(null)",
    "<null>",
    "NaN",
    "nan",
    "NaT",
    "None",
    "nil",
    "NA",
    "<NA>",
    "N/A",
    "n/a",
    "#N/A",
    "undefined",
)
"""Words for "no value", as databases and programs write them."""
FLAGS = {
    **dict.fromkeys(("true", "1", "1.0", "t", "yes", "y"), True),
    **dict.fromkeys(("false", "0", "0.0", "f", "no", "n"), False),
}
EXACT_FLOAT, EXACT_FLOAT32 = 2**53, 2**24
"""Whole numbers from here on have lost digits where they are floats."""
SPREADSHEET_DIGITS = 15
"""A spreadsheet keeps so many digits of a number and puts zeros in place of the others ..."""
_CHANCE_ZEROS = 6
"""... but so many zeros in all are no chance: one in a million."""
_BY_SPREADSHEET = r"^[+-]?\d(?:[.,]\d+)?[eE][+-]\d{2,3}$"
_THOUSANDS = r"^[+-]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?$"
_POINTED = r"^[+-]?[1-9]\d{0,2}(?:\.\d{3})+,\d+$"
_DECIMAL_COMMA = r"^[+-]?\d*,\d+(?:[eE][+-]?\d+)?$"


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A column that was read: its values, and why others are none."""

    values: pl.Series
    """Null where a row is bad, or where the cell is empty."""
    reasons: pl.Series
    """Text where a row is bad, else null."""
    warnings: list[str] = field(default_factory=list)
    """What to doubt of the whole column; the file's name is to stand before it."""


def as_text(column: pl.Series) -> pl.Series:
    """The column as text without spaces around it; null where there is no value."""
    if column.dtype == pl.Null:
        return column.cast(pl.String)
    if column.dtype == pl.Binary:
        column = _decoded(column)
    text = column.cast(pl.String).str.strip_chars()
    # The longest word for "no value" has 9 letters: longer cells need no look-up.
    return _where(text, (text.str.len_bytes() < 10) & text.is_in(MISSING), None)


def as_ids(column: pl.Series, name: str) -> Checked:
    """Ids as text, digit by digit: 21.0 is "21", as floats and spreadsheets write it.

    Args:
        column: text (Binary and categories too), whole numbers, floats or decimals.
        name: of the field, for messages.
    """
    reasons = no_reasons(column)
    if column.dtype.is_float():
        number = column.cast(pl.Float64).fill_nan(None)
        exact = EXACT_FLOAT if column.dtype == pl.Float64 else EXACT_FLOAT32
        whole = (number == number.floor()) & (number.abs() < exact)
        text = _where(number, ~whole, None).cast(pl.Int64).cast(pl.String)
        given = number.cast(pl.String)
        reasons = _because(reasons, ~whole, name + " must be text or a whole number, not ", given)
        lost = number.abs() >= exact
        reasons = _because(reasons, lost, name + " has lost digits, as a float has at ", given)
    else:
        text = as_text(column)
        if column.dtype.is_integer():
            return _checked_ids(column, name, text, reasons)
        if column.dtype.is_decimal() or text.str.contains(".0", literal=True).any():
            text = text.str.replace(r"^([+-]?\d+)\.0+$", "$1")
        # A mark that few ids have tells cheaply whether any needs the costly look.
        marked = text.str.contains_any(["e+", "E+", "e-", "E-"])
        if marked.any():
            damaged = marked & text.str.contains(_BY_SPREADSHEET)
            words = (
                f"{name} has lost its digits in a spreadsheet (export the log again, with ids as "
                "text): "
            )
            reasons = _because(reasons, damaged, words, text)
    return _checked_ids(column, name, text, reasons)


def _checked_ids(column: pl.Series, name: str, text: pl.Series, reasons: pl.Series) -> Checked:
    return Checked(
        values=text,
        reasons=_if_missing(reasons, text, name, column),
        warnings=_rounded_ids(text, name),
    )


def _rounded_ids(text: pl.Series, name: str) -> list[str]:
    """A warning if all long ids of a column end in zeros from SPREADSHEET_DIGITS on."""
    long = text.filter(text.str.len_bytes() > SPREADSHEET_DIGITS)
    if not len(long) or not long.str.ends_with("0").all():  # nearly always told by this already
        return []
    long = long.unique()
    zeros = int((long.str.len_bytes() - SPREADSHEET_DIGITS).sum())
    rounded = long.str.contains(rf"^[1-9]\d{{{SPREADSHEET_DIGITS - 1}}}0+$").all()
    if not rounded or zeros < _CHANCE_ZEROS or len(long) < 2:
        return []
    return [
        f"all {len(long)} values of {name} with more than {SPREADSHEET_DIGITS} digits end in "
        f"zeros, as {long.sort()[0]}: a spreadsheet rounds so, and may have made one id of several "
        "(export the log again, with ids as text)"
    ]


def as_numbers(column: pl.Series, name: str, delimiter: str = "") -> Checked:
    """Numbers as Float64; null where there is no value.

    Args:
        column: text or numbers.
        name: of the field, for messages.
        delimiter: of the file, "" where it has none: a comma in a number means thousands where
            all of the column's can, and decimals in a file whose cells are not parted by commas.
    """
    reasons = no_reasons(column)
    if column.dtype.is_numeric() or column.dtype == pl.Boolean:
        number = column.cast(pl.Float64).fill_nan(None)
        given = column.cast(pl.String)
    else:
        given = as_text(column)
        number = plain_numbers(given, delimiter).cast(pl.Float64, strict=False).fill_nan(None)
        wrong = given.is_not_null() & number.is_null()
        reasons = _because(reasons, wrong, f"{name} must be a number, not ", given, quoted=True)
    infinite = number.is_infinite()
    reasons = _because(reasons, infinite, f"{name} must be finite, not ", given)
    return Checked(values=_where(number, infinite, None), reasons=reasons)


def plain_numbers(text: pl.Series, delimiter: str) -> pl.Series:
    """Text whose numbers have no commas, where one way to read those suits the whole column."""
    with_comma = text.str.contains(",", literal=True).fill_null(False)
    if not with_comma.any():
        return text
    marked = text.filter(with_comma)
    if marked.str.contains(_THOUSANDS).all():
        # "1,000" between semicolons is one; "1,000,000" and "1,000.5" cannot be.
        sure = marked.str.count_matches(",", literal=True) > 1
        sure |= marked.str.contains(".", literal=True)
        if delimiter != ";" or sure.any():
            return text.str.replace_all(",", "", literal=True)
    if delimiter != "," and marked.str.contains(_POINTED).any():
        return text.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
    if delimiter not in ("", ","):
        decimal = text.str.contains(_DECIMAL_COMMA).fill_null(False)
        return _where(text, decimal, text.str.replace(",", ".", literal=True))
    return text


def as_flags(column: pl.Series, name: str) -> Checked:
    """True and false, from Booleans, 1 and 0, 1.0 and 0.0, or words."""
    text = as_text(column)
    values = text.str.to_lowercase().replace_strict(FLAGS, default=None, return_dtype=pl.Boolean)
    reasons = no_reasons(column)
    wrong = text.is_not_null() & values.is_null()
    reasons = _because(reasons, wrong, f"{name} must be true/false or 1/0, not ", text, quoted=True)
    return Checked(values=values, reasons=_if_missing(reasons, text, name, column))


def replaced(text: pl.Series, words: Mapping[str, str]) -> pl.Series:
    """Each text's word in `words`, null where it has none."""
    return text.replace_strict(words, default=None, return_dtype=pl.String)


def no_reasons(column: pl.Series) -> pl.Series:
    """As many nulls as the column is long: no row of it is bad."""
    return pl.Series([None], dtype=pl.String).new_from_index(0, len(column))


def _decoded(column: pl.Series) -> pl.Series:
    try:
        return column.cast(pl.String)
    except pl.exceptions.PolarsError:
        return pl.Series(
            column.name, [None if b is None else b.decode(errors="replace") for b in column]
        )


def _where(column: pl.Series, mask: pl.Series, value: pl.Series | None) -> pl.Series:
    """The column with `value` in place of the cells that `mask` marks."""
    mask = mask.fill_null(False)
    if not mask.any():
        return column
    if value is None:
        return column.set(mask, None)
    return value.zip_with(mask, column)


def _because(
    reasons: pl.Series, mask: pl.Series, words: str, given: pl.Series, *, quoted: bool = False
) -> pl.Series:
    """`reasons` with one for the rows that `mask` marks: the words and what is given there."""
    mask = mask.fill_null(False)
    if not mask.any():
        return reasons
    shown = given.str.slice(0, 60)
    mark = pl.lit("'" if quoted else "")
    text = pl.select(pl.concat_str(pl.lit(words), mark, shown, mark)).to_series()
    return text.zip_with(mask, reasons)


def _if_missing(reasons: pl.Series, text: pl.Series, name: str, column: pl.Series) -> pl.Series:
    if not text.null_count():
        return reasons
    missing = pl.Series([f"{name} is missing"]).new_from_index(0, len(text))
    if column.dtype == pl.String:  # name the word that means it: NULL, nan
        word = pl.when(column.str.strip_chars() != "").then(column.str.strip_chars())
        said = pl.concat_str(pl.lit(f"{name} is missing ('"), word, pl.lit("')"))
        missing = pl.select(pl.coalesce(said, missing)).to_series()
    return missing.zip_with(text.is_null() & reasons.is_null(), reasons)
