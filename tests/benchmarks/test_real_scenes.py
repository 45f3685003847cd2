"""The published score of found scenes, by hand, and pages' intervals."""

import numpy as np
import polars as pl
import pytest

from contentctr.errors import InputError
from scenes import Found, best_scenes, score_films, score_scenes, uniform_scenes
from tables import measure_rooms, over_rooms, tau_in_rooms


def test_scenes_worked_by_hand():
    # Labels end 5 s before the first scene, lie in the second, and are 6 s from any.
    labels = [(80, 95), (205, 208), (321, 330)]
    scenes = [(100, 115), (200, 215), (300, 315), (600, 615)]
    assert score_scenes(scenes, labels) == Found(2 / 4, 2 / 3, pytest.approx(4 / 7))
    # One label under two scenes: both are right, and it is found once.
    assert score_scenes([(0, 15), (15, 30)], [(14, 16), (90, 99)]) == Found(1, 0.5, 2 / 3)
    # Two labels under one scene.
    assert score_scenes([(0, 15), (90, 105)], [(1, 2), (3, 4)]) == Found(0.5, 1, 2 / 3)
    assert score_scenes([(0, 15)], [(60, 70)]) == Found(0, 0, 0)
    assert score_scenes([(0, 15)], [(20.1, 30)]) == Found(0, 0, 0)
    assert score_scenes([(0, 15)], [(20, 30)]).f1 == 1
    assert score_scenes([], [(0, 9)]) == Found(0, 0, 0)


def test_as_many_scenes_as_labels_of_the_highest_scores():
    spans = np.array([(15.0 * k, 15.0 * k + 15) for k in range(4)])
    scores = np.array([0.2, np.nan, 0.9, 0.2])
    assert best_scenes(spans, scores, 2).tolist() == [[0, 15], [30, 45]]  # of equals the earlier
    middle = uniform_scenes(2, 100).mean(1)
    assert middle.tolist() == [25, 75]
    table = pl.DataFrame(
        {"room_id": ["a"] * 4, "start_s": spans[:, 0], "end_s": spans[:, 1], "score": scores}
    )
    labels = pl.DataFrame({"room_id": ["a", "b"], "start_s": [31, 0], "end_s": [32, 9]})
    assert score_films(table, labels, "score")["a"].f1 == 1
    with pytest.raises(InputError, match="film 'c' must have labels"):
        score_films(table.with_columns(room_id=pl.lit("c")), labels, "score")


def test_means_over_rooms_and_their_intervals():
    told = over_rooms([0.1, 0.2, 0.3, 0.4, 0.5, float("nan")])
    assert (told.mean, told.rooms) == (pytest.approx(0.3), 5)
    assert told.error == pytest.approx(np.std([0.1, 0.2, 0.3, 0.4, 0.5], ddof=1) / 5**0.5)
    assert 0.1 < told.low < 0.3 < told.high < 0.5
    assert "no interval" in str(over_rooms([0.1, 0.2]))
    table = pl.DataFrame(
        {"room_id": ["b", "a", "a", "a"], "score": [1.0, 1, 2, None], "target": [1.0, 3, 9, 4]}
    )
    taus = tau_in_rooms(table, "score")
    assert taus[0] == 1 and np.isnan(taus[1])  # by the rooms' ids; one sample has no order
    assert measure_rooms(table, "score", lambda s, _: len(s), "target").tolist() == [2, 1]
