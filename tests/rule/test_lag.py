import numpy as np
import pytest

from contentctr.rule.lag import REACTION_S, estimate_lag
from contentctr.rule.watched import Watched

SECONDS = 3600


def reactions(rng, causes, lag):
    late = np.concatenate([c + lag + rng.normal(0, 0.8, 12) for c in causes])
    return np.sort(np.concatenate([late, rng.uniform(0, SECONDS, 1500)]))


@pytest.mark.parametrize("lag", [2, 7, 13])
def test_the_lag_is_found_from_what_is_loud_or_cut(lag):
    rng = np.random.default_rng(lag)
    causes = np.sort(rng.uniform(30, SECONDS - 60, 60))
    times = np.clip(reactions(rng, causes, lag), 0, SECONDS - 1)
    loudness_S = rng.normal(-30, 2, SECONDS)
    loudness_S[causes.astype(int)] += 15
    found, told_by = estimate_lag(times, Watched(loudness_S=loudness_S), SECONDS)
    assert found == pytest.approx(lag, abs=1) and told_by == "loudness"
    found, told_by = estimate_lag(times, Watched(cuts=causes), SECONDS)
    assert found == pytest.approx(lag, abs=1) and told_by == "cuts"


@pytest.mark.parametrize("seed", range(5))
def test_where_nothing_tells_it_is_assumed(seed):
    rng = np.random.default_rng(seed)
    times, loud_S = np.sort(rng.uniform(0, SECONDS, 4000)), rng.normal(-30, 3, SECONDS)
    cuts = np.sort(rng.uniform(0, SECONDS, 300))
    assert estimate_lag(times, Watched(loudness_S=loud_S, cuts=cuts), SECONDS) == (REACTION_S, "")
    assert estimate_lag(times, Watched(), SECONDS) == (REACTION_S, "")
    assert estimate_lag(times, Watched(loudness_S=np.full(SECONDS, -100.0)), SECONDS)[1] == ""
    assert estimate_lag(times[times < 90], Watched(cuts=cuts[cuts < 90]), 90) == (REACTION_S, "")
