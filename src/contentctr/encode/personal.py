"""Features of a prepared folder's videos: each frame that a sample needs, once (Section 4.3.1).

    DATA/features/NAME.safetensors   a video: `frame` int32 [S], the numbers of its stored frames,
                                     ascending; `visual` float16 [S, V], `has_visual` uint8 [S];
                                     of a target video also `text` float16 [S, C], `has_text`
                                     uint8 [S]

Of a target video every frame is stored, of the others those in somebody's history: a history clip
is a slice of its video. Videos are written one by one, so that a killed run goes on where it was.
Shape suffixes: S stored frames, V and C widths of visual and of text features.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from contentctr.batch import DataSpec
from contentctr.encode import encoders
from contentctr.encode.encoders import TextEncoder, VisualEncoder
from contentctr.encode.personal_encoders import load_frame_encoder
from contentctr.encode.rooms import media_state, room_media
from contentctr.encode.segments import (
    Pair,
    TextCache,
    default_batch_size,
    encode_frames,
    encode_texts,
)
from contentctr.errors import InputError
from contentctr.files import digest
from contentctr.prepare.phd.captions import frame_texts
from contentctr.progress import Progress, progress_bar
from contentctr.rooms.room import Media
from contentctr.store.personal import PreparedPersonal, span_frames
from contentctr.store.vectors import (
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
VISUAL_PART, TEXT_PART = ("visual", "has_visual"), ("text", "has_text")


@dataclass(frozen=True, kw_only=True)
class _Task:
    """One video: which frames, their texts, and hashes of all that its rows depend on."""

    video_id: str
    media: Media
    frame_S: NDArray[np.int32]
    pairs: list[Pair] | None
    """Text of each frame; None where the video is in histories alone."""
    visual_fingerprint: str
    text_fingerprint: str

    def done(self, entry: Entry | None) -> tuple[bool, bool]:
        """Whether the pictures, and whether the texts, are stored as they should be."""
        if entry is None or entry.stop - entry.start != len(self.frame_S):
            return False, False
        return (
            entry.visual_fingerprint == self.visual_fingerprint,
            entry.text_fingerprint == self.text_fingerprint,
        )


def encode_personal(
    data: PreparedPersonal | Path | str,
    *,
    visual: str = encoders.EMBEDDED,
    text: str = encoders.EMBEDDED,
    text_pooling: str | None = None,
    max_text_tokens: int = 128,
    batch_size: int | None = None,
    device: str | torch.device = "cpu",
    show_progress: bool = True,
) -> dict[str, Any]:
    """Store features of the frames and captions of a folder that `prepare_phd` wrote.

    A video is encoded again only if its file, its frames, its captions or an encoder changed;
    videos no longer in the folder are removed from the store.

    Args:
        data: the prepared folder.
        visual: what `load_frame_encoder` takes.
        text: what `load_text` takes.
        text_pooling: cls or mean; None: the encoder's own.
        max_text_tokens: longer texts are cut.
        batch_size: pictures, or texts, encoded at once; None: `default_batch_size`.
        device: where the encoders run.
        show_progress: show a bar on a terminal.

    Returns:
        Counts of what was done, and under "warnings" what the user should know.

    Raises:
        InputError: an encoder or a video cannot be had, or there are features without videos.
    """
    data = data if isinstance(data, PreparedPersonal) else PreparedPersonal(Path(data))
    if data.manifest().get("simulated") and data.videos()["media"].null_count():
        raise InputError(
            f"{data.root}: its features are simulated, without pictures: there is nothing to encode"
        )
    batch_size = default_batch_size(device) if batch_size is None else batch_size
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, not {batch_size}")
    f = load_frame_encoder(visual, device=device)
    g = encoders.load_text(text, pooling=text_pooling, max_tokens=max_text_tokens, device=device)
    return _Job(data, f, g, batch_size=batch_size).run(show_progress=show_progress)


def wanted_frames(data: PreparedPersonal) -> dict[str, NDArray[np.int32]]:
    """Numbers of the frames of each video that samples need, ascending."""
    rate, wanted = data.frame_rate, {}
    clips: dict[str, list[range]] = {}
    videos = data.videos()
    counts = dict(videos.select("video_id", "num_frames").iter_rows())
    history = data.selections().filter(~pl.col("is_target"))
    for video_id, start_s, end_s in history.select("video_id", "start_s", "end_s").iter_rows():
        frames = span_frames(start_s, end_s, rate, counts[video_id])
        clips.setdefault(video_id, []).append(frames)
    for video_id, is_target in videos.select("video_id", "is_target").iter_rows():
        if is_target:
            wanted[video_id] = np.arange(counts[video_id], dtype=np.int32)
        else:
            numbers = sorted({frame for frames in clips[video_id] for frame in frames})
            wanted[video_id] = np.array(numbers, np.int32)
    return wanted


def feature_spec(
    visual: VisualEncoder, text: TextEncoder, *, frame_rate: float, simulated: bool = False
) -> DataSpec:
    """What a model must know of the features: a frame is a segment of one picture."""
    return DataSpec(
        segment_seconds=1 / frame_rate,
        frames_per_segment=1,
        target="highlight",
        simulated=simulated,
        **encoders.encoder_fields(visual, text),
    )


class _Job:
    """One run of `encode_personal`."""

    def __init__(
        self, data: PreparedPersonal, visual: VisualEncoder, text: TextEncoder, *, batch_size: int
    ) -> None:
        self.data, self.visual, self.text = data, visual, text.eval()
        self.batch_size = batch_size
        self.rate, self.folder = data.frame_rate, data.features_dir
        simulated = bool(data.manifest().get("simulated"))
        self.spec = feature_spec(visual, text, frame_rate=self.rate, simulated=simulated)
        self.cache: TextCache = OrderedDict()
        self.warnings: list[str] = []
        self.removed = 0

    def run(self, *, show_progress: bool) -> dict[str, Any]:
        """Encode what is missing, remove what is gone."""
        tasks = list(self._tasks())
        # Said before anything is written: a store half of other encoders is never read.
        write_manifest(self.folder, self.spec, counts={}, complete=False)
        index = self._clean({task.video_id for task in tasks})
        todo = [task for task in tasks if not all(task.done(index.get(task.video_id)))]
        counts = {
            "videos": len(tasks),
            "videos_encoded": len(todo),
            "videos_kept": len(tasks) - len(todo),
            "videos_removed": self.removed,
            "frames": sum(len(task.frame_S) for task in tasks),
            "frames_encoded": sum(len(task.frame_S) for task in todo),
            "frames_with_text": sum(any(p) for task in tasks for p in task.pairs or ()),
        }
        with progress_bar("encode", counts["frames_encoded"], show=show_progress) as bar:
            for task in todo:
                self._store(task, index.get(task.video_id), bar)
        write_manifest(
            self.folder, self.spec, counts=counts, segments_hash=self.data.content_hash()
        )
        return {**counts, "warnings": self.warnings}

    def _tasks(self) -> Iterator[_Task]:
        wanted, captions = wanted_frames(self.data), _by_video(self.data.captions())
        for row in self.data.videos().iter_rows(named=True):
            video_id, frame_S = row["video_id"], wanted[row["video_id"]]
            media = room_media({**row, "room_id": video_id})
            assert media is not None
            pairs = None
            if row["is_target"]:
                texts = frame_texts(captions.get(video_id, ()), len(frame_S), self.rate)
                pairs = [(text, "") for text in texts]
            pictures = media_state(video_id, media)
            yield _Task(
                video_id=video_id,
                media=media,
                frame_S=frame_S,
                pairs=pairs,
                visual_fingerprint=digest(
                    self.spec.visual_revision, self.rate, frame_S.tolist(), pictures
                ),
                text_fingerprint=digest(self.spec.text_revision, self.spec.max_text_tokens, pairs),
            )

    def _clean(self, video_ids: set[str]) -> dict[str, Entry]:
        """What the store has of these videos; files of others and damaged ones are removed."""
        index: dict[str, Entry] = {}
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                found = shard_index(path)
            except InputError as error:
                self.warnings.append(f"{error} (it was removed and is encoded again)")
                found = {}
            wanted = {v: e for v, e in found.items() if v in video_ids}
            if not wanted:
                path.unlink()
                self.removed += 1
            index |= wanted
        return index

    def _store(self, task: _Task, entry: Entry | None, bar: Progress) -> None:
        """Write a video; the part of it that is stored as it should be is taken over."""
        has_visual, has_text = task.done(entry)
        tensors: Tensors = {"frame": task.frame_S}
        if has_visual:
            assert entry is not None
            tensors |= read_entry(entry, VISUAL_PART)
            bar.advance(len(task.frame_S))
        else:
            tensors |= self._visual(task, bar)
        if has_text and task.pairs is not None:
            assert entry is not None
            tensors |= read_entry(entry, TEXT_PART)
        elif task.pairs is not None:
            tensors |= self._text(task.video_id, task.pairs)
        room = StoredRoom(
            room_id=task.video_id,
            tensors=tensors,
            visual_fingerprint=task.visual_fingerprint,
            text_fingerprint=task.text_fingerprint,
        )
        write_shard(self.folder, room_file(task.video_id), [room])

    def _visual(self, task: _Task, bar: Progress) -> Tensors:
        spans = [(i / self.rate, (i + 1) / self.rate) for i in task.frame_S.tolist()]
        visual_SV, has_visual_S = encode_frames(
            task.media,
            spans,
            self.visual,
            frames_per_segment=1,
            batch_size=self.batch_size,
            warnings=self.warnings,
            progress=bar,
        )
        what = f"video {task.video_id!r}, visual encoder {self.visual.name!r}"
        return {"visual": to_half(visual_SV, what), "has_visual": has_visual_S.astype(np.uint8)}

    def _text(self, video_id: str, pairs: list[Pair]) -> Tensors:
        text_SC = encode_texts(pairs, self.text, batch_size=self.batch_size, cache=self.cache)
        what = f"video {video_id!r}, text encoder {self.text.name!r}"
        has_text_S = np.array([any(pair) for pair in pairs], np.uint8)
        return {"text": to_half(text_SC, what), "has_text": has_text_S}


def _by_video(captions: pl.DataFrame) -> Mapping[str, list[tuple[float, float, str]]]:
    found: dict[str, list[tuple[float, float, str]]] = {}
    for video_id, start, end, text in captions.iter_rows():
        found.setdefault(video_id, []).append((start, end, text))
    return found
