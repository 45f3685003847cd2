"""A recogniser of tones, and recordings that speak in them.

A word is a tone of WORD_S: number n has 300 + 20 n Hz and the text "n". What a recording says is a
list of (second at which a word begins, number), so a test knows every word and when it is said.
"""

from fractions import Fraction

import av
import numpy as np

from contentctr.files import digest
from contentctr.rooms.sound import RATE
from contentctr.transcribe.segments import WINDOW_S, Word

WORD_S = 0.4
_BLOCK = RATE // 100
_PAD = RATE // 10


class FakeEars:
    """See Recogniser. Counts what it is asked for, and can break off."""

    name = "tones"

    def __init__(self, *, version=1, languages=None, breaks_after=None):
        self.revision = digest("tones", version)
        self.windows, self.detected, self.known = [], 0, languages or [{"en": 0.9, "de": 0.1}]
        self.spoken, self.breaks_after = [], breaks_after

    def voiced(self, samples):
        pieces = []
        for first, stop in _loud(samples, gap_s=0.5):
            first, stop = max(first - _PAD, 0), min(stop + _PAD, len(samples))
            longest = round(WINDOW_S * RATE)
            pieces += [(a, min(a + longest, stop)) for a in range(first, stop, longest)]
        return pieces

    def languages(self, samples):
        self.detected += 1
        return self.known[min(self.detected, len(self.known)) - 1]

    def words(self, samples, language):
        if self.breaks_after is not None and len(self.windows) >= self.breaks_after:
            raise KeyboardInterrupt
        assert len(samples) <= WINDOW_S * RATE
        self.windows.append(len(samples) / RATE)
        self.spoken.append(language)
        return [
            Word(first / RATE, stop / RATE, f" {_number(samples[first:stop])}")
            for first, stop in _loud(samples, gap_s=0.03)
        ]


def _loud(samples, gap_s):
    """Where it is loud, with pauses shorter than `gap_s` in between."""
    blocks = np.abs(samples[: len(samples) // _BLOCK * _BLOCK]).reshape(-1, _BLOCK).max(1) > 0.1
    spans = []
    for block in np.flatnonzero(blocks):
        if spans and block * _BLOCK - spans[-1][1] <= gap_s * RATE:
            spans[-1][1] = (block + 1) * _BLOCK
        else:
            spans.append([block * _BLOCK, (block + 1) * _BLOCK])
    return [(int(first), int(stop)) for first, stop in spans]


def _number(samples):
    inner = samples[len(samples) // 4 : -len(samples) // 4]
    spectrum = np.abs(np.fft.rfft(inner * np.hanning(len(inner)), 4 * RATE))
    return round((np.argmax(spectrum) / 4 - 300) / 20)


def said(words, seconds, rate=16_000):
    """Samples of words, in [-1, 1]."""
    samples = np.zeros(round(seconds * rate), np.float32)
    for start_s, number in words:
        first = round(start_s * rate)
        time = np.arange(round(WORD_S * rate)) / rate
        tone = 0.6 * np.sin(2 * np.pi * (300 + 20 * number) * time)
        samples[first : first + len(tone)] = tone[: len(samples) - first]
    return samples


def speaking(path, words, seconds, *, pictures=True, codec="aac", rate=16_000, options=None):
    """A recording that says words, with a picture every half second."""
    samples = said(words, seconds, rate)
    with av.open(str(path), "w", options=options or {}) as out:
        video = out.add_stream("libx264", rate=2) if pictures else None
        if video is not None:
            video.width, video.height, video.pix_fmt, video.gop_size = 64, 64, "yuv420p", 4
            video.options = {"preset": "ultrafast", "bf": "0"}
        track = out.add_stream(codec, rate=rate, layout="mono")
        shown = 0
        for first in range(0, len(samples), 1024):
            while video is not None and shown / 2 <= first / rate:
                image = np.full((64, 64, 3), shown % 256, np.uint8)
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = shown, Fraction(1, 2)
                out.mux(video.encode(frame))
                shown += 1
            data = (samples[first : first + 1024] * 32_000).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(data, format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = rate, first, Fraction(1, rate)
            out.mux(track.encode(frame))
        for stream in [track, *([] if video is None else [video])]:
            out.mux(stream.encode(None))
    return path
