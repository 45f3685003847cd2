"""A recording in which things happen, and a chat that reacts to them five seconds later."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = 4
_SIZE = (48, 64)


def happenings(seconds: int, count: int, seed: int = 0) -> list[int]:
    """Seconds at which something happens, unevenly spread."""
    rng = np.random.default_rng(seed)
    return sorted(rng.choice(np.arange(8, seconds - 15), count, replace=False).tolist())


def record_happenings(path: Path, seconds: int, at: list[int]) -> Path:
    """Pictures flash and sound bursts for two seconds each time; else both are quiet."""
    rng = np.random.default_rng(1)
    loud = {second + more for second in at for more in (0, 1)}
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=RATE)
        video.height, video.width = _SIZE
        video.pix_fmt, video.gop_size = "yuv420p", 10 * RATE
        video.options = {"preset": "ultrafast", "sc_threshold": "0", "bf": "0"}
        sound = out.add_stream("aac", rate=8000, layout="mono")
        for number in range(seconds * RATE):
            busy = number // RATE in loud
            pixels = np.full((*_SIZE, 3), 90, np.uint8)
            if busy:
                pixels = rng.integers(0, 255, (*_SIZE, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            out.mux(video.encode(frame))
            noise = rng.integers(-9000, 9000, (1, 8000 // RATE), np.int16)
            samples = noise if busy else noise // 300
            chunk = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            chunk.sample_rate, chunk.pts = 8000, number * (8000 // RATE)
            chunk.time_base = Fraction(1, 8000)
            out.mux(sound.encode(chunk))
        out.mux(video.encode(None))
        out.mux(sound.encode(None))
    return path


def reactions(seconds: int, at: list[int], *, moved_s: float = 0.0, seed: int = 2) -> np.ndarray:
    """Times of comments: some at any time, many five seconds after each happening."""
    rng = np.random.default_rng(seed)
    idle = rng.uniform(0, seconds, seconds // 5)
    busy = np.concatenate([second + 5 + rng.gamma(2.0, 1.0, 8) - 2 for second in at])
    times = np.sort(np.concatenate([idle, busy]))
    return times[(times >= 0) & (times < seconds)] + moved_s


def write_chat(path: Path, times) -> Path:
    """A chat of comments at these times."""
    rows = [f"{t:.2f},user{i % 7},wow {i}" for i, t in enumerate(times)]
    path.write_text("\n".join(["t,user_id,text", *rows]) + "\n")
    return path
