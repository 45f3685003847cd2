import math
from dataclasses import replace

import numpy as np
import pytest

from contentctr.errors import InputError
from contentctr.live.ranking import (
    CONTENT,
    FROM_THE_FUTURE,
    NO_SCORE,
    TOO_OLD,
    Candidate,
    RankSettings,
    RoomScore,
    fade,
    rank,
)

NOW = 1000.0


def candidates(**base):
    return [Candidate(room_id=room, base={"ctr": c, "lvtr": v}) for room, (c, v) in base.items()]


def score(value, age_s=0.0):
    return RoomScore(score=value, ended_at=NOW - age_s)


def test_eq_16_by_hand():
    found = rank(
        candidates(a=(0.10, 0.30), b=(0.20, 0.15), c=(0.05, 0.05)),
        {"a": score(0.1), "b": score(0.2), "c": score(0.6), "gone": score(0.9)},
        NOW,
        RankSettings(content_weight=2.0, base_weights={"lvtr": 0.5}),
    )
    assert [(r.position, r.room_id) for r in found] == [(1, "c"), (2, "b"), (3, "a")]
    assert [r.total for r in found] == pytest.approx(
        [0.05 + 0.025 + 1.2, 0.2 + 0.075 + 0.4, 0.1 + 0.15 + 0.2]
    )
    assert found[0].parts == pytest.approx({"ctr": 0.05, "lvtr": 0.025, CONTENT: 1.2})
    assert list(found[0].parts) == ["ctr", "lvtr", CONTENT]
    assert (found[0].score, found[0].age_s, found[0].fade, found[0].absent) == (0.6, 0, 1, None)


def test_without_our_scores_the_base_ranker_decides():
    found = rank(candidates(a=(0.1, 0.0), b=(0.3, 0.0)), {}, NOW)
    assert [r.room_id for r in found] == ["b", "a"]
    assert [r.parts[CONTENT] for r in found] == [0, 0]
    assert {r.absent for r in found} == {NO_SCORE}
    assert (found[0].score, found[0].age_s, found[0].fade) == (None, None, 0)


@pytest.mark.parametrize(
    ("age_s", "share", "absent"),
    [
        (-30, 1, None),
        (-31, 0, FROM_THE_FUTURE),
        (0, 1, None),
        (29.9, 1, None),
        (60, 1, None),
        (75, 0.5, None),
        (84, 0.2, None),
        (90, 0, TOO_OLD),
        (1e9, 0, TOO_OLD),
    ],
)
def test_scores_fade_with_age(age_s, share, absent):
    (found,) = rank(candidates(a=(0.1, 0.0)), {"a": score(0.4, age_s)}, NOW)
    assert found.fade == pytest.approx(share)
    assert found.parts[CONTENT] == pytest.approx(0.4 * share)
    assert found.age_s == pytest.approx(age_s)
    assert (found.score, found.absent) == (0.4, absent)


def test_fading_follows_the_settings():
    settings = RankSettings(segment_seconds=10, full_age=1, gone_age=5)
    ages = [0, 10, 20, 30, 40, 50, 60, math.nan]
    assert fade(ages, settings) == pytest.approx([1, 1, 0.75, 0.5, 0.25, 0, 0, 0])


def test_neutral_score_moves_only_rooms_without_a_score():
    rooms = candidates(a=(0.1, 0.0), b=(0.1, 0.0), new=(0.1, 0.0))
    scores = {"a": score(0.3), "b": score(0.1)}
    low = rank(rooms, scores, NOW)
    middle = rank(rooms, scores, NOW, RankSettings(neutral_score=0.2))
    assert [r.room_id for r in low] == ["a", "b", "new"]
    assert [r.room_id for r in middle] == ["a", "new", "b"]
    assert [r.parts[CONTENT] for r in middle] == pytest.approx([0.1, 0, -0.1])


def test_ties_stand_in_the_order_of_room_ids():
    rooms = candidates(**{name: (0.1, 0.2) for name in ("b", "c", "a", "a10", "a2")})
    found = rank(rooms, {name: score(0.1) for name in ("b", "c", "a", "a10", "a2")}, NOW)
    assert [r.room_id for r in found] == ["a", "a10", "a2", "b", "c"]
    assert rank(rooms[::-1], {}, NOW) == rank(rooms, {}, NOW)


def test_many_rooms_as_a_plain_loop_has_them():
    rng = np.random.default_rng(0)
    rooms = [
        Candidate(room_id=f"r{i}", base={"x": float(x), "y": float(y)})
        for i, (x, y) in enumerate(rng.integers(0, 9, (3000, 2)) / 8)
    ]
    scores = {
        r.room_id: score(float(rng.random()), float(rng.uniform(-40, 120)))
        for r in rooms
        if rng.random() < 0.8
    }
    settings = RankSettings(content_weight=1.5, base_weights={"y": -0.5}, neutral_score=0.3)
    wanted = []
    for room in rooms:
        total = room.base["x"] - 0.5 * room.base["y"]
        if room.room_id in scores:
            age = (NOW - scores[room.room_id].ended_at) / 30
            share = 0 if age < -1 else min(1, max(0, 3 - age))
            total += 1.5 * share * (scores[room.room_id].score - 0.3)
        wanted.append((-total, room.room_id))
    found = rank(rooms, scores, NOW, settings)
    assert [r.room_id for r in found] == [room for _, room in sorted(wanted)]
    assert [r.total for r in found] == pytest.approx([-t for t, _ in sorted(wanted)])
    assert all(r.total == pytest.approx(sum(r.parts.values())) for r in found)
    assert [r.position for r in found] == list(range(1, 3001))


def test_nothing_to_rank():
    assert rank([], {"a": score(0.1)}, NOW) == []


def test_rooms_without_base_scores():
    rooms = [Candidate(room_id=name, base={}) for name in "ab"]
    assert [r.room_id for r in rank(rooms, {"b": score(0.1)}, NOW)] == ["b", "a"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_must_be_finite(bad):
    with pytest.raises(InputError, match="room 'b': base score 'lvtr' must be finite, not"):
        rank(candidates(a=(0, 0), b=(0, bad)), {}, NOW)
    with pytest.raises(InputError, match="room 'a': score must be finite"):
        rank(candidates(a=(0, 0)), {"a": score(bad)}, NOW)
    with pytest.raises(InputError, match="room 'a': ended_at must be finite"):
        rank(candidates(a=(0, 0)), {"a": RoomScore(score=0.1, ended_at=bad)}, NOW)
    with pytest.raises(InputError, match="now must be finite"):
        rank(candidates(a=(0, 0)), {}, bad)
    with pytest.raises(InputError, match="content_weight must be finite"):
        RankSettings(content_weight=bad)
    with pytest.raises(InputError, match="'x'"):
        RankSettings(base_weights={"x": bad})


def test_candidates_must_fit_each_other():
    rooms = candidates(a=(0, 0), b=(0, 0))
    with pytest.raises(InputError, match="room 'a': must be among the candidates once"):
        rank([*rooms, rooms[0]], {}, NOW)
    with pytest.raises(InputError, match=r"room 'b': base must name the same .* not \['ctr'\]"):
        rank([rooms[0], replace(rooms[1], base={"ctr": 0.1})], {}, NOW)
    with pytest.raises(InputError, match="must not name a score 'content'"):
        rank([Candidate(room_id="a", base={CONTENT: 1.0})], {}, NOW)
    with pytest.raises(InputError, match="base_weights names 'cvr'"):
        rank(rooms, {}, NOW, RankSettings(base_weights={"cvr": 2.0}))


@pytest.mark.parametrize(
    "settings",
    [
        {"segment_seconds": 0},
        {"full_age": 0.5},
        {"gone_age": 2.0},
        {"gone_age": math.inf},
        {"neutral_score": math.nan},
    ],
)
def test_settings_are_checked(settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        RankSettings(**settings)
