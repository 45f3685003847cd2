import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from contentctr.errors import InputError
from contentctr.prepare.segments import segment_rooms
from contentctr.prepare.targets import (
    check_comment_lag,
    default_comment_lag,
    default_scale,
    set_target,
)
from contentctr.rooms.room import Room
from contentctr.store.rooms import encoder_texts


def table(values: dict[str, list[object]], rooms: list[str] | None = None) -> pl.DataFrame:
    size = len(next(iter(values.values())))
    base = {
        "room_id": rooms or ["r"] * size,
        "segment": list(range(size)),
        "start_s": [30.0 * i for i in range(size)],
        "end_s": [30.0 * (i + 1) for i in range(size)],
        "ctr": [None] * size,
        "comment_count": [None] * size,
    }
    casts = {"ctr": pl.Float64, "comment_count": pl.UInt32}
    return pl.DataFrame({**base, **values}, schema_overrides=casts)


def test_ctr_is_taken_as_it_is() -> None:
    assert set_target(table({"ctr": [0.25, None, 1.0]}), "ctr")["target"].to_list() == [
        0.25,
        None,
        1,
    ]


def test_ranks_worked_by_hand() -> None:
    values = [10, 30, None, 30, 20, 7, 7, 7, 4, None]
    rooms = ["a"] * 5 + ["b"] * 3 + ["c", "d"]
    found = set_target(table({"gmv": values}, rooms), "gmv")["target"].to_list()
    # Room a: ranks 1, 3.5, -, 3.5, 2 of four values.
    assert found == pytest.approx(
        [0, 2.5 / 3, None, 2.5 / 3, 1 / 3, 0.5, 0.5, 0.5, 0.5, None], nan_ok=True
    )


def test_comment_rate_is_by_second() -> None:
    segments = table({"comment_count": [6, 4, 5, None]})
    # The third is a short last segment: 5 in 15 s is more than 6 in 30 s.
    segments = segments.with_columns(end_s=pl.Series([30.0, 60.0, 75.0, 120.0]))
    assert set_target(segments, "comment_rate")["target"].to_list() == [0.5, 0.0, 1.0, None]
    assert set_target(segments, "comment_count")["target"].to_list() == [1.0, 0.0, 0.5, None]


def test_equal_counts_stay_equal_where_lengths_differ_in_the_last_digit() -> None:
    rooms = [
        Room(
            room_id="r",
            streamer_id="",
            started_at=None,
            duration_s=29.97 * 40,
            comments=pl.DataFrame({"t": [29.97 * k + 1 for k in range(40)]}).with_columns(
                user_id=pl.lit("u"), text=pl.lit("x")
            ),
        )
    ]
    segments = segment_rooms(rooms, segment_seconds=29.97)
    assert (segments["end_s"] - segments["start_s"]).n_unique() > 1
    assert set(set_target(segments, "comment_rate")["target"]) == {0.5}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.none() | st.integers(-3, 3) | st.just(float("nan")), min_size=1, max_size=20))
def test_ranks_are_those_of_scipy(values: list[float | None]) -> None:
    segments = table({"gmv": pl.Series(values, dtype=pl.Float64, strict=False)})  # type: ignore[dict-item]
    found = set_target(segments, "gmv", "rank")["target"].to_list()
    known = [v for v in values if v is not None and v == v]
    ranks = iter(rankdata(known) if known else [])
    for value, target in zip(values, found, strict=True):
        if value is None or value != value:
            assert target is None
        else:
            wanted = (next(ranks) - 1) / (len(known) - 1) if len(known) > 1 else 0.5
            assert target == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([0, 1, None, 1], [0, 1, None, 1]),  # 0/1 labels are labels
        ([0.2, 0.9, float("nan"), 1.0], [0.2, 0.9, None, 1]),
        ([True, False, None, True], None),  # no number
        ([0, 1, 2, None], [0, 0.5, 1, None]),
        ([-0.1, 0.5, 1.0, 0.2], [0, 2 / 3, 1, 1 / 3]),
        ([None] * 4, [None] * 4),
    ],
)
def test_what_lies_in_0_to_1_is_taken_as_it_is(values, wanted) -> None:
    segments = table({"mine": pl.Series(values, strict=False)})  # type: ignore[dict-item]
    if wanted is None:
        with pytest.raises(InputError, match="not 'mine'"):
            set_target(segments, "mine")
        return
    if values != [None] * 4:
        assert set_target(segments, "mine")["target"].to_list() == pytest.approx(wanted)
    else:
        segments = segments.with_columns(mine=pl.lit(None, pl.Float64))
        assert set_target(segments, "mine")["target"].to_list() == wanted


def test_the_scale_can_be_chosen() -> None:
    segments = table({"mine": [2.0, 6.0, 3.0, None, 5.0, 5.0]}, ["a"] * 4 + ["b"] * 2)
    assert set_target(segments, "mine", "minmax")["target"].to_list() == [
        *(0, 1, 0.25, None),
        *(0.5, 0.5),
    ]
    assert set_target(segments, "mine", "rank")["target"].to_list() == [
        *(0, 1, 0.5, None),
        *(0.5, 0.5),
    ]
    with pytest.raises(InputError, match=r"'mine' must lie in \[0, 1\] .* not 2.0 \(room 'a', seg"):
        set_target(segments, "mine", "none")
    labels = table({"mine": [0, 1, 1, 0]})
    assert set_target(labels, "mine", "rank")["target"].to_list() == pytest.approx(
        [0.5 / 3, 2.5 / 3, 2.5 / 3, 0.5 / 3]
    )


def test_odds_worked_by_hand() -> None:
    values = {"mine": [1.0, 3.0, 0.0, None, 2.0, 9.0], "split": ["train"] * 4 + ["test"] * 2}
    segments = table(values, ["a"] * 4 + ["b"] * 2)
    # The median of 1 and 3, of the training room alone; all rooms are on one scale.
    found = set_target(segments, "mine", "odds")["target"].to_list()
    assert found == [1 / 3, 3 / 5, 0.0, None, 2 / 4, 9 / 11]
    unsplit = segments.with_columns(split=pl.lit(None, pl.String))
    assert set_target(unsplit, "mine", "odds")["target"][1] == 3 / 5.5
    silent = segments.with_columns(mine=pl.lit(0.0))
    assert set_target(silent, "mine", "odds")["target"].to_list() == [0.0] * 6
    with pytest.raises(InputError, match="mine.* at least 0 .*odds, not -1"):
        set_target(segments.with_columns(mine=pl.lit(-1.0)), "mine", "odds")


def test_counts_and_rates_of_ours_are_ranked_even_where_none_is_above_1() -> None:
    segments = table({"comment_count": [0, 1, 1, 0]})
    for name in ("comment_count", "comment_rate"):
        assert default_scale(segments, name) == "rank"
        assert set_target(segments, name)["target"].to_list() != [0, 1, 1, 0]


@pytest.mark.parametrize("name", ["gmw", "speech", "segment", "target", "room_id"])
def test_unknown_target_lists_those_there_are(name: str) -> None:
    segments = table({"gmv": [1.0], "speech": ["x"], "target": [0.5]})
    with pytest.raises(
        InputError,
        match=f"comment_rate or one of the numeric columns ctr, comment_count, gmv; not '{name}'",
    ):
        set_target(segments, name)


def test_comment_targets_need_a_lag() -> None:
    assert [default_comment_lag(t) for t in ("ctr", "comment_rate", "comment_count", "gmv")] == [
        0,
        1,
        1,
        0,
    ]
    for target in ("comment_rate", "comment_count"):
        check_comment_lag(target, 1)
        with pytest.raises(InputError, match="comment_lag must be at least 1 .*own comments"):
            check_comment_lag(target, 0)
    check_comment_lag("ctr", 0)
    with pytest.raises(InputError, match="comment_lag must be at least 0 .*; not -1"):
        check_comment_lag("ctr", -1)


def test_a_comment_target_is_never_in_its_own_input() -> None:
    """Whatever is said in segment j changes no text given to segments up to j."""
    rows = [(30.0 * k + 1, "u", f"word{k}") for k in range(6)]

    def texts(comments: list[tuple[float, str, str]]) -> list[str]:
        schema = {"t": pl.Float64, "user_id": pl.String, "text": pl.String}
        log = pl.DataFrame(comments, schema=schema, orient="row").sort("t")
        one = Room(room_id="r", streamer_id="", started_at=None, duration_s=180, comments=log)
        segments = segment_rooms([one])
        return encoder_texts(segments, default_comment_lag("comment_rate"))["comments"].to_list()

    before = texts(rows)
    assert before == ["", "word0", "word1", "word2", "word3", "word4"]
    for j in range(6):
        after = texts([*rows, (30.0 * j + 2, "v", "new"), (30.0 * j + 29.999, "v", "new")])
        assert after[: j + 1] == before[: j + 1]
