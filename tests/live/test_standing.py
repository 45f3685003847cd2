"""Where rooms stand: as `rank` orders them, for one room and for every page."""

import numpy as np
import pytest

from contentctr.live.ranking import Candidate, RankSettings, RoomScore, rank
from contentctr.live.standing import Standing


@pytest.mark.parametrize("count", [0, 1, 7, 60])
def test_places_and_pages_are_those_of_the_ranking(count):
    rng = np.random.default_rng(count)
    now, settings = 1000.0, RankSettings(content_weight=0.7, neutral_score=0.1)
    scores = {
        # Few scores and ages, so that many totals are equal; some too old, some from the future.
        f"room{rng.integers(10**6)}": RoomScore(
            score=float(rng.choice([0.1, 0.2, 0.3])),
            ended_at=now - float(rng.choice([-60.0, -10.0, 0.0, 65.0, 75.0, 500.0])),
        )
        for _ in range(count)
    }
    rooms = [Candidate(room_id=room_id, base={}) for room_id in scores]
    expected = rank(rooms, scores, now, settings)
    standing = Standing(scores, settings)
    assert len(standing) == len(scores) and "none" not in standing
    assert standing.page(0, 100, now) == expected
    for place in expected:
        assert place.room_id in standing and standing.place(place.room_id, now) == place
    for offset in range(0, count + 2, 3):
        assert standing.page(offset, 3, now) == expected[offset : offset + 3]
