"""Ages when the wall clock is set."""

import time

import pytest

from contentctr.live.clocks import SteadyClock
from live_service import make_post, running


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_a_clock_that_is_set_changes_no_age(step):
    wall, monotonic = [1000.0], [5.0]
    clock = SteadyClock(lambda: wall[0], lambda: monotonic[0])
    wall[0], monotonic[0] = 1010.0 + step, 15.0
    assert clock() == 1010.0 and clock.of(wall[0] - 3.0) == 1007.0
    wall[0] -= step - 0.4  # the same to a little: as it was said
    assert clock.of(1007.25) == 1007.25


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_a_step_of_the_wall_clock_ends_no_room_and_fades_no_score(monkeypatch, step):
    real = time.time
    with running(forget_after_s=600.0) as (client, backend):
        client.post("/v1/segments", json=make_post("x", 0, ended_at=real()))
        monkeypatch.setattr(time, "time", lambda: real() + step)
        assert backend.store.idle_since(backend._clock() - 600.0) == []
        [room] = client.get("/v1/rooms").json()["rooms"]
        assert room["fade"] == 1.0 and 0 <= room["age_s"] < 20
        client.post("/v1/segments", json=make_post("x", 1, ended_at=time.time()))
        [room] = client.get("/v1/rooms").json()["rooms"]
        assert room["index"] == 1 and room["fade"] == 1.0 and -1 <= room["age_s"] < 20
