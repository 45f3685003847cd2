"""Clips: copies of a recording's packets, by the room's time."""

from dataclasses import replace
from pathlib import Path

import av
import pytest

from contentctr.errors import InputError
from contentctr.rooms.clips import REACH_S, Cut, cut_clip, cut_clips
from contentctr.rooms.media import frames_at, probe
from contentctr.rooms.room import Media
from contentctr.rooms.video import Video
from recordings import RATE, join, record
from videos import drawn, make_video, number


def shown(path: Path, times: list[float]) -> list[int | None]:
    return [number(i) for i in frames_at(Media(path=path, kind="video"), times)]


def expected(stamps: list[int], times: list[float]) -> list[int]:
    """By definition: the last frame that starts at or before the time, else the first."""
    return [max([i for i, s in enumerate(stamps) if s <= t * 1000 + 1e-6] or [0]) for t in times]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_clip_is_a_copy_of_the_packets(tmp_path: Path, suffix: str) -> None:
    path, out = tmp_path / f"v.{suffix}", tmp_path / f"clip.{suffix}"
    stamps = make_video(path, gop=20, audio=True, offset=3.0)
    start, end = cut_clip(path, 7.3, 11.0, out)
    assert start == pytest.approx(6.0) and 11.0 <= end <= 11.31
    with av.open(str(path)) as a, av.open(str(out)) as b:
        assert [s.codec.name for s in a.streams] == [s.codec.name for s in b.streams]
        for kind in ("video", "audio"):
            before = [bytes(p) for p in a.demux(**{kind: 0}) if p.size]
            a.seek(0)
            after = [bytes(p) for p in b.demux(**{kind: 0}) if p.size]
            b.seek(0)
            assert len(after) > 10
            starts = range(len(before) - len(after) + 1)
            assert any(before[at : at + len(after)] == after for at in starts)
    times = [t - start for t in (6.0, 6.5, 8.2, 10.9)]
    assert shown(out, times) == expected(stamps, [6.0, 6.5, 8.2, 10.9])
    assert probe(out).duration_s == pytest.approx(end - start, abs=0.02)
    assert [p.name for p in tmp_path.iterdir()].count(out.name) == 1


def test_clips_across_containers(tmp_path: Path) -> None:
    for source, target in (("ts", "mp4"), ("flv", "mkv"), ("mkv", "mp4"), ("mp4", "ts")):
        path, out = tmp_path / f"v.{source}", tmp_path / f"c-{source}.{target}"
        make_video(path, audio=True)
        start, _ = cut_clip(path, 12.5, 16.0, out)
        assert start == pytest.approx(12.0, abs=0.01)
        assert shown(out, [0.0, 1.0, 3.9]) == [120, 130, 159]
    assert not [p for p in tmp_path.iterdir() if p.name.endswith(".tmp")]


def test_bad_clips(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    make_video(path, seconds=5)
    for start, end in ((3.0, 3.0), (-1.0, 3.0), (4.0, 2.0)):
        with pytest.raises(InputError, match="before its end"):
            cut_clip(path, start, end, tmp_path / "c.mp4")
    with pytest.raises(InputError, match="must end in"):
        cut_clip(path, 1, 2, tmp_path / "c.xyz")
    with pytest.raises(InputError, match="cannot hold the streams"):
        cut_clip(path, 1, 2, tmp_path / "c.webm")
    with pytest.raises(InputError, match="no picture between"):
        cut_clip(path, 60, 70, tmp_path / "c.mp4")
    assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]


def test_clips_by_the_rooms_clock(tmp_path: Path) -> None:
    """Of a recording that was joined, and jumped, in every container."""
    for suffix in ("flv", "ts", "mkv", "mp4"):
        parts = [
            record(tmp_path / f"a.{suffix}", 12),
            record(tmp_path / f"b.{suffix}", 20, first=60, jumps=[(10, 5_000, "both")]),
        ]
        path = join(tmp_path / f"v.{suffix}", *parts, headers=suffix != "flv")
        for start_s, end_s in ((20.0, 26.0), (14.5, 19.0), (5.0, 8.0)):
            out = tmp_path / f"clip.{suffix}"
            start, end = cut_clip(path, start_s, end_s, out)
            assert start_s - 2.01 <= start <= start_s and end == pytest.approx(end_s, abs=0.4)
            length = probe(out).duration_s
            assert length == pytest.approx(end_s - start, abs=0.5), (suffix, start_s)
            times = [0.1, length / 2, length - 0.5]
            wanted = [(start + t) * RATE for t in times]
            found = shown(out, times)
            assert all(abs((a or 0) - b) <= 2 for a, b in zip(found, wanted, strict=True)), suffix


def test_a_clip_over_the_joint(tmp_path: Path) -> None:
    parts = [record(tmp_path / f"{i}.flv", 12, first=60 * i) for i in range(2)]
    path = join(tmp_path / "v.flv", *parts, headers=False)
    for suffix in ("flv", "ts", "mkv", "mp4"):
        out = tmp_path / f"c.{suffix}"
        start, end = cut_clip(path, 8.5, 16.0, out)
        assert (start, end) == (pytest.approx(8.0, abs=0.3), pytest.approx(16.0, abs=0.5))
        assert shown(out, [0.5, 3.5, 4.7, 7.5]) == [42, 57, 63, 77]


@pytest.mark.parametrize("target", ["flv", "ts", "mkv", "mp4"])
def test_a_clip_after_the_size_changed(tmp_path: Path, target: str) -> None:
    parts = [
        record(tmp_path / f"{i}.flv", 20, at=20 * i, first=100 * i, height=32 + 32 * i)
        for i in range(2)
    ]
    path, out = join(tmp_path / "v.flv", *parts, headers=False), tmp_path / f"c.{target}"
    start, end = cut_clip(path, 30.5, 35.0, out)
    assert start == pytest.approx(30, abs=0.3) and end == pytest.approx(35, abs=0.3)
    info = probe(out)
    assert (info.width, info.height) == (drawn(0).shape[1], 64)
    found = shown(out, [0.1, 2.5, 4.5])
    assert all(abs((a or 0) - b) <= 1 for a, b in zip(found, [150, 162, 172], strict=True))
    with av.open(str(out)) as clip:
        if target in ("mkv", "mp4"):
            assert clip.streams.video[0].height == 64
    # A container that cannot tell the change has the clip up to it.
    start, end = cut_clip(path, 16.5, 25.0, out)
    sizes = {i.size[1] for i in frames_at(Media(path=out, kind="video"), [0.5, 3.0, 4.9]) if i}
    if target in ("flv", "ts"):
        assert end == pytest.approx(25, abs=0.3) and sizes == {32, 64}
    else:
        assert end == pytest.approx(20, abs=0.3) and sizes == {32}


def test_a_clip_begins_at_a_keyframe_near_its_start(tmp_path: Path) -> None:
    path = record(tmp_path / "late.mkv", 40, pictures=(12, 40))
    start, _ = cut_clip(path, 2.0, 20.0, tmp_path / "a.mkv")
    assert start == pytest.approx(12, abs=0.3)  # the next, where there is none before
    path = record(tmp_path / "rare.mkv", 200, gop=180 * RATE)
    start, _ = cut_clip(path, 50.0, 52.0, tmp_path / "b.mkv")
    assert start == 0
    start, _ = cut_clip(path, 130.0, 190.0, tmp_path / "c.mkv")
    assert start == pytest.approx(180, abs=0.3)
    with pytest.raises(InputError, match="no picture between 130 and 140"):
        cut_clip(path, 130.0, 140.0, tmp_path / "d.mkv")
    assert REACH_S == 60


def test_a_clip_where_pictures_are_missing(tmp_path: Path) -> None:
    path = record(tmp_path / "v.mp4", 60, pictures=(0, 30))
    start, end = cut_clip(path, 25.0, 40.0, tmp_path / "a.mp4")
    assert start == pytest.approx(24) and end == pytest.approx(30, abs=0.3)
    with pytest.raises(InputError, match=r"v\.mp4: has no picture between 35 and 45 s"):
        cut_clip(path, 35.0, 45.0, tmp_path / "b.mp4")
    hole = record(tmp_path / "hole.flv", 30, jumps=[(10, 100, "both")])
    with pytest.raises(InputError, match="no picture between 40 and 80"):
        cut_clip(hole, 40.0, 80.0, tmp_path / "c.flv")
    sound = record(tmp_path / "sound.flv", 20, pictures=(0, 0))
    with pytest.raises(InputError, match="no picture between 1 and 5"):
        cut_clip(sound, 1.0, 5.0, tmp_path / "d.flv")


@pytest.mark.parametrize(
    "name", ["20:00 live", "-x", "【主播】#1 [100%]", "a b%03d", "q?z=1&x", "é'\""]
)
def test_clips_by_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    folder = tmp_path / f"{name} out"
    folder.mkdir()
    path = record(tmp_path / "plain.mp4", 10).rename(folder / f"{name}.mp4")
    monkeypatch.chdir(folder)
    for given in (path, Path(path.name)):  # a relative name with ":" is a protocol to FFmpeg
        assert probe(given).duration_s == pytest.approx(10, abs=0.2)
        assert shown(given, [5.5]) == [27]
        for suffix in (".mp4", ".mkv"):
            start, _ = cut_clip(given, 4.0, 8.0, Path(f"{name}: clip{suffix}"))
            assert start == pytest.approx(4.0)
            assert shown(folder / f"{name}: clip{suffix}", [1.5]) == [27]


def test_turned_pictures_stay_turned(tmp_path: Path) -> None:
    unit = 1 << 16
    path = record(
        tmp_path / "v.mp4",
        10,
        turn=lambda a: a[::-1, ::-1],
        matrix=(-unit, 0, 0, 0, -unit, 0, 0, 0, 1 << 30),
    )
    for suffix in ("mp4", "mkv", "mov"):
        cut_clip(path, 4.0, 8.0, tmp_path / f"c.{suffix}")
        assert shown(tmp_path / f"c.{suffix}", [0.5]) == [22]


def packets(path: Path) -> list[tuple[object, ...]]:
    with av.open(str(path)) as clip:
        return [(p.stream_index, p.pts, p.dts, p.duration, bytes(p)) for p in clip.demux()]


@pytest.mark.parametrize("suffix", ["flv", "ts", "mkv", "mp4"])
def test_clips_in_one_pass_are_those_of_each_alone(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any order, beginning with one keyframe, over one another, over a change of size."""
    parts = [
        record(tmp_path / f"{i}.flv", 40, at=40 * i, first=200 * i, height=32 + 32 * i, gop=60)
        for i in range(2)
    ]
    path = join(tmp_path / "v.flv", *parts, headers=False)
    spans = [(47.0, 52.0), (13.5, 17.0), (14.0, 30.0), (18.0, 21.0), (36.0, 44.0), (90.0, 95.0)]
    cuts = [
        Cut(start_s=start, end_s=end, out=tmp_path / f"{i}.{suffix}")
        for i, (start, end) in enumerate(spans)
    ]
    cuts[0] = replace(cuts[0], out=tmp_path / "0.webm")  # which holds no H.264
    reads = []
    plain = Video.packets
    monkeypatch.setattr(Video, "packets", lambda self: reads.append(1) or plain(self))
    found = cut_clips(path, cuts)
    assert len(reads) == 1
    assert "0.webm: cannot hold the streams" in str(found[0])
    assert "no picture between 90 and 95" in str(found[-1])
    for cut, clip in zip(cuts[1:-1], found[1:-1], strict=True):
        alone = tmp_path / f"alone.{suffix}"
        assert cut_clip(path, cut.start_s, cut.end_s, alone) == clip
        assert packets(alone) == packets(cut.out)
    assert not cuts[0].out.exists() and not [p for p in tmp_path.iterdir() if ".tmp" in p.name]


def test_clips_of_a_recording_that_breaks_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, plain = record(tmp_path / "v.mkv", 30), Video.packets

    def broken(self):  # type: ignore[no-untyped-def]
        yield from list(plain(self))[:150]
        raise KeyboardInterrupt

    monkeypatch.setattr(Video, "packets", broken)
    with pytest.raises(KeyboardInterrupt):
        cut_clips(path, [Cut(start_s=4.0, end_s=29.0, out=tmp_path / "c.mkv")])
    assert [p.name for p in tmp_path.iterdir()] == ["v.mkv"]
