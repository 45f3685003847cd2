"""Pictures of a watched room: the segments and pictures of `predict`, to the pixel."""

import dataclasses
import time

import av
import pytest

from contentctr.live.watch import video as watched_video
from contentctr.live.watch.video import WatchedVideo
from contentctr.live.watch.waiting import SourceBrokenError
from contentctr.rooms.frames import Decoder
from file_server import Quiet, Short, serving_files
from recordings import join, record, restamp
from videos import make_video
from watched import SPEC, as_offline, in_thread, offline, require_equal, waiting


def watched(path, spec=SPEC, lines=None, **options):
    report = (lambda line: None) if lines is None else lines.append
    video = WatchedVideo(str(path), spec, waiting(report=report, **options))
    return as_offline(video.segments())


@pytest.mark.parametrize("suffix", ["ts", "flv", "mkv", "mp4"])
@pytest.mark.parametrize("seconds", [20.0, 21.4])
@pytest.mark.parametrize("frames", ["exact", "keyframe"])
def test_a_finished_recording(tmp_path, suffix, seconds, frames):
    path = record(tmp_path / f"v.{suffix}", seconds, bframes=2, gop=12)
    spec = dataclasses.replace(SPEC, frames=frames)
    expected = offline(path, spec)
    # 2 s are dropped and 3.4 s are a segment of their own, whose frames lie closer together.
    assert expected[-1][0] == (12.0 if seconds == 20.0 else 18.0)
    require_equal(watched(path, spec), expected)


@pytest.mark.parametrize("suffix", ["ts", "flv", "mkv"])
def test_a_clock_that_starts_again(tmp_path, suffix):
    one = record(tmp_path / f"a.{suffix}", 15.0)
    other = record(tmp_path / f"b.{suffix}", 19.0, first=75, height=48)
    path, lines = join(tmp_path / f"v.{suffix}", one, other), []
    expected = offline(path)
    assert len(expected) == 6
    require_equal(watched(path, lines=lines), expected)
    assert len(lines) == 1 and "its clock starts again" in lines[0]


@pytest.mark.parametrize("suffix", ["ts", "flv", "mkv"])
def test_a_clock_that_jumps_ahead(tmp_path, suffix):
    far = record(tmp_path / f"far.{suffix}", 30.0, jumps=[(13.0, 18_000.0, "both")])
    lines = []
    found = watched(far, lines=lines)
    assert len(found) == 5 and all(len(s[2]) == 3 for s in found)
    require_equal(found, offline(far))
    assert any("s ahead over nothing" in line for line in lines)
    near = record(tmp_path / f"near.{suffix}", 30.0, jumps=[(13.0, 100.0, "both")])
    require_equal(watched(near), offline(near))


def test_a_stray_stamp_without_sound(tmp_path):
    path = record(tmp_path / "v.flv", 20.0, sound=None)
    restamp(path, lambda _, t: 40_000 if t == 9_000 else 0)
    expected = offline(path)
    assert len(expected) == 3
    require_equal(watched(path), expected)


def test_pictures_turned_resized_late_and_gone(tmp_path):
    half_turn = (-65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30)
    for name, options in {
        "turned.mp4": {"matrix": half_turn},
        "late.mkv": {"pictures": (9.0, 30.0)},
        "gone.flv": {"pictures": (0.0, 11.0)},
        "alone.ts": {"sound": None},
    }.items():
        path = record(tmp_path / name, 30.0, **options)
        expected = offline(path)
        assert len(expected) == 5
        require_equal(watched(path), expected)


def test_pictures_that_go_for_longer_than_one_stands_in(tmp_path):
    path = record(tmp_path / "v.mkv", 110.0, pictures=(0.0, 20.0))
    expected = offline(path)
    assert [len(s[2]) for s in expected[2:]] == [3, 1, *[0] * 14]
    lines = []
    require_equal(watched(path, lines=lines), expected)
    assert lines == [f"{path}: 44 frames asked for are missing: there are no pictures there"]


def test_sound_alone_has_segments_without_pictures(tmp_path):
    path = tmp_path / "v.m4a"
    record(path, 20.0, pictures=(30.0, 30.0))
    assert [len(s[2]) for s in watched(path)] == [0, 0, 0]


@pytest.mark.parametrize("frames", [1, 4])
def test_few_and_uneven_frames(tmp_path, frames):
    path = tmp_path / "v.ts"
    make_video(path, stamps=[0, 500, 900, 5900, 14_000, 14_100, 30_100], offset=1.5)
    spec = dataclasses.replace(SPEC, frames_per_segment=frames)
    require_equal(watched(path, spec), offline(path, spec))


@pytest.mark.parametrize("flags", ["frag_keyframe+empty_moov", "frag_keyframe", "faststart"])
def test_mp4_in_fragments(tmp_path, flags):
    path = record(tmp_path / "v.mp4", 26.0, bframes=2, gop=25, options={"movflags": flags})
    require_equal(watched(path), offline(path))


def test_no_more_is_decoded_than_the_frames_take(tmp_path, monkeypatch):
    path = record(tmp_path / "v.ts", 30.0, gop=10)
    counts = []
    plain = Decoder.decode

    def decode(self, packet, **options):
        counts[-1] += 1
        return plain(self, packet, **options)

    monkeypatch.setattr(Decoder, "decode", decode)
    for frames in ("exact", "keyframe"):
        counts.append(0)
        spec = dataclasses.replace(SPEC, frames_per_segment=1, frames=frames)
        assert [len(s[2]) for s in watched(path, spec)] == [1] * 5
    # Of 150 pictures in groups of 10: those from a keyframe to the frame, or the keyframe alone.
    assert counts[0] <= 5 * 10 and counts[1] <= 5


def test_little_memory_does_not_change_whole_segments(tmp_path, monkeypatch):
    path = record(tmp_path / "v.ts", 22.0, gop=25)
    monkeypatch.setattr(watched_video, "_HELD_BYTES", 5000)
    found, expected = watched(path), offline(path)
    require_equal(found[:3], expected[:3])
    assert found[3][:2] == expected[3][:2]


def test_segments_come_while_the_file_is_written(tmp_path):
    whole, path = tmp_path / "whole.ts", tmp_path / "v.ts"
    make_video(whole, seconds=60, rate=4, gop=8)
    data = whole.read_bytes()
    path.write_bytes(data[:1000])
    sizes, segments = [], []

    def write():
        with path.open("ab") as file:
            for start in range(1000, len(data), 20_000):
                file.write(data[start : start + 20_000])
                file.flush()
                time.sleep(0.03)

    with in_thread(write):
        video = WatchedVideo(str(path), SPEC, waiting(idle_s=0.5))
        for segment in video.segments():
            segments.append(segment)
            sizes.append(path.stat().st_size)
    assert sizes[0] < len(data) / 2 and video.duration_s == 60.0
    require_equal(as_offline(segments), offline(whole))


def test_the_user_ends_it(tmp_path):
    path = record(tmp_path / "v.ts", 22.0)
    stop = []
    video = WatchedVideo(str(path), SPEC, waiting(idle_s=60.0, stopped=lambda: stop))
    segments = []
    for segment in video.segments():
        segments.append(segment)
        if segment.index == 2:
            stop.append(True)
    # What is left of a room that still goes on is no segment.
    require_equal(as_offline(segments), offline(path)[:3])


def test_a_stream_over_http(tmp_path):
    make_video(
        tmp_path / "live.m3u8",
        seconds=20,
        rate=4,
        gop=8,
        fmt="hls",
        options={"hls_time": "2", "hls_list_size": "0"},
    )
    with serving_files(Quiet, tmp_path) as url:
        found = watched(f"{url}/live.m3u8")
    require_equal(found, offline(tmp_path / "live.m3u8"))


def test_a_stream_that_breaks_off(tmp_path):
    path = record(tmp_path / "v.ts", 20.0)
    segments = []
    with serving_files(Short, tmp_path) as url:
        video = WatchedVideo(f"{url}/v.ts", SPEC, waiting())
        with pytest.raises(SourceBrokenError, match=r"v\.ts: broke off after \d+\.\d s \("):
            segments.extend(video.segments())
    assert len(segments) == 3
    require_equal(as_offline(segments), offline(path)[:3])


def astray(source, path, which, by_s):
    """A copy in which some packets' time of showing, by their number, is so much later."""
    with av.open(str(source)) as found, av.open(str(path), "w") as out:
        streams = {s.index: out.add_stream_from_template(s) for s in found.streams}
        count = 0
        for packet in found.demux():
            if packet.dts is None:
                continue
            if packet.stream.type == "video":
                count += 1
                if which(count):
                    packet.pts += round(by_s / packet.time_base)
            packet.stream = streams[packet.stream.index]
            out.mux(packet)
    return path


@pytest.mark.parametrize("suffix", ["ts", "mkv", "flv"])
@pytest.mark.parametrize("which", [lambda k: k == 50, lambda k: k >= 50], ids=["one", "all"])
def test_broken_stamps_make_no_segments(tmp_path, suffix, which):
    whole = record(tmp_path / f"v.{suffix}", 20.0, bframes=2)
    path = astray(whole, tmp_path / f"w.{suffix}", which, 1e6)
    expected = offline(path)
    assert len(expected) <= 4 and expected[-1][1] <= 24.0
    require_equal(watched(path), expected)
