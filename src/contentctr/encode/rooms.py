"""Encode a prepared folder: every segment's frames and texts once, only what is new or changed.

Rooms are written one by one, so that a killed run goes on where it was. A room's features do not
depend on the rooms before it, so they are the same to the bit whoever encodes which rooms. Shape
suffixes: batch.py's legend, and S segments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from contentctr.batch import DataSpec
from contentctr.encode import encoders
from contentctr.encode.segments import (
    Pair,
    default_batch_size,
    encode_frames,
    encode_texts,
    segment_frames,
    segment_spans,
    text_pairs,
)
from contentctr.errors import InputError
from contentctr.files import digest
from contentctr.progress import progress_bar
from contentctr.rooms.media import list_images
from contentctr.rooms.room import Media
from contentctr.shards import run_over
from contentctr.store.given_vectors import StoredVectors
from contentctr.store.rooms import PreparedRooms
from contentctr.store.vectors import (
    FLAGS,
    Entry,
    StoredRoom,
    read_entry,
    room_file,
    shard_index,
    to_half,
    write_manifest,
    write_shard,
)

Tensors = dict[str, NDArray[Any]]
VISUAL_PART = {False: ("visual", "has_visual"), True: ("frames", "has_frame", "has_visual")}
"""Tensors made of pictures, of features and of inputs."""
TEXT_PART = {
    False: ("text", "has_speech", "has_comments"),
    True: ("token_ids", "token_types", "token_mask", "has_speech", "has_comments"),
}
"""Tensors made of texts, of features and of inputs."""


def encode_rooms(
    data: PreparedRooms | Path | str,
    *,
    visual: str = encoders.EMBEDDED,
    text: str = encoders.EMBEDDED,
    text_pooling: str | None = None,
    max_text_tokens: int = 128,
    batch_size: int | None = None,
    inputs: bool = False,
    device: str | torch.device = "cpu",
    ray: str | None = None,
    show_progress: bool = True,
) -> dict[str, Any]:
    """Store features of every room of a prepared folder, or the encoders' inputs.

    A room is encoded again only if its media file, its texts, its segments or an encoder changed,
    and then only the part of it, pictures or texts, that did. Rooms no longer in the folder are
    removed from the store.

    Args:
        data: the prepared folder.
        visual: name or folder of the visual encoder, or "embedded". Data whose visual features
            came with it has no use for one.
        text: the same of the text encoder.
        text_pooling: cls or mean; None: the encoder's own.
        max_text_tokens: longer texts are cut.
        batch_size: pictures, or texts, encoded at once; None: `default_batch_size`.
        inputs: store frames and tokens (DATA/inputs) in place of features (DATA/features).
        device: where the encoders run.
        ray: the Ray cluster whose machines encode, as `run_over` takes it; None: here. A worker
            has as many threads as this process (sums of floats depend on that), or one GPU.
        show_progress: show a bar on a terminal.

    Returns:
        Counts of what was done, and under "warnings" what the user should know.

    Raises:
        InputError: an encoder or a room's media cannot be had, or the rooms have none to encode.
    """
    data = data if isinstance(data, PreparedRooms) else PreparedRooms(Path(data))
    batch_size = default_batch_size(device) if batch_size is None else batch_size
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, not {batch_size}")
    if data.manifest().get("source") == "simulate":
        raise InputError(
            f"{data.root}: its features are made by `contentctr simulate features`, without "
            "pictures: there is nothing to encode"
        )
    source = _Source(
        data.root,
        visual,
        text,
        text_pooling,
        max_text_tokens,
        batch_size,
        inputs,
        device=torch.device(device),
        threads=torch.get_num_threads(),
    )
    # On a cluster the encoders run elsewhere; here they only say which ones they are.
    encoder = source.load(torch.device("cpu") if ray else source.device)
    return _Job(data, source, encoder).run(ray, show_progress=show_progress)


@dataclass(frozen=True)
class _Source:
    """Which encoders, by name, and how they run: all that a worker needs to load its own."""

    root: Path
    visual: str
    text: str
    text_pooling: str | None
    max_text_tokens: int
    batch_size: int
    inputs: bool
    device: torch.device
    threads: int

    def load(self, device: torch.device) -> _RoomEncoder:
        """The encoders, on a device."""
        data = PreparedRooms(self.root)
        f = _visual_source(data, self.visual, inputs=self.inputs, device=device)
        g = encoders.load_text(
            self.text, pooling=self.text_pooling, max_tokens=self.max_text_tokens, device=device
        )
        return _RoomEncoder(data, f, g, batch_size=self.batch_size, inputs=self.inputs)

    def worker(self, spec: DataSpec) -> _RoomEncoder:
        """The same on a machine of a cluster, which must have the same encoders.

        Raises:
            InputError: it has others.
        """
        torch.set_num_threads(self.threads)
        # Ray shows a worker its own GPU alone.
        encoder = self.load(torch.device(self.device.type))
        if encoder.spec != spec:
            raise InputError(
                f"the encoders {self.visual!r} and {self.text!r} must be the same on every "
                "machine, and one has others under these names"
            )
        return encoder


def _visual_source(
    data: PreparedRooms, visual: str, *, inputs: bool, device: str | torch.device
) -> encoders.ImageEncoder | StoredVectors:
    """The visual encoder, or the features that take its place.

    Raises:
        InputError: there are such features, and another encoder or its inputs are asked for.
    """
    if not data.manifest().get("stored_visual"):
        return encoders.for_inference(encoders.load_visual(visual, device=device))
    stored = StoredVectors(data.visual_dir)
    if inputs:
        raise InputError(
            f"{data.root}: has stored visual features and no pictures, so there are no inputs "
            "of a visual encoder; encode without --inputs"
        )
    if visual not in (encoders.EMBEDDED, stored.name):
        raise InputError(
            f"{data.root}: has stored visual features ({stored.name}) and no pictures; encode "
            f"without --visual, not with {visual!r}"
        )
    return stored


@dataclass(frozen=True, kw_only=True)
class _Task:
    """One room: where its pictures and texts are, and hashes of all that its rows depend on."""

    room_id: str
    media: Media | None
    spans: list[tuple[float, float]]
    pairs: list[Pair]
    visual_fingerprint: str
    text_fingerprint: str

    def done(self, entry: Entry | None) -> tuple[bool, bool]:
        """Whether the pictures, and whether the texts, are stored as they should be."""
        if entry is None or entry.stop - entry.start != len(self.spans):
            return False, False
        return (
            entry.visual_fingerprint == self.visual_fingerprint,
            entry.text_fingerprint == self.text_fingerprint,
        )


class _Job:
    """One run of `encode_rooms`."""

    def __init__(self, data: PreparedRooms, source: _Source, encoder: _RoomEncoder) -> None:
        self.data, self.source, self.encoder = data, source, encoder
        self.folder, self.spec, self.visual = encoder.folder, encoder.spec, encoder.visual
        self.segments_hash = data.manifest().get("hashes", {}).get("segments.parquet", "")
        self.warnings: list[str] = []
        self.removed = 0

    def run(self, ray: str | None, *, show_progress: bool) -> dict[str, Any]:
        """Encode what is missing, remove what is gone."""
        tasks = list(self._tasks())
        # Said before anything is written: a store that is half of other encoders, or half there,
        # is never read.
        self._manifest({}, complete=False)
        index = self._clean({task.room_id for task in tasks})
        todo = [task for task in tasks if not all(task.done(index.get(task.room_id)))]
        counts = {
            "rooms": len(tasks),
            "rooms_encoded": len(todo),
            "rooms_kept": len(tasks) - len(todo),
            "rooms_removed": self.removed,
            "segments": sum(len(task.spans) for task in tasks),
            "segments_encoded": sum(len(task.spans) for task in todo),
        }
        with progress_bar("encode", counts["segments_encoded"], show=show_progress) as bar:
            for task, warnings in zip(todo, self._encode(todo, ray), strict=True):
                self.warnings += warnings
                bar.advance(len(task.spans))
        counts |= self._flags(tasks)
        self._manifest(counts, complete=True)
        return {**counts, "warnings": self.warnings}

    def _encode(self, tasks: Sequence[_Task], ray: str | None) -> Iterator[list[str]]:
        make = partial(self.source.worker, self.spec) if ray else lambda: self.encoder
        on_gpu = self.source.device.type != "cpu"
        return run_over(
            tasks, make, ray=ray, cpus=1 if on_gpu else self.source.threads, gpus=int(on_gpu)
        )

    def _flags(self, tasks: Sequence[_Task]) -> dict[str, int]:
        """How many segments have pictures, speech and comments."""
        total = dict.fromkeys(FLAGS, 0)
        for task in tasks:
            path = self.folder / f"{room_file(task.room_id)}.safetensors"
            for name, values in read_entry(shard_index(path)[task.room_id], FLAGS).items():
                total[name] += int(values.sum())
        return {name.replace("has_", "segments_with_"): count for name, count in total.items()}

    def _manifest(self, counts: dict[str, int], *, complete: bool) -> None:
        write_manifest(
            self.folder,
            self.spec,
            counts=counts,
            complete=complete,
            segments_hash=self.segments_hash,
        )

    def _tasks(self) -> Iterator[_Task]:
        segments = self.data.segments()
        pairs = text_pairs(segments, self.spec.comment_lag)
        spans = segment_spans(segments)
        rows: dict[str, list[int]] = {}
        for row, room_id in enumerate(segments["room_id"]):
            rows.setdefault(room_id, []).append(row)
        for room in self.data.rooms().iter_rows(named=True):
            own = rows.get(room["room_id"], [])
            yield self._task(room, [spans[row] for row in own], [pairs[row] for row in own])

    def _task(
        self, room: dict[str, Any], spans: list[tuple[float, float]], pairs: list[Pair]
    ) -> _Task:
        media = room_media(room)
        pictures = media_state(room["room_id"], media)
        spec = self.spec
        return _Task(
            room_id=room["room_id"],
            media=media,
            spans=spans,
            pairs=pairs,
            visual_fingerprint=digest(
                spec.visual_revision,
                spec.frames_per_segment,
                spans,
                pictures,
                *self._vectors_state(room["room_id"]),
            ),
            text_fingerprint=digest(spec.text_revision, spec.max_text_tokens, pairs),
        )

    def _vectors_state(self, room_id: str) -> list[str]:
        return [self.visual.fingerprint(room_id)] if isinstance(self.visual, StoredVectors) else []

    def _clean(self, room_ids: set[str]) -> dict[str, Entry]:
        """What the store has of these rooms; files of others and damaged ones are removed."""
        index: dict[str, Entry] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                found = shard_index(path)
            except InputError as error:
                self.warnings.append(f"{error} (it was removed and is encoded again)")
                path.unlink()
                continue
            wanted = {r: e for r, e in found.items() if r in room_ids and path.stem == room_file(r)}
            if not wanted:
                path.unlink()
                self.removed += 1
            index |= wanted
        return index


class _RoomEncoder:
    """Encodes rooms and stores them: what a worker does."""

    def __init__(
        self,
        data: PreparedRooms,
        visual: encoders.ImageEncoder | StoredVectors,
        text: encoders.TextPairEncoder,
        *,
        batch_size: int,
        inputs: bool,
    ) -> None:
        self.batch_size, self.inputs = batch_size, inputs
        self.visual, self.text = visual, text.eval()
        self.folder = data.inputs_dir if inputs else data.features_dir
        manifest = data.manifest()
        self.spec = DataSpec(
            segment_seconds=float(manifest["segment_seconds"]),
            frames_per_segment=manifest["frames_per_segment"],
            comment_lag=manifest["comment_lag"],
            **encoders.encoder_fields(visual, text),
        )
        self.make_visual, self.make_text = (
            (self._frames, self._tokens) if inputs else (self._visual, self._text)
        )

    def __call__(self, task: _Task) -> list[str]:
        """Write a room, unless it is there; the part that is as it should be is taken over.

        Returns:
            Warnings.
        """
        warnings: list[str] = []
        path = self.folder / f"{room_file(task.room_id)}.safetensors"
        # A worker that died after it had written the room left it whole.
        entry = shard_index(path).get(task.room_id) if path.exists() else None
        has_visual, has_text = task.done(entry)
        if has_visual and has_text:
            return warnings
        kept: Tensors = {}
        if entry is not None and (has_visual or has_text):
            kept = read_entry(
                entry, VISUAL_PART[self.inputs] if has_visual else TEXT_PART[self.inputs]
            )
        visual = {} if has_visual else self.make_visual(task, warnings)
        text = {} if has_text else self.make_text(task)
        room = StoredRoom(
            room_id=task.room_id,
            tensors={**kept, **visual, **text},
            visual_fingerprint=task.visual_fingerprint,
            text_fingerprint=task.text_fingerprint,
        )
        write_shard(self.folder, room_file(task.room_id), [room])
        return warnings

    def _visual(self, task: _Task, warnings: list[str]) -> Tensors:
        if isinstance(self.visual, StoredVectors):
            return self.visual.read(task.room_id, len(task.spans))
        visual_SV, has_visual_S = encode_frames(
            task.media,
            task.spans,
            self.visual,
            frames_per_segment=self.spec.frames_per_segment,
            batch_size=self.batch_size,
            warnings=warnings,
        )
        what = f"room {task.room_id!r}, visual encoder {self.visual.name!r}"
        return {"visual": to_half(visual_SV, what), "has_visual": has_visual_S.astype(np.uint8)}

    def _text(self, task: _Task) -> Tensors:
        text_ST = encode_texts(task.pairs, self.text, batch_size=self.batch_size)
        what = f"room {task.room_id!r}, text encoder {self.text.name!r}"
        return {"text": to_half(text_ST, what), **_text_flags(task.pairs)}

    def _frames(self, task: _Task, warnings: list[str]) -> Tensors:
        assert not isinstance(self.visual, StoredVectors)
        per_segment, count = self.spec.frames_per_segment, len(task.spans)
        frames_SFHWC = np.zeros((count, per_segment, *self.visual.size, 3), np.uint8)
        has_frame_SF = np.zeros((count, per_segment), np.uint8)
        found = segment_frames(task.media, task.spans, per_segment, warnings)
        for number, frame in enumerate(found):
            row, place = divmod(number, per_segment)
            if frame is not None:
                frames_SFHWC[row, place] = self.visual.preprocess(frame)
                has_frame_SF[row, place] = 1
        has_visual_S: NDArray[np.uint8] = has_frame_SF.max(axis=1)
        tensors: Tensors = {"frames": frames_SFHWC, "has_frame": has_frame_SF}
        return {**tensors, "has_visual": has_visual_S}

    def _tokens(self, task: _Task) -> Tensors:
        rows = [row for row, pair in enumerate(task.pairs) if any(pair)]
        names, kinds = ("token_ids", "token_types", "token_mask"), (np.int32, np.uint8, np.uint8)
        found = (torch.zeros(0, 0),) * 3
        if rows:
            chosen = [task.pairs[row] for row in rows]
            found = self.text.tokenize([s for s, _ in chosen], [c for _, c in chosen])
        tensors: Tensors = {}
        for name, kind, values in zip(names, kinds, found, strict=True):
            tensors[name] = np.zeros((len(task.pairs), values.shape[1]), kind)
            tensors[name][rows] = values.numpy()
        return {**tensors, **_text_flags(task.pairs)}


def _text_flags(pairs: Sequence[Pair]) -> Tensors:
    return {
        "has_speech": np.array([bool(speech) for speech, _ in pairs], np.uint8),
        "has_comments": np.array([bool(comments) for _, comments in pairs], np.uint8),
    }


def room_media(room: dict[str, Any]) -> Media | None:
    """Where the pictures of a row of rooms.parquet are; None if it has none."""
    if room["media"] is None:
        return None
    if room["media_kind"] not in ("video", "frames"):
        raise InputError(
            f"rooms.parquet, room {room['room_id']!r}: media_kind must be video or frames, not "
            f"{room['media_kind']!r}"
        )
    return Media(path=Path(room["media"]), kind=room["media_kind"])


def media_state(room_id: str, media: Media | None) -> list[Any] | None:
    """What changes when the pictures do: names, sizes and times of their files."""
    if media is None:
        return None
    try:
        if media.kind == "frames":
            files = [path for _, path in list_images(media.path)]
        else:
            files = [media.path]
        states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    except (OSError, InputError) as error:
        raise InputError(
            f"room {room_id!r}: its {media.kind} {media.path} cannot be read ({error})"
        ) from None
    return [str(media.path), media.kind, states]
