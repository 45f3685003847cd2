"""Long-view rates by hand: who stayed, who left, and of whom it is not known."""

import polars as pl
import pytest

from contentctr.errors import InputError
from contentctr.prepare.long_views import check_long_view, long_view_rates
from contentctr.rooms.room import EVENTS_SCHEMA, Room


def rates(log: str, duration: float = 300, seconds: float = 60) -> dict[int, float]:
    """By segment, from lines of "user t kind"; + is enter, - is exit."""
    kinds = {"+": "enter", "-": "exit", "x": "like"}
    rows = [(user, float(t), kinds[kind]) for user, t, kind in (w.split() for w in log.split(","))]
    events = pl.DataFrame(rows, schema=EVENTS_SCHEMA, orient="row")
    room = Room(
        room_id="r",
        streamer_id="s",
        started_at=None,
        duration_s=duration,
        events=events.sort("t", maintain_order=True),
    )
    found = long_view_rates([room], segment_seconds=30, long_view_seconds=seconds)
    return dict(found.sort("segment").select("segment", "long_view_rate").iter_rows())


def test_who_stayed_a_minute() -> None:
    log = "a 1 +,a 61 -,b 2 +,b 61.9 -,c 31 +,c 32 -,d 40 +,z 290 x"
    # a stayed 60 s, b less; c left; d was there when the log ended, 250 s later.
    assert rates(log) == {0: 0.5, 1: 0.5}
    assert rates(log, seconds=59) == {0: 1.0, 1: 0.5}


def test_what_is_not_known_at_the_logs_end_is_null() -> None:
    # e and f came 50 s before the last line: f left, of e nothing is known.
    assert rates("a 1 +,a 99 -,e 240 +,f 240 +,f 241 -,z 290 x") == {0: 1.0}
    # 60 s before it, e is known to have stayed.
    assert rates("a 1 +,a 99 -,e 240 +,f 240 +,f 241 -,z 300 x", 301) == {0: 1.0, 8: 0.5}
    # All who came late left at once: that is known.
    assert rates("a 1 +,a 99 -,f 280 +,f 281 -,z 290 x") == {0: 1.0, 9: 0.0}


def test_a_user_counts_once_a_segment_by_the_longest_visit() -> None:
    assert rates("a 1 +,a 2 -,a 3 +,a 90 -,b 4 +,b 5 -") == {0: 0.5}
    assert rates("a 1 +,a 2 -,a 31 +,a 95 -") == {0: 0.0, 1: 1.0}
    # An exit of the same second ends the visit before it, not the one after.
    assert rates("a 1 +,a 5 -,a 5 +,a 70 -") == {0: 1.0}


def test_a_log_without_exits_says_nothing() -> None:
    assert rates("a 1 +,b 2 +,z 290 x") == {}
    empty = Room(room_id="r", streamer_id="s", started_at=None, duration_s=60)
    assert long_view_rates([empty], segment_seconds=30, long_view_seconds=60).height == 0


def test_a_long_view_has_a_length() -> None:
    check_long_view(0.5)
    for seconds in (0, -1, float("inf"), float("nan")):
        with pytest.raises(InputError, match="long_view_seconds must be above 0, not"):
            check_long_view(seconds)
