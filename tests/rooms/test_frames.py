"""Which pictures are decoded, and when they are known, as a recording comes."""

import gc
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contentctr.rooms import frames as module
from contentctr.rooms.containers import open_stream
from contentctr.rooms.frames import KEYFRAME_S, Decoder, FrameReader
from contentctr.rooms.media import frames_at
from contentctr.rooms.room import Media
from contentctr.rooms.video import Video
from recordings import RATE, join, record, restamp
from videos import number


class Trickle(io.RawIOBase):
    """A file that gives a few bytes at a time, as one that grows."""

    def __init__(self, path: Path) -> None:
        self._data = io.BytesIO(path.read_bytes())
        self._sizes = itertools.cycle([1, 187, 13, 700, 12, 4096])

    def read(self, size: int = -1) -> bytes:
        return self._data.read(min(size, next(self._sizes)))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many packets are decoded."""
    kept, count = Decoder.decode, [0]

    def counted(self: Decoder, packet: Any, **options: Any) -> Any:
        count[0] += 1
        return kept(self, packet, **options)

    monkeypatch.setattr(Decoder, "decode", counted)
    return count


def shown(path: Path, times: list[float], **options: Any) -> list[int | None]:
    return [number(i) for i in frames_at(Media(path=path, kind="video"), times, **options)]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "flv", "ts"])
@pytest.mark.parametrize("bframes", [0, 2])
def test_the_keyframe_before_takes_one_picture(
    tmp_path: Path, decoded: list[int], suffix: str, bframes: int
) -> None:
    path = record(tmp_path / f"v.{suffix}", 60, gop=20, bframes=bframes)  # groups of 4 s
    times = [t + 5.0 for t in range(0, 55, 10)]
    exact = shown(path, times)
    assert exact == [int(t * RATE) for t in times]
    many, decoded[0] = decoded[0], 0
    assert shown(path, times, frames="keyframe") == [int(t // 4 * 4 * RATE) for t in times]
    assert decoded[0] == len(times) < many
    # Of one group the keyframe is decoded once.
    decoded[0] = 0
    assert shown(path, [4.1, 5.0, 6.0, 7.9], frames="keyframe") == [20] * 4
    assert decoded[0] == 1


def test_an_old_keyframe_does_not_stand_for_the_exact_frame(tmp_path: Path) -> None:
    path = record(tmp_path / "v.mp4", 60, gop=10_000)
    times = [5.0, KEYFRAME_S - 0.1, KEYFRAME_S + 0.1, 41.0, 59.0]
    found = shown(path, times, frames="keyframe")
    assert found == [0, 0, *(int(t * RATE) for t in times[2:])]


def test_before_the_first_picture_it_stands_as_a_keyframe_too(tmp_path: Path) -> None:
    path = record(tmp_path / "v.mkv", 30, pictures=(12, 30), gop=20)
    assert shown(path, [1.0, 11.0, 13.0, 20.5], frames="keyframe") == [60, 60, 60, 100]


def test_pictures_that_none_refers_to_are_not_decoded(tmp_path: Path) -> None:
    path = record(tmp_path / "v.mp4", 40, gop=10_000, bframes=3)
    with Video(path) as video:
        reader = FrameReader(video, [19.9, 39.5])
        images = [i for timed in video.packets() for i in reader.add(timed)] + reader.finish()
        assert [number(image) for image in images] == [99, 197]
        context: Any = video.picture.codec_context  # type: ignore[union-attr]
        assert context.name == "h264"
    frames: dict[bool, int] = {}
    for wanted in (True, False):
        with Video(path) as video:
            decoder = Decoder()
            packets = [timed.packet for timed in video.packets() if timed.is_picture]
            found = [f for packet in packets for f in decoder.decode(packet, wanted=wanted)]
            frames[wanted] = len(found) + len(decoder.drain(packets[-1]))
    assert frames[True] == 200 and frames[False] < 120


@pytest.mark.parametrize("suffix", ["flv", "ts", "mkv"])
@pytest.mark.parametrize("frames", ["exact", "keyframe"])
def test_a_stream_gives_the_same_as_the_file(tmp_path: Path, suffix: str, frames: Any) -> None:
    parts = [
        record(tmp_path / f"a.{suffix}", 12, bframes=2),
        record(tmp_path / f"b.{suffix}", 30, first=60, height=64, jumps=[(15, 40, "both")]),
        record(tmp_path / f"c.{suffix}", 20, first=210, pictures=(8, 14)),
    ]
    if suffix == "flv":
        restamp(parts[0], lambda _, t: -3000 if t > 6000 else 0)
    path = join(tmp_path / f"all.{suffix}", *parts)
    times = np.arange(0.7, 105, 1.3).tolist()
    offline = shown(path, times, frames=frames)
    live: list[int | None] = []
    known: list[float] = []
    with Video("stream", open_stream(Trickle(path), "stream")) as video:
        reader = FrameReader(video, times, frames=frames)
        for timed in video.packets():
            images = reader.add(timed)
            live += [number(image) for image in images]
            known += [video.now_s] * len(images)
        live += [number(image) for image in reader.finish()]
    assert live == offline
    assert None in offline and len({n for n in offline if n is not None}) > 20
    # Without anything that delays, a picture is known soon after its time.
    delays = np.array(known[:8]) - times[:8]
    assert 0 <= delays.min() and delays.max() < 4


def test_pictures_that_stop_are_known_to_be_missing_after_a_minute(tmp_path: Path) -> None:
    path = record(tmp_path / "v.ts", 120, pictures=(0, 10))
    times = [float(t) for t in range(2, 120, 5)]
    told: list[tuple[float, int | None]] = []
    with Video(path) as video:
        reader = FrameReader(video, times)
        for timed in video.packets():
            images = reader.add(timed) + reader.until(video.now_s)
            told += [(video.now_s, number(image)) for image in images]
        rest = reader.finish()
    assert [n for _, n in told[:2]] == [10, 35]
    assert all(n is None for _, n in told[2:]) and all(image is None for image in rest)
    assert len(told) >= 9 and told[2][0] == pytest.approx(72, abs=1.5)
    assert reader.done and reader.missing == len(times) - 2


def test_endless_times_and_an_early_stop(tmp_path: Path) -> None:
    path = record(tmp_path / "v.ts", 20)

    def times() -> Iterator[float]:
        yield from itertools.count(0.5)

    with Video(path) as video:
        reader = FrameReader(video, times())
        found = [number(i) for timed in video.packets() for i in reader.add(timed)]
    assert found == [int(t * RATE) for t in itertools.islice(times(), len(found))]
    assert len(found) >= 19


def test_what_waits_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = record(tmp_path / "v.mp4", 60, gop=10_000)
    monkeypatch.setattr(module, "PENDING_BYTES", 2000)
    held: list[int] = []
    kept = FrameReader.add

    def watched(self: FrameReader, timed: Any) -> Any:
        images = kept(self, timed)
        held.append(self._bytes)
        return images

    monkeypatch.setattr(FrameReader, "add", watched)
    for frames in ("exact", "keyframe"):
        assert shown(path, [30.1, 59.1], frames=frames) == [150, 295]
    assert 0 < max(held) <= 2000


def test_a_stream_without_a_keyframe_at_first(tmp_path: Path) -> None:
    # None for longer than a minute: what decodes is tried, and memory does not wait for it.
    whole = record(tmp_path / "whole.ts", 100, gop=90 * RATE)
    data = whole.read_bytes()
    path = tmp_path / "v.ts"
    path.write_bytes(data[len(data) // 50 // 188 * 188 :])
    found = shown(path, [1.0, 20.0, 80.0, 95.0])
    assert found[0] is None and found[2] == 450 and abs((found[3] or 0) - 485) <= 2


def test_frames_are_let_go_at_once(tmp_path: Path) -> None:
    """PyAV ties a frame whose side data was looked at into a ring that only the collector frees."""
    psutil = pytest.importorskip("psutil")
    path = record(tmp_path / "v.mp4", 40, sound=None, gop=5, height=1600)
    process, used = psutil.Process(), []
    gc.disable()
    try:
        for image in frames_at(Media(path=path, kind="video"), np.arange(0.1, 40, 0.2).tolist()):
            assert image is not None
            used.append(process.memory_info().rss)
    finally:
        gc.enable()
    assert len(used) == 200 and used[-1] - used[40] < 30e6  # of 160 frames of 0.46 MB
