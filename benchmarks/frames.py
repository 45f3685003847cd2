"""Time to take pictures out of a recording: exact frames against the keyframes before them.

    python benchmarks/frames.py [--minutes 60] [--groups 2 10] [--bframes 0] [--repeats 3]

Recordings of 1080p at 30 pictures a second with sound, a moving pattern, x264 ultrafast: one minute
is encoded for each length of the picture groups, and its packets are repeated. Three frames are
taken a segment of 30 s, as `encode` does it, without resizing or encoding them. Ways take turns in
every round; medians over the rounds, ratios inside them.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from contentctr.rooms.media import frame_times, frames_at
from contentctr.rooms.room import Media
from contentctr.rooms.video import Video

WIDTH, HEIGHT, RATE = 1920, 1080, 30
SEGMENT_S, FRAMES = 30.0, 3
_SOUND_RATE = 44100


def main() -> None:
    """Write the recordings, measure, print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--groups", type=int, nargs="+", default=[2, 10], help="seconds")
    parser.add_argument("--bframes", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--suffix", default="mp4", help="container: mp4, mkv, flv or ts")
    chosen = parser.parse_args()
    print(
        "| picture group | MB | read alone s | exact s | keyframe s | keyframe / exact | peak MB |"
    )
    print("|---|---|---|---|---|---|---|")
    for group_s in chosen.groups:
        with tempfile.TemporaryDirectory() as folder:
            minute, path = Path(folder) / "minute.mkv", Path(folder) / f"room.{chosen.suffix}"
            write_minute(minute, group_s, chosen.bframes)
            repeat(minute, path, chosen.minutes)
            print(measure(path, group_s, chosen.minutes * 60.0, chosen.repeats), flush=True)


def measure(path: Path, group_s: int, length_s: float, repeats: int) -> str:
    """A row of the table."""
    starts = [i * SEGMENT_S for i in range(round(length_s / SEGMENT_S))]
    times = [t for start in starts for t in frame_times(start, start + SEGMENT_S, FRAMES)]
    media = Media(path=path, kind="video")
    ways: dict[str, Callable[[], object]] = {
        "read": lambda: read(path),
        "exact": lambda: count(media, times, "exact"),
        "keyframe": lambda: count(media, times, "keyframe"),
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            took[name].append(time.perf_counter() - begun)
    middle = {name: statistics.median(seconds) for name, seconds in took.items()}
    ratios = [k / e for k, e in zip(took["keyframe"], took["exact"], strict=True)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return (
        f"| {group_s} s | {path.stat().st_size / 1e6:.0f} | {middle['read']:.1f} | "
        f"{middle['exact']:.1f} | {middle['keyframe']:.1f} | {statistics.median(ratios):.2f} | "
        f"{peak:.0f} |"
    )


def read(path: Path) -> int:
    """Read a recording without decoding it; its packets."""
    with Video(path) as video:
        return sum(1 for _ in video.packets())


def count(media: Media, times: list[float], frames: str) -> None:
    """Take the frames; each must be there."""
    found = sum(frame is not None for frame in frames_at(media, times, frames=frames))  # type: ignore[arg-type]
    assert found == len(times), f"{found} of {len(times)} frames"


def write_minute(path: Path, group_s: int, bframes: int) -> None:
    """A minute of a moving pattern with sound."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 255, (HEIGHT // 8 + 120, WIDTH // 8 + 200), np.uint8)
    pattern = np.repeat(np.repeat(blocks, 8, 0), 8, 1)
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=RATE)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.gop_size = group_s * RATE
        video.options = {
            "preset": "ultrafast",
            "sc_threshold": "0",
            "crf": "28",
            "bf": str(bframes),
        }
        sound = out.add_stream("aac", rate=_SOUND_RATE, layout="mono")
        chunks = 0
        for number in range(60 * RATE):
            frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
            left, top = number * 3 % 1600, number * 2 % 960
            grey = pattern[top : top + HEIGHT, left : left + WIDTH]
            half = np.full((HEIGHT // 2, WIDTH // 2), 128, np.uint8)
            for plane, values in zip(frame.planes, (grey, half, half), strict=True):
                plane.update(np.ascontiguousarray(values))
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            out.mux(video.encode(frame))
            while chunks * 1024 <= number * _SOUND_RATE / RATE:
                noise = rng.integers(-3000, 3000, (1, 1024), np.int16)
                chunk = av.AudioFrame.from_ndarray(noise, format="s16", layout="mono")
                chunk.sample_rate, chunk.time_base = _SOUND_RATE, Fraction(1, _SOUND_RATE)
                chunk.pts, chunks = chunks * 1024, chunks + 1
                out.mux(sound.encode(chunk))
        out.mux(video.encode(None))
        out.mux(sound.encode(None))


def repeat(minute: Path, path: Path, minutes: int) -> None:
    """The packets of a minute, one minute after the other."""
    with av.open(str(path), "w") as out:
        copies = None
        for number in range(minutes):
            with av.open(str(minute)) as source:
                if copies is None:
                    copies = [out.add_stream_from_template(s) for s in source.streams]
                for packet in source.demux():
                    if packet.dts is None or packet.pts is None:
                        continue
                    if packet.pts * packet.time_base >= 60:
                        continue
                    shift = round(number * 60 / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = copies[packet.stream_index]
                    out.mux(packet)


if __name__ == "__main__":
    main()
