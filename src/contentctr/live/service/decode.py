"""From a posted segment to what the engine takes: base64, pictures and texts. No model's work."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from contentctr.errors import InputError
from contentctr.live.known_rooms import Shown
from contentctr.live.scorer_segments import Earlier, LiveSegment, RawSegment
from contentctr.live.service.schemas import THUMBNAIL_BYTES, SegmentIn

MAX_PIXELS = 4096 * 2304
"""Of a picture: a small file may claim to hold a huge one."""
MAX_POST_PIXELS = 64 * 10**6
"""Of all pictures of a post: 16 of 2560 x 1440 and some more."""
MAX_ASPECT = 16
"""Longer edge over the shorter: an encoder scales the shorter one up to its size."""
MAX_SCANS = 64
"""Of a JPEG: each goes over the whole picture again, and takes some bytes of the file. Encoders
make about ten."""
THUMBNAIL_PIXELS = 1280 * 720
"""Of a thumbnail: a few kilobytes may cost each viewer gigabytes."""


@dataclass(frozen=True)
class Frames:
    """The pictures of a post, not decoded yet."""

    files: tuple[bytes, ...]
    pixels: int
    """Of all of them."""


def to_segment(post: SegmentIn) -> LiveSegment:
    """The segment of a post that has features.

    Raises:
        InputError: a field's base64 is damaged, or text comes without speech and comments.
    """
    text = _features(post.text, "text")
    if (text is not None) != (post.has_speech or post.has_comments):
        raise InputError(
            "text: must be there exactly where has_speech or has_comments is true, not "
            f"{'there' if text is not None else 'missing'} with has_speech "
            f"{str(post.has_speech).lower()} and has_comments {str(post.has_comments).lower()}"
        )
    return LiveSegment(
        room_id=post.room_id,
        streamer_id=post.streamer_id,
        index=post.index,
        run=post.run,
        visual=_features(post.visual, "visual"),
        sound=_features(post.sound, "sound"),
        words=_features(post.words, "words"),
        text=text,
        has_speech=post.has_speech,
        has_comments=post.has_comments,
        counts=_counts(post),
        earlier=_earlier(post),
    )


def read_frames(post: SegmentIn) -> Frames:
    """The files of a post's frames; of each, no more than its head is read.

    Raises:
        InputError: a frame is no picture, or it or all of them have too many pixels.
    """
    files, pixels = [], 0
    for k, text in enumerate(post.frames or []):
        name = f"frames[{k}]"
        data = _bytes(text, name)
        width, height = _size(data, name)
        if width * height > MAX_PIXELS:
            raise InputError(
                f"{name}: must have at most {MAX_PIXELS} pixels, not {width} x {height}"
            )
        if max(width, height) > MAX_ASPECT * min(width, height):
            raise InputError(
                f"{name}: must be at most {MAX_ASPECT} times as long as wide, not "
                f"{width} x {height}"
            )
        files.append(data)
        pixels += width * height
    if pixels > MAX_POST_PIXELS:
        raise InputError(f"frames: must have at most {MAX_POST_PIXELS} pixels in all, not {pixels}")
    return Frames(tuple(files), pixels)


def to_raw(
    post: SegmentIn, frames: Frames, preprocess: Callable[[Image.Image], NDArray[np.uint8]]
) -> RawSegment:
    """The segment of a post that has frames or speech, or comments alone to be read.

    Args:
        post: the post.
        frames: of `read_frames`.
        preprocess: the visual encoder's.

    Raises:
        InputError: features are given too, or a frame is damaged.
    """
    for name in ("visual", "text", "words"):
        if getattr(post, name) is not None:
            raise InputError(f"{name}: must not be given beside frames or speech to be encoded")
    if post.has_speech or post.has_comments:
        raise InputError("has_speech, has_comments: must not be given beside frames or speech")
    pictures = [preprocess(_picture(data, f"frames[{k}]")) for k, data in enumerate(frames.files)]
    comments = [comment.strip() for comment in post.comments or []]
    return RawSegment(
        room_id=post.room_id,
        streamer_id=post.streamer_id,
        index=post.index,
        run=post.run,
        pictures=tuple(pictures),
        speech=(post.speech or "").strip(),
        comments="\n".join(comment for comment in comments if comment),
        sound=_features(post.sound, "sound"),
        counts=_counts(post),
        earlier=_earlier(post),
    )


def to_shown(post: SegmentIn, now: float, from_wall: Callable[[float], float] = float) -> Shown:
    """What the post gives to be shown.

    Raises:
        InputError: the thumbnail is no small JPEG or PNG.
    """
    thumbnail = None
    if post.thumbnail is not None:
        thumbnail = _bytes(post.thumbnail, "thumbnail")
        require_thumbnail(thumbnail)
    return Shown(
        ended_at=now if post.ended_at is None else from_wall(post.ended_at),
        title=post.title,
        comments=tuple(post.comments or ()),
        thumbnail=thumbnail,
    )


def require_thumbnail(data: bytes) -> None:
    """Stop at a thumbnail that viewers should not be sent; of it, no more than its head is read.

    Raises:
        InputError: it is no small JPEG or PNG.
    """
    if len(data) > THUMBNAIL_BYTES or picture_type(data) is None:
        raise InputError(f"thumbnail: must be a JPEG or PNG of at most {THUMBNAIL_BYTES} bytes")
    width, height = _size(data, "thumbnail")
    if width * height > THUMBNAIL_PIXELS:
        raise InputError(
            f"thumbnail: must have at most {THUMBNAIL_PIXELS} pixels, not {width} x {height}"
        )


def picture_type(data: bytes) -> Literal["image/jpeg", "image/png"] | None:
    """The type that the first bytes tell."""
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    return "image/png" if data.startswith(b"\x89PNG\r\n\x1a\n") else None


def _counts(post: SegmentIn) -> dict[str, int] | None:
    return None if post.counts is None else post.counts.model_dump(exclude_none=True)


def _earlier(post: SegmentIn) -> Earlier | None:
    if not post.earlier:
        return None
    return {one.index: one.model_dump(exclude_none=True, exclude={"index"}) for one in post.earlier}


def _features(value: list[float] | str | None, name: str) -> NDArray[np.float32] | None:
    if value is None:
        return None
    if isinstance(value, str):
        data = _bytes(value, name)
        if len(data) % 2:
            raise InputError(
                f"{name}: must be float16 in base64, not {len(data)} bytes, an odd number"
            )
        return np.frombuffer(data, "<f2").astype(np.float32)
    return np.asarray(value, np.float32)


def _bytes(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"{name}: must be base64, and is not") from None


def _size(data: bytes, name: str) -> tuple[int, int]:
    """Width and height that a picture's head tells."""
    if picture_type(data) is None:
        raise InputError(f"{name}: must be a JPEG or PNG, and is not")
    if data.startswith(b"\xff\xd8") and data.count(b"\xff\xda") > MAX_SCANS:
        raise InputError(f"{name}: a JPEG must have at most {MAX_SCANS} scans")
    with _decoding(name), _open(data) as picture:
        return picture.size


def _picture(data: bytes, name: str) -> Image.Image:
    with _decoding(name), _open(data) as picture:
        return picture.convert("RGB")


def _open(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))


@contextmanager
def _decoding(name: str) -> Iterator[None]:
    try:
        yield
    except Exception:  # a decoder raises whatever its parts raise: the picture is to blame
        raise InputError(f"{name}: must be a whole JPEG or PNG, and is damaged") from None
