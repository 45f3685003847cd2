"""Sound of recordings: every sample where the room's clock has it, however it was packed."""

from fractions import Fraction

import av
import numpy as np
import pytest

from contentctr.rooms.containers import open_stream
from contentctr.rooms.sound import LATE_S, RATE, SoundReader
from contentctr.rooms.video import Video
from recordings import join, record, restamp


def write_sound(
    path, pieces, *, rate=44_100, layout="stereo", codec="pcm_s16le", pictures_s=None, default=None
):
    """Sound made of pieces (start_s, samples of one channel in [-1, 1]), and maybe pictures.

    With `default`, a second stream, of silence, stands before it; default says which is so marked.
    """
    with av.open(str(path), "w") as out:
        video = out.add_stream("mpeg4", rate=5) if pictures_s else None
        if video is not None:
            video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        silent = out.add_stream("pcm_s16le", rate=rate, layout="mono") if default else None
        track = out.add_stream(codec, rate=rate, layout=layout)
        if silent is not None:
            for stream in (silent, track):
                stream.disposition = av.stream.Disposition(0)
            {"silent": silent, "loud": track}[default].disposition = av.stream.Disposition.default
            out.mux(silent.encode(frame_of(np.zeros(rate // 10), rate, "mono", 0)))
        packets = []
        for start_s, samples in pieces:
            for first in range(0, len(samples), 1024):
                at = round(start_s * rate) + first
                frame = frame_of(samples[first : first + 1024], rate, layout, at)
                packets.append((at / rate, track, frame))
        if video is not None:
            for number in range(round(pictures_s * 5)):
                frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 5)
                packets.append((number / 5, video, frame))
        for _, stream, frame in sorted(packets, key=lambda packet: packet[0]):
            out.mux(stream.encode(frame))
        for stream in [track, *([video] if video else [])]:
            out.mux(stream.encode(None))
    return path


def frame_of(samples, rate, layout, at):
    number = 1 if layout == "mono" else 2
    data = np.repeat(np.round(samples * 32_000).astype(np.int16), number)[None]
    frame = av.AudioFrame.from_ndarray(data, format="s16", layout=layout)
    frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
    return frame


def tone(seconds, rate=44_100, hertz=300, start_s=0.0):
    return 0.5 * np.sin(2 * np.pi * hertz * (start_s + np.arange(round(seconds * rate)) / rate))


def read(path, end_s, step_s=None, stream=False):
    """All samples up to `end_s`; taken as they come, `step_s` at a time."""
    if not stream:
        with Video(path) as video:
            return read_open(video, end_s, step_s)
    with path.open("rb") as file, Video(path, open_stream(file, path)) as video:
        return read_open(video, end_s, step_s)


def read_open(video, end_s, step_s):
    reader, taken, held = SoundReader(video), [], []
    steps = iter(np.arange(step_s, end_s, step_s) if step_s else [])
    at, until = 0.0, next(steps, end_s)
    for timed in video.packets():
        reader.add(timed)
        while until < end_s and reader.known_s >= until:
            taken.append(reader.take(at, until))
            reader.drop_before(until)
            at, until = until, next(steps, end_s)
        held.append(sum(len(piece) for _, piece in reader._samples))
    reader.finish()
    return np.concatenate([*taken, reader.take(at, end_s)]), reader, max(held)


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_samples_stand_where_they_sounded(tmp_path, rate, layout):
    path = write_sound(tmp_path / "v.wav", [(0.0, tone(3.0, rate))], rate=rate, layout=layout)
    found, reader, _ = read(path, 3.5)
    assert found.dtype == np.float32 and reader.bad == 0 and reader.left_out_s == 0
    expected = tone(3.0, RATE) * 32_000 / 32_768
    # At its ends, the resampler lacks neighbours.
    np.testing.assert_allclose(found[200:47_800], expected[200:47_800], atol=2e-3)
    assert not found[48_200:].any()


def test_gaps_are_silence_but_for_those_of_rounded_stamps(tmp_path):
    pieces = [(0.0, tone(2.0)), (3.0, tone(2.0)), (5.05, tone(1.0))]
    found, reader, _ = read(write_sound(tmp_path / "v.mkv", pieces), 8.0)
    loud = np.abs(found).reshape(-1, RATE // 20).max(1) > 0.1
    np.testing.assert_array_equal(np.flatnonzero(loud), [*range(40), *range(60, 120)])
    assert reader.left_out_s == 0
    expected = tone(2.0, RATE) * 32_000 / 32_768
    np.testing.assert_allclose(found[48_200:79_800], expected[200:31_800], atol=3e-3)


def test_what_lies_before_the_end_is_left_out(tmp_path):
    path = record(tmp_path / "v.flv", 12.0)
    whole, _, _ = read(path, 12.0)
    restamp(path, lambda kind, stamp: -320 * (kind == "sound" and stamp >= 5000))
    found, reader, _ = read(path, 12.0)
    assert 0.25 < reader.left_out_s < 0.4
    np.testing.assert_array_equal(found[: 5 * RATE - 3000], whole[: 5 * RATE - 3000])
    later = found[6 * RATE : 10 * RATE]
    np.testing.assert_allclose(later, whole[6 * RATE + 5120 : 10 * RATE + 5120], atol=1e-3)


@pytest.mark.parametrize("suffix", ["ts", "flv", "mkv", "mp4"])
def test_one_sound_in_steps_and_as_a_stream_to_the_bit(tmp_path, suffix):
    options = {"movflags": "frag_keyframe+empty_moov"} if suffix == "mp4" else {}
    path = record(tmp_path / f"v.{suffix}", 20.0, options=options)
    whole, reader, _ = read(path, 20.0)
    assert reader.bad == 0 and np.abs(whole[: 19 * RATE]).reshape(19, -1).max(1).min() > 0.1
    stepped, _, held = read(path, 20.0, step_s=3.0, stream=True)
    np.testing.assert_array_equal(stepped, whole)
    assert held < 4.5 * RATE


@pytest.mark.parametrize("suffix", ["ts", "flv", "mkv"])
def test_a_clock_that_starts_again(tmp_path, suffix):
    one = record(tmp_path / f"a.{suffix}", 6.0)
    other = record(tmp_path / f"b.{suffix}", 6.0)
    path = join(tmp_path / f"v.{suffix}", one, other)
    found, reader, _ = read(path, 12.0)
    first, _, _ = read(one, 6.0)
    np.testing.assert_array_equal(found[: 5 * RATE], first[: 5 * RATE])
    assert np.abs(found[: round(11.8 * RATE)]).reshape(-1, RATE // 5).max(1).min() > 0.1
    np.testing.assert_array_equal(read(path, 12.0, step_s=2.5, stream=True)[0], found)
    assert reader.left_out_s < 0.3


def test_sound_that_comes_late_begins_late(tmp_path):
    path = write_sound(tmp_path / "v.mkv", [(4.0, tone(2.0))], pictures_s=8.0)
    found, _, _ = read(path, 8.0)
    loud = np.flatnonzero(np.abs(found) > 0.01)
    assert abs(loud[0] / RATE - 4.0) < 0.01 and abs(loud[-1] / RATE - 6.0) < 0.01


def test_sound_that_has_gone_is_not_waited_for(tmp_path):
    path = write_sound(tmp_path / "v.mkv", [(0.0, tone(2.0))], pictures_s=20.0)
    with Video(path) as video:
        reader, known = SoundReader(video), []
        for timed in video.packets():
            reader.add(timed)
            known.append((video.now_s, reader.known_s))
    assert known[-1] == (pytest.approx(19.8), pytest.approx(19.8 - LATE_S, abs=1e-3))
    assert all(a[1] <= b[1] for a, b in zip(known, known[1:], strict=False))


@pytest.mark.parametrize("default", ["silent", "loud"])
def test_the_default_sound_is_heard(tmp_path, default):
    path = write_sound(tmp_path / "v.mkv", [(0.0, tone(2.0))], default=default, layout="mono")
    found, _, _ = read(path, 2.0)
    assert (np.abs(found).max() > 0.1) == (default == "loud")


def test_a_recording_without_sound_is_silent(tmp_path):
    path = record(tmp_path / "v.ts", 6.0, sound=None)
    found, reader, _ = read(path, 6.0)
    assert not found.any() and reader.bad == 0


def test_a_recording_without_sound_is_not_waited_for(tmp_path):
    with Video(record(tmp_path / "v.mp4", 8.0, sound=None)) as video:
        reader = SoundReader(video)
        for timed in video.packets():
            reader.add(timed)
            assert reader.known_s == pytest.approx(video.now_s, abs=1 / RATE)


def test_damage_is_counted_and_the_rest_stays_in_its_place(tmp_path):
    path = record(tmp_path / "v.flv", 12.0)
    whole, _, _ = read(path, 12.0)
    data = bytearray(path.read_bytes())
    at, sounds = 13, 0
    while at + 11 <= len(data):
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        if data[at] == 8:
            sounds += 1
            if 40 <= sounds < 50:
                data[at + 13 : at + 11 + size] = b"\xff" * (size - 2)
        at += 11 + size + 4
    path.write_bytes(data)
    found, reader, _ = read(path, 12.0)
    assert reader.bad >= 8
    np.testing.assert_allclose(found[8 * RATE : 11 * RATE], whole[8 * RATE : 11 * RATE], atol=1e-3)
