"""Recordings of plain shots, each of one brightness, with noise that is loud in some stretches."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE, SOUND_RATE = 5, 8000


def film(
    path: Path,
    shots: Sequence[tuple[float, int]],
    *,
    loud: Sequence[tuple[float, float]] = (),
    sound: bool = False,
) -> Path:
    """Write shots of (seconds, brightness 0 to 255); with sound, quiet noise but in `loud`."""
    grey = [value for seconds, value in shots for _ in range(round(seconds * RATE))]
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=RATE)
        video.width, video.height, video.pix_fmt, video.gop_size = 64, 64, "yuv420p", RATE
        video.options = {"preset": "ultrafast", "bf": "0"}
        track = out.add_stream("aac", rate=SOUND_RATE, layout="mono") if sound or loud else None
        rng, done = np.random.default_rng(0), 0
        for number, value in enumerate(grey):
            frame = av.VideoFrame.from_ndarray(
                np.full((64, 64, 3), value, np.uint8), format="rgb24"
            )
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            out.mux(video.encode(frame))
            while track is not None and done / SOUND_RATE <= number / RATE:
                at_s = done / SOUND_RATE
                level = 9000 if any(start <= at_s < end for start, end in loud) else 300
                noise = rng.integers(-level, level, (1, 1024), np.int16)
                chunk = av.AudioFrame.from_ndarray(noise, format="s16", layout="mono")
                chunk.sample_rate, chunk.time_base = SOUND_RATE, Fraction(1, SOUND_RATE)
                chunk.pts, done = done, done + 1024
                out.mux(track.encode(chunk))
        for stream in (video, track):
            if stream is not None:
                out.mux(stream.encode(None))
    return path
