"""From a room's pictures and texts to the features of its segments.

Storing (`encode`) and scoring (`predict`) both come through here. Shape suffixes: batch.py's
legend, and S segments.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from contentctr.ahead import made_ahead
from contentctr.config import FrameChoice
from contentctr.encode import encoders
from contentctr.encode.comments import encoder_pair
from contentctr.encode.encoders import TextEncoder, VisualEncoder
from contentctr.encode.sound import SoundEncoder
from contentctr.encode.sound_rows import SoundRows
from contentctr.encode.words import word_numbers
from contentctr.progress import Progress
from contentctr.rooms.listening import SoundListener
from contentctr.rooms.media import frame_times, pixels_at
from contentctr.rooms.room import Media
from contentctr.store.rooms import encoder_texts
from contentctr.store.vectors import SegmentFeatures, to_half

TEXTS_KEPT = 20_000
"""Distinct texts whose features are remembered during a run."""
AHEAD = 16
"""Pictures that are decoded and resized while the encoder works on those before them."""
PICTURES_KEPT = 8_000
"""Distinct pictures whose features are remembered: 41 MB of the embedded encoder's."""
Pair = tuple[str, str]
TextCache = OrderedDict[Pair, NDArray[np.float32]]
K = TypeVar("K", bound=Hashable)
PictureCache = OrderedDict[bytes, NDArray[np.float32]]
"""Features by a hash of what `preprocess` made of the picture."""


def default_batch_size(device: str | torch.device) -> int:
    """Pictures, or texts, to encode at once: on a CPU few, whose activations the allocator keeps.

    Larger ones are mapped from the system anew at every layer: 4 pictures at once take 0.8 of the
    time of 16 (docs/log.md).
    """
    return 4 if torch.device(device).type == "cpu" else 128


@dataclass(frozen=True)
class NoTexts:
    """In a text encoder's place where there are no texts: loading one takes seconds."""

    name: str
    dim: int


def encode_segments(
    media: Media | None,
    segments: pl.DataFrame,
    *,
    visual: VisualEncoder,
    text: TextEncoder | NoTexts,
    frames_per_segment: int,
    comment_lag: int,
    frames: FrameChoice = "exact",
    sound: SoundEncoder | None = None,
    recording: Path | None = None,
    batch_size: int = 4,
    warnings: list[str] | None = None,
    progress: Progress | None = None,
) -> SegmentFeatures:
    """Features of one room's segments, as `encode_rooms` stores them.

    Args:
        media: the room's pictures; None if it has none.
        segments: the room's rows of SEGMENTS_SCHEMA, in order.
        visual: f; put into evaluation mode.
        text: g; put into evaluation mode. NoTexts will do where no segment has a text.
        frames_per_segment: frames averaged in a segment.
        comment_lag: see `encoder_texts`.
        frames: which picture of a video stands for a frame.
        sound: encodes the sound; None: it is not wanted.
        recording: where that is; None if the room has none.
        batch_size: pictures, or texts, encoded at once.
        warnings: messages about the media are added to it.
        progress: advanced by one a segment.

    Raises:
        InputError: the media cannot be read, or an encoder gives numbers float16 cannot hold.
    """
    pairs, spans = text_pairs(segments, comment_lag), segment_spans(segments)
    notes = [] if warnings is None else warnings
    heard = None if sound is None else SoundRows(sound, spans)
    visual_SV, has_visual_S = encode_frames(
        media,
        spans,
        visual,
        frames_per_segment=frames_per_segment,
        frames=frames,
        batch_size=batch_size,
        warnings=notes,
        progress=progress,
        listener=None if heard is None else heard.beside(media, recording),
    )
    text_ST = encode_texts(pairs, text, batch_size=batch_size)
    where = f"room {segments['room_id'][0]!r}" if segments.height else "room"
    sound_SX = has_sound_S = None
    if heard is not None:
        heard.finish(recording, notes)
        sound_SX, has_sound_S = heard.features(f"{where}, sound")
    words_SX, has_words_S = word_numbers(pairs)
    return SegmentFeatures(
        visual=to_half(visual_SV, f"{where}, visual encoder {visual.name!r}"),
        text=to_half(text_ST, f"{where}, text encoder {text.name!r}"),
        has_visual=has_visual_S,
        has_speech=np.array([bool(speech) for speech, _ in pairs], dtype=bool),
        has_comments=np.array([bool(comments) for _, comments in pairs], dtype=bool),
        sound=sound_SX,
        has_sound=has_sound_S,
        words=words_SX,
        has_words=has_words_S,
    )


def encode_frames(
    media: Media | None,
    spans: Sequence[tuple[float, float]],
    visual: VisualEncoder,
    *,
    frames_per_segment: int,
    frames: FrameChoice = "exact",
    batch_size: int = 4,
    warnings: list[str] | None = None,
    progress: Progress | None = None,
    listener: SoundListener | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Mean feature of each segment's frames [S, V], and whether it has any [S].

    Args:
        media: the pictures; None if there are none.
        spans: start and end of each segment in seconds.
        visual: f.
        frames_per_segment: F; each at the middle of its share of the segment.
        frames: which picture of a video stands for each.
        batch_size: pictures encoded at once.
        warnings: messages about the media are added to it.
        progress: advanced by one a segment.
        listener: of `segment_frames`.
    """
    visual = encoders.for_inference(visual)
    sum_SV = np.zeros((len(spans), visual.dim), np.float32)
    count_S = np.zeros(len(spans), np.int64)
    pictures: list[NDArray[np.uint8]] = []
    owners: list[int] = []
    # Of one room: with more, a feature's last bits would depend on the rooms before.
    cache: PictureCache = OrderedDict()

    def flush() -> None:
        if pictures:
            found = encode_pictures(pictures, visual, batch_size=batch_size, cache=cache)
            np.add.at(sum_SV, owners, found)
            np.add.at(count_S, owners, 1)
        pictures.clear()
        owners.clear()

    found = segment_frames(
        media, spans, frames_per_segment, warnings, frames=frames, listener=listener
    )
    inputs = (None if frame is None else visual.preprocess(frame) for frame in found)
    # Where one thread is wanted it is one for both, as of many workers on a machine.
    with made_ahead(inputs, AHEAD if torch.get_num_threads() > 1 else 0) as made:
        for number, picture in enumerate(made):
            if picture is not None:
                pictures.append(picture)
                owners.append(number // frames_per_segment)
            if len(pictures) == batch_size:
                flush()
            if progress is not None and (number + 1) % frames_per_segment == 0:
                progress.advance()
        flush()
    sum_SV /= np.maximum(count_S, 1)[:, None]
    return sum_SV, count_S > 0


def encode_pictures(
    pictures: Sequence[NDArray[np.uint8]],
    visual: VisualEncoder,
    *,
    batch_size: int = 4,
    cache: PictureCache | None = None,
) -> NDArray[np.float32]:
    """Features [P, V] of P pictures; equal ones, as of a stream that is paused, are encoded once.

    Args:
        pictures: as `preprocess` makes them, [H, W, 3] each.
        visual: f.
        batch_size: pictures encoded at once.
        cache: features of pictures met before; added to, oldest dropped.
    """
    whole = map(np.ascontiguousarray, pictures)  # where one was cropped, it is not yet
    keys = [hashlib.blake2b(picture.data, digest_size=16).digest() for picture in whole]
    by_key = dict(zip(keys, pictures, strict=True))

    def encode(batch: Sequence[bytes]) -> NDArray[np.float32]:
        return _run(visual, torch.from_numpy(np.stack([by_key[key] for key in batch])))

    found = _once(list(by_key), encode, batch_size=batch_size, cache=cache, most=PICTURES_KEPT)
    return np.stack([found[key] for key in keys])


def encode_texts(
    pairs: Sequence[Pair],
    text: TextEncoder | NoTexts,
    *,
    batch_size: int = 4,
    cache: TextCache | None = None,
) -> NDArray[np.float32]:
    """Features [S, T] of (speech, comments) pairs; zeros for a pair of empty texts.

    Args:
        pairs: stripped texts, "" where there is none.
        text: g.
        batch_size: texts encoded at once.
        cache: features of pairs met before; added to, oldest dropped.
    """
    out_ST = np.zeros((len(pairs), text.dim), np.float32)
    if not any(any(pair) for pair in pairs):
        return out_ST
    assert not isinstance(text, NoTexts)
    encoder = encoders.for_inference(text)
    # Texts of a length together: less padding to compute.
    distinct = sorted({p for p in pairs if any(p)}, key=lambda p: (len(p[0] + p[1]), p))

    def encode(batch: Sequence[Pair]) -> NDArray[np.float32]:
        return _run(encoder, *encoder.tokenize([s for s, _ in batch], [c for _, c in batch]))

    known = _once(distinct, encode, batch_size=batch_size, cache=cache, most=TEXTS_KEPT)
    for row, pair in enumerate(pairs):
        if pair in known:
            out_ST[row] = known[pair]
    return out_ST


def _once(
    keys: Sequence[K],
    encode: Callable[[Sequence[K]], NDArray[np.float32]],
    *,
    batch_size: int,
    cache: OrderedDict[K, NDArray[np.float32]] | None,
    most: int,
) -> dict[K, NDArray[np.float32]]:
    """The feature of each distinct key, from the cache where it is there.

    Args:
        keys: distinct, in the order in which they are to be encoded.
        encode: features of some of them, a row each.
        batch_size: keys encoded at once.
        cache: features of keys met before; added to, those dropped that were not met for longest.
        most: of the features that stay in it.
    """
    cache = OrderedDict() if cache is None else cache
    known = {key: cache[key] for key in keys if key in cache}
    for key in known:
        cache.move_to_end(key)
    new = [key for key in keys if key not in known]
    for first in range(0, len(new), batch_size):
        batch = new[first : first + batch_size]
        for key, feature in zip(batch, encode(batch), strict=True):
            known[key] = cache[key] = feature
    while len(cache) > most:
        cache.popitem(last=False)
    return known


def _run(encoder: Any, *arguments: torch.Tensor) -> NDArray[np.float32]:
    device = next(iter(encoder.parameters())).device
    with torch.inference_mode():
        features: NDArray[np.float32] = (
            encoder(*(a.to(device) for a in arguments)).float().cpu().numpy()
        )
    return features


def segment_frames(
    media: Media | None,
    spans: Sequence[tuple[float, float]],
    frames_per_segment: int,
    warnings: list[str] | None,
    *,
    frames: FrameChoice = "exact",
    listener: SoundListener | None = None,
) -> Iterator[NDArray[np.uint8] | None]:
    """The frames of all segments, in order: RGB, upright, [H, W, 3].

    Args:
        media: the pictures; None if there are none.
        spans: start and end of each segment in seconds.
        frames_per_segment: F.
        warnings: messages about the media are added to it.
        frames: which picture of a video stands for a time.
        listener: is given the sound of a video, in the same pass.
    """
    times = [time for a, b in spans for time in frame_times(a, b, frames_per_segment)]
    if media is None or not times:
        return iter([None] * len(times))
    share = max(b - a for a, b in spans) / frames_per_segment
    return pixels_at(
        media,
        times,
        frames=frames,
        tolerance_s=share / 2,
        warnings=warnings,
        listener=listener,
    )


def segment_spans(segments: pl.DataFrame) -> list[tuple[float, float]]:
    """Start and end of each segment in seconds, [S]."""
    return list(segments.select("start_s", "end_s").iter_rows())


def text_pairs(segments: pl.DataFrame, comment_lag: int) -> list[Pair]:
    """The texts the encoder sees for each segment; see `encoder_texts` and `encoder_pair`."""
    texts = encoder_texts(segments, comment_lag)
    return [encoder_pair(speech, comments) for speech, comments in texts.iter_rows()]
