"""Recordings as they really are: joined, jumping, late, ending early, turned, many streams."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from contentctr.config import FrameChoice
from contentctr.errors import InputError
from contentctr.rooms.media import frames_at, probe
from contentctr.rooms.room import Media
from recordings import RATE, join, record, restamp
from videos import BITS, BLOCK, drawn, number

CONTAINERS = ("flv", "ts", "mkv", "mp4")
LONG = 1 << 30
UNIT = 1 << 16
WIDTH, HEIGHT = BITS * BLOCK, 2 * BLOCK
Turn = Callable[[np.ndarray], np.ndarray]


def shown(
    path: Path,
    times: Sequence[float],
    warnings: list[str] | None = None,
    frames: FrameChoice = "exact",
) -> list[int | None]:
    media = Media(path=path, kind="video")
    found = frames_at(media, times, frames=frames, warnings=warnings)
    return [number(image) for image in found]


def numbers(times: Sequence[float]) -> list[int]:
    return [int(time * RATE) for time in times]


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("bframes", [0, 2])
def test_joined_files_go_on(tmp_path: Path, suffix: str, bframes: int) -> None:
    parts = [
        record(tmp_path / f"{i}.{suffix}", seconds, first=first * RATE, bframes=bframes)
        for i, (first, seconds) in enumerate([(0, 12), (12, 20), (32, 6)])
    ]
    path = join(tmp_path / f"all.{suffix}", *parts)
    times = [0.5, 11.5, 12.5, 20.5, 31.5, 32.5, 37.5]
    warnings: list[str] = []
    assert shown(path, times, warnings) == numbers(times)
    assert warnings == []
    info = probe(path)
    assert info.duration_s == pytest.approx(38, abs=0.3)
    assert len(info.warnings) == 2
    for warning, at in zip(info.warnings, (12, 32), strict=True):
        told = re.fullmatch(r"(.*): at (\d+\.\d) s its clock starts again .*", warning)
        assert told is not None and told[1] == str(path)
        assert float(told[2]) == pytest.approx(at, abs=0.2)


def test_flv_sessions_without_headers_between(tmp_path: Path) -> None:
    # As recorders write them that go on in the same file.
    parts = [record(tmp_path / f"{i}.flv", 12, first=i * 12 * RATE) for i in range(3)]
    path = join(tmp_path / "all.flv", *parts, headers=False)
    times = [0.5, 11.5, 12.5, 23.5, 24.5, 35.5]
    assert shown(path, times) == numbers(times)
    assert probe(path).duration_s == pytest.approx(36, abs=0.3)


def test_a_file_cut_off_before_the_joint(tmp_path: Path) -> None:
    for suffix in ("flv", "ts", "mkv"):
        cut, whole = tmp_path / f"cut.{suffix}", tmp_path / f"whole.{suffix}"
        record(cut, 20)
        cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 3 // 5])
        record(whole, 20, first=1000)
        path = join(tmp_path / f"all.{suffix}", cut, whole)
        length = probe(path).duration_s
        assert 30 < length < 34, suffix
        found = shown(path, [5.5, length - 19.5, length - 10.5, length - 0.5])
        wanted = [27, 1002, 1047, 1097]
        assert all(a is not None and abs(a - b) <= 1 for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_what_a_second_file_has_other(tmp_path: Path, suffix: str) -> None:
    first = record(tmp_path / f"a.{suffix}", 10, sound=None)
    second = record(tmp_path / f"b.{suffix}", 10, first=10 * RATE, height=64)
    path = join(tmp_path / f"x.{suffix}", first, second)
    times = [0.5, 9.5, 10.5, 15.5, 19.5]
    assert shown(path, times) == numbers(times)
    sizes = [i.size for i in frames_at(Media(path=path, kind="video"), times) if i is not None]
    assert sizes == [(WIDTH, HEIGHT)] * 2 + [(WIDTH, 64)] * 3


def test_new_streams_of_an_mpeg_ts(tmp_path: Path) -> None:
    first = record(tmp_path / "a.ts", 10)
    for name, options, codec in (
        ("pids", {"mpegts_start_pid": "0x200", "mpegts_pmt_start_pid": "0x1100"}, "libx264"),
        ("streams", {"mpegts_start_pid": "0x200"}, "libx264"),
        ("codec", {}, "mpeg4"),
    ):
        second = record(tmp_path / f"{name}.ts", 10, first=50, options=options, codec=codec)
        path = join(tmp_path / f"all {name}.ts", first, second)
        times = [0.5, 9.5, 10.5, 19.5]
        assert shown(path, times) == numbers(times), name


def test_a_new_codec_of_flv(tmp_path: Path) -> None:
    first = record(tmp_path / "a.flv", 10)
    second = record(tmp_path / "b.flv", 10, first=50, codec="flv")
    times = [0.5, 9.5, 10.5, 19.5]
    assert shown(join(tmp_path / "x.flv", first, second), times) == numbers(times)


@pytest.mark.parametrize("suffix", CONTAINERS)
@pytest.mark.parametrize("jump", [12, 40, 600, 18_000])
def test_a_jump_ahead_over_nothing(tmp_path: Path, suffix: str, jump: int) -> None:
    path = record(tmp_path / f"v.{suffix}", 20, jumps=[(10, jump, "both")])
    info, warnings = probe(path), []
    if jump > 300:
        assert info.duration_s == pytest.approx(20, abs=0.2)
        assert "ahead over nothing" in info.warnings[0]
        assert shown(path, [0.5, 9.5, 10.5, 19.5], warnings) == [2, 47, 52, 97]
        assert warnings == []
    else:
        assert info.duration_s == pytest.approx(20 + jump, abs=0.2)
        assert "nothing was recorded" in info.warnings[0] and "a hole" in info.warnings[0]
        times = [9.5, 10.9, 11.5, 9.5 + jump, 10.5 + jump, 19.5 + jump]
        assert shown(path, times, warnings) == [47, 49, None, None, 52, 97]
        assert "2 frames" in warnings[0]
    assert len(info.warnings) == 1


@pytest.mark.parametrize("whose", ["both", "sound", "picture"])
@pytest.mark.parametrize("by", [-9.0, -1.0, 15.0, 5_000.0])
def test_clocks_that_jump_as_recorded(tmp_path: Path, whose: str, by: float) -> None:
    path = record(tmp_path / "v.flv", 20)
    restamp(path, lambda w, t: round(by * 1000) if t >= 10_000 and whose in (w, "both") else 0)
    times = [0.5, 9.5, 10.5, 13.5, 19.5]
    if (whose, by) == ("both", 15.0):  # time passed; nothing was recorded
        times = [0.5, 9.5, 25.5, 28.5, 34.5]
    assert shown(path, times) == [2, 47, 52, 67, 97]
    assert probe(path).duration_s == pytest.approx(times[-1] + 0.5, abs=0.3)


def test_many_restarts_are_told_in_short(tmp_path: Path) -> None:
    path = record(tmp_path / "v.flv", 60)
    restamp(path, lambda _, t: -(t // 7000) * 7000)
    times = [0.5, 6.5, 7.5, 20.5, 35.5, 59.5]
    assert shown(path, times) == numbers(times)
    warnings = probe(path).warnings
    assert len(warnings) == 6 and "does not run on at 8 places" in warnings[-1]


def test_one_axis_in_every_container(tmp_path: Path) -> None:
    """The same streams, with pictures from 12 s to 25 s and sound to 40 s, are the same room."""
    times = [0.5, 11.5, 13.1, 20.1, 24.9, 25.7, 27.5, 39.5]
    for suffix in CONTAINERS:
        path = record(tmp_path / f"v.{suffix}", 40, pictures=(12, 25))
        info, notes = probe(path), []
        assert info.duration_s == pytest.approx(40, abs=0.2), suffix
        found = shown(path, times, notes)
        assert found[:2] == [60, 60] and found[6:] == [None, None], suffix
        # The priming of the sound, 0.128 s here, is told by some containers only.
        wanted = [65, 100, 124, 124]
        assert all(abs(a - b) <= 1 for a, b in zip(found[2:6], wanted, strict=True)), suffix  # type: ignore[operator]
        assert "its first picture comes at 12." in info.warnings[0]
        assert "its pictures end at 25." in info.warnings[1] and len(info.warnings) == 2


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_a_first_picture_stands_for_a_minute_at_most(tmp_path: Path, suffix: str) -> None:
    path = record(tmp_path / f"v.{suffix}", 80, pictures=(70, 80))
    assert shown(path, [5.0, 9.0, 11.0, 69.0, 79.5])[:4] == [None, None, 350, 350]
    assert "it stands for the time before, from 10." in probe(path).warnings[0]


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_pictures_that_pause(tmp_path: Path, suffix: str) -> None:
    # Shown until the next one within a minute; gone where that comes later.
    for pause, wanted in ((50, [49, 49, 397]), (70, [49, None, 497])):
        path = tmp_path / f"v{pause}.{suffix}"
        first = record(path, 10)
        later = record(tmp_path / f"w.{suffix}", pause + 20, at=10, first=50, pictures=(pause, 1e9))
        join(tmp_path / f"x.{suffix}", first, later)
        found = shown(tmp_path / f"x.{suffix}", [10.5, 40.0, 29.5 + pause])
        assert all(
            a == b or (a and b and abs(a - b) <= 1) for a, b in zip(found, wanted, strict=True)
        )


def test_sparse_pictures_without_sound(tmp_path: Path) -> None:
    for suffix in ("mkv", "mp4", "flv", "ts"):
        jumps = [(i / RATE, 20 - 1 / RATE, "picture") for i in range(1, 5)]
        path = record(tmp_path / f"v.{suffix}", 1, sound=None, jumps=jumps)
        assert shown(path, [5, 19, 21, 50, 79, 80.5]) == [0, 0, 1, 2, 3, 4], suffix
        assert probe(path).warnings == []


@pytest.mark.parametrize("by", [5_000, 15_000, 50_000, -6_000])
@pytest.mark.parametrize("sound", [None, (0.0, 1e9)])
def test_a_stray_stamp_holds_no_picture(
    tmp_path: Path, by: int, sound: tuple[float, float] | None
) -> None:
    path = record(tmp_path / "v.flv", 20, sound=sound)
    restamp(path, lambda whose, t: by if whose == "picture" and 9_000 <= t < 9_200 else 0)
    times = [0.5, 8.7, 9.1, 9.5, 13.5, 19.5]
    assert shown(path, times) == numbers(times)
    info = probe(path)
    assert info.duration_s == pytest.approx(20, abs=0.2) and len(info.warnings) == 1


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("suffix", ["flv", "ts", "mp4", "mkv"])
def test_a_size_that_changes_twice(tmp_path: Path, suffix: str, codec: str) -> None:
    if (suffix, codec) == ("flv", "mpeg4"):
        codec = "flv"
    heights = (32, 64, 96)
    parts = [
        record(tmp_path / f"{h}.{suffix}", 20, at=20 * i, first=100 * i, height=h, codec=codec)
        for i, h in enumerate(heights)
    ]
    path = join(tmp_path / f"x.{suffix}", *parts, headers=False if suffix == "flv" else True)
    times = [5.5, 19.3, 25.5, 39.3, 45.5, 59.3]  # one a picture group or fewer: jumps between
    for frames in ("exact", "keyframe"):
        found = list(frames_at(Media(path=path, kind="video"), times, frames=frames))
        sizes = [image.size for image in found if image is not None]
        assert sizes == [(WIDTH, h) for h in heights for _ in range(2)]
        if frames == "exact":
            off = [abs((number(i) or 0) - n) for i, n in zip(found, numbers(times), strict=True)]
            assert max(off) <= 2  # the sound of a part is longer than its pictures by a little


MATRICES: list[tuple[str, Turn, tuple[int, int, int, int]]] = [
    ("as it is", lambda a: a, (1, 0, 0, 1)),
    ("90", lambda a: np.rot90(a, -1), (0, -1, 1, 0)),
    ("180", lambda a: np.rot90(a, 2), (-1, 0, 0, -1)),
    ("270", lambda a: np.rot90(a, 1), (0, 1, -1, 0)),
    ("mirrored", lambda a: a[:, ::-1], (-1, 0, 0, 1)),
    ("upside down", lambda a: a[::-1], (1, 0, 0, -1)),
    ("transposed", lambda a: a.transpose(1, 0, 2), (0, 1, 1, 0)),
    ("across", lambda a: np.rot90(a, 2).transpose(1, 0, 2), (0, -1, -1, 0)),
]


@pytest.mark.parametrize(("name", "turn", "signs"), MATRICES, ids=[m[0] for m in MATRICES])
def test_pictures_are_upright(
    tmp_path: Path, name: str, turn: Turn, signs: tuple[int, int, int, int]
) -> None:
    a, b, c, d = (UNIT * sign for sign in signs)
    path = record(tmp_path / "v.mp4", 5, turn=turn, matrix=(a, b, 0, c, d, 0, 0, 0, LONG))
    assert shown(path, [0.5, 3.5]) == [2, 17]
    info = probe(path)
    assert (info.width, info.height) == (WIDTH, HEIGHT)
    with av.open(str(path)) as stored:
        turned = signs[0] == 0
        assert (stored.streams.video[0].width < stored.streams.video[0].height) == turned


def _two_streams(path: Path, first: str, default: int | None, seconds: float = 6.0) -> Path:
    """A small stream or a still, then a larger video."""
    with av.open(str(path), "w") as out:
        small = out.add_stream("mjpeg" if first != "small" else "libx264", rate=RATE)
        small.width, small.height = 64, 64
        small.pix_fmt = "yuvj420p" if first != "small" else "yuv420p"
        large = out.add_stream("libx264", rate=RATE)
        large.width, large.height, large.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        large.gop_size = 10
        for index, stream in enumerate((small, large)):
            stream.disposition = av.stream.Disposition.default if index == default else 0
        if first == "cover":
            small.disposition = av.stream.Disposition.attached_pic
        grey = np.full((64, 64, 3), 90, np.uint8)
        for i in range(round(seconds * RATE)):
            if i == 0 or first == "small":
                frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
                frame.pts = i
                out.mux(small.encode(frame))
            frame = av.VideoFrame.from_ndarray(drawn(i), format="rgb24")
            frame.pts = i
            out.mux(large.encode(frame))
        out.mux(small.encode(None))
        out.mux(large.encode(None))
    return path


@pytest.mark.parametrize(
    ("first", "default"), [("still", None), ("still", 0), ("cover", None), ("small", None)]
)
@pytest.mark.parametrize("suffix", ["mkv", "mp4", "mov"])
def test_the_video_among_several_streams(
    tmp_path: Path, suffix: str, first: str, default: int | None
) -> None:
    if first == "cover" and suffix == "mkv":
        pytest.skip("a cover of Matroska is an attachment")
    if first == "small" and suffix != "mkv":
        default = 1  # of MP4, the first track is the default one unless another is
    path = _two_streams(tmp_path / f"v.{suffix}", first, default)
    assert shown(path, [0.5, 3.5, 5.5]) == [2, 17, 27]
    info = probe(path)
    assert (info.width, info.height) == (WIDTH, HEIGHT)
    assert info.duration_s == pytest.approx(6, abs=0.05) and info.warnings == []


def test_the_default_stream_is_taken_though_it_is_smaller(tmp_path: Path) -> None:
    path = _two_streams(tmp_path / "v.mkv", "small", 0)
    info = probe(path)
    assert (info.width, info.height) == (64, 64)


@pytest.mark.parametrize("seconds", [4, 12])
def test_mpeg_ts_that_begins_before_its_first_keyframe(tmp_path: Path, seconds: int) -> None:
    whole = record(tmp_path / "whole.ts", 40, gop=15 * RATE)
    data = whole.read_bytes()
    # From some packet after the first keyframe on, as when a stream is joined in the middle.
    cut = len(data) * (15 - seconds) // 40 // 188 * 188
    path = tmp_path / "v.ts"
    path.write_bytes(data[cut:])
    info, warnings = probe(path), []
    offset = 40 - info.duration_s
    assert (info.width, info.height) == (WIDTH, HEIGHT)
    assert info.duration_s == pytest.approx(25 + seconds, abs=2)
    assert f"its first picture comes at {15 - offset:.0f}."[:-2] in info.warnings[0]
    times = [0.0, 1.0, 16.0 - offset, 30.5 - offset, 39.0 - offset]
    found = shown(path, times, warnings)
    wanted = [75, 75, 80, 152, 195]
    assert all(abs((a or 0) - b) <= 1 for a, b in zip(found, wanted, strict=True))
    assert warnings == []


def test_a_clock_of_33_bits_that_wraps(tmp_path: Path) -> None:
    path = record(tmp_path / "v.ts", 30, at=2**33 / 90_000 - 15)
    times = [0.5, 14.5, 15.5, 29.5]
    assert shown(path, times) == numbers(times)
    info = probe(path)
    assert info.duration_s == pytest.approx(30, abs=0.2) and info.warnings == []


def test_times_below_zero(tmp_path: Path) -> None:
    # What lies before 0 is cut off by the edit list of an MP4, and only there.
    for suffix, cut in (("mkv", 0), ("mp4", 3), ("mov", 3)):
        path = record(tmp_path / f"v.{suffix}", 10, at=-0.6, bframes=2)
        assert shown(path, [0.1, 0.5, 5.5, 9.1]) == [cut, cut + 2, cut + 27, cut + 45]
        assert probe(path).duration_s == pytest.approx(10 - cut / RATE, abs=0.2), suffix


def test_sound_alone(tmp_path: Path) -> None:
    path = record(tmp_path / "v.flv", 12, pictures=(0, 0))
    with pytest.raises(InputError, match="no frame of its video"):
        probe(path)
    info = probe(path, sound_alone=True)
    assert (info.width, info.height) == (0, 0)
    assert info.duration_s == pytest.approx(12, abs=0.2)
    assert shown(path, [1.0, 5.0]) == [None, None]


def test_a_header_that_claims_too_much(tmp_path: Path) -> None:
    path = record(tmp_path / "v.flv", 12)
    data = bytearray(path.read_bytes())
    at = data.index(b"duration\x00") + 9
    data[at : at + 8] = np.array([3.6e6], ">f8").tobytes()
    path.write_bytes(data)
    info = probe(path)
    assert info.duration_s == pytest.approx(12, abs=0.2)
    assert "header says 3600000.0 s, but it ends at 12.0 s (truncated?)" in info.warnings[0]
    # A jump that was left out explains a claim.
    path = record(tmp_path / "w.flv", 12, jumps=[(6, 20_000, "both")])
    assert ["truncated" in w for w in probe(path).warnings] == [False]
