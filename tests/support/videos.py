"""What several tests share, taken out of test_media."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image

BITS, BLOCK = 12, 16


def drawn(number: int) -> np.ndarray:
    """A picture with `number` in black and white blocks, which lossy coding does not harm."""
    bits = [(number >> i) & 1 for i in range(BITS)]
    row = np.repeat(np.array(bits, dtype=np.uint8) * 255, BLOCK)
    return np.repeat(np.repeat(row[None], 2 * BLOCK, 0)[..., None], 3, -1)


def number(image: Image.Image | None) -> int | None:
    """The number in a picture."""
    if image is None:
        return None
    assert image.mode == "RGB"
    row = np.asarray(image.convert("L"))[BLOCK, BLOCK // 2 :: BLOCK]
    return int(sum(int(v > 127) << i for i, v in enumerate(row)))


def make_video(
    path: Path,
    *,
    stamps: list[int] | None = None,
    seconds: int = 20,
    rate: int = 10,
    gop: int = 20,
    codec: str = "libx264",
    offset: float = 0.0,
    audio: bool = False,
    options: dict[str, str] | None = None,
    fmt: str | None = None,
) -> list[int]:
    """Frame i, drawn with i, at stamps[i] / 1000 + offset seconds. Returns the stamps."""
    if stamps is None:
        stamps = [i * 1000 // rate for i in range(seconds * rate)]
    with av.open(str(path), "w", format=fmt, options=options or {}) as out:
        video = out.add_stream(codec, rate=rate)
        video.width, video.height, video.pix_fmt = BITS * BLOCK, 2 * BLOCK, "yuv420p"
        video.gop_size = gop
        video.codec_context.time_base = Fraction(1, 1000)
        if codec == "libx264":
            video.options = {"preset": "ultrafast", "bf": "2", "sc_threshold": "0", "crf": "30"}
        sound = out.add_stream("aac", rate=8000, layout="mono") if audio else None
        chunks = 0
        for i, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(drawn(i), format="rgb24")
            frame.pts, frame.time_base = stamp + round(offset * 1000), Fraction(1, 1000)
            out.mux(video.encode(frame))
            while sound is not None and chunks * 128 <= stamp:
                noise = np.random.default_rng(chunks).integers(-9000, 9000, (1, 1024), np.int16)
                chunk = av.AudioFrame.from_ndarray(noise, format="s16", layout="mono")
                chunk.sample_rate, chunk.time_base = 8000, Fraction(1, 8000)
                chunk.pts = chunks * 1024 + round(offset * 8000)
                out.mux(sound.encode(chunk))
                chunks += 1
        out.mux(video.encode(None))
        if sound is not None:
            out.mux(sound.encode(None))
    return stamps


def film(path: Path, rate: Fraction, seconds: int = 4, tc: str = "", sound: bool = True) -> Path:
    """A video at an exact rate; frame i is drawn with i."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=rate)
        video.width, video.height, video.pix_fmt = drawn(0).shape[1], drawn(0).shape[0], "yuv420p"
        video.options = {"preset": "ultrafast", "crf": "30"}
        if tc:
            video.metadata["timecode"] = tc
        track = out.add_stream("aac", rate=48000, layout="stereo") if sound else None
        for i in range(round(seconds * rate)):
            frame = av.VideoFrame.from_ndarray(drawn(i), format="rgb24")
            frame.pts, frame.time_base = i, 1 / rate
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        for i in range(seconds * 48 if track is not None else 0):
            chunk = av.AudioFrame.from_ndarray(
                np.zeros((2, 1000), np.float32), format="fltp", layout="stereo"
            )
            chunk.sample_rate, chunk.pts = 48000, i * 1000
            out.mux(track.encode(chunk))
        if track is not None:
            out.mux(track.encode(None))
    return path
