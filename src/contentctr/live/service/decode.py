"""From a posted segment to what the engine takes: base64, pictures and texts. No model's work."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from contentctr.errors import InputError
from contentctr.live.encoding import RawSegment
from contentctr.live.known_rooms import Shown
from contentctr.live.scorer_segments import LiveSegment
from contentctr.live.service.schemas import THUMBNAIL_BYTES, SegmentIn

MAX_PIXELS = 4096 * 2304
"""Of a picture: a small file may claim to hold a huge one."""


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
        visual=_features(post.visual, "visual"),
        sound=_features(post.sound, "sound"),
        text=text,
        has_speech=post.has_speech,
        has_comments=post.has_comments,
        counts=_counts(post),
    )


def to_raw(post: SegmentIn, preprocess: Callable[[Image.Image], NDArray[np.uint8]]) -> RawSegment:
    """The segment of a post that has frames or speech, or comments alone to be read.

    Args:
        post: the post.
        preprocess: the visual encoder's.

    Raises:
        InputError: features are given too, or a frame is no picture.
    """
    for name in ("visual", "text"):
        if getattr(post, name) is not None:
            raise InputError(f"{name}: must not be given beside frames or speech to be encoded")
    if post.has_speech or post.has_comments:
        raise InputError("has_speech, has_comments: must not be given beside frames or speech")
    pictures = [
        preprocess(_picture(frame, f"frames[{k}]")) for k, frame in enumerate(post.frames or [])
    ]
    comments = [comment.strip() for comment in post.comments or []]
    return RawSegment(
        room_id=post.room_id,
        streamer_id=post.streamer_id,
        index=post.index,
        pictures=tuple(pictures),
        speech=(post.speech or "").strip(),
        comments="\n".join(comment for comment in comments if comment),
        sound=_features(post.sound, "sound"),
        counts=_counts(post),
    )


def to_shown(post: SegmentIn, now: float) -> Shown:
    """What the post gives to be shown.

    Raises:
        InputError: the thumbnail is no small JPEG or PNG.
    """
    thumbnail = None
    if post.thumbnail is not None:
        thumbnail = _bytes(post.thumbnail, "thumbnail")
        if len(thumbnail) > THUMBNAIL_BYTES or picture_type(thumbnail) is None:
            raise InputError(f"thumbnail: must be a JPEG or PNG of at most {THUMBNAIL_BYTES} bytes")
    return Shown(
        ended_at=now if post.ended_at is None else post.ended_at,
        title=post.title,
        comments=tuple(post.comments or ()),
        thumbnail=thumbnail,
    )


def picture_type(data: bytes) -> Literal["image/jpeg", "image/png"] | None:
    """The type that the first bytes tell."""
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    return "image/png" if data.startswith(b"\x89PNG\r\n\x1a\n") else None


def _counts(post: SegmentIn) -> dict[str, int] | None:
    return None if post.counts is None else post.counts.model_dump(exclude_none=True)


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


def _picture(text: str, name: str) -> Image.Image:
    data = _bytes(text, name)
    if picture_type(data) is None:
        raise InputError(f"{name}: must be a JPEG or PNG, and is not")
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as picture:
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise InputError(
                    f"{name}: must have at most {MAX_PIXELS} pixels, not {width} x {height}"
                )
            return picture.convert("RGB")
    except InputError:
        raise
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise InputError(f"{name}: must be a whole JPEG or PNG, and is damaged") from None
