"""Encode users' videos: each frame that a sample needs, once (Section 4.3.1).

    DATA/features/NAME.safetensors   a video: `frame` int32 [S], the numbers of its stored frames,
                                     ascending; `visual` float16 [S, V], `has_visual` uint8 [S];
                                     of a target video also `text` float16 [S, T], `has_text`
                                     uint8 [S]
    DATA/inputs/NAME.safetensors     the same for frames and tokens, as of rooms (vectors.py):
                                     `frame`, `frames`, `has_frame`, `has_visual`; of a target
                                     video also the tokens, `has_speech` where a caption is shown,
                                     and `has_comments`, which is 0

Of a target video every frame is stored, of the others those in somebody's history: a history clip
is a slice of its video. A frame is a segment of one picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
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
    Tensors,
    checked_batch_size,
    checked_engine,
    media_content,
    row_media,
)
from contentctr.encode.job import run_job
from contentctr.encode.segments import Pair
from contentctr.encode.spec import encoder_fields
from contentctr.errors import InputError
from contentctr.store.given_vectors import StoredVectors
from contentctr.store.personal import PreparedPersonal, wanted_frames


def encode_personal(
    data: PreparedPersonal | Path | str,
    *,
    visual: Path | str = encoders.EMBEDDED,
    text: Path | str = encoders.EMBEDDED,
    text_pooling: str | None = None,
    text_prefix: str | None = None,
    max_text_tokens: int = 128,
    frames: FrameChoice = "exact",
    batch_size: int | None = None,
    inputs: bool = False,
    device: str | torch.device = "cpu",
    engine: str = "auto",
    ray: str | None = None,
    show_progress: bool = True,
) -> dict[str, Any]:
    """Store features of the frames and captions of users' videos, or the encoders' inputs.

    A video is encoded again only if its file, its frames, its captions or an encoder changed, and
    then only the part of it, pictures or captions, that did. Videos no longer in the folder are
    removed from the store.

    Args:
        data: the prepared folder.
        visual: what `load_frame_encoder` takes.
        text: what `load_text` takes.
        text_pooling: cls or mean; None: the encoder's own.
        text_prefix: put before every text; None: the encoder's own.
        max_text_tokens: longer texts are cut.
        frames: as `encode_rooms` has it.
        batch_size: pictures, or texts, encoded at once; None: `default_batch_size`.
        inputs: store frames and tokens (DATA/inputs) in place of features (DATA/features). Models
            of highlights are trained on features, as the paper's (`train.finetune_encoders` is
            refused): these are for training an encoder of one's own.
        device: where the encoders run, of `find_device`.
        engine: as `encode_rooms` has it.
        ray: as `encode_rooms` has it.
        show_progress: show a bar on a terminal.

    Returns:
        Counts of what was done, and under "warnings" what the user should know.

    Raises:
        InputError: an encoder or a video cannot be had, there are features without videos, inputs
            are asked for of an encoder that cannot be trained, or another process is at work in the
            folder.
    """
    data = data if isinstance(data, PreparedPersonal) else PreparedPersonal(Path(data))
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
    )
    if data.manifest().get("simulated") and data.videos()["media"].null_count():
        raise InputError(
            f"{data.root}: its features are simulated, without pictures: there is nothing to encode"
        )
    return run_job(PersonalSource(data, settings), ray=ray, show_progress=show_progress)


@dataclass(frozen=True)
class PersonalSource(Source):
    """Users' videos: an item is a video, a row one of its frames."""

    data: PreparedPersonal
    item, row = "video", "frame"

    def load_visual(self, device: torch.device) -> VisualEncoder:
        """The visual encoder.

        Raises:
            InputError: it cannot be had, or is a file that is run only and its inputs are wanted.
        """
        visual = encoders.load_frame_encoder(self.settings.visual, device=device)
        if self.settings.inputs and not isinstance(visual, encoders.ImageEncoder):
            raise InputError(
                f"{self.settings.visual}: is run by ONNX Runtime and cannot be trained, so there "
                "is no use for its inputs; encode without --inputs"
            )
        return visual

    def spec(self, visual: VisualEncoder | StoredVectors, text: TextPairEncoder) -> DataSpec:
        """A frame is a segment of one picture."""
        return DataSpec(
            segment_seconds=1 / self.data.frame_rate,
            frames_per_segment=1,
            frames=self.settings.frames,
            target="highlight",
            simulated=bool(self.data.manifest().get("simulated")),
            **encoder_fields(visual, text),
        )

    def items(self, encoder: ItemEncoder) -> Iterator[Item]:
        """All videos."""
        rate, wanted = self.data.frame_rate, wanted_frames(self.data)
        captions: dict[str, list[tuple[float, float, str]]] = {}
        for video_id, start, end, text in self.data.captions().iter_rows():
            captions.setdefault(video_id, []).append((start, end, text))
        for row in self.data.videos().iter_rows(named=True):
            video_id, frame_S = row["video_id"], wanted[row["video_id"]]
            media, pairs = row_media(row, f"videos.parquet, video {video_id!r}"), None
            if row["is_target"]:
                texts = frame_texts(captions.get(video_id, ()), len(frame_S), rate)
                pairs = [(text, "") for text in texts]
            numbers = frame_S.tolist()
            yield encoder.item(
                video_id,
                media,
                [(i / rate, (i + 1) / rate) for i in numbers],
                pairs,
                rows=(rate, numbers),
                pictures=[media_content(f"video {video_id!r}", media, encoder.hashes)],
                own={"frame": frame_S},
            )

    def text_flags(self, pairs: Sequence[Pair]) -> Tensors:
        """`has_text`; of inputs the flags of rooms, whose reader reads both."""
        if self.settings.inputs:
            return super().text_flags(pairs)
        return {"has_text": np.array([any(pair) for pair in pairs], np.uint8)}


def frame_texts(
    captions: Iterable[tuple[float, float, str]], num_frames: int, frame_rate: float
) -> list[str]:
    """The captions shown during each frame, joined; "" where there are none.

    YouTube's rolling captions repeat a line while the next one grows below it: words that repeat
    the end of what is there already are joined once.

    Args:
        captions: start, end (seconds) and text, sorted by start. One without a length belongs to
            the frame that its start is in.
        num_frames: T.
        frame_rate: frames a second; frame i lasts from i to i + 1 in units of 1 / frame_rate.
    """
    words: list[list[str]] = [[] for _ in range(num_frames)]
    for start, end, text in captions:
        first = math.floor(start * frame_rate)
        last = max(math.ceil(end * frame_rate) - 1, first)
        new = text.split()
        for frame in range(max(first, 0), min(last, num_frames - 1) + 1):
            words[frame] += new[_repeated(words[frame], new) :]
    return [" ".join(frame) for frame in words]


def _repeated(have: Sequence[str], new: Sequence[str]) -> int:
    """How many of the first new words repeat the last ones there."""
    for count in range(min(len(have), len(new)), 0, -1):
        if list(have[-count:]) == list(new[:count]):
            return count
    return 0
