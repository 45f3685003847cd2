"""Which rooms a model learns from, is chosen on, and is measured on: by room and by time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from contentctr.counting import counted
from contentctr.errors import InputError

SHARE = 0.1
"""Of rooms for validation, and as many for testing, where the user says nothing."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """How rooms are split: by shares, which move with every new room, or by dates, which stay."""

    val: float | None = None
    """Share of validation rooms; None: SHARE, where there is no date."""
    test: float | None = None
    val_from: datetime | None = None
    """Rooms that start from then on are validation rooms; None: there are none."""
    test_from: datetime | None = None
    """Rooms that start from then on are test rooms, not validation rooms; None: there are none."""

    def __post_init__(self) -> None:
        """Refuse what leaves it open which split a room is of.

        Raises:
            InputError: shares beside dates, shares that `check_shares` refuses, or the dates are in
                the wrong order.
        """
        if not self.by_date:
            check_shares(*self.shares)
        elif self.val is not None or self.test is not None:
            raise InputError("val and test (shares) do not go with val_from and test_from (dates)")
        elif self.val_from and self.test_from and self.val_from >= self.test_from:
            raise InputError(
                f"val_from must be before test_from, {self.test_from.isoformat()}, not "
                f"{self.val_from.isoformat()}"
            )

    @property
    def by_date(self) -> bool:
        """Whether dates decide."""
        return self.val_from is not None or self.test_from is not None

    @property
    def shares(self) -> tuple[float, float]:
        """Of validation and of test rooms, without dates."""
        return (
            SHARE if self.val is None else self.val,
            SHARE if self.test is None else self.test,
        )

    @property
    def needs_start(self) -> bool:
        """Whether a room's split depends on when it started."""
        return self.by_date or any(self.shares)

    @property
    def wanted(self) -> list[str]:
        """Splits, training aside, that should have a room."""
        if not self.by_date:
            return [name for name, share in zip(("val", "test"), self.shares, strict=True) if share]
        dates = {"val": self.val_from, "test": self.test_from}
        return [name for name, date in dates.items() if date is not None]

    def described(self) -> dict[str, Any]:
        """As the manifest has it."""
        if not self.by_date:
            return dict(zip(("val", "test"), self.shares, strict=True))
        dates = {"val_from": self.val_from, "test_from": self.test_from}
        return {name: date and date.isoformat() for name, date in dates.items()}

    def assign(self, rooms: pl.DataFrame) -> pl.DataFrame:
        """`rooms` with `split`, by `assign_by_dates` or `assign_splits`."""
        if self.by_date:
            return assign_by_dates(rooms, val_from=self.val_from, test_from=self.test_from)
        val, test = self.shares
        return assign_splits(rooms, val=val, test=test)


def parse_date(text: str, field: str) -> datetime:
    """A date, or a date and time, in ISO 8601; UTC where it names no zone.

    Raises:
        InputError: it is none; names the field.
    """
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InputError(
            f"{field} must be a date as 2026-05-31 or 2026-05-31T18:00:00Z, not {text!r}"
        ) from None
    if found.tzinfo is None:
        return found.replace(tzinfo=UTC)
    return found.astimezone(UTC)


def assign_by_dates(
    rooms: pl.DataFrame, *, val_from: datetime | None, test_from: datetime | None
) -> pl.DataFrame:
    """`rooms` with `split` by the time they started: a room's split depends on nothing else.

    Args:
        rooms: with `started_at` (a time, null where unknown).
        val_from: of Split.
        test_from: of Split.

    Raises:
        InputError: a room's start is unknown.
    """
    _require_starts(rooms, "set no date")
    split = pl.lit("train")
    for name, date in (("val", val_from), ("test", test_from)):
        if date is not None:
            split = pl.when(pl.col("started_at") >= date).then(pl.lit(name)).otherwise(split)
    return rooms.with_columns(split=split)


def check_shares(val: float, test: float) -> None:
    """Refuse shares that leave no training room.

    Raises:
        InputError: one is negative, or they sum to 1 or more.
    """
    if not (val >= 0 and test >= 0 and val + test < 1):
        raise InputError(
            f"val and test must be at least 0 and sum to less than 1, not {val} and {test}"
        )


def assign_splits(rooms: pl.DataFrame, *, val: float = 0.1, test: float = 0.1) -> pl.DataFrame:
    """`rooms` with `split`: train, val or test, by room and by time.

    Rooms are taken in the order of their start. Every validation room starts after every training
    room, every test room after all of both; rooms that start together stay together. The shares
    are met as nearly as that allows. With few rooms, training comes first, then test.

    Args:
        rooms: with `started_at` (a time, null where unknown).
        val: share of validation rooms, in [0, 1).
        test: share of test rooms; val + test < 1.

    Raises:
        InputError: a share is out of range, or a room's start is unknown and a share is not 0.
    """
    check_shares(val, test)
    if val == 0 and test == 0:
        return rooms.with_columns(split=pl.lit("train"))
    _require_starts(rooms, "set val and test to 0")
    starts = rooms.group_by("started_at").len().sort("started_at")
    sizes = starts["len"].to_list()
    num_test = _take_last(sizes, test * rooms.height, keep=2 if val > 0 else 1)
    left = sizes[: len(sizes) - num_test]
    num_val = _take_last(left, val * rooms.height, keep=1)
    names = ["train"] * (len(left) - num_val) + ["val"] * num_val + ["test"] * num_test
    by_start = starts.select("started_at", split=pl.Series(names, dtype=pl.String))
    return rooms.drop("split", strict=False).join(
        by_start, on="started_at", how="left", maintain_order="left"
    )


def _require_starts(rooms: pl.DataFrame, otherwise: str) -> None:
    unknown = rooms.filter(pl.col("started_at").is_null())
    if unknown.height:
        raise InputError(
            f"room {unknown['room_id'][0]!r} has no started_at, which the split by time needs "
            f"({unknown.height} of {counted(rooms.height, 'room')}); give it, or {otherwise}"
        )


def _take_last(sizes: Sequence[int], wanted: float, *, keep: int) -> int:
    """How many of the last groups hold nearest to `wanted` rooms: 1 or more, as far as possible.

    Args:
        sizes: rooms in each group, in order.
        wanted: number of rooms; 0 takes none.
        keep: groups to leave. Where only one could be taken by leaving one, that is done.
    """
    most = max(len(sizes) - keep, min(len(sizes) - 1, 1))
    if wanted <= 0 or most < 1:
        return 0
    totals = list(itertools.accumulate(reversed(sizes)))[:most]
    return min(range(most), key=lambda i: abs(totals[i] - wanted)) + 1
