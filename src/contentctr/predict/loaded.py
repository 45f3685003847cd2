"""A run with all that it scores recordings with, each part loaded once and when first needed."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from contentctr.devices import find_device
from contentctr.encode.encoders import ImageEncoder, TextPairEncoder
from contentctr.encode.sound import SoundEncoder
from contentctr.score.checkpoint import Checkpoint, load_for, require_no_leak
from contentctr.transcribe.recogniser import Choice, choice_for
from contentctr.transcribe.segments import Recogniser


class LoadedRun:
    """Model, encoders and recogniser of a run of live rooms.

    Args:
        run: a checkpoint or run folder.
        asr: what hears a recording without a transcript, of `Choice`; None: what heard the model's
            training rooms, as `choice_for` has it.
        language: what is spoken, of `Choice`.
        device: where to compute, of `find_device`.
        engine: what runs the encoders, as `encode_rooms` takes it.

    Raises:
        InputError: the run cannot be read, is not of live rooms, or reads the counts of the
            segments that it scores; there is no such device.
    """

    def __init__(
        self,
        run: Checkpoint | Path | str,
        *,
        asr: Path | str | Recogniser | None = None,
        language: str | None = None,
        device: torch.device | str = "cpu",
        engine: str = "auto",
    ) -> None:
        self.checkpoint = load_for(run, "rooms")
        # What `predict` gives, `watch` gives while the room is live, or it refuses the model.
        require_no_leak(self.checkpoint.config)
        self.checkpoint.require_words()
        self.device, self.engine = find_device(device), engine
        asked = Choice(asr=asr, language=language, device=self.device.type)
        self.hearing = choice_for(self.checkpoint.spec.speech_source, asked)
        self.notes: list[str] = []
        """What the user should know of the engines that were loaded."""

    @cached_property
    def model(self) -> nn.Module:
        """In evaluation mode."""
        return self.checkpoint.load_model(self.device)

    @cached_property
    def visual(self) -> ImageEncoder:
        """Of pictures."""
        return self.checkpoint.load_visual(self.device, engine=self.engine, notes=self.notes)

    @cached_property
    def text(self) -> TextPairEncoder:
        """Of texts; not loaded for a recording without any."""
        return self.checkpoint.load_text(self.device, engine=self.engine, notes=self.notes)

    @cached_property
    def sound(self) -> SoundEncoder | None:
        """Of sound; None where the model reads none."""
        return self.checkpoint.load_sound()

    @cached_property
    def recogniser(self) -> Recogniser:
        """Of speech, where `hearing` lacks nothing."""
        return self.hearing.load()

    def engines(self) -> dict[str, Any]:
        """What ran the encoders that were needed, for prediction.json: engine and precision."""
        found = {}
        for part in ("visual", "text"):
            if part in vars(self):
                runtime = getattr(self, part).runtime
                found[f"{part}_engine"] = runtime.engine
                found[f"{part}_precision"] = runtime.precision
        return found
