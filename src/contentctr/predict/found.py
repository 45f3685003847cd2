"""What a model or the rule has found in a recording, before it is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from contentctr.score.highlights import Highlight

if TYPE_CHECKING:  # torch takes seconds to load, and the rule needs none
    from contentctr.score.checkpoint import Checkpoint

Reasons = Literal["logs", "all"]
"""What is read for the reasons of a run's highlights: chat and speech, which cost nothing; or sound
and pictures too, which cost about as much as the run's score."""
BY_RULE = "by a rule, not a trained model"


def simulated_label(recording: bool, model: bool = False, data: str = "rooms") -> str:
    """What has to stand beside a score: a real recording's is never called simulated itself.

    Args:
        recording: whether it is simulated.
        model: whether what the model was trained on is.
        data: what that shows, in a word.
    """
    if recording:
        return "simulated"
    return f"by a model of simulated {data}" if model else ""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A curve and its highlights, as they are to be written."""

    checkpoint: Checkpoint | None
    """Of the model that scored; None: the rule did."""
    recording: Path
    """As it was given."""
    video: Path | None
    """What can be played of it; None: nothing."""
    has_video: bool
    """Whether clips can be cut from it."""
    curve: pl.DataFrame
    """What curve.csv holds, with start_s, end_s and score."""
    line_S: npt.NDArray[np.float64]
    """What is drawn, one number a row of `curve`; NaN where there is none."""
    highlights: list[Highlight]
    """Best first."""
    title: str
    """Of the picture."""
    settings: Mapping[str, Any]
    """What was asked for, for prediction.json."""
    facts: Mapping[str, Any]
    """What prediction.json holds beside; `simulated` is true where the recording is."""
    warnings: list[str]
    """See Prediction; a clip that cannot be cut is added to them, and costs no more."""
    data: str = "rooms"
    """What the model was trained on shows, in a word."""
    verdict: str = ""
    """See Prediction."""
    parts: Sequence[Mapping[str, str]] = ()
    """The rule's parts that the recording has, as prediction.json lists them."""
    targets_S: npt.NDArray[np.float64] | None = None
    """Drawn beside `line_S`; None: not known."""
    comments: pl.DataFrame | None = None
    """Of COMMENTS_SCHEMA, for the page; None: there are none."""
    speech: pl.DataFrame | None = None
    """Of SPEECH_SCHEMA, for the page; None: there is none."""

    @property
    def kind(self) -> Literal["rule", "model"]:
        """What scored."""
        return "rule" if self.checkpoint is None else "model"

    @property
    def label(self) -> str:
        """See Prediction."""
        made_up = bool(self.facts.get("simulated"))
        if self.checkpoint is None:
            return "; ".join(filter(None, (simulated_label(made_up), BY_RULE)))
        return simulated_label(made_up, self.checkpoint.spec.simulated, self.data)
