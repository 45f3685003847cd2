"""Recordings as they really are, small: joined, jumping, late, turned, changing their size.

Every picture carries its number, as in videos.py: RATE pictures a second, numbered on over joints,
so that the picture at room time t is number t * RATE.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from videos import BITS, BLOCK, drawn

RATE = 5
_MS = Fraction(1, 1000)
Turn = Callable[[np.ndarray], np.ndarray]


def record(
    path: Path,
    seconds: float = 20.0,
    *,
    first: int = 0,
    at: float = 0.0,
    pictures: tuple[float, float] | None = None,
    sound: tuple[float, float] | None = (0.0, 1e9),
    jumps: Sequence[tuple[float, float, str]] = (),
    gop: int = 10,
    bframes: int = 0,
    height: int = 2 * BLOCK,
    turn: Turn | None = None,
    matrix: Sequence[int] | None = None,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
) -> Path:
    """Write a recording.

    Args:
        path: what to write; its suffix names the container.
        seconds: how long it runs.
        first: number of the picture at second 0.
        at: what its clock is then.
        pictures: from when to when there are pictures; None: always.
        sound: from when to when there is sound; None: never.
        jumps: from a second on, so much is added to the clock of "both", "picture" or "sound".
        gop: pictures from one keyframe to the next.
        bframes: pictures that may be stored in another order.
        height: of the pictures; they are BITS * BLOCK wide.
        turn: how pictures lie in the file.
        matrix: the display matrix by which players turn them back.
        codec: of the pictures.
        options: of the container.
    """

    def clock(second: float, stream: str) -> int:
        added = sum(
            by for since, by, whose in jumps if second >= since and whose in ("both", stream)
        )
        return round((at + second + added) * 1000)

    begin, end = pictures or (0.0, seconds)
    with av.open(str(path), "w", options=options or {}) as out:
        video = out.add_stream(codec, rate=RATE)
        turned = _drawn(0, height) if turn is None else turn(_drawn(0, height))
        video.height, video.width = turned.shape[:2]
        video.pix_fmt, video.gop_size = "yuv420p", gop
        video.codec_context.time_base = _MS
        if codec == "libx264":
            video.options = {
                "preset": "ultrafast",
                "bf": str(bframes),
                "sc_threshold": "0",
                "crf": "30",
            }
        if matrix is not None:
            video.set_display_matrix(matrix)
        track = out.add_stream("aac", rate=8000, layout="mono") if sound else None
        chunk_s = 1024 / 8000
        chunks = 0
        for number in range(round(seconds * RATE)):
            second = number / RATE
            while track is not None and sound is not None and chunks * chunk_s <= second:
                if sound[0] <= chunks * chunk_s < sound[1]:
                    noise = np.random.default_rng(chunks).integers(-9000, 9000, (1, 1024), np.int16)
                    frame = av.AudioFrame.from_ndarray(noise, format="s16", layout="mono")
                    frame.sample_rate, frame.time_base = 8000, _MS
                    frame.pts = clock(chunks * chunk_s, "sound")
                    out.mux(track.encode(frame))
                chunks += 1
            if begin <= second < end:
                drawing = _drawn(first + number, height)
                frame = av.VideoFrame.from_ndarray(
                    np.ascontiguousarray(drawing if turn is None else turn(drawing)), format="rgb24"
                )
                frame.pts, frame.time_base = clock(second, "picture"), _MS
                out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if track is not None:
            out.mux(track.encode(None))
    return path


def join(path: Path, *parts: Path, headers: bool = True) -> Path:
    """Files end to end, as `cat` does it; without FLV's headers in the middle if not `headers`."""
    data = [part.read_bytes() for part in parts]
    if not headers:
        data[1:] = [each[13:] for each in data[1:]]
    path.write_bytes(b"".join(data))
    return path


def _drawn(number: int, height: int) -> np.ndarray:
    picture = drawn(number)
    return np.concatenate([picture, np.zeros((height - 2 * BLOCK, BITS * BLOCK, 3), np.uint8)])


def restamp(path: Path, shift: Callable[[str, int], int]) -> Path:
    """Change the stamps of an FLV file in place; its packets stay in their order, as recorded.

    Args:
        path: the file.
        shift: what to add to a packet's stamp, by "sound" or "picture" and the stamp, in ms.
    """
    data = bytearray(path.read_bytes())
    at = 13
    while at + 11 <= len(data):
        kind, size = data[at], int.from_bytes(data[at + 1 : at + 4], "big")
        if kind in (8, 9):
            stamp = int.from_bytes(data[at + 4 : at + 7], "big") + (data[at + 7] << 24)
            stamp += shift("sound" if kind == 8 else "picture", stamp)
            data[at + 4 : at + 8] = (stamp & 0xFFFFFF).to_bytes(3, "big") + bytes([stamp >> 24])
        at += 11 + size + 4
    path.write_bytes(data)
    return path
