"""Real speech: the recordings that the package moonshine-voice carries, without its code."""

from fractions import Fraction

import av
import numpy as np
import pytest

import speech
from contentctr.errors import InputError
from speech import TWO_CITIES as TWO_CITIES


def samples(name):
    """A recording's samples; the test is skipped where they are not installed."""
    try:
        return speech.samples(name)
    except InputError as error:
        pytest.skip(str(error))


def filmed(path, sound, rate=16_000):
    """A recording of a sound, with a picture a second."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=1)
        video.width, video.height, video.pix_fmt, video.gop_size = 64, 64, "yuv420p", 2
        video.options = {"preset": "ultrafast", "bf": "0"}
        track = out.add_stream("aac", rate=rate, layout="mono")
        shown = 0
        for first in range(0, len(sound), 1024):
            while shown <= first / rate:
                image = np.full((64, 64, 3), shown % 256, np.uint8)
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = shown, Fraction(1)
                out.mux(video.encode(frame))
                shown += 1
            data = (sound[None, first : first + 1024] * 32_000).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(data, format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, first, Fraction(1, rate)
            out.mux(track.encode(frame))
        for stream in (track, video):
            out.mux(stream.encode(None))
    return path
