"""The study of football speech: minutes and their labels, what is heard, and the reference."""

import numpy as np
import polars as pl

from keywords import count_words, heard
from lags import LAGS_S, Lagged
from soccer import with_labels

EVENTS = pl.DataFrame(
    {"room_id": ["a", "a", "b"], "t": [59.9, 60.0, 15.0], "label": ["goal", "card", "goal"]}
)


def test_a_moment_falls_into_its_own_minute():
    minutes = pl.DataFrame({"room_id": ["a", "a", "b"], "minute": [0, 1, 0]})
    found = with_labels(minutes, EVENTS)
    assert found["goal"].to_list() == [1, 0, 1]
    assert found["card"].to_list() == [0, 1, 0]
    assert found["substitution"].to_list() == [0, 0, 0]


def test_words_are_counted_in_the_minute_and_where_wanted_in_the_next():
    rooms = pl.DataFrame({"room_id": ["a", "a"], "minute": [0, 1]})
    texts = {"a": ["Goal! What a goal", "Gol, 2-1"]}
    assert count_words(texts, rooms, "goal", later=False).tolist() == [2, 2]
    assert count_words(texts, rooms, "goal", later=True).tolist() == [4, 2]


def test_silence_and_loops_are_told_apart_from_words():
    speech = ["", "", *["Da ist er. Da ist er. Da ist er. Da ist er."] * 20, "One. Two. Tor. Four."]
    segments = pl.DataFrame(
        {
            "room_id": "a",
            "start_s": [10.0 * k - 200 * (k == 0) for k in range(23)],
            "speech": speech,
        }
    )
    events = pl.DataFrame({"room_id": "a", "t": [-150.0, 110.0, 226.0], "label": "goal"})
    found = heard(segments, events).row(0, named=True)
    assert (found["class"], found["moments"]) == ("goal", 3)
    assert (found["silent"], found["loop"]) == (1 / 3, 1 / 3)
    assert found["words"] == 1.0


def test_the_reference_never_learns_from_a_group_that_it_tells_of():
    rng = np.random.default_rng(0)
    rooms, count = [f"r{k}" for k in range(10)], 30
    table = pl.DataFrame(
        {
            "room_id": np.repeat(rooms, count),
            "start_s": np.tile(10.0 * np.arange(count), 10),
            "end_s": np.tile(10.0 * np.arange(count) + 10, 10),
            "group": np.repeat(np.arange(10), count),
        }
    )
    text = rng.normal(size=(300, 3)).astype(np.float32)
    has = np.ones(300, bool)
    minutes = pl.DataFrame({"room_id": np.repeat(rooms, 5), "minute": np.tile(range(5), 10)})
    events = pl.DataFrame({"room_id": rooms, "t": [75.0] * 10, "label": "goal"})
    moved = events.with_columns(t=pl.Series([75.0] * 9 + [200.0]))
    before, after = (
        Lagged(text, has, table, given).around(range(9), minutes, later=True)
        for given in (events, moved)
    )
    assert before.shape == (50, 1 + 9 * 2 * len(LAGS_S))
    np.testing.assert_array_equal(before, after)  # group 9 is no part of what is learned
    own = events.with_columns(t=pl.Series([200.0] + [75.0] * 9))
    changed = Lagged(text, has, table, own).around(range(9), minutes, later=True)
    np.testing.assert_array_equal(changed[:5], before[:5])  # nor group 0 of what tells of it
    assert not np.array_equal(changed[5:], before[5:], equal_nan=True)
