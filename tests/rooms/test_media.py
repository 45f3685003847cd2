"""Frames at given times, probing and clips, on videos whose frames carry their own number."""

import os
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from contentctr.errors import InputError
from contentctr.rooms.frames import Decoder
from contentctr.rooms.media import frame_times, frames_at, list_images, probe
from contentctr.rooms.room import Media
from videos import BITS, BLOCK, drawn, make_video, number


def shown(path: Path, times: list[float], warnings: list[str] | None = None) -> list[int | None]:
    return [number(i) for i in frames_at(Media(path=path, kind="video"), times, warnings=warnings)]


def expected(stamps: list[int], times: list[float]) -> list[int]:
    """By definition: the last frame that starts at or before the time, else the first."""
    return [max([i for i, s in enumerate(stamps) if s <= t * 1000 + 1e-6] or [0]) for t in times]


TIMES = [0.0, 0.05, 0.1, 0.15, 1.99, 2.0, 2.01, 2.5, 7.3, 7.3, 7.35, 11.0, 15.95, 19.9, 19.99]


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "flv", "ts", "avi"])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("gop", [1, 20, 10_000])
def test_frames_are_the_ones_shown(tmp_path: Path, suffix: str, codec: str, gop: int) -> None:
    if suffix == "flv" and codec == "mpeg4":
        codec = "flv"
    if suffix == "avi" and codec == "libx264":
        pytest.skip("avi has no timestamps for B-frames")
    path = tmp_path / f"v.{suffix}"
    stamps = make_video(path, codec=codec, gop=min(gop, 600 if codec != "libx264" else gop))
    warnings: list[str] = []
    assert shown(path, TIMES, warnings) == expected(stamps, TIMES)
    assert warnings == []
    rng = np.random.default_rng(0)
    times = sorted(rng.uniform(0, 20, 12).tolist())
    assert shown(path, times) == expected(stamps, times)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "flv"])
def test_start_offset_is_taken_away(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"v.{suffix}"
    stamps = make_video(path, offset=100.0)
    assert shown(path, TIMES) == expected(stamps, TIMES)
    assert probe(path).duration_s == pytest.approx(20, abs=0.15)


def test_variable_frame_rate(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    stamps = [0, *np.cumsum(rng.integers(20, 900, 60)).tolist()]
    path = tmp_path / "v.mkv"
    make_video(path, stamps=stamps, gop=7)
    times = sorted(rng.uniform(0, stamps[-1] / 1000, 40).tolist())
    assert shown(path, times) == expected(stamps, times)


def test_a_jump_saves_decoding_and_none_is_made_inside_a_gop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "v.mp4"
    decoded: list[int] = []
    kept = Decoder._try

    def counted(self, context, packet):  # type: ignore[no-untyped-def]
        frames = kept(self, context, packet)
        decoded.extend(f.pts for f in frames)
        return frames

    monkeypatch.setattr(Decoder, "_try", counted)
    make_video(path, seconds=60, gop=20)
    assert shown(path, [5.0, 15.0, 55.0]) == [50, 150, 550]
    assert len(decoded) < 150  # of 600
    decoded.clear()
    make_video(path, seconds=60, gop=10_000)
    assert shown(path, [5.0, 15.0, 25.0, 55.0]) == [50, 150, 250, 550]
    assert len(decoded) == len(set(decoded))  # nothing decoded twice
    assert len(decoded) <= 600


@pytest.mark.parametrize("suffix", ["mkv", "ts", "flv"])
def test_truncated_video_gives_what_decodes(tmp_path: Path, suffix: str) -> None:
    whole, part = tmp_path / f"whole.{suffix}", tmp_path / f"part.{suffix}"
    make_video(whole, seconds=40, gop=20)
    data = whole.read_bytes()
    part.write_bytes(data[: len(data) // 2])
    times = [1.0, 5.0, 12.0, 30.0, 35.0, 39.0]
    warnings: list[str] = []
    got = shown(part, times, warnings)
    assert got[:3] == [10, 50, 120]
    assert got[3:] == [None, None, None]
    assert len(warnings) >= 1 and "part" in warnings[-1] and "3 frames" in warnings[-1]
    info = probe(part)
    assert 15 < info.duration_s < 25
    if suffix != "ts":  # whose header claims nothing
        assert "header says 40." in info.warnings[0]


def test_truncated_mp4_with_its_index_in_front(tmp_path: Path) -> None:
    whole, part = tmp_path / "whole.mp4", tmp_path / "part.mp4"
    make_video(whole, seconds=40, options={"movflags": "faststart"})
    data = whole.read_bytes()
    part.write_bytes(data[: len(data) // 2])
    got = shown(part, [1.0, 5.0, 35.0, 39.0])
    assert got == [10, 50, None, None]
    info = probe(part)
    assert 5 < info.duration_s < 30 and "truncated" in info.warnings[0]


def test_damage_in_the_middle_never_raises(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    for suffix in ("mkv", "ts", "flv", "mp4"):
        path = tmp_path / f"v.{suffix}"
        make_video(path, seconds=30)
        data = bytearray(path.read_bytes())
        half = len(data) // 2
        data[half : half + len(data) // 6] = rng.bytes(len(data) // 6)
        path.write_bytes(data)
        got = shown(path, [1.0, 5.0, 14.0, 16.0, 25.0, 29.0])
        assert got[:2] == [10, 50] and len(got) == 6
        assert got[-1] in (290, None), suffix


def test_after_the_end_there_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    make_video(path, seconds=5)
    warnings: list[str] = []
    assert shown(path, [4.95, 5.05, 7.0, 600.0], warnings) == [49, 49, None, None]
    assert "2 frames" in warnings[0]


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.mp4: no such"):
        probe(tmp_path / "gone.mp4")
    for data in (b"", b"not a video at all" * 100):
        path = tmp_path / "bad.mp4"
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"bad\.mp4: cannot be opened"):
            probe(path)
        with pytest.raises(InputError, match=r"bad\.mp4: cannot be opened"):
            shown(path, [1.0])
    sound = tmp_path / "sound.mp4"
    with av.open(str(sound), "w") as out:
        stream = out.add_stream("aac", rate=8000, layout="mono")
        chunk = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.int16), format="s16", layout="mono"
        )
        chunk.sample_rate = 8000
        out.mux(stream.encode(chunk))
        out.mux(stream.encode(None))
    for use in (probe, lambda p: shown(p, [1.0])):
        with pytest.raises(InputError, match="no video stream"):
            use(sound)


def test_probe(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    make_video(path, seconds=12)
    info = probe(path)
    assert (info.width, info.height) == (BITS * BLOCK, 2 * BLOCK)
    assert info.duration_s == pytest.approx(12.0, abs=0.02)
    assert info.warnings == []


@pytest.mark.parametrize("kind", ["video", "frames"])
def test_grey_pictures_are_the_brightness_of_the_others(tmp_path: Path, kind: str) -> None:
    media, size = Media(path=tmp_path / "v", kind=kind), (32, 18)  # type: ignore[arg-type]
    if kind == "frames":
        (tmp_path / "v").mkdir()
        for second in (1, 5, 9, 16):
            Image.fromarray(drawn(BITS + second)).save(tmp_path / "v" / f"{second}.png")
    else:
        media = Media(path=tmp_path / "v.mp4", kind="video")
        make_video(media.path)
    times = [1.0, 5.0, 9.0, 16.0]
    for whole, grey in zip(
        frames_at(media, times), frames_at(media, times, grey=size), strict=True
    ):
        assert whole is not None and grey is not None and grey.mode == "L" and grey.size == size
        wanted = whole.convert("L").resize(size, Image.Resampling.BOX)
        difference = np.abs(np.asarray(wanted, int) - np.asarray(grey, int))
        assert difference.mean() < 3 and np.asarray(wanted).std() > 20


def test_frame_times() -> None:
    assert frame_times(30.0, 60.0, 3) == [35.0, 45.0, 55.0]
    assert frame_times(0.0, 4.0, 1) == [2.0]


def test_images(tmp_path: Path) -> None:
    for second in ("5", "0015.0", "24"):
        Image.fromarray(drawn(int(float(second)))).save(tmp_path / f"{second}.png")
    (tmp_path / "35.png").write_bytes((tmp_path / "5.png").read_bytes()[:60])
    Image.fromarray(drawn(1)).save(tmp_path / "cover.png")
    (tmp_path / "notes.txt").write_text("no image")
    warnings: list[str] = []
    got = frames_at(
        Media(path=tmp_path, kind="frames"),
        [0.0, 9.9, 10.1, 29.0, 29.1, 35.0, 99.0],
        warnings=warnings,
    )
    assert [number(i) for i in got] == [5, 5, 15, 24, None, None, None]
    assert "cover.png" in warnings[0] and "35.png: not a readable image" in warnings[1]
    assert [t for t, _ in list_images(tmp_path)] == [5, 15, 24, 35]
    with pytest.raises(InputError, match="no such folder"):
        list_images(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no image named by its second"):
        list_images(tmp_path / "empty")


@pytest.mark.slow
def test_memory_stays_flat(tmp_path: Path) -> None:
    psutil = pytest.importorskip("psutil")
    path = tmp_path / "v.mp4"
    make_video(path, seconds=1800, rate=2, gop=20)
    process, used = psutil.Process(os.getpid()), []
    for image in frames_at(Media(path=path, kind="video"), [float(t) for t in range(5, 1800, 5)]):
        assert image is not None
        used.append(process.memory_info().rss)
    assert used[-1] - used[len(used) // 4] < 8e6
