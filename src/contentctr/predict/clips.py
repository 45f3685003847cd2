"""Clips of a prediction's highlights, a picture of each peak, and the reel of all clips."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from contentctr.errors import InputError
from contentctr.files import atomic
from contentctr.predict.editing import Editing
from contentctr.rooms.clips import CLIP_FORMATS, Cut, cut_clips
from contentctr.rooms.containers import describe_streams
from contentctr.rooms.exact import EXACT_SUFFIX, cut_exactly, exact_suffix
from contentctr.rooms.media import frames_at
from contentctr.rooms.reel import join_clips
from contentctr.rooms.room import Media
from contentctr.score.highlights import Highlight, clock

THUMBNAIL = (1280, 1280)
"""Of a clip's picture, at most."""
SMALL = (320, 320)
"""Of the pictures on the page, at most."""
_STREAMED = (".flv", ".ts")
"""Containers that recorders write, and neither browsers nor most editors open."""
_IN_MP4 = ("h264", "hevc", "av1", "aac", "mp3", "ac3", "eac3", "opus", "flac", "alac")
_EARLY_S = 1.0
"""A clip that ends so much before its highlight is worth a warning."""


@dataclass(frozen=True)
class Clip:
    """A clip that was cut."""

    path: Path
    start_s: float
    """Where it begins, in seconds of the recording."""
    end_s: float


def clip_names(video: Path, highlights: Sequence[Highlight], editing: Editing) -> list[str]:
    """One file a highlight, relative to the prediction's folder."""
    suffix = video.suffix.lower()
    if editing.encodes:
        suffix = exact_suffix(video)
    elif suffix in _STREAMED and all(
        codec in _IN_MP4 for codec in sum(describe_streams(video), [])
    ):
        suffix = EXACT_SUFFIX
    elif suffix not in CLIP_FORMATS:
        suffix = ".mkv"  # Matroska holds nearly any codec
    return [
        f"clips/{rank:02d}_{clock(h.start_s)}-{clock(h.end_s)}{suffix}".replace(":", ".")
        for rank, h in enumerate(highlights, 1)
    ]


def thumbnail_name(clip: str) -> str:
    """The picture beside a clip."""
    return str(Path(clip).with_suffix(".jpg").as_posix())


def make_clips(
    video: Path,
    highlights: Sequence[Highlight],
    paths: Sequence[Path],
    editing: Editing,
    duration_s: float,
    warnings: list[str],
) -> list[Clip | None]:
    """Each highlight's clip; None where it cannot be cut, which is no reason to lose the others."""
    pad_s = editing.pad_s
    cuts = [
        Cut(
            start_s=max(h.start_s - pad_s, 0.0),
            end_s=min(h.end_s + pad_s, max(duration_s, h.end_s)),
            out=path,
        )
        for h, path in zip(highlights, paths, strict=True)
    ]
    found: Sequence[tuple[float, float] | Exception]
    try:
        if editing.encodes:
            found = cut_exactly(video, cuts, vertical=editing.vertical)
        else:
            found = cut_clips(video, cuts)
    except (InputError, OSError) as error:
        found = [error] * len(cuts)
    clips: list[Clip | None] = []
    for cut, clip in zip(cuts, found, strict=True):
        name = cut.out.name
        if isinstance(clip, Exception):
            warnings.append(f"{name}: this clip was not cut ({clip})")
            clips.append(None)
            continue
        if clip[0] > cut.start_s + _EARLY_S:
            warnings.append(f"{name}: this clip begins late, at {clock(clip[0])}")
        if clip[1] < min(cut.end_s, duration_s) - _EARLY_S:
            warnings.append(f"{name}: this clip ends early, at {clock(clip[1])}")
        clips.append(Clip(cut.out, *clip))
    return clips


def make_reel(clips: Sequence[Clip | None], out: Path, warnings: list[str]) -> Path | None:
    """Join the clips by time; None, and a warning, where that cannot be."""
    cut = sorted((clip for clip in clips if clip is not None), key=lambda clip: clip.start_s)
    if not cut:
        warnings.append(f"{out.name}: there is no clip to join")
        return None
    try:
        left_out = join_clips([clip.path for clip in cut], out)
    except InputError as error:
        warnings.append(f"{out.name}: not made ({error})")
        return None
    warnings += [
        f"{out.name}: without {path.name}, whose pictures or sound are of another kind"
        for path in left_out
    ]
    return out


def peak_pictures(
    video: Path,
    highlights: Sequence[Highlight],
    thumbnails: Sequence[Path | None],
    warnings: list[str],
) -> list[bytes]:
    """A small JPEG of each highlight's peak, b"" where there is no picture; in one pass.

    Args:
        video: the recording.
        highlights: in any order.
        thumbnails: where a larger one is written too; None: nowhere.
        warnings: are added to.
    """
    order = sorted(range(len(highlights)), key=lambda i: highlights[i].peak_s)
    pictures = [b""] * len(highlights)
    notes: list[str] = []  # what is missing was said when the recording was read
    times = [highlights[i].peak_s for i in order]
    try:
        # One after the other: many pictures of a large video would not fit into memory.
        for i, image in zip(
            order, frames_at(Media(path=video, kind="video"), times, warnings=notes), strict=False
        ):
            if image is None:
                continue
            path = thumbnails[i]
            if path is not None:
                with atomic(path) as temporary:
                    temporary.write_bytes(_jpeg(image, THUMBNAIL))
            pictures[i] = _jpeg(image, SMALL)
    except InputError as error:
        if any(path is not None for path in thumbnails):
            warnings.append(f"no pictures of the peaks ({error})")
    return pictures


def _jpeg(image: Image.Image, size: tuple[int, int]) -> bytes:
    small = image.copy()
    small.thumbnail(size)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=82, optimize=True)
    return buffer.getvalue()
