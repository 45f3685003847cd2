"""Pictures of a room: frames at given times, a clip without re-encoding, what a video holds.

Nothing here reads a whole recording into memory, nor decodes more of it than it must.
"""

from __future__ import annotations

import bisect
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import av
from av.stream import Disposition
from PIL import Image

from contentctr.errors import InputError
from contentctr.files import atomic
from contentctr.rooms.room import Media
from contentctr.rooms.video import Player, Video, picture

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
CLIP_FORMATS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".flv": "flv",
    ".ts": "mpegts",
}
_TAIL_S = 1.0
"""A header may claim so much more than the packets hold before the video counts as truncated."""


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What `probe` finds in a video file."""

    duration_s: float
    """From the first frame's start to the last frame's end, as the packets have it."""
    width: int
    height: int
    warnings: list[str] = field(default_factory=list)


def probe(path: Path) -> VideoInfo:
    """Length and size of a video, from its header and its last packets.

    Raises:
        InputError: the file is missing, no video that can be opened, or has no video stream.
    """
    with Video(path) as video:
        width, height = video.stream.width, video.stream.height
        claimed = video.claimed_s()
        found = video.end_s(claimed)
    if found <= 0 or not width or not height:
        raise InputError(f"{path}: no frame of its video can be read")
    warnings = []
    if claimed is not None and found < claimed - max(_TAIL_S, claimed / 100):
        warnings.append(
            f"{path}: its header says {claimed:.1f} s, but it ends at {found:.1f} s (truncated?)"
        )
    return VideoInfo(duration_s=found, width=width, height=height, warnings=warnings)


def frame_times(start_s: float, end_s: float, count: int) -> list[float]:
    """The middle of each of `count` equal shares of [start_s, end_s), in seconds."""
    assert count >= 1
    return [start_s + (end_s - start_s) * (i + 0.5) / count for i in range(count)]


def frames_at(
    media: Media,
    times: Sequence[float],
    *,
    tolerance_s: float = 5.0,
    warnings: list[str] | None = None,
) -> Iterator[Image.Image | None]:
    """The picture shown at each time: RGB, or None where there is none.

    Of a video, that is the last frame that starts at or before the time (before the first frame:
    the first); of a folder of images, the nearest one within `tolerance_s`. Damage to a video
    or an image is reported in `warnings` and costs no more than the frames it hits. One frame
    is held at a time, however long the recording.

    Args:
        media: a video file, or a folder of images named by their second.
        times: seconds from the start of the video stream, ascending.
        tolerance_s: half the time that one image stands for; for folders alone.
        warnings: messages are added to it.

    Raises:
        InputError: there is no such file, it has no video stream, or the folder has no images.
    """
    assert all(a <= b for a, b in zip(times, times[1:], strict=False)), "times must ascend"
    notes = [] if warnings is None else warnings
    if media.kind == "frames":
        return _images_at(media.path, times, tolerance_s, notes)
    return _video_at(media.path, times, notes)


def list_images(folder: Path, warnings: list[str] | None = None) -> list[tuple[float, Path]]:
    """The images of a folder with the second that each is named by, sorted by it.

    Raises:
        InputError: the folder does not exist, or holds no image whose name is a number.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of frames")
    images, strangers = [], []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            if re.fullmatch(r"\d+(\.\d+)?", path.stem):
                images.append((float(path.stem), path))
            else:
                strangers.append(path.name)
    if not images:
        raise InputError(
            f"{folder}: holds no image named by its second, such as 12.jpg or 12.5.png"
            + (f"; it has {strangers[0]}" if strangers else "")
        )
    if strangers and warnings is not None:
        warnings.append(
            f"{folder}: {len(strangers)} images are not named by their second and left out, "
            f"such as {strangers[0]}"
        )
    return sorted(images)


def cut_clip(video: Path, start_s: float, end_s: float, out: Path) -> tuple[float, float]:
    """Copy a part of a video into a file of its own, without decoding or encoding.

    All audio and video streams are kept. A clip can only start at a keyframe: the last one at or
    before `start_s`.

    Args:
        video: the recording.
        start_s: seconds from the start of its video stream.
        end_s: seconds; later than `start_s`.
        out: file to write, of a suffix in CLIP_FORMATS.

    Returns:
        Where the clip really starts and ends, in seconds of the recording.

    Raises:
        InputError: a bad time or suffix, nothing there to cut, or codecs the container refuses.
    """
    if not 0 <= start_s < end_s:
        raise InputError(f"a clip must start at 0 or later and before its end: {start_s}-{end_s}")
    container = CLIP_FORMATS.get(out.suffix.lower())
    if container is None:
        raise InputError(f"{out}: a clip must end in {', '.join(CLIP_FORMATS)}")
    with Video(video) as source, atomic(out) as temporary:
        try:
            return _remux(source, start_s, end_s, temporary, container)
        except (av.error.FFmpegError, ValueError, OSError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{out}: cannot hold the streams of {video} ({error}); try a .mkv"
            ) from None


def _remux(
    source: Video, start_s: float, end_s: float, out: Path, container: str
) -> tuple[float, float]:
    first_s = source.seek_keyframe(start_s)
    chosen = [
        s
        for s in source.container.streams
        if s.type in ("video", "audio") and not s.disposition & Disposition.attached_pic
    ]
    last_s = -math.inf
    begun = False
    with av.open(str(out), "w", format=container) as sink:
        copies = {s.index: sink.add_stream_from_template(s) for s in chosen}
        for packet in source.packets(*chosen):
            at_s, is_picture = source.seconds(packet), packet.stream.index == source.stream.index
            decode_s = source.seconds(packet, decode=True)
            if is_picture and decode_s >= end_s:
                break
            begun = begun or (is_picture and packet.is_keyframe and at_s >= first_s)
            if at_s < first_s or (is_picture and not begun) or (not is_picture and at_s >= end_s):
                continue
            if is_picture:
                last_s = max(last_s, at_s + float((packet.duration or 0) * packet.time_base))
            shift = round((first_s + source.origin_s) / packet.time_base)
            packet.pts, packet.dts = _minus(packet.pts, shift), _minus(packet.dts, shift)
            packet.stream = copies[packet.stream.index]
            sink.mux(packet)
    if last_s <= start_s:
        raise InputError(f"{source.path}: has no picture between {start_s:g} and {end_s:g} s")
    return first_s, last_s


def _minus(stamp: int | None, shift: int) -> int | None:
    return None if stamp is None else stamp - shift


def _images_at(
    folder: Path, times: Sequence[float], tolerance_s: float, warnings: list[str]
) -> Iterator[Image.Image | None]:
    images = list_images(folder, warnings)
    seconds = [second for second, _ in images]
    for time in times:
        right = bisect.bisect_left(seconds, time)
        near = min(
            range(max(right - 1, 0), min(right + 1, len(seconds))),
            key=lambda i: abs(seconds[i] - time),
        )
        if abs(seconds[near] - time) > tolerance_s:
            yield None
            continue
        yield _read_image(images[near][1], warnings)


def _read_image(path: Path, warnings: list[str]) -> Image.Image | None:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    # Pillow's plug-ins raise all of these for damaged files.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        warnings.append(f"{path}: not a readable image ({error})")
        return None


def _video_at(
    path: Path, times: Sequence[float], warnings: list[str]
) -> Iterator[Image.Image | None]:
    missing = 0
    with Video(path) as video, Video(path) as scout:
        player = Player(video, scout)
        try:
            for time in times:
                frame = player.at(time)
                missing += frame is None
                yield None if frame is None else picture(frame)
        finally:
            if video.bad:
                warnings.append(f"{path}: {video.bad} packets could not be read or decoded")
            if missing:
                warnings.append(
                    f"{path}: its pictures end at {player.end_s():.1f} s; {missing} frames "
                    "asked for after that are missing"
                )
