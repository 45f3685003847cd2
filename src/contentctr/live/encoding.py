"""Features of posted frames and texts, as `encode` stores them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from contentctr.batch import DataSpec
from contentctr.encode.comments import encoder_pair
from contentctr.encode.encoders import TextEncoder, VisualEncoder, for_inference
from contentctr.encode.segments import (
    PictureCache,
    TextCache,
    default_batch_size,
    encode_pictures,
    encode_texts,
)
from contentctr.encode.sound import SoundEncoder
from contentctr.encode.words import word_numbers
from contentctr.live.scorer_segments import LiveSegment, RawSegment, Runs
from contentctr.rooms.samples import Samples
from contentctr.score.checkpoint import Checkpoint
from contentctr.store.vectors import to_half

ROOMS_KEPT = 10_000
"""Rooms whose last comments are remembered, where a model reads them later."""


class LiveEncoder:
    """The checkpoint's encoders for live segments. Not for use by two threads at once.

    Where the model was trained with a comment lag, a segment gets the comments that were posted
    here with the segment so many before it.

    Args:
        visual: f.
        text: g.
        spec: of the model's features.
        sound: what hears; None for a model that reads no sound.
    """

    def __init__(
        self,
        visual: VisualEncoder,
        text: TextEncoder,
        spec: DataSpec,
        sound: SoundEncoder | None = None,
    ) -> None:
        self._sound = sound
        self._visual, self._text, self._spec = for_inference(visual), for_inference(text), spec
        self._device = next(iter(self._visual.parameters())).device
        self._cache: TextCache = OrderedDict()
        self._seen: PictureCache = OrderedDict()
        self._comments: OrderedDict[str, tuple[Runs, dict[int, str]]] = OrderedDict()
        """Of a room: its run, and the comments of its last segments."""

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: Checkpoint,
        device: torch.device | str = "cpu",
        *,
        engine: str = "auto",
        notes: list[str] | None = None,
    ) -> LiveEncoder:
        """With the encoders that the checkpoint's model was trained with.

        Args:
            checkpoint: of the model.
            device: where they run.
            engine: what runs them there, as `encode_rooms` takes it.
            notes: what the user should know of the engines is added to it.
        """
        checkpoint.require_words()
        found = checkpoint.load_encoders(device, engine=engine, notes=notes)
        return cls(*found, checkpoint.spec, checkpoint.load_sound())

    def preprocess(self, image: Image.Image) -> NDArray[np.uint8]:
        """A picture as `encode` takes it; may be called by several threads."""
        return self._visual.preprocess(image)

    def hear(self, samples: Samples | None) -> NDArray[np.float32] | None:
        """Features of a segment's samples, as float16 holds them; None without sound."""
        if self._sound is None or samples is None or not samples.any():
            return None
        return to_half(self._sound(samples), "sound").astype(np.float32)

    def encode(self, raws: Sequence[RawSegment]) -> list[LiveSegment]:
        """Segments with their features, as float16 holds them.

        Raises:
            InputError: an encoder gives numbers float16 cannot hold.
        """
        pairs = [encoder_pair(raw.speech, self._lagged(raw)) for raw in raws]
        visual_RV = to_half(self._pictures(raws), "frames").astype(np.float32)
        text_RT = to_half(
            encode_texts(
                pairs, self._text, batch_size=default_batch_size(self._device), cache=self._cache
            ),
            "speech and comments",
        ).astype(np.float32)
        words = self._words(pairs)
        return [
            LiveSegment(
                room_id=raw.room_id,
                streamer_id=raw.streamer_id,
                index=raw.index,
                visual=visual_RV[row] if raw.pictures else None,
                text=text_RT[row] if any(pairs[row]) else None,
                has_speech=bool(pairs[row][0]),
                has_comments=bool(pairs[row][1]),
                counts=raw.counts,
                earlier=raw.earlier,
                sound=raw.sound,
                words=words[row],
                run=raw.run,
            )
            for row, raw in enumerate(raws)
        ]

    def _words(self, pairs: Sequence[tuple[str, str]]) -> list[NDArray[np.float16] | None]:
        if not self._spec.words_dim:
            return [None] * len(pairs)
        numbers_RX, has_R = word_numbers(pairs)
        return [
            numbers_X if has else None for numbers_X, has in zip(numbers_RX, has_R, strict=True)
        ]

    def remember(self, room_id: str, runs: Runs, comments: Mapping[int, str]) -> None:
        """Go on with a room, where the model reads its comments later.

        Args:
            room_id: of the room.
            runs: the room's.
            comments: of its last segments, by their numbers.
        """
        if self._spec.comment_lag and comments:
            self._comments[room_id] = runs, dict(comments)

    def forget(self, room_id: str) -> None:
        """A room has ended."""
        self._comments.pop(room_id, None)

    def _lagged(self, raw: RawSegment) -> str:
        """The comments that the model reads with this segment."""
        lag = self._spec.comment_lag
        if not lag:
            return raw.comments
        runs, kept = self._comments.get(raw.room_id, (Runs(raw.run), {}))
        if runs.are_over(raw.run):
            return ""
        if runs.begin_anew(raw.run):
            runs, kept = runs.then(raw.run), {}
        kept[raw.index] = raw.comments
        self._comments[raw.room_id] = runs, kept
        self._comments.move_to_end(raw.room_id)
        for old in [index for index in kept if index < max(kept) - lag]:
            del kept[old]
        if len(self._comments) > ROOMS_KEPT:
            self._comments.popitem(last=False)
        return kept.get(raw.index - lag, "")

    def _pictures(self, raws: Sequence[RawSegment]) -> NDArray[np.float32]:
        """Mean feature of each segment's pictures [R, V]; zeros where there are none."""
        sum_RV = np.zeros((len(raws), self._visual.dim), np.float32)
        owned = [(row, picture) for row, raw in enumerate(raws) for picture in raw.pictures]
        if owned:
            features = encode_pictures(
                [picture for _, picture in owned],
                self._visual,
                batch_size=default_batch_size(self._device),
                cache=self._seen,
            )
            np.add.at(sum_RV, [row for row, _ in owned], features)
        counts = np.array([max(1, len(raw.pictures)) for raw in raws], np.float32)
        means_RV: NDArray[np.float32] = sum_RV / counts[:, None]
        return means_RV
