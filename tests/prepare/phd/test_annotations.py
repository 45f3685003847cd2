"""PHD's CSV: its rules one by one, the counts, and what a file holds."""

from pathlib import Path

import polars as pl
import pytest

from contentctr.errors import InputError
from contentctr.prepare.phd.annotations import describe, read_annotations, spread, unite
from phd_csv import write_csv


def test_rows_become_selections_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = read_annotations(
        write_csv(
            tmp_path / "a.csv",
            "dhuI9TO1rY8,204.5,7.0,12,314.0,True",
            "dhuI9TO1rY8,206.5,5.5,12,314.0,True",
            "Z-aTqtRBTIM,0.0,7.5,12,-1.0,False",
            "An7ylfOhlOs,82.0,7.0,12,133.0,False",
        )
    )
    assert found.selections.rows() == [
        ("12", "dhuI9TO1rY8", 204.5, 211.5, True),
        ("12", "dhuI9TO1rY8", 206.5, 212.0, True),
        ("12", "Z-aTqtRBTIM", 0.0, 7.5, False),
        ("12", "An7ylfOhlOs", 82.0, 89.0, False),
    ]
    assert dict(found.videos.rows()) == {
        "An7ylfOhlOs": 133.0,
        "Z-aTqtRBTIM": None,
        "dhuI9TO1rY8": 314.0,
    }
    assert found.warnings == []
    told = describe(found)
    assert (told["users"], told["videos"], told["selections"]) == (1, 3, 4)
    assert (told["target_selections"], told["target_highlights"]) == (2, 1)
    assert told["target_highlight_s"]["max"] == 7.5
    assert told["videos_of_unknown_length"] == 1
    assert told["history_length"]["mean"] == 2


def test_each_rule_leaves_out_its_rows_and_counts_them(tmp_path: Path) -> None:
    found = read_annotations(
        write_csv(
            tmp_path / "a.csv",
            "t1,1,2,good,9,True",
            "h1,1,2,good,9,False",
            "h1,1,2,good,9,False",  # a repeated row
            "t1,5,2,good,9,False",  # history on the target video
            "h1,1,2,aimless,9,False",  # no target
            "t1,1,2,torn,9,True",  # two targets
            "t2,1,2,torn,9,True",
            "t3,1,2,fresh,9,True",  # no history: kept here, and counted by describe
        )
    )
    assert found.selections["user_id"].to_list() == ["good", "good", "fresh"]
    assert found.selections["video_id"].to_list() == ["t1", "h1", "t3"]
    assert found.counts == {
        "rows": 8,
        "bad_rows": 0,
        "users_in_file": 4,
        "videos_in_file": 4,
        "repeated_rows": 1,
        "users_with_several_targets": 1,
        "users_without_target": 1,
        "history_on_target": 1,
    }
    assert describe(found)["users_without_history"] == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("v,1,2,,9,True", "user_id is missing"),
        ("a/b,1,2,u,9,True", "youtubeId must be"),
        (",1,2,u,9,True", "youtubeId must be"),
        ("v,-1,2,u,9,True", "start must be a number of seconds, at least 0"),
        ("v,x,2,u,9,True", "start must be"),
        ("v,1,0,u,9,True", "duration must be a number of seconds above 0"),
        ("v,1,inf,u,9,True", "duration must be"),
        ("v,1,2,u,,True", "video_duration must be"),
        ("v,1,2,u,9,maybe", "is_last must be True or False"),
    ],
)
def test_a_bad_row_is_counted_and_too_many_stop(tmp_path: Path, row: str, message: str) -> None:
    good = [f"v{i},1,2,u,9,{i == 0}" for i in range(150)]
    found = read_annotations(write_csv(tmp_path / "few.csv", *good, row))
    assert found.counts["bad_rows"] == 1 and found.selections.height == 150
    assert len(found.warnings) == 1 and "line 152" in found.warnings[0]
    assert message in found.warnings[0]
    with pytest.raises(InputError, match=message):
        read_annotations(write_csv(tmp_path / "many.csv", *good[:10], *[row] * 4))


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("youtubeId,start,duration,user_id,is_last\nv,1,2,u,True\n")
    with pytest.raises(InputError, match="'video_duration' is missing"):
        read_annotations(path)


def test_selections_beyond_the_published_end_are_told(tmp_path: Path) -> None:
    found = read_annotations(
        write_csv(
            tmp_path / "a.csv",
            "t,1,2,u,9,True",
            "t,8,2,u,9,True",
            "h,9,1,u,9,False",
            "i,50,1,u,-1,False",
        )
    )
    told = describe(found)
    assert told["selections_ending_after_the_end"] == 1
    assert told["selections_starting_after_the_end"] == 1


def test_the_history_used_is_limited_user_by_user(tmp_path: Path) -> None:
    rows = ["t,1,2,long,9,True", "t,1,2,short,9,True", "h,1,2,short,9,False"]
    rows += [f"h{i},1,2,long,9,False" for i in range(25)]
    told = describe(read_annotations(write_csv(tmp_path / "a.csv", *rows)), max_history=20)
    assert told["history_selections"] == 26
    assert told["history_selections_used"] == 21
    assert told["users_with_longer_history"] == 1


def test_spans_that_overlap_or_touch_are_united() -> None:
    assert unite([]) == []
    assert unite([(5, 6), (1, 2), (1.5, 3), (3, 4)]) == [(1, 4), (5, 6)]
    assert unite([(0, 10), (2, 3)]) == [(0, 10)]


def test_spread_of_nothing_and_of_numbers() -> None:
    assert spread(pl.Series([], dtype=pl.Float64)) == {}
    assert spread(pl.Series([1, None, 3])) == {
        "min": 1,
        "q25": 1.5,
        "median": 2,
        "q75": 2.5,
        "max": 3,
        "mean": 2,
    }
