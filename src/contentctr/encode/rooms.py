"""Encode prepared rooms: every segment's frames and texts once, only what is new or changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from contentctr.batch import DataSpec
from contentctr.config import FrameChoice
from contentctr.devices import find_device
from contentctr.encode import encoders
from contentctr.encode.encoders import TextPairEncoder, VisualEncoder
from contentctr.encode.items import (
    EncodeSettings,
    Item,
    ItemEncoder,
    Source,
    checked_batch_size,
    checked_engine,
    media_content,
    row_media,
)
from contentctr.encode.job import run_job
from contentctr.encode.segments import segment_spans, text_pairs
from contentctr.encode.spec import encoder_fields
from contentctr.errors import InputError
from contentctr.rooms.room import Media
from contentctr.store.given_vectors import StoredVectors
from contentctr.store.rooms import PreparedRooms


def encode_rooms(
    data: PreparedRooms | Path | str,
    *,
    visual: Path | str = encoders.EMBEDDED,
    text: Path | str = encoders.EMBEDDED,
    text_pooling: str | None = None,
    text_prefix: str | None = None,
    max_text_tokens: int = 128,
    frames: FrameChoice = "exact",
    batch_size: int | None = None,
    inputs: bool = False,
    sound: bool = False,
    device: str | torch.device = "cpu",
    engine: str = "auto",
    ray: str | None = None,
    show_progress: bool = True,
) -> dict[str, Any]:
    """Store features of every room of a prepared folder, or the encoders' inputs.

    A room is encoded again only if its media, its texts, its segments or an encoder changed (by
    content: files may be moved, and copied again), and then only the part of it, pictures or texts,
    that did. Rooms no longer in the folder are removed from the store.

    Args:
        data: the prepared folder.
        visual: name or folder of the visual encoder, or "embedded". Data whose visual features
            came with it has no use for one.
        text: the same of the text encoder.
        text_pooling: cls or mean; None: the encoder's own.
        text_prefix: put before every text; None: the encoder's own.
        max_text_tokens: longer texts are cut.
        frames: which picture of a video stands for a frame: see `frames_at`.
        batch_size: pictures, or texts, encoded at once; None: `default_batch_size`.
        inputs: store frames and tokens (DATA/inputs) in place of features (DATA/features).
        sound: store features of the sound too (encode/sound.py).
        device: where the encoders run, of `find_device`.
        engine: what runs them there: auto (the fastest that is installed and gives the same),
            torch, onnx or openvino.
        ray: the Ray cluster whose machines encode, as `run_over` takes it; None: here. A worker
            has as many threads as this process (sums of floats depend on that), or one GPU.
        show_progress: show a bar on a terminal.

    Returns:
        Counts of what was done, and under "warnings" what the user should know.

    Raises:
        InputError: an encoder or a room's media cannot be had, the rooms have none to encode, or
            another process is at work in the folder.
    """
    data = data if isinstance(data, PreparedRooms) else PreparedRooms(Path(data))
    device = find_device(device, elsewhere=ray is not None)
    settings = EncodeSettings(
        visual=str(visual),
        text=str(text),
        text_pooling=text_pooling,
        text_prefix=text_prefix,
        max_text_tokens=max_text_tokens,
        frames=frames,
        batch_size=checked_batch_size(batch_size, device),
        inputs=inputs,
        device=device,
        engine=checked_engine(engine, device, inputs=inputs, ray=ray),
        sound=sound,
    )
    if data.manifest().get("source") == "simulate":
        raise InputError(
            f"{data.root}: its features are made by `contentctr simulate features`, without "
            "pictures: there is nothing to encode"
        )
    if sound and not data.rooms()["sound"].count():
        raise InputError(f"{data.root}: no room has a recording with sound; encode without --sound")
    return run_job(RoomsSource(data, settings), ray=ray, show_progress=show_progress)


@dataclass(frozen=True)
class RoomsSource(Source):
    """Rooms: an item is a room, a row a segment of some frames."""

    data: PreparedRooms
    item, row, words = "room", "segment", True

    def load_visual(self, device: torch.device) -> VisualEncoder | StoredVectors:
        """The visual encoder, or the features that came with the data.

        Raises:
            InputError: there are such features, and another encoder or its inputs are asked for.
        """
        visual = self.settings.visual
        if not self.data.manifest().get("stored_visual"):
            return encoders.for_inference(encoders.load_visual(visual, device=device))
        stored = StoredVectors(self.data.visual_dir)
        if self.settings.inputs:
            raise InputError(
                f"{self.data.root}: has stored visual features and no pictures, so there are no "
                "inputs of a visual encoder; encode without --inputs"
            )
        if self.settings.frames != DataSpec.frames:
            raise InputError(
                f"{self.data.root}: has stored visual features and no pictures to choose; encode "
                f"without --frames {self.settings.frames}"
            )
        if visual not in (encoders.EMBEDDED, stored.name):
            raise InputError(
                f"{self.data.root}: has stored visual features ({stored.name}) and no pictures; "
                f"encode without --visual, not with {visual!r}"
            )
        return stored

    def spec(self, visual: VisualEncoder | StoredVectors, text: TextPairEncoder) -> DataSpec:
        """As the rooms were prepared; whether they are simulated stands in their manifest."""
        manifest = self.data.manifest()
        return DataSpec(
            segment_seconds=float(manifest["segment_seconds"]),
            frames_per_segment=manifest["frames_per_segment"],
            frames=self.settings.frames,
            comment_lag=manifest["comment_lag"],
            speech_source=manifest.get("speech_source", ""),
            **encoder_fields(visual, text),
        )

    def items(self, encoder: ItemEncoder) -> Iterator[Item]:
        """All rooms."""
        segments = self.data.segments()
        pairs = text_pairs(segments, encoder.spec.comment_lag)
        spans = segment_spans(segments)
        rows: dict[str, list[int]] = {}
        for row, room_id in enumerate(segments["room_id"]):
            rows.setdefault(room_id, []).append(row)
        for room in self.data.rooms().iter_rows(named=True):
            room_id, media = room["room_id"], room_media(room)
            own = rows.get(room_id, [])
            own_spans, own_pairs = [spans[row] for row in own], [pairs[row] for row in own]
            pictures: list[Any] = [media_content(f"room {room_id!r}", media, encoder.hashes)]
            if isinstance(encoder.visual, StoredVectors):
                pictures.append(encoder.visual.fingerprint(room_id))
            per_segment = encoder.spec.frames_per_segment
            yield encoder.item(
                room_id,
                media,
                own_spans,
                own_pairs,
                rows=(per_segment, own_spans),
                pictures=pictures,
                recording=None if room["sound"] is None else Path(room["sound"]),
            )


def room_media(room: dict[str, Any]) -> Media | None:
    """Where the pictures of a row of rooms.parquet are; None if it has none."""
    return row_media(room, f"rooms.parquet, room {room['room_id']!r}")
