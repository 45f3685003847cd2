"""Checks of saved files, the same for every kind of evaluation; each names file and field."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from contentctr.errors import InputError
from contentctr.files import read_json

ROOMS = "ctr"
"""The task of an evaluation of live rooms, also where metrics.json names none."""
HIGHLIGHTS = "highlights"
"""The task of an evaluation of personalized highlights."""
_KINDS: dict[str, tuple[type, str]] = {
    "simulated": (bool, "true or false"),
    "split": (str, "text"),
    "target": (str, "text"),
    "metrics": (dict, "an object"),
    "references": (dict, "an object"),
    "counts": (dict, "an object"),
    "config": (dict, "an object"),
    "data_spec": (dict, "an object"),
}
"""Fields that every metrics.json has."""


def task_of(folder: Path) -> str:
    """What an evaluation is of, as its metrics.json says.

    Raises:
        InputError: the file is missing or no JSON object.
    """
    return str(read_json(folder / "metrics.json").get("task", ROOMS))


def read_metrics(path: Path, task: str, kinds: Mapping[str, tuple[type, str]]) -> dict[str, Any]:
    """Read metrics.json and check its outer fields.

    Args:
        path: the file.
        task: what it must be of.
        kinds: fields that it must have beside the common ones, each with its type and the words
            for it.

    Raises:
        InputError: it is of another task, or a field is missing or of another type.
    """
    found = read_json(path)
    named = found.get("task", ROOMS)
    if named != task:
        raise InputError(f"{path}: task must be {task!r} here, not {named!r}")
    for name, (kind, rule) in {**_KINDS, **kinds}.items():
        value = field(path, found, name)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise InputError(f"{path}: {name} must be {rule}, not {value!r}")
    return found


def field(path: Path, block: Any, name: str, where: str = "") -> Any:
    """`block[name]`; `where` is the way to the block, such as "metrics."."""
    if not isinstance(block, Mapping):
        raise InputError(f"{path}: {where.rstrip('.')} must be an object, not {block!r}")
    if name not in block:
        raise InputError(f"{path}: field {where + name!r} is missing")
    return block[name]


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def require_number(path: Path, name: str, value: Any) -> None:
    """A number, or null where it is undefined."""
    if value is not None and not is_number(value):
        raise InputError(f"{path}: {name} must be a number or null, not {value!r}")


def require_share(path: Path, name: str, value: Any, *, or_null: bool = False) -> None:
    """A number from 0 to 1."""
    if or_null and value is None:
        return
    if not (is_number(value) and 0 <= value <= 1):
        rule = "a number in [0, 1]" + " or null" * or_null
        raise InputError(f"{path}: {name} must be {rule}, not {value!r}")


def require_count(path: Path, name: str, value: Any) -> None:
    """A whole number from 0 on."""
    if not (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        raise InputError(f"{path}: {name} must be a whole number from 0 on, not {value!r}")


def refuse(
    path: Path, table: pl.DataFrame, bad: pl.Expr, name: str, rule: str, keys: Mapping[str, str]
) -> None:
    """Stop at the first row where `bad` is true.

    Args:
        path: the table's file.
        table: its rows.
        bad: true where column `name` breaks the rule.
        name: the column.
        rule: what it must be.
        keys: columns that name the row, by the words for them.
    """
    rows = table.filter(bad)
    if rows.height:
        row = rows.row(0, named=True)
        where = ", ".join(f"{word} {row[column]!r}" for word, column in keys.items())
        raise InputError(f"{path}: {name} must be {rule}, not {row[name]!r} ({where})")


def refuse_null(
    path: Path, table: pl.DataFrame, names: Sequence[str], keys: Mapping[str, str]
) -> None:
    """Stop at the first null in one of the columns."""
    for name in names:
        refuse(path, table, pl.col(name).is_null(), name, "not null", keys)


def refuse_times(path: Path, table: pl.DataFrame, group: str, keys: Mapping[str, str]) -> None:
    """Stop where start_s and end_s do not follow each other inside a group's sorted rows."""
    times = ~(pl.col("start_s").is_finite() & pl.col("end_s").is_finite())
    times |= pl.col("end_s") <= pl.col("start_s")
    refuse(path, table, times, "end_s", "finite and after start_s", keys)
    early = pl.col("start_s") < pl.col("end_s").shift(1).over(group) - 1e-6
    refuse(
        path, table, early, "start_s", f"at or after the end of the {list(keys)[-1]} before", keys
    )
