"""Pictures of a room: what a recording holds, frames at given times, a folder of images.

Nothing here reads a whole recording into memory, nor decodes more of it than it must.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from PIL import Image

from contentctr.config import FrameChoice
from contentctr.errors import InputError
from contentctr.rooms.clock import PICTURE
from contentctr.rooms.frames import HOLD_S, LAST_S, Decoder, FrameReader, Make, P, reading_notes
from contentctr.rooms.keyframes import Astray, keyframes_at, keys_suffice
from contentctr.rooms.listening import SoundListener
from contentctr.rooms.room import Media
from contentctr.rooms.steady import Steady, Survey
from contentctr.rooms.video import TimedPacket, Turns, Video, grey_picture, picture, pixels

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_NO_PICTURES = "has no video stream (sound only?)"
_TAIL_S = 1.0
"""A header may claim so much more than the packets hold before the video counts as truncated."""
_BREAKS_TOLD = 5
"""Breaks of a clock that are told one by one."""


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What `probe` finds in a recording."""

    duration_s: float
    """From its first picture or sound to the end of the last, as the packets have it."""
    width: int
    """Of the first picture that can be decoded, upright; 0: there are no pictures."""
    height: int
    has_sound: bool = False
    first_s: float | None = None
    """When that picture comes."""
    rotation: int = 0
    """Degrees by which players turn its pictures."""
    warnings: list[str] = field(default_factory=list)
    steady: Steady | None = None
    """What spares a second reading much, where there is no need to look at everything again."""


def probe(path: Path, *, sound_alone: bool = False) -> VideoInfo:
    """Length and size of a recording, by reading it once from start to end.

    Args:
        path: its file.
        sound_alone: whether one without pictures will do.

    Raises:
        InputError: the file is missing, cannot be opened, or has no pictures (nor sound).
    """
    with Video(path) as video:
        return read_through(video, sound_alone=sound_alone)


def read_through(
    video: Video,
    *,
    sound_alone: bool = False,
    each: Callable[[TimedPacket], None] | None = None,
) -> VideoInfo:
    """The same of an open recording, none of whose packets was read yet.

    Args:
        video: the recording.
        sound_alone: whether one without pictures will do.
        each: is shown every packet.

    Raises:
        InputError: it has no pictures (nor sound), or none can be decoded.
    """
    path, survey = video.path, Survey()
    first = _first_picture(video, each, survey)
    if not video.has_pictures and not sound_alone:
        raise InputError(f"{path}: {_NO_PICTURES}")
    if first is None and (video.sound_end_s() is None or not sound_alone):
        raise InputError(f"{path}: no frame of its video can be read")
    first_s, frame = first or (None, None)
    width, height = (0, 0) if frame is None else picture(frame).size
    offset_s = video.only_offset_s
    return VideoInfo(
        duration_s=video.duration_s,
        width=width,
        height=height,
        has_sound=video.sound_end_s() is not None,
        first_s=first_s,
        rotation=0 if frame is None else frame.rotation % 360,
        warnings=_warnings(video, first_s),
        steady=None if offset_s is None else survey.steady(Path(path), video.clock, offset_s),
    )


def _first_picture(
    video: Video, each: Callable[[TimedPacket], None] | None, survey: Survey
) -> tuple[float, VideoFrame] | None:
    """The first picture that can be decoded, and when it comes; reads all packets."""
    decoder, found = Decoder(), None
    last: TimedPacket | None = None
    for timed in video.packets():
        if each is not None:
            each(timed)
        if not timed.is_picture:
            continue
        packet = timed.packet
        survey.add(timed.show_s, packet.size, is_key=packet.is_keyframe)
        if found is None:
            last = timed
            found = next(iter(decoder.decode(timed.packet)), None)
    if found is None and last is not None:
        found = next(iter(decoder.drain(last.packet)), None)
    if found is None or last is None:
        return None
    at_s = float((found.pts or 0) * last.packet.time_base)
    return at_s, found


def _warnings(video: Video, first_s: float | None) -> list[str]:
    """What a user should know of a recording, all of which was read."""
    breaks, length_s = video.clock.breaks, video.duration_s
    notes = [str(each) for each in breaks[:_BREAKS_TOLD]]
    if len(breaks) > _BREAKS_TOLD:
        notes.append(f"its clock does not run on at {len(breaks)} places; these are the first")
    if video.missing:
        name = video.missing[0]
        notes.append(f"{len(video.missing)} of its entries are not in its folder, as {name}")
    if video.bad:
        notes.append(
            f"reading it met {video.bad} faults, after each of which some of it is missing"
        )
    if first_s is not None and first_s > LAST_S:
        gap = "" if first_s <= HOLD_S else f", from {first_s - HOLD_S:.1f} s on"
        notes.append(
            f"its first picture comes at {first_s:.1f} s; it stands for the time before{gap}"
        )
    end_s, sound_s = video.clock.end_s(PICTURE), video.sound_end_s()
    if first_s is not None and end_s is not None and length_s - end_s > LAST_S:
        notes.append(
            f"its pictures end at {end_s:.1f} s, its sound at {sound_s:.1f} s: pictures are "
            "missing from there on"
        )
    if first_s is None and video.has_pictures:
        notes.append("no frame of its video can be read: taken as sound alone")
    claimed_s = video.claimed_s
    jumps_s = sum(each.jump_s for each in breaks if each.jump_s > 0 and not each.kept)
    there_s = max(length_s + jumps_s, video.clock.file_end_s)
    if claimed_s is not None and there_s < claimed_s - max(_TAIL_S, claimed_s / 100):
        notes.append(
            f"its header says {claimed_s:.1f} s, but it ends at {length_s:.1f} s (truncated?)"
        )
    return [f"{video.path}: {note}" for note in notes]


def frame_times(start_s: float, end_s: float, count: int) -> list[float]:
    """The middle of each of `count` equal shares of [start_s, end_s), in seconds."""
    assert count >= 1
    return [start_s + (end_s - start_s) * (i + 0.5) / count for i in range(count)]


def frames_at(
    media: Media,
    times: Sequence[float],
    *,
    frames: FrameChoice = "exact",
    tolerance_s: float = 5.0,
    warnings: list[str] | None = None,
    listener: SoundListener | None = None,
    grey: tuple[int, int] | None = None,
) -> Iterator[Image.Image | None]:
    """The picture shown at each time: RGB and upright, or None where there is none.

    Of a video, that is the last frame that starts at or before the time, or the keyframe before
    it (see rooms/frames.py for what stands where pictures begin late, end early or pause); of a
    folder of images, the nearest one within `tolerance_s`. Damage to a video or an image is
    reported in `warnings` and costs no more than the frames it hits. One frame is held at a time,
    however long the recording.

    Args:
        media: a video file, or a folder of images named by their second.
        times: seconds from the room's start, ascending.
        frames: "exact", or "keyframe" for the nearest earlier keyframe, which decodes less.
        tolerance_s: half the time that one image stands for; for folders alone.
        warnings: messages are added to it.
        listener: is given the sound of a video, in the same pass.
        grey: width and height of pictures that are wanted as brightness alone, not turned upright.

    Raises:
        InputError: there is no such file, it has no video stream, or the folder has no images.
    """
    notes = [] if warnings is None else warnings
    if media.kind == "frames":
        images = _images_at(media.path, times, tolerance_s, notes)
        return images if grey is None else (_as_grey(image, grey) for image in images)
    make = picture if grey is None else partial(_made_grey, grey)
    return _video_at(media, times, frames, notes, listener, make)


def pixels_at(
    media: Media,
    times: Sequence[float],
    *,
    frames: FrameChoice = "exact",
    tolerance_s: float = 5.0,
    warnings: list[str] | None = None,
    listener: SoundListener | None = None,
) -> Iterator[NDArray[np.uint8] | None]:
    """The same as arrays [H, W, 3], for encoders."""
    notes = [] if warnings is None else warnings
    if media.kind == "frames":
        images = _images_at(media.path, times, tolerance_s, notes)
        return (None if image is None else np.array(image) for image in images)
    return _video_at(media, times, frames, notes, listener, pixels)


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


def _made_grey(size: tuple[int, int], frame: VideoFrame, _: Turns) -> Image.Image:
    return grey_picture(frame, size)


def _as_grey(image: Image.Image | None, size: tuple[int, int]) -> Image.Image | None:
    return None if image is None else image.convert("L").resize(size, Image.Resampling.BOX)


def _read_image(path: Path, warnings: list[str]) -> Image.Image | None:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    # Pillow's plug-ins raise all of these for damaged files.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        warnings.append(f"{path}: not a readable image ({error})")
        return None


def _video_at(
    media: Media,
    times: Sequence[float],
    frames: FrameChoice,
    warnings: list[str],
    listener: SoundListener | None,
    make: Make[P],
) -> Iterator[P | None]:
    assert all(a <= b for a, b in zip(times, times[1:], strict=False)), "times must ascend"
    path, steady, given = media.path, media.steady, 0
    if listener is not None or steady is None or not steady.is_of(path):
        steady = None
    if steady is not None and frames == "keyframe" and keys_suffice(steady, times):
        try:
            for image in keyframes_at(path, steady, times, make=make, warnings=warnings):
                yield image
                given += 1
            return
        except Astray:
            pass
    images = _all_read(path, times, frames, warnings, listener, make, steady)
    yield from islice(images, given, None)


def _all_read(
    path: Path,
    times: Sequence[float],
    frames: FrameChoice,
    warnings: list[str],
    listener: SoundListener | None,
    make: Make[P],
    steady: Steady | None,
) -> Iterator[P | None]:
    """The same, from all packets of its pictures."""
    with Video(path, steady=steady) as video:
        reader = FrameReader(video, times, frames=frames, make=make)
        if listener is not None:
            listener.begin(video)
        try:
            for timed in video.packets():
                if listener is not None:
                    listener.add(timed)
                yield from reader.add(timed)
                if reader.done and (listener is None or listener.done):
                    break
            else:
                if not video.has_pictures:
                    raise InputError(f"{path}: {_NO_PICTURES}")
                yield from reader.finish()
            if listener is not None:
                listener.finish(path, warnings)
        finally:
            warnings += reading_notes(video, reader)
