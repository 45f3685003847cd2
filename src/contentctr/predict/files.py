"""The files of a prediction: the curve and its picture, the highlights and their clips.

Recordings and users' videos share them, by a model or by the rule without one. What OUT holds:

- `curve.csv`, a row a segment (5 s by the rule, else the model's; a frame of a user's video):
  `segment` (or `frame`), `start_s`, `end_s`, `score` (empty where there is none), `highlight`,
  `ctr` and `viewers` where the recording has events, and one column a part of the rule, 0 to 1:
  `part_chat`, `part_words`, `part_laughter`, `part_loudness`, `part_scenes`, `part_speech`. A part
  that the recording does not have is an empty column; users' videos have none of these columns.
- `highlights.csv`, a row a highlight, best first: `rank`, `start`, `end` (clock), `start_s`,
  `end_s`, `peak_s`, `score` (of the peak), `reasons` (plain words, "; " between them), `clip`,
  `clip_start_s`, `clip_end_s`.
- `prediction.json`: `kind` ("rule" or "model"), `run` (its folder; null by the rule), `recording`
  (as it was given), `video` (the file that can be played; null where there is none), `duration_s`,
  `label` (what must stand beside every number, "" if nothing must), `settings` (an object),
  `verdict` (why there are few highlights or none; "" where all is well), `parts` (a list of
  {part, column, title, text}: those that the recording has), `highlights` (a list of {rank,
  start_s, end_s, peak_s, score, clip, reasons}, reasons being a list of {part, score, text},
  strongest first), `warnings`, and facts of the recording and of the run.
- `curve.png`, and with clips `clips/*`.

All times are seconds from the recording's start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from contentctr.errors import InputError
from contentctr.files import atomic, write_json
from contentctr.outputs import check_output, output_folder
from contentctr.report.canvas import Canvas
from contentctr.report.figures import draw_curve
from contentctr.rooms.clips import CLIP_FORMATS, Cut, cut_clips
from contentctr.score.highlights import Highlight, clock

if TYPE_CHECKING:  # torch takes seconds to load, and the rule needs none
    from contentctr.score.checkpoint import Checkpoint

NAMES = ("curve.csv", "curve.png", "highlights.csv", "prediction.json")
_KIND = "a prediction"
BY_RULE = "by a rule, not a trained model"
_HIGHLIGHTS_SCHEMA = {
    "rank": pl.Int64,
    "start": pl.String,
    "end": pl.String,
    "start_s": pl.Float64,
    "end_s": pl.Float64,
    "peak_s": pl.Float64,
    "score": pl.Float64,
    "reasons": pl.String,
    "clip": pl.String,
    "clip_start_s": pl.Float64,
    "clip_end_s": pl.Float64,
}


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What was found in a recording, and where it was put."""

    curve: pl.DataFrame
    """One row a segment of a live room, or a frame of a video: its number, start_s, end_s, score,
    highlight, and what else the command that made it tells."""
    highlights: list[Highlight]
    """Best first."""
    files: list[Path]
    """Everything that was written."""
    warnings: list[str]
    """What the user should know of the recording."""
    label: str
    """What has to stand beside every number: that the recording, or what the model was trained on,
    is simulated, or that a rule made it; "" if none of these."""
    kind: Literal["rule", "model"] = "model"
    verdict: str = ""
    """Why there are few highlights, or none; "" where the curve has what it takes."""
    speech: str = ""
    """Where its speech is from, of `join_sources`; "" where that is nothing to tell."""


@dataclass(frozen=True)
class _Clip:
    path: Path
    start_s: float
    end_s: float


def require_output(out: Path) -> None:
    """Stop at a folder that is not ours, before anything is scored, which may take an hour.

    Raises:
        InputError: names the folder.
    """
    check_output(out, _KIND, NAMES)


@dataclass(frozen=True, kw_only=True)
class Found:
    """A curve and its highlights, as they are to be written."""

    checkpoint: Checkpoint | None
    """Of the model that scored; None: the rule did."""
    recording: Path
    """As it was given."""
    video: Path | None
    """What can be played of it, and cut; None: nothing."""
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

    @property
    def kind(self) -> Literal["rule", "model"]:
        """What scored."""
        return "rule" if self.checkpoint is None else "model"

    @property
    def label(self) -> str:
        """See Prediction."""
        simulated = "simulated" if self.facts.get("simulated") else ""
        if self.checkpoint is None:
            return "; ".join(filter(None, (simulated, BY_RULE)))
        by_simulated = f"by a model of simulated {self.data}"
        return simulated or (by_simulated if self.checkpoint.spec.simulated else "")


def write_prediction(out: Path, found: Found, *, clips: bool = False) -> Prediction:
    """Write OUT/curve.csv, curve.png, highlights.csv, prediction.json, and clips if asked for.

    Args:
        out: a new or empty folder, or one of an earlier prediction, whose files are replaced.
        found: what is written.
        clips: whether the highlights are cut from the video, into OUT/clips.

    Raises:
        InputError: the folder holds files of somebody else.
    """
    video = found.video if clips else None
    names = [] if video is None else _clip_names(video, found.highlights)
    curve = _marked(found.curve, found.highlights)
    with output_folder(out, _KIND, [*reversed(NAMES), *names]):
        with atomic(out / "curve.csv") as temporary:
            _rounded(curve).write_csv(temporary)
        _draw(out, found)
        cut: list[_Clip | None] = [None] * len(found.highlights)
        if video is not None:
            cut = _cut(video, found.highlights, [out / name for name in names], found.warnings)
        _write_highlights(out / "highlights.csv", found.highlights, cut)
        write_json(out / "prediction.json", _facts(found, cut))
    return Prediction(
        curve=curve,
        highlights=found.highlights,
        files=[*(out / name for name in NAMES), *(clip.path for clip in cut if clip is not None)],
        warnings=found.warnings,
        label=found.label,
        speech=str(found.facts.get("speech_source", "")),
        kind=found.kind,
        verdict=found.verdict,
    )


def _marked(curve: pl.DataFrame, highlights: Sequence[Highlight]) -> pl.DataFrame:
    """The curve with `highlight` after its score: whether a row's middle lies in one."""
    middle_S = ((curve["start_s"] + curve["end_s"]) / 2).to_numpy()
    inside_S = np.zeros(curve.height, np.bool_)
    for h in highlights:
        inside_S |= (h.start_s <= middle_S) & (middle_S < h.end_s)
    place = max(
        curve.columns.index(name) for name in ("score", "smoothed") if name in curve.columns
    )
    return curve.insert_column(place + 1, pl.Series("highlight", inside_S))


def _facts(found: Found, clips: Sequence[_Clip | None]) -> dict[str, Any]:
    """What prediction.json holds."""
    model: dict[str, Any] = {"target": None}
    if found.checkpoint is not None:
        model = {
            "target": found.checkpoint.spec.target,
            "checkpoint": str(found.checkpoint.folder),
            "trained_on_simulated": found.checkpoint.spec.simulated,
        }
    return {
        "kind": found.kind,
        "run": model.get("checkpoint"),
        "recording": str(found.recording),
        "video": None if found.video is None else str(found.video),
        "label": found.label,
        "verdict": found.verdict,
        **found.facts,
        **model,
        "settings": dict(found.settings),
        "parts": [dict(part) for part in found.parts],
        "highlights": [
            {
                "rank": rank,
                "start_s": round(h.start_s, 6),
                "end_s": round(h.end_s, 6),
                "peak_s": round(h.peak_s, 6),
                "score": h.score,
                "clip": None if clip is None else f"clips/{clip.path.name}",
                "reasons": [asdict(reason) for reason in h.reasons],
            }
            for rank, (h, clip) in enumerate(zip(found.highlights, clips, strict=True), 1)
        ],
        "warnings": found.warnings,
    }


def _draw(out: Path, found: Found) -> None:
    curve, targets_S = found.curve, found.targets_S
    legend = [("predicted", "Predicted" if found.checkpoint is not None else "By the rule")]
    legend += [("target", "True")] if targets_S is not None else []
    legend += [("highlight box", "Highlight")] if found.highlights else []
    Canvas(folder=out, note=found.label).save(
        "curve",
        found.title,
        lambda ax: draw_curve(
            *(ax, curve["start_s"], curve["end_s"], found.line_S),
            targets=targets_S,
            highlights=found.highlights,
        ),
        (960, 260),
        legend,
    )


def _clip_names(video: Path, highlights: Sequence[Highlight]) -> list[str]:
    """One file a highlight, relative to the prediction's folder."""
    suffix = video.suffix.lower()
    suffix = suffix if suffix in CLIP_FORMATS else ".mkv"  # Matroska holds nearly any codec
    return [
        f"clips/{rank:02d}_{clock(h.start_s)}-{clock(h.end_s)}{suffix}".replace(":", ".")
        for rank, h in enumerate(highlights, 1)
    ]


def _cut(
    video: Path, highlights: Sequence[Highlight], paths: Sequence[Path], warnings: list[str]
) -> list[_Clip | None]:
    """Each highlight's clip; None where it cannot be cut, which is no reason to lose the others."""
    cuts = [
        Cut(start_s=h.start_s, end_s=h.end_s, out=path)
        for h, path in zip(highlights, paths, strict=True)
    ]
    found: Sequence[tuple[float, float] | Exception]
    try:
        found = cut_clips(video, cuts)
    except (InputError, OSError) as error:
        found = [error] * len(cuts)
    clips: list[_Clip | None] = []
    for path, clip in zip(paths, found, strict=True):
        if isinstance(clip, Exception):
            warnings.append(f"{path.name}: this clip was not cut ({clip})")
        clips.append(None if isinstance(clip, Exception) else _Clip(path, *clip))
    return clips


def _write_highlights(
    path: Path, highlights: Sequence[Highlight], clips: Sequence[_Clip | None]
) -> None:
    rows = [
        {
            "rank": rank,
            "start": clock(h.start_s),
            "end": clock(h.end_s),
            "start_s": h.start_s,
            "end_s": h.end_s,
            "peak_s": h.peak_s,
            "score": h.score,
            "reasons": "; ".join(reason.text for reason in h.reasons),
            "clip": None if c is None else c.path.name,
            "clip_start_s": None if c is None else c.start_s,
            "clip_end_s": None if c is None else c.end_s,
        }
        for rank, (h, c) in enumerate(zip(highlights, clips, strict=True), 1)
    ]
    with atomic(path) as temporary:
        _rounded(pl.DataFrame(rows, schema=_HIGHLIGHTS_SCHEMA)).write_csv(temporary)


def _rounded(table: pl.DataFrame) -> pl.DataFrame:
    """Its times to the microsecond: those of packets are products, as 88.16000000000001 is."""
    return table.with_columns(pl.col("^.*_s$").round(6))
