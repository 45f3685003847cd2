"""Curves and highlights of recordings from Python, without files: for notebooks and services."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from contentctr.counting import counted
from contentctr.predict.by_rule import find_by_rule
from contentctr.predict.editing import Editing, require_cuttable, wanted_editing
from contentctr.predict.files import (
    Prediction,
    held_output,
    marked_curve,
    write_prediction,
)
from contentctr.predict.found import Found, Reasons
from contentctr.predict.notebook import curve_html
from contentctr.predict.recording import read_recording
from contentctr.score.choose import HighlightChoice
from contentctr.score.highlights import Highlight

if TYPE_CHECKING:  # torch takes seconds to load, and the rule needs none
    import torch

    from contentctr.score.checkpoint import Checkpoint
    from contentctr.transcribe.segments import Recogniser


@dataclass(frozen=True)
class Predicted:
    """What a Predictor found in a recording; nothing is written before `write`."""

    found: Found

    def __repr__(self) -> str:
        number = counted(len(self.highlights), "highlight")
        label = f", {self.label}" if self.label else ""
        return f"<{number} of {self.found.recording}{label}>"

    @property
    def curve(self) -> pl.DataFrame:
        """What curve.csv would hold: segment, start_s, end_s, score, highlight and more."""
        return marked_curve(self.found.curve, self.found.highlights)

    @property
    def highlights(self) -> list[Highlight]:
        """Best first."""
        return self.found.highlights

    @property
    def warnings(self) -> list[str]:
        """What the user should know of the recording."""
        return self.found.warnings

    @property
    def label(self) -> str:
        """What has to stand beside every number, as Prediction has it; "" if nothing must."""
        return self.found.label

    def write(
        self, out: Path | str, *, clips: bool = False, editing: Editing | None = None
    ) -> Prediction:
        """Write what `predict_recording` writes.

        Args:
            out: a new or empty folder, or one of an earlier prediction, whose files are replaced.
            clips: cut the highlights from the video, without encoding it again.
            editing: what else is wanted for editing.

        Raises:
            InputError: `out` holds files of somebody else, or there is no video to cut.
        """
        editing = wanted_editing(editing, clips=clips)
        require_cuttable(self.found.recording, editing, has_video=self.found.has_video)
        with held_output(Path(out), (self.found.recording, self.found.video)):
            return write_prediction(Path(out), self.found, editing)

    def _repr_html_(self) -> str:
        return curve_html(self.found)


class Predictor:
    """Finds the curve and the highlights of recordings; encoders stay loaded between them.

    Not for use by two threads at once.

    Args:
        run: a checkpoint or run folder of live rooms; None: the rule, which needs no training.
        asr: what hears recordings without a transcript, of `Choice`; of a run alone.
        language: what is spoken, of `Choice`; of a run alone.
        device: where to compute, of `find_device`.
        engine: what runs the encoders, as `encode_rooms` takes it.
        show_progress: show bars.

    Raises:
        InputError: the run cannot be read, or there is no such device.
    """

    def __init__(
        self,
        run: Checkpoint | Path | str | None = None,
        *,
        asr: Path | str | Recogniser | None = None,
        language: str | None = None,
        device: torch.device | str = "auto",
        engine: str = "auto",
        show_progress: bool = False,
    ) -> None:
        self.show_progress = show_progress
        self.run = None
        if run is not None:
            from contentctr.predict.loaded import LoadedRun

            self.run = LoadedRun(run, asr=asr, language=language, device=device, engine=engine)

    def predict(
        self,
        source: Path | str,
        *,
        comments: Path | str | None = None,
        speech: Path | str | None = None,
        events: Path | str | None = None,
        streamer_id: str = "",
        started_at: datetime | None = None,
        names: Mapping[str, str] | None = None,
        choice: HighlightChoice | None = None,
        reasons: Reasons = "logs",
    ) -> Predicted:
        """Score a recording.

        Args:
            source: a room folder, a video file or a sound file.
            comments: chat log of a file.
            speech: transcript or subtitles of a file.
            events: event log of a file.
            streamer_id: who streams, in a file.
            started_at: when a file started, with a zone, for clock times in its logs.
            names: the user's own names of columns in the logs, of `read_room`.
            choice: which highlights are wanted; None: five at most.
            reasons: what is read for those of a run's highlights; the rule reads everything.

        Raises:
            InputError: the recording cannot be read, or has nothing to score by.
        """
        choice = choice or HighlightChoice()
        choice.require()
        room = read_recording(source, comments, speech, events, streamer_id, started_at, names)
        if self.run is None:
            found = find_by_rule(Path(source), room, choice, show_progress=self.show_progress)
        else:
            from contentctr.predict.rooms import find_by_run

            found = find_by_run(
                self.run,
                Path(source),
                room,
                choice,
                reasons=reasons,
                show_progress=self.show_progress,
            )
        return Predicted(found)

    def __repr__(self) -> str:
        return f"Predictor({'by the rule' if self.run is None else self.run.checkpoint.folder})"
