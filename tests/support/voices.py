"""Real speech: the recordings that the package moonshine-voice carries, without its code."""

import importlib.util
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

TWO_CITIES = """It was the best of times, it was the worst of times, it was the age of wisdom, it
was the age of foolishness, it was the epoch of belief, it was the epoch of incredulity, it was the
season of Light, it was the season of Darkness, it was the spring of hope, it was the winter of
despair, we had everything before us, we had nothing before us, we were all going direct to Heaven,
we were all going direct the other way, in short, the period was so far like the present period,
that some of its noisiest authorities insisted on its being received, for good or for evil, in the
superlative degree of comparison only."""
"""What two_cities.wav reads: the opening of A Tale of Two Cities (1859, public domain)."""


def recording(name):
    """The path of a recording: two_cities (44 s), endgame_nagg_nell (28 s), beckett (10 s)."""
    found = importlib.util.find_spec("moonshine_voice")
    if found is None or not found.submodule_search_locations:
        pytest.skip("moonshine-voice, which carries recordings of speech, is not installed")
    return Path(found.submodule_search_locations[0]) / "assets" / f"{name}.wav"


def samples(name, rate=16_000):
    """A recording's samples."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
    with av.open(str(recording(name))) as container:
        frames = [f for frame in container.decode(audio=0) for f in resampler.resample(frame)]
    frames += [frame for frame in resampler.resample(None) if frame is not None]
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


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
