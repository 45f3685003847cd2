"""The shift between chat and video: found within seconds, or honestly not."""

from pathlib import Path

import numpy as np
import pytest

from contentctr.rooms.inspection.facts import RecordingFacts
from contentctr.rooms.inspection.recording import inspect_recording
from contentctr.rooms.inspection.shift import find_shift
from reactions import happenings, reactions, record_happenings

SECONDS = 300
AT = happenings(SECONDS, 14)


@pytest.fixture(scope="module")
def recording(tmp_path_factory) -> RecordingFacts:
    path = tmp_path_factory.mktemp("shift") / "v.mp4"
    return inspect_recording(record_happenings(path, SECONDS, AT))


def made_up(length: int, **activity: np.ndarray) -> RecordingFacts:
    """A recording of which only what happens is of interest."""
    nothing = np.zeros(0)
    return RecordingFacts(
        path=Path("v.mp4"),
        container="",
        streams=[],
        duration_s=float(length),
        width=1,
        height=1,
        rotation=0,
        pictures_s=(0.0, length),
        sound_s=None,
        keyframe_every_s=None,
        frame_rate=1.0,
        bad_packets=0,
        clock=[],
        warnings=[],
        picture_spans=[],
        sound_spans=[],
        **{
            "picture_activity": nothing,
            "cuts": nothing,
            "sound_activity": nothing,
            **activity,
        },
    )


@pytest.mark.parametrize("moved_s", [0.0, 60.0, -90.0])
def test_a_moved_chat_is_found_within_seconds(recording, moved_s):
    times = reactions(SECONDS, AT, moved_s=moved_s)
    found = find_shift(times, recording.duration_s, recording)
    assert found.verdict == ("shifted" if moved_s else "in step"), found
    assert found.shift_s == pytest.approx(moved_s, abs=4.0)
    assert found.lag_s == pytest.approx(moved_s + 5.0, abs=3.0)


def test_no_false_alarm_where_chat_follows_nothing(recording):
    for seed in range(40):
        rng = np.random.default_rng(seed)
        # Bursts of its own, which have nothing to do with the video.
        bursts = rng.uniform(0, SECONDS, 12)
        times = np.concatenate(
            [rng.uniform(0, SECONDS, 60), *(b + rng.gamma(2, 1, 9) for b in bursts)]
        )
        times = np.sort(times[times < SECONDS])
        found = find_shift(times, recording.duration_s, recording)
        assert found.verdict != "shifted", (seed, found)


def test_slow_trends_in_common_are_no_reaction():
    rng = np.random.default_rng(0)
    length = 1800
    growth = 1 + np.arange(length) / 600
    pictures = 1000 * growth * np.exp(0.3 * rng.normal(size=length))
    counts = rng.poisson(growth)
    times = np.sort(np.repeat(np.arange(length), counts) + rng.random(counts.sum()))
    found = find_shift(times, length, made_up(length, picture_activity=pictures))
    assert found.verdict == "cannot tell"


def test_happenings_at_equal_steps_fit_several_lags():
    length = 1200
    every = list(range(20, length - 20, 40))
    pictures = np.full(length, 100.0)
    pictures[every] = 5000.0
    times = reactions(length, every, moved_s=15.0)
    found = find_shift(times, length, made_up(length, picture_activity=pictures))
    assert found.verdict == "cannot tell"


@pytest.mark.parametrize("source", ["sound_activity", "cuts"])
def test_sound_and_cuts_tell_it_too(source):
    length = 900
    at = happenings(length, 40, seed=3)
    activity = np.zeros(length) if source == "cuts" else np.full(length, 80.0)
    activity[at] = 1.0 if source == "cuts" else 400.0
    times = reactions(length, at, moved_s=45.0)
    found = find_shift(times, length, made_up(length, **{source: activity}))
    assert found.verdict == "shifted" and found.shift_s == pytest.approx(45.0, abs=4.0)


def test_sources_that_differ_tell_nothing():
    length = 900
    one, other = happenings(length, 40, seed=3), happenings(length, 40, seed=4)
    pictures, sound = np.full(length, 80.0), np.full(length, 80.0)
    pictures[one] = sound[other] = 400.0
    times = np.sort(
        np.concatenate([reactions(length, one, moved_s=60.0), reactions(length, other)])
    )
    found = find_shift(
        times, length, made_up(length, picture_activity=pictures, sound_activity=sound)
    )
    assert found.verdict == "cannot tell"


@pytest.mark.parametrize("moved_s", [60.0, -90.0])
def test_ends_alone_tell_a_shift(moved_s):
    times = np.arange(2.0, 598.0, 1.7) + moved_s
    found = find_shift(times, 600.0, made_up(600))
    assert found.verdict == "shifted"
    assert found.shift_s == pytest.approx(moved_s, abs=4.0)
    late = "comments go on for 57 s after its end (34 of 351)"
    early = "the first comment comes 88 s before the video begins (52 of 351)"
    assert (late if moved_s > 0 else early) in found.facts


def test_a_chat_that_only_goes_on_is_not_shifted():
    times = np.arange(2.0, 695.0, 1.7)
    found = find_shift(times, 600.0, made_up(600))
    assert found.verdict == "cannot tell"
    assert "comments go on for 94 s after its end" in " ".join(found.facts)


@pytest.mark.parametrize(
    ("times", "duration_s", "recording", "reason"),
    [
        (np.arange(100.0), None, None, "no video"),
        (np.arange(100.0), 100.0, made_up(100), "too short"),
        (np.arange(10.0), 600.0, made_up(600), "too few comments, 10"),
        (np.empty(0), 600.0, made_up(600), "too few comments, 0"),
    ],
)
def test_it_says_why_it_cannot_tell(times, duration_s, recording, reason):
    found = find_shift(times, duration_s, recording)
    assert found.verdict == "cannot tell" and reason in found.reason
    assert found.shift_s is None


def _bursts(rng, length, stays):
    """Noise of which each second stays near the last one, as loudness and chat do."""
    steps = rng.normal(size=length)
    for i in range(1, length):
        steps[i] += stays * steps[i - 1]
    return np.exp(0.5 * steps)


def _moments(rng, counts):
    return np.sort(np.repeat(np.arange(len(counts)), counts) + rng.random(counts.sum()))


@pytest.mark.slow
def test_how_often_unrelated_noises_give_an_alarm(capsys):
    """Numbers of docs/decisions.md, "Inspection": `pytest -m slow -s` prints them."""
    verdicts = []
    for length, rate in ((300, 0.2), (600, 1.0), (1800, 0.5)):
        for seed in range(200):
            rng = np.random.default_rng(seed)
            pictures, sound = (_bursts(rng, length, stays) for stays in (0.8, 0.9))
            wish = _bursts(rng, length, 0.9)
            times = _moments(rng, rng.poisson(wish / wish.mean() * rate))
            cuts = (rng.random(length) < 0.05).astype(float)
            activity = {"picture_activity": pictures, "sound_activity": sound, "cuts": cuts}
            verdicts.append(find_shift(times, length, made_up(length, **activity)).verdict)
    counts = {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))}
    with capsys.disabled():
        print(counts)
    assert verdicts.count("shifted") <= 2 and verdicts.count("in step") <= 10


@pytest.mark.slow
def test_how_well_reactions_tell_a_shift(capsys):
    given_up, off = 0, []
    for length, count, strength in ((300, 15, 2.0), (600, 20, 1.2), (3600, 60, 0.4)):
        for moved_s in (0.0, 60.0, -90.0, 20.0, -10.0):
            for seed in range(20):
                rng = np.random.default_rng(seed)
                at = np.array(happenings(length, count, seed))
                pictures = 1000 * np.exp(0.3 * rng.normal(size=length))
                wish = np.full(length, 0.3)
                for after, part in enumerate((0.2, 0.5, 1.0, 1.0, 0.8, 0.5, 0.3, 0.2)):
                    pictures[at + after % 3] = 4000.0
                    wish[at + 2 + after] += part * strength
                times = _moments(rng, rng.poisson(wish)) + moved_s
                found = find_shift(times, length, made_up(length, picture_activity=pictures))
                if found.shift_s is None:
                    given_up += 1
                else:
                    off.append(abs(found.shift_s - moved_s))
    with capsys.disabled():
        print(f"{given_up} of {given_up + len(off)} given up; off by {max(off):.1f} s at most")
    assert given_up <= 15 and max(off) <= 4.0
