"""Exact clips, reels of them, and how little is encoded again."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from contentctr.errors import InputError
from contentctr.rooms.clips import Cut, cut_clips
from contentctr.rooms.exact import cut_exactly
from contentctr.rooms.footage import read_footage
from contentctr.rooms.media import probe
from contentctr.rooms.reel import join_clips
from contentctr.rooms.video import Video, picture
from recordings import RATE, join, record
from videos import BLOCK, film, make_video, number


def numbers(path: Path) -> list[int | None]:
    """Of all pictures of a file, upright."""
    with av.open(str(path)) as clip:
        return [number(picture(frame)) for frame in clip.decode(video=0)]


def sounds(path: Path) -> list[bytes]:
    with av.open(str(path)) as clip:
        return [bytes(p) for p in clip.demux(audio=0) if p.size]


def one(video: Path, start_s: float, end_s: float, out: Path, **more: bool) -> tuple[float, float]:
    (found,) = cut_exactly(video, [Cut(start_s=start_s, end_s=end_s, out=out)], **more)
    assert not isinstance(found, InputError), found
    return found


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "flv", "mov"])
def test_clips_are_exact_to_the_frame_in_every_container(tmp_path: Path, suffix: str) -> None:
    path, out = tmp_path / f"v.{suffix}", tmp_path / "c.mp4"
    make_video(path, gop=40, audio=True)
    found = one(path, 7.3, 11.0, out)
    assert found == (pytest.approx(7.3, abs=0.03), pytest.approx(11.0, abs=0.03))
    assert numbers(out) == list(range(73, 110))
    copied, whole = sounds(out), sounds(path)
    if suffix not in ("ts", "flv"):  # whose packets have headers of their own
        assert 25 < len(copied) < 32 and set(copied) <= set(whole)  # not encoded again
    assert probe(out).has_sound and [p.name for p in tmp_path.iterdir()].count("c.mp4") == 1


def test_ntsc_stays_ntsc_and_agrees_with_the_timelines(tmp_path: Path) -> None:
    path = film(tmp_path / "v.mp4", Fraction(30000, 1001), seconds=8)
    footage = read_footage(path)
    one(path, 2.345, 5.678, tmp_path / "c.mp4")
    first, stop = footage.frame(2.345), footage.frame(5.678)
    assert numbers(tmp_path / "c.mp4") == list(range(first, stop))
    again = read_footage(tmp_path / "c.mp4")
    assert again.rate == footage.rate and again.notes == [] and again.frames == stop - first


def test_a_variable_rate_is_kept(tmp_path: Path) -> None:
    stamps = np.cumsum(np.random.default_rng(1).integers(20, 90, 200)).tolist()
    stamps = [s - stamps[0] for s in stamps]
    make_video(tmp_path / "v.mp4", stamps=stamps)
    one(tmp_path / "v.mp4", 2.0, 6.0, tmp_path / "c.mp4")
    found = numbers(tmp_path / "c.mp4")
    inside = [i for i, s in enumerate(stamps) if 2000 <= s < 6000]
    assert set(inside[1:-1]) <= set(found) and len(found) <= len(inside) + 2
    with av.open(str(tmp_path / "c.mp4")) as clip:
        times = [frame.time for frame in clip.decode(video=0)]
    assert np.diff(times) * 1000 == pytest.approx(np.diff([stamps[i] for i in found]), abs=1.01)


def test_turned_pictures_stay_turned_and_upright_crops_follow(tmp_path: Path) -> None:
    unit = 1 << 16
    path = record(
        tmp_path / "v.mp4",
        10,
        turn=lambda a: a[::-1, ::-1],
        matrix=(-unit, 0, 0, 0, -unit, 0, 0, 0, 1 << 30),
    )
    one(path, 4.0, 8.0, tmp_path / "c.mp4")
    assert numbers(tmp_path / "c.mp4") == list(range(20, 40))
    quarter = record(
        tmp_path / "q.mp4",
        10,
        turn=lambda a: np.rot90(a),
        matrix=(0, unit, 0, -unit, 0, 0, 0, 0, 1 << 30),
    )
    one(quarter, 4.0, 6.0, tmp_path / "d.mp4", vertical=True)
    before, info = probe(quarter), probe(tmp_path / "d.mp4")
    assert (info.height, info.rotation) == (before.height, before.rotation) and before.rotation
    assert info.width == info.height * 9 // 16 // 2 * 2


def test_vertical_is_the_middle(tmp_path: Path) -> None:
    path = record(tmp_path / "v.mp4", 6, height=4 * BLOCK)
    one(path, 1.0, 3.0, tmp_path / "c.mp4", vertical=True)
    info = probe(tmp_path / "c.mp4")
    assert (info.width, info.height) == (36, 4 * BLOCK)
    tall = record(tmp_path / "t.mp4", 6, height=800)  # is upright already
    one(tall, 1.0, 3.0, tmp_path / "u.mp4", vertical=True)
    assert probe(tmp_path / "u.mp4").width == probe(tall).width


def test_odd_recordings_hold(tmp_path: Path) -> None:
    """Joined with a jump, without sound, with pictures that come late or change their size."""
    parts = [
        record(tmp_path / "a.flv", 12),
        record(tmp_path / "b.flv", 20, first=60, jumps=[(10, 5_000, "both")]),
    ]
    path = join(tmp_path / "v.flv", *parts, headers=False)
    one(path, 20.0, 26.0, tmp_path / "c.mp4")
    assert numbers(tmp_path / "c.mp4") == list(range(100, 130))
    silent = record(tmp_path / "s.mkv", 10, sound=None)
    one(silent, 3.0, 5.0, tmp_path / "d.mp4")
    assert not probe(tmp_path / "d.mp4").has_sound
    late = record(tmp_path / "late.mkv", 30, pictures=(12, 30))
    start, _ = one(late, 2.0, 20.0, tmp_path / "e.mp4")
    assert start == pytest.approx(12, abs=0.3)
    sizes = [
        record(tmp_path / f"{i}.flv", 20, at=20 * i, first=100 * i, height=32 + 32 * i)
        for i in range(2)
    ]
    path = join(tmp_path / "w.flv", *sizes, headers=False)
    one(path, 16.0, 25.0, tmp_path / "f.mp4")
    assert probe(tmp_path / "f.mp4").height == 32 and len(numbers(tmp_path / "f.mp4")) in (45, 46)


def test_one_bad_cut_costs_that_cut(tmp_path: Path) -> None:
    make_video(tmp_path / "v.mp4", seconds=10)
    cuts = [
        Cut(start_s=a, end_s=b, out=tmp_path / f"{a}.mp4") for a, b in ((1, 3), (60, 70), (4, 5))
    ]
    found = cut_exactly(tmp_path / "v.mp4", cuts)
    assert isinstance(found[1], InputError) and "no picture between 60" in str(found[1])
    assert {p.name for p in tmp_path.iterdir()} == {"v.mp4", "1.mp4", "4.mp4"}


# Reels


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "flv"])
def test_a_reel_has_all_pictures_of_its_clips_in_order(tmp_path: Path, suffix: str) -> None:
    path, out = tmp_path / f"v.{suffix}", tmp_path / f"reel.{suffix}"
    make_video(path, audio=True)
    cuts = [
        Cut(start_s=a, end_s=b, out=tmp_path / f"{a}.{suffix}")
        for a, b in ((2.0, 5.0), (8.0, 9.0), (14.0, 18.0))
    ]
    cut_clips(path, cuts)
    clips = [cut.out for cut in cuts]
    assert join_clips(clips, out) == []
    assert numbers(out) == [n for clip in clips for n in numbers(clip)]
    length = sum(probe(clip).duration_s for clip in clips)
    assert probe(out).duration_s == pytest.approx(length, abs=0.5)
    with Video(out) as reel:
        shown = [t.show_s for t in reel.packets() if t.is_picture]
        assert reel.bad == 0 and not reel.clock.breaks
    # A copied clip may lack the pictures before its last one, which come after that in the file.
    gaps = np.diff(sorted(shown))
    assert gaps.max() < 0.31 and np.mean(gaps < 0.11) > 0.9


def test_a_reel_of_exact_clips(tmp_path: Path) -> None:
    path = record(tmp_path / "v.mkv", 40, bframes=2)
    cuts = [
        Cut(start_s=a, end_s=b, out=tmp_path / f"{a}.mp4") for a, b in ((3.2, 6.0), (21.6, 25.0))
    ]
    cut_exactly(path, cuts)
    assert join_clips([cut.out for cut in cuts], tmp_path / "reel.mp4") == []
    frames = numbers(tmp_path / "reel.mp4")
    assert len(frames) == 31 and frames[0] == 3.2 * RATE
    assert np.diff(frames).max() > 70  # the one joint


def test_clips_of_another_size_are_left_out_of_a_reel(tmp_path: Path) -> None:
    made = [record(tmp_path / f"{i}.mp4", 4, height=h) for i, h in enumerate((32, 64, 32))]
    assert join_clips(made, tmp_path / "reel.mp4") == [made[1]]
    assert len(numbers(tmp_path / "reel.mp4")) == 40
