"""Frames, rates and timecodes of recordings, as editors count them."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from contentctr.errors import InputError
from contentctr.rooms.footage import RATES, find_rate, parse_timecode, read_footage, timecode
from recordings import RATE, record
from videos import drawn, film, make_video

NTSC = Fraction(30000, 1001)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(25), NTSC, Fraction(60)])
def test_rates_are_exact_in_every_container(tmp_path: Path, suffix: str, rate: Fraction) -> None:
    found = read_footage(film(tmp_path / f"v.{suffix}", rate, tc="01:00:00:00"))
    assert found.rate == rate and found.notes == []
    assert found.frames == round(4 * rate)
    assert (found.channels, found.sample_rate) == (2, 48000)
    assert (found.width, found.height) == (drawn(0).shape[1], drawn(0).shape[0])
    if suffix != "mkv":
        assert found.timecode(0) == "01:00:00:00" and found.start_frame == 3600 * round(rate)
    for n in range(0, found.frames, 7):
        assert found.frame(found.first_s + float(n / rate)) == n


def test_frames_are_counted_from_the_first_picture(tmp_path: Path) -> None:
    path = record(tmp_path / "v.mkv", 30, pictures=(4, 30))  # the sound is there from 0 on
    found = read_footage(path)
    first_s = found.first_s  # AAC begins a little before its first sample
    assert first_s == pytest.approx(4, abs=0.2) and found.rate == RATE
    times = (0.0, first_s, first_s + 6.05, first_s + 6.15, 1000.0)
    assert [found.frame(t) for t in times] == [0, 0, 30, 31, found.frames]


def test_a_variable_rate_and_missing_pictures_are_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    stamps = np.cumsum(rng.integers(20, 90, 200)).tolist()
    make_video(tmp_path / "v.mp4", stamps=stamps)
    found = read_footage(tmp_path / "v.mp4")
    assert found.rate in RATES and "variable" in found.notes[0]
    steady = [i * 40 for i in range(300) if i % 50 != 7]
    make_video(tmp_path / "w.mp4", stamps=steady, rate=25)
    found = read_footage(tmp_path / "w.mp4")
    assert found.rate == 25 and "6 of its pictures are missing" in found.notes[0]
    assert found.frames == 300
    jumps = record(tmp_path / "j.flv", 20, jumps=[(10, 5000, "both")])
    assert "its clock does not run on" in read_footage(jumps).notes[-1]


def test_stamps_in_milliseconds_tell_29_97_from_30() -> None:
    for rate in RATES:
        times = np.round(np.arange(20_000) / float(rate), 3)
        assert find_rate(times) == (rate, True), rate
        assert find_rate(times, [Fraction(round(float(rate) * 1000), 1000)]) == (rate, True)


def test_timecodes_by_hand() -> None:
    assert timecode(0, NTSC, drop=True) == "00:00:00;00"
    assert timecode(1799, NTSC, drop=True) == "00:00:59;29"
    assert timecode(1800, NTSC, drop=True) == "00:01:00;02"  # ;00 and ;01 are dropped
    assert timecode(17982, NTSC, drop=True) == "00:10:00;00"
    assert timecode(107892, NTSC, drop=True) == "01:00:00;00"
    assert timecode(3600 * 25, Fraction(25)) == "01:00:00:00"
    for rate, drop in ((NTSC, True), (Fraction(60000, 1001), True), (Fraction(24), False)):
        for frame in [*range(0, 40_000, 13), 1_799, 1_800, 17_981, 17_982, 107_892, 2_589_407]:
            assert parse_timecode(timecode(frame, rate, drop=drop), rate) == (frame, drop)
    assert parse_timecode("noise", NTSC) == (0, False)


def test_sound_alone_has_no_frames(tmp_path: Path) -> None:
    path = record(tmp_path / "v.flv", 10, pictures=(0, 0))
    with pytest.raises(InputError, match="has no pictures|no frame"):
        read_footage(path)
