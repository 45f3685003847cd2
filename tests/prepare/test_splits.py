import datetime as dt
import random

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contentctr.errors import InputError
from contentctr.prepare.splits import Split, assign_by_dates, assign_splits, parse_date


def rooms(starts: list[int | None]) -> pl.DataFrame:
    zero = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    times = [None if s is None else zero + dt.timedelta(hours=s) for s in starts]
    return pl.DataFrame(
        {"room_id": [f"r{i}" for i in range(len(starts))], "started_at": times},
        schema={"room_id": pl.String, "started_at": pl.Datetime("us", "UTC")},
    )


@pytest.mark.parametrize(
    ("starts", "val", "test", "wanted"),
    [
        ([3, 1, 2], 0.1, 0.1, ["test", "train", "val"]),
        ([2, 1], 0.1, 0.1, ["test", "train"]),
        ([2, 1], 0.1, 0.0, ["val", "train"]),
        ([1], 0.1, 0.1, ["train"]),
        ([1, 1, 1], 0.3, 0.3, ["train"] * 3),
        ([1, 2, 2, 2], 0.0, 0.25, ["train", "test", "test", "test"]),
        (
            [5, 5, 1, 2, 3, 4, 5, 5, 5, 5],
            0.1,
            0.2,
            ["test"] * 2 + ["train"] * 3 + ["val"] + ["test"] * 4,
        ),
        (list(range(10)), 0.0, 0.0, ["train"] * 10),
        (list(range(10)), 0.2, 0.3, ["train"] * 5 + ["val"] * 2 + ["test"] * 3),
        (list(range(4)), 0.05, 0.9, ["train", "val", "test", "test"]),
        ([None, 1], 0.0, 0.0, ["train", "train"]),
    ],
)
def test_splits_worked_by_hand(
    starts: list[int | None], val: float, test: float, wanted: list[str]
) -> None:
    table = rooms(starts)
    found = assign_splits(table, val=val, test=test)
    assert found["split"].to_list() == wanted
    assert found["room_id"].to_list() == table["room_id"].to_list()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=30),
    st.sampled_from([0.0, 0.1, 0.4]),
    st.sampled_from([0.0, 0.1, 0.5]),
)
def test_splits_never_share_a_start_nor_go_back(starts: list[int], val: float, test: float) -> None:
    found = assign_splits(rooms(starts).with_columns(split=pl.lit("old")), val=val, test=test)
    hours = {
        split: [h for h, s in zip(starts, found["split"], strict=True) if s == split]
        for split in ("train", "val", "test")
    }
    assert hours["train"]
    assert sum(map(len, hours.values())) == len(starts)
    order = [hours[s] for s in ("train", "val", "test") if hours[s]]
    assert all(max(a) < min(b) for a, b in zip(order, order[1:], strict=False))
    distinct = len(set(starts))
    wanted = (val > 0) + (test > 0)
    assert bool(hours["val"]) + bool(hours["test"]) == min(wanted, distinct - 1)


def test_shares_are_met_nearly() -> None:
    starts = list(range(1000))
    random.Random(0).shuffle(starts)
    counts = assign_splits(rooms(starts), val=0.1, test=0.15)["split"].value_counts()
    assert dict(counts.iter_rows()) == {"train": 750, "val": 100, "test": 150}


def test_wrong_splits() -> None:
    for val, test in ((-0.1, 0.1), (0.5, 0.5), (np.nan, 0.1)):
        with pytest.raises(InputError, match="val and test must be at least 0 and sum to less"):
            assign_splits(rooms([1]), val=val, test=test)
    with pytest.raises(
        InputError, match=r"room 'r1' has no started_at.* \(1 of 2 rooms\); give it"
    ):
        assign_splits(rooms([1, None]), val=0.1, test=0.1)


def test_dates_split_rooms_and_stay_as_they_are() -> None:
    val, test = (parse_date(f"2024-01-01T{hour}:00", "x") for hour in ("02", "04"))
    table = rooms([0, 4, 2, 1, 9, 3])
    found = assign_by_dates(table, val_from=val, test_from=test)
    assert found["split"].to_list() == ["train", "test", "val", "train", "test", "val"]
    more = assign_by_dates(pl.concat([table, rooms([7] * 90)]), val_from=val, test_from=test)
    assert more["split"][:6].to_list() == found["split"].to_list()
    alone = assign_by_dates(table, val_from=None, test_from=test)["split"]
    assert alone.to_list() == ["train", "test", "train", "train", "test", "train"]
    with pytest.raises(InputError, match="room 'r0' has no started_at.*or set no date"):
        assign_by_dates(rooms([None]), val_from=val, test_from=test)


def test_a_split_is_by_shares_or_by_dates() -> None:
    first, later = (parse_date(text, "x") for text in ("2026-05-01", "2026-05-02T00:00+02:00"))
    assert later == dt.datetime(2026, 5, 1, 22, tzinfo=dt.UTC)
    assert Split().described() == {"val": 0.1, "test": 0.1}
    assert Split(val=0).wanted == ["test"]
    split = Split(val_from=first, test_from=later)
    assert split.described()["val_from"] == "2026-05-01T00:00:00+00:00"
    assert Split(test_from=first).wanted == ["test"]
    with pytest.raises(InputError, match="do not go with val_from"):
        Split(val=0.1, test_from=first)
    with pytest.raises(InputError, match="val_from must be before test_from"):
        Split(val_from=later, test_from=first)
    with pytest.raises(InputError, match="--test-from must be a date as 2026-05-31"):
        parse_date("yesterday", "--test-from")
