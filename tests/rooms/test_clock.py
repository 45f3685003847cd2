"""The room's clock from packets' stamps, by hand-made stamps."""

from collections.abc import Iterable

import numpy as np
import pytest

from contentctr.rooms.clock import HOLE_S, HOLES_KEPT_S, KEPT_S, PICTURE, Clock

SOUND = 1
Stamp = tuple[int, float]


def steady(
    begin: float, end: float, *, pictures: bool = True, sound: bool = True, step: float = 0.25
) -> list[Stamp]:
    """A picture and a sound of `step` seconds each, in turn."""
    stamps = []
    for time in np.arange(begin, end, step).tolist():
        stamps += [(SOUND, time)] * sound + [(PICTURE, time)] * pictures
    return stamps


def times(clock: Clock, stamps: Iterable[Stamp], step: float = 0.25) -> list[tuple[int, float]]:
    """Each packet's stream and time on the room's clock."""
    sessions = [(stream, at, clock.add(stream, at, at, step)) for stream, at in stamps]
    clock.close()
    found = []
    for stream, at, session in sessions:
        offset = clock.offset(session)
        assert offset is not None
        found.append((stream, round(at + offset, 6)))
    return found


def test_an_unbroken_clock_begins_at_its_first_picture_or_sound() -> None:
    clock = Clock()
    assert times(clock, steady(100, 130)) == [(s, t - 100) for s, t in steady(100, 130)]
    assert (clock.begin_s(PICTURE), clock.end_s(PICTURE), clock.end_s(SOUND)) == (0, 30, 30)
    assert clock.breaks == [] and clock.holes == []
    # Sound a tenth of a second ahead is an encoder's priming, a second ahead is the beginning.
    for lead, first in ((0.1, 0.0), (1.0, 1.0)):
        clock = Clock()
        times(clock, [(SOUND, 5 - lead), *steady(5, 30)])
        assert clock.begin_s(PICTURE) == pytest.approx(first)


def test_late_pictures_and_early_ends_count_from_the_sound() -> None:
    clock = Clock()
    times(
        clock, [*steady(7, 19, pictures=False), *steady(19, 47), *steady(47, 102, pictures=False)]
    )
    assert (clock.begin_s(PICTURE), clock.end_s(PICTURE), clock.end_s(SOUND)) == (12, 40, 95)
    assert clock.breaks == []


@pytest.mark.parametrize("back", [0.0, 50.0, 59.0, 30.0])
def test_a_clock_that_starts_again_goes_on(back: float) -> None:
    clock = Clock()
    found = times(clock, [*steady(0, 60), *steady(back, back + 90)])
    assert found == [*steady(0, 60), *steady(60, 150)]
    [broken] = clock.breaks
    assert broken.at_s == 60 and broken.jump_s < 0 and broken.alone is None
    assert "at 60.0 s its clock starts again" in str(broken)


def test_restarts_follow_on_restarts() -> None:
    clock = Clock()
    stamps = [stamp for _ in range(20) for stamp in steady(3, 10)]
    assert times(clock, stamps) == steady(0, 140)
    assert len(clock.breaks) == 19


@pytest.mark.parametrize(("jump", "gap"), [(5.0, 5.0), (40.0, 40.0), (300.0, 300.0)])
def test_a_short_jump_of_all_is_a_hole(jump: float, gap: float) -> None:
    clock = Clock()
    found = times(clock, [*steady(0, 60), *steady(60 + jump, 90 + jump)])
    assert found == [*steady(0, 60), *steady(60 + gap, 90 + gap)]
    assert clock.holes == ([(60.0, 60.0 + jump)] if jump > HOLE_S else [])
    assert [broken.kept for broken in clock.breaks] == [True] * len(clock.holes)


@pytest.mark.parametrize("jump", [KEPT_S + 1, 600.0, 18_000.0, 95_443.7])
def test_a_long_jump_is_closed_up(jump: float) -> None:
    clock = Clock()
    found = times(clock, [*steady(0, 60), *steady(60 + jump, 90 + jump)])
    assert [stream for stream, _ in found] == [stream for stream, _ in steady(0, 90)]
    assert [time for _, time in found] == pytest.approx([time for _, time in steady(0, 90)])
    assert clock.holes == [] and not clock.breaks[0].kept


def test_pictures_alone_may_be_rare() -> None:
    for step, long in ((20.0, False), (50.0, False), (70.0, True)):
        clock = Clock()
        found = times(clock, steady(0, 7 * step, sound=False, step=step), step)
        assert bool(clock.breaks) == long
        if not long:
            assert found == steady(0, 7 * step, sound=False, step=step)


@pytest.mark.parametrize("jump", [-3.0, -50.0, 15.0, 100.0, 18_000.0])
@pytest.mark.parametrize("alone", [SOUND, PICTURE])
def test_one_stream_that_jumps_alone_keeps_beside_the_other(alone: int, jump: float) -> None:
    clock = Clock()
    stamps = [
        (s, t + jump if s == alone and t >= 60 else t) for s, t in steady(0, 90) if t + jump >= 0
    ]
    wanted = [(s, t) for s, t in steady(0, 90) if t + jump >= 0]
    found = times(clock, stamps)
    begin = min(t for _, t in wanted)
    assert found == [(s, t - begin) for s, t in wanted]
    assert [broken.alone for broken in clock.breaks] == [alone]
    assert ("pictures alone" if alone == PICTURE else "sound alone") in str(clock.breaks[0])


def test_packets_of_the_old_clock_may_come_late() -> None:
    # What the muxer holds back comes after the first packets of the new clock.
    before, after = steady(0, 60), steady(0, 30)
    late = [stamp for stamp in before[-6:] if stamp[0] == SOUND]
    early = [stamp for stamp in before if stamp not in late]
    clock = Clock()
    assert sorted(times(clock, [*early, after[1], *late, after[0], *after[2:]])) == sorted(
        [*before, *((s, t + 60) for s, t in after)]
    )


def test_a_stray_stamp_moves_nothing() -> None:
    for stray in (5_000.0, 50.0):
        clock = Clock()
        stamps = [(s, stray if (s, t) == (PICTURE, 20) else t) for s, t in steady(0, 40)]
        found = [(s, t) for s, t in times(clock, stamps) if s == SOUND]
        assert found == steady(0, 40, pictures=False)
        assert clock.end_s(PICTURE) == pytest.approx(40, abs=0.6)


@pytest.mark.parametrize("by", [3.0, 8.0, 11.0, 59.0, 5_000.0, -4.0, -15.0])
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("whose", ["pictures", "both", "pictures alone"])
def test_stamps_that_are_astray_for_a_moment_move_nothing(
    by: float, count: int, whose: str
) -> None:
    """A jump and back is told from a pause, or a restart, by the stamps that follow on it."""
    plain = steady(0, 90, sound=whose != "pictures alone")
    clock = Clock()
    stamps = [
        (s, t + by * (20 <= t < 20 + count / 4 and (s == PICTURE or whose == "both")))
        for s, t in plain
    ]
    assert times(clock, stamps) == [(s, pytest.approx(t)) for s, t in plain]
    assert (clock.end_s(PICTURE), clock.holes) == (90, [])
    way = "back" if by < 0 else "ahead"
    assert len(clock.breaks) == 1 and f"s {way} for a moment: stamps" in str(clock.breaks[0])


@pytest.mark.parametrize("pauses", [(3.0,), (9.0, 9.0, 2.5), (5.0, 30.0)])
def test_pauses_are_no_breaks(pauses: tuple[float, ...]) -> None:
    stamps, begin = list[Stamp](), 0.0
    for pause in (*pauses, 0.0):  # the last one is short: it has not lasted when the next comes
        stamps += steady(begin, begin + 1.5, sound=max(pauses) < HOLE_S)
        begin += 1.5 + pause
    clock = Clock()
    assert times(clock, stamps) == stamps
    assert clock.breaks == [] and clock.holes == []


def test_a_pause_of_pictures_alone_is_told_from_a_stray_stamp() -> None:
    # It goes on, starts again, jumps.
    for after, then, breaks in ((50.0, 50.0, 0), (3.0, 50.0, 1), (110.0, 110.0, 1)):
        clock = Clock()
        stamps = [*steady(0, 20, sound=False), (PICTURE, 49.75), *steady(after, after + 20)[1::2]]
        found = [time for _, time in times(clock, stamps)]
        assert found[79:82] == [19.75, 49.75, then] and len(clock.breaks) == breaks
    clock = Clock()
    times(clock, [*steady(0, 20, sound=False), (PICTURE, 49.75)])
    assert clock.end_s(PICTURE) == 50 and clock.breaks == []


def test_disorder_and_drift_are_no_breaks() -> None:
    rng = np.random.default_rng(0)
    clock = Clock()
    times(clock, [(s, t + rng.uniform(0, 0.2)) for s, t in steady(0, 60)])
    assert clock.breaks == []
    clock = Clock()
    times(clock, [(s, t * (1.1 if s == SOUND else 1)) for s, t in steady(0, 300)])
    assert clock.breaks == [] and clock.end_s(PICTURE) == 300


def test_streams_of_different_clocks_begin_together() -> None:
    clock = Clock()
    found = times(clock, [(s, t + 18_000 if s == PICTURE else t) for s, t in steady(0, 30)])
    assert found == steady(0, 30)


def test_what_only_helps_decoding_is_not_shown() -> None:
    clock = Clock()
    for time in (-2.0, -1.0):
        clock.add(PICTURE, time, time, 1.0, shown=False)
    for time in range(10):
        clock.add(PICTURE, float(time), float(time), 1.0)
    clock.close()
    assert (clock.begin_s(PICTURE), clock.end_s(PICTURE)) == (0, 10)


def test_a_long_last_packet_is_believed_at_the_end_alone() -> None:
    # In MP4 the packet before a jump claims to last as long as the jump.
    clock = Clock()
    for time in (0.0, 0.5, 1.0):
        clock.add(PICTURE, time, time, 0.5 if time < 1 else 1000.5)
    sessions = [
        clock.add(PICTURE, 1001.5 + i, 1001.5 + i, 1.0 if i < 2 else 20.0) for i in range(3)
    ]
    clock.close()
    assert 1001.5 + (clock.offset(sessions[0]) or 0) == 1.5
    assert clock.end_s(PICTURE) == 3.5 + 20


def test_joined_files_have_clocks_of_their_own() -> None:
    clock = Clock()
    sessions = [clock.add(PICTURE, t, t, 1.0) for t in np.arange(0.0, 30.0)]
    clock.next_file()
    # A stream that was not in the file before, and would fit into its clock.
    sessions += [clock.add(SOUND, t, t, 1.0) for t in np.arange(0.0, 10.0)]
    clock.close()
    assert clock.offset(sessions[-1]) == 30
    # The next file goes on by the same clock, as pieces of a stream do.
    clock.next_file()
    assert clock.add(SOUND, 10.5, 10.5, 1.0) == sessions[-1]


def test_a_file_of_which_nothing_is_shown_comes_first() -> None:
    clock = Clock()
    clock.add(PICTURE, 5.0, 5.0, 1.0, shown=False)
    clock.next_file()
    session = clock.add(PICTURE, 100.0, 100.0, 1.0)
    clock.close()
    assert clock.offset(session) == -100.0 and clock.end_s(PICTURE) == 1.0


def test_no_time_is_told_before_it_is_known() -> None:
    clock = Clock()
    first = clock.add(PICTURE, 0.0, 0.0, 0.25)
    assert clock.offset(first) is None
    for stream, at in steady(0.25, 3):
        clock.add(stream, at, at, 0.25)
    assert clock.offset(first) == 0
    again = clock.add(SOUND, 0.0, 0.0, 0.25)
    assert again == first + 1 and clock.offset(again) is None
    for stream, at in steady(0.25, 3):
        clock.add(stream, at, at, 0.25)
    assert clock.offset(again) == pytest.approx(3)


def test_holes_together_are_bounded() -> None:
    clock, count = Clock(), int(HOLES_KEPT_S / 300) + 200
    times(clock, [s for k in range(count) for s in steady(k * 303.0, k * 303.0 + 3)])
    assert sum(end - begin for begin, end in clock.holes) <= HOLES_KEPT_S
    end_s = clock.end_s(PICTURE)
    assert end_s is not None and HOLES_KEPT_S < end_s <= HOLES_KEPT_S + 3 * count
    assert not clock.breaks[-1].kept
