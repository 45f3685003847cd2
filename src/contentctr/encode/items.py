"""A room or a video, encoded and stored: what a worker does.

Shape suffixes: batch.py's legend, and S rows of an item: segments of a room, frames of a video.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from contentctr.batch import DataSpec
from contentctr.config import FrameChoice
from contentctr.encode import encoders, words
from contentctr.encode.encoders import E, TextPairEncoder, VisualEncoder
from contentctr.encode.engines.runtime import Runtime, runtime_in
from contentctr.encode.segments import (
    Pair,
    default_batch_size,
    encode_frames,
    encode_texts,
    segment_frames,
)
from contentctr.encode.sound import SoundEncoder
from contentctr.encode.sound_rows import SoundRows
from contentctr.encode.spec import runtime_of
from contentctr.errors import InputError, require
from contentctr.files import digest, read_json
from contentctr.hashes import ContentHashes
from contentctr.rooms.listening import SoundListener
from contentctr.rooms.media import list_images
from contentctr.rooms.room import Media
from contentctr.store.folder import PreparedFolder
from contentctr.store.given_vectors import StoredVectors
from contentctr.store.vectors import (
    Entry,
    StoredRoom,
    read_entry,
    room_file,
    shard_index,
    to_half,
    write_shard,
)

Tensors = dict[str, NDArray[Any]]
Spans = list[tuple[float, float]]
VISUAL_PART = {False: ("visual", "has_visual"), True: ("frames", "has_frame", "has_visual")}
"""Tensors made of pictures, of features and of inputs."""
TEXT_PART = {False: ("text",), True: ("token_ids", "token_types", "token_mask")}
"""Tensors made of texts, of features and of inputs; the source's flags are beside them."""
SOUND_PART = ("sound", "has_sound")
"""Tensors made of sound, where it is stored."""


@dataclass(frozen=True, kw_only=True)
class EncodeSettings:
    """Which encoders, by name, and how they run."""

    visual: str
    text: str
    text_pooling: str | None
    text_prefix: str | None
    max_text_tokens: int
    frames: FrameChoice
    batch_size: int
    inputs: bool
    device: torch.device
    engine: str | None
    """As `for_inference` takes it."""
    sound: bool = False
    """Whether features of the sound are stored too."""
    threads: int = field(default_factory=torch.get_num_threads)
    """Of a worker as of this process: with another number sums of floats have other bits."""


def checked_batch_size(given: int | None, device: str | torch.device) -> int:
    """What the user gave, or `default_batch_size`.

    Raises:
        InputError: it is below 1.
    """
    size = default_batch_size(device) if given is None else given
    require(size >= 1, "batch_size", "at least 1", size)
    return size


def checked_engine(
    engine: str, device: str | torch.device, *, inputs: bool, ray: str | None
) -> str | None:
    """The engine that runs the encoders; None: torch in float32, without a look at others.

    Raises:
        InputError: one is asked for where none is run, or where it cannot be tried.
    """
    on_cluster_gpu = ray is not None and torch.device(device).type != "cpu"
    if not inputs and not on_cluster_gpu:
        return engine
    reason = "stores what encoders are given" if inputs else "GPUs of a cluster run torch"
    if engine not in ("auto", "torch"):
        raise InputError(f"--engine {engine}: has no use here: {reason}")
    return None


@dataclass(frozen=True, kw_only=True)
class Item:
    """A room or video: where pictures and texts are, and hashes of all that its rows depend on."""

    name: str
    """Its id."""
    media: Media | None
    spans: Spans
    """Start and end of each row in seconds, [S]."""
    pairs: list[Pair] | None
    """Texts of each row, [S]; None where no texts are stored."""
    visual_fingerprint: str
    text_fingerprint: str
    recording: Path | None = None
    """Where its sound is; None if it has none, or is not wanted."""
    sound_fingerprint: str = ""
    """"" where no sound is stored."""
    words_fingerprint: str = ""
    """"" where no words are stored."""
    own: Tensors = field(default_factory=dict)
    """What else is stored of each row."""

    def done(self, entry: Entry | None) -> tuple[bool, bool, bool, bool]:
        """Whether the pictures, texts, sound and words are stored as they should be."""
        if entry is None or entry.stop - entry.start != len(self.spans):
            return False, False, False, False
        return (
            entry.visual_fingerprint == self.visual_fingerprint,
            entry.text_fingerprint == self.text_fingerprint,
            entry.sound_fingerprint == self.sound_fingerprint,
            entry.words_fingerprint == self.words_fingerprint,
        )


@dataclass(frozen=True)
class Source(ABC):
    """A prepared folder and its encoders by name: all that a worker needs to do its share."""

    data: PreparedFolder
    settings: EncodeSettings
    item: ClassVar[str]
    """What an item is called, and a row of it: room and segment, say."""
    row: ClassVar[str]
    words: ClassVar[bool] = False
    """Whether the words of texts are stored beside their features."""

    @property
    def store(self) -> Path:
        """Folder that is written."""
        return self.data.inputs_dir if self.settings.inputs else self.data.features_dir

    @abstractmethod
    def load_visual(self, device: torch.device) -> VisualEncoder | StoredVectors:
        """The visual encoder, or the features that take its place."""

    @abstractmethod
    def spec(self, visual: VisualEncoder | StoredVectors, text: TextPairEncoder) -> DataSpec:
        """What a model must know of the rows."""

    @abstractmethod
    def items(self, encoder: ItemEncoder) -> Iterator[Item]:
        """All items of the folder."""

    def text_flags(self, pairs: Sequence[Pair]) -> Tensors:
        """Whether each row has speech, and whether it has comments, uint8 [S] each."""
        return {
            "has_speech": np.array([bool(speech) for speech, _ in pairs], np.uint8),
            "has_comments": np.array([bool(comments) for _, comments in pairs], np.uint8),
        }

    def load(self, device: torch.device) -> ItemEncoder:
        """The encoders, on a device."""
        visual = self.load_visual(device)
        text = encoders.load_text(
            self.settings.text,
            pooling=self.settings.text_pooling,
            prefix=self.settings.text_prefix,
            max_tokens=self.settings.max_text_tokens,
            device=device,
        )
        return ItemEncoder(self, visual, text, SoundEncoder() if self.settings.sound else None)

    def stored_runtime(self, part: str) -> Runtime | None:
        """What computed the features of `visual` or `text` that are there; None if none are.

        Raises:
            InputError: the store's manifest is damaged.
        """
        path, name = self.store / "manifest.json", getattr(self.settings, part)
        spec = read_json(path).get("spec") if path.is_file() else None
        if not isinstance(spec, dict) or spec.get(f"{part}_encoder") != name:
            return None
        return Runtime(str(spec.get(f"{part}_engine")), str(spec.get(f"{part}_precision")))

    def worker(self, spec: DataSpec) -> ItemEncoder:
        """The same on a machine of a cluster, which must have the same encoders.

        Raises:
            InputError: it has others.
        """
        torch.set_num_threads(self.settings.threads)
        # Ray shows a worker its own GPU alone.
        encoder = self.load(torch.device(self.settings.device.type))
        encoder.choose_engines(spec)
        if encoder.spec != spec:
            raise InputError(
                f"the encoders {self.settings.visual!r} and {self.settings.text!r} must be the "
                "same on every machine, and one has others under these names"
            )
        return encoder


class ItemEncoder:
    """Encodes items and stores them: what a worker does."""

    def __init__(
        self,
        source: Source,
        visual: VisualEncoder | StoredVectors,
        text: TextPairEncoder,
        sound: SoundEncoder | None = None,
    ) -> None:
        self.source, self.settings = source, source.settings
        self.visual, self.text, self.sound = visual, text.eval(), sound
        spec = source.spec(visual, text)
        if sound is not None:
            spec = replace(spec, sound_dim=sound.dim, sound_revision=sound.revision)
        self.words = source.words and not source.settings.inputs
        if self.words:
            spec = replace(spec, words_dim=words.DIM, words_revision=words.REVISION)
        self.spec = spec
        self.notes: list[str] = []
        """What the user should know of the engines."""
        self.hashes = ContentHashes(source.data.root)
        """Of the items' media."""
        self._chosen = False

    @property
    def engines(self) -> dict[str, str]:
        """What runs each encoder, and how near it is to torch, in words."""
        found = {}
        for part, encoder in (("visual", self.visual), ("text", self.text)):
            if not (self.settings.inputs or isinstance(encoder, StoredVectors)):
                words = (str(runtime_in(self.spec, part)), getattr(encoder, "agreement", ""))
                found[f"{part}_engine"] = ": ".join(filter(None, words))
        return found

    def take_as_stored(self) -> bool:
        """Name the store's engines in `spec` though none runs yet; False if it does not fit them.

        Converting an encoder takes seconds, which a run that finds all done need not spend.
        """
        visual, text = (self.source.stored_runtime(part) for part in ("visual", "text"))
        if isinstance(self.visual, StoredVectors):
            visual = runtime_of(self.visual)
        if visual is None or text is None:
            return False
        if any(self.settings.engine not in ("auto", each.engine) for each in (visual, text)):
            return False
        self._name_engines(visual, text)
        return True

    def choose_engines(self, exact: DataSpec | None = None) -> None:
        """Let engines run the encoders from here on, and name them in `spec`.

        Args:
            exact: the engines it must be; None: as the settings say, like the store's.
        """
        if self._chosen:
            return
        self._chosen = True
        if not isinstance(self.visual, StoredVectors):
            self.visual = self._by_engine(self.visual, "visual", exact)
        self.text = self._by_engine(self.text, "text", exact)
        self._name_engines(runtime_of(self.visual), self.text.runtime)

    def _by_engine(self, encoder: E, part: str, exact: DataSpec | None) -> E:
        engine, like = self.settings.engine, self.source.stored_runtime(part)
        if exact is not None and engine is not None:
            like = runtime_in(exact, part)
            engine = like.engine
        return encoders.for_inference(encoder, engine=engine, like=like, notes=self.notes)

    def _name_engines(self, visual: Runtime, text: Runtime) -> None:
        self.spec = replace(
            self.spec,
            visual_engine=visual.engine,
            visual_precision=visual.precision,
            text_engine=text.engine,
            text_precision=text.precision,
        )

    def item(
        self,
        name: str,
        media: Media | None,
        spans: Spans,
        pairs: list[Pair] | None,
        *,
        rows: Sequence[object],
        pictures: Sequence[object],
        own: Tensors | None = None,
        recording: Path | None = None,
    ) -> Item:
        """An item with the hashes of what these encoders would make of it.

        The arguments are Item's, and: `rows`, what tells which moments the rows show, and
        `pictures`, what changes when the pictures do.
        """
        spec, sound = self.spec, ""
        if self.sound is not None:
            heard = None if recording is None else Media(path=recording, kind="video")
            content = media_content(f"{self.source.item} {name!r}", heard, self.hashes)
            sound = digest(self.sound.revision, spans, content)
        # Images in a folder are the same by either choice.
        choice = [spec.frames] if media is not None and media.kind == "video" else []
        return Item(
            name=name,
            media=media,
            spans=spans,
            pairs=pairs,
            # Engines of one precision give the same features to rounding; precisions do not.
            visual_fingerprint=digest(
                spec.visual_revision, spec.visual_precision, *choice, *rows, *pictures
            ),
            text_fingerprint=digest(
                spec.text_revision, spec.text_precision, spec.max_text_tokens, pairs
            ),
            recording=None if self.sound is None else recording,
            sound_fingerprint=sound,
            words_fingerprint=digest(spec.words_revision, pairs) if self.words else "",
            own=own or {},
        )

    def __call__(self, item: Item) -> list[str]:
        """Write an item, unless it is there; the part that is as it should be is taken over.

        Returns:
            Warnings.
        """
        warnings: list[str] = []
        store, name = self.source.store, room_file(item.name)
        path = store / f"{name}.safetensors"
        # A worker that died after it had written the item left it whole.
        entry = shard_index(path).get(item.name) if path.exists() else None
        has_visual, has_text, has_sound, has_words = item.done(entry)
        if has_visual and has_text and has_sound and has_words:
            return warnings
        tensors = dict(item.own)
        heard, listener = None, None
        if self.sound is not None and has_sound and entry is not None:
            tensors |= read_entry(entry, SOUND_PART)
        elif self.sound is not None:
            heard = SoundRows(self.sound, item.spans)
            listener = heard.beside(item.media, item.recording)
        if has_visual and entry is not None:
            tensors |= read_entry(entry, VISUAL_PART[self.settings.inputs])
        else:
            make = self._frames if self.settings.inputs else self._visual
            tensors |= make(item, warnings, listener)
        if heard is not None:
            heard.finish(item.recording, warnings)
            values_SX, has_S = heard.features(f"{self.source.item} {item.name!r}, sound")
            tensors |= {"sound": values_SX, "has_sound": has_S.astype(np.uint8)}
        if item.pairs is not None:
            flags = self.source.text_flags(item.pairs)
            if has_text and entry is not None:
                tensors |= flags | read_entry(entry, TEXT_PART[self.settings.inputs])
            else:
                tensors |= flags | (self._tokens if self.settings.inputs else self._text)(item)
            tensors |= self._words(item.pairs)
        room = StoredRoom(
            room_id=item.name,
            tensors=tensors,
            visual_fingerprint=item.visual_fingerprint,
            text_fingerprint=item.text_fingerprint,
            sound_fingerprint=item.sound_fingerprint,
            words_fingerprint=item.words_fingerprint,
        )
        write_shard(store, name, [room])
        return warnings

    def _visual(self, item: Item, warnings: list[str], listener: SoundListener | None) -> Tensors:
        if isinstance(self.visual, StoredVectors):
            return self.visual.read(item.name, len(item.spans))
        visual_SV, has_visual_S = encode_frames(
            item.media,
            item.spans,
            self.visual,
            frames_per_segment=self.spec.frames_per_segment,
            frames=self.spec.frames,
            batch_size=self.settings.batch_size,
            warnings=warnings,
            listener=listener,
        )
        what = f"{self.source.item} {item.name!r}, visual encoder {self.visual.name!r}"
        return {"visual": to_half(visual_SV, what), "has_visual": has_visual_S.astype(np.uint8)}

    def _text(self, item: Item) -> Tensors:
        # No cache over items: a float's last bits depend on the batch that a text is in, and with
        # one they would depend on which items the worker had before.
        text_ST = encode_texts(item.pairs or (), self.text, batch_size=self.settings.batch_size)
        what = f"{self.source.item} {item.name!r}, text encoder {self.text.name!r}"
        return {"text": to_half(text_ST, what)}

    def _words(self, pairs: Sequence[Pair]) -> Tensors:
        if not self.words:
            return {}
        # Made anew even where they are stored: that takes less time than reading them.
        words_SX, has_words_S = words.word_numbers(pairs)
        return {"words": words_SX, "has_words": has_words_S.astype(np.uint8)}

    def _frames(self, item: Item, warnings: list[str], listener: SoundListener | None) -> Tensors:
        assert not isinstance(self.visual, StoredVectors)
        per_row, count = self.spec.frames_per_segment, len(item.spans)
        frames_SFHWC = np.zeros((count, per_row, *self.visual.size, 3), np.uint8)
        has_frame_SF = np.zeros((count, per_row), np.uint8)
        found = segment_frames(
            item.media,
            item.spans,
            per_row,
            warnings,
            frames=self.spec.frames,
            listener=listener,
        )
        for number, frame in enumerate(found):
            row, place = divmod(number, per_row)
            if frame is not None:
                frames_SFHWC[row, place] = self.visual.preprocess(frame)
                has_frame_SF[row, place] = 1
        has_visual_S: NDArray[np.uint8] = has_frame_SF.max(axis=1)
        return {"frames": frames_SFHWC, "has_frame": has_frame_SF, "has_visual": has_visual_S}

    def _tokens(self, item: Item) -> Tensors:
        pairs = item.pairs or []
        rows = [row for row, pair in enumerate(pairs) if any(pair)]
        names, kinds = TEXT_PART[True], (np.int32, np.uint8, np.uint8)
        found = (torch.zeros(0, 0),) * 3
        if rows:
            chosen = [pairs[row] for row in rows]
            found = self.text.tokenize([s for s, _ in chosen], [c for _, c in chosen])
        tensors: Tensors = {}
        for name, kind, values in zip(names, kinds, found, strict=True):
            tensors[name] = np.zeros((len(pairs), values.shape[1]), kind)
            tensors[name][rows] = values.numpy()
        return tensors


def row_media(row: Mapping[str, Any], what: str) -> Media | None:
    """Where the pictures of a room's or video's row of its table are; None if it has none.

    Args:
        row: with `media` and `media_kind`.
        what: the table and the row, for messages.

    Raises:
        InputError: the kind is neither of the two.
    """
    if row["media"] is None:
        return None
    if row["media_kind"] not in ("video", "frames"):
        raise InputError(f"{what}: media_kind must be video or frames, not {row['media_kind']!r}")
    return Media(path=Path(row["media"]), kind=row["media_kind"])


def media_content(what: str, media: Media | None, hashes: ContentHashes) -> list[Any] | None:
    """What changes when the pictures do: hashes of their files, and in a folder names, the times.

    Where the files lie, and when they were copied there, does not count.

    Args:
        what: whose they are, for messages.
        media: where they are.
        hashes: of files, as far as they are known.

    Raises:
        InputError: they cannot be read.
    """
    if media is None:
        return None
    try:
        if media.kind == "frames":
            found = [[path.name, hashes.of(path)] for _, path in list_images(media.path)]
        else:
            found = [["", hashes.of(media.path)]]
    except (OSError, InputError) as error:
        raise InputError(
            f"{what}: its {media.kind} {media.path} cannot be read ({error})"
        ) from None
    return [media.kind, found]
