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

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from contentctr.errors import InputError
from contentctr.files import atomic, write_json
from contentctr.outputs import check_output, output_folder
from contentctr.report.canvas import Canvas
from contentctr.report.figures import draw_curve
from contentctr.rooms.clips import CLIP_FORMATS, Cut, cut_clips
from contentctr.score.checkpoint import Checkpoint
from contentctr.score.highlights import SHARE, Highlight, clock

NAMES = ("curve.csv", "curve.png", "highlights.csv", "prediction.json")
_KIND = "a prediction"
_HIGHLIGHTS_SCHEMA = {
    "rank": pl.Int64,
    "start": pl.String,
    "end": pl.String,
    "start_s": pl.Float64,
    "end_s": pl.Float64,
    "score": pl.Float64,
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
    is simulated; "" if neither is."""
    speech: str = ""
    """Where its speech is from, of `join_sources`; "" where that is nothing to tell."""


@dataclass(frozen=True)
class _Clip:
    path: Path
    start_s: float
    end_s: float


def require_choice(
    out: Path, top_k: int, share: float = SHARE, max_length_s: float = math.inf
) -> None:
    """Stop at a setting of `find_highlights` out of its range, or at a folder that is not ours.

    That is, before anything is scored, which may take an hour.

    Raises:
        InputError: names the setting, or the folder.
    """
    for name, value, good, rule in (
        ("top_k", top_k, top_k >= 1, "at least 1"),
        ("share", share, 0 < share < 1, "in (0, 1)"),
        ("max_length_s", max_length_s, max_length_s > 0, "above 0"),
    ):
        if not good:
            raise InputError(f"{name} must be {rule}, not {value:g}")
    check_output(out, _KIND, NAMES)


def write_prediction(
    out: Path,
    *,
    checkpoint: Checkpoint,
    curve: pl.DataFrame,
    line_S: npt.NDArray[np.float64],
    highlights: list[Highlight],
    title: str,
    data: str,
    facts: Mapping[str, Any],
    warnings: list[str],
    targets_S: npt.NDArray[np.float64] | None = None,
    clips_from: Path | None = None,
) -> Prediction:
    """Write OUT/curve.csv, curve.png, highlights.csv, prediction.json, and clips if asked for.

    Args:
        out: a new or empty folder, or one of an earlier prediction, whose files are replaced.
        checkpoint: of the model that scored.
        curve: what curve.csv holds, with start_s and end_s.
        line_S: what is drawn, one number a row of `curve`; NaN where there is none.
        highlights: best first.
        title: of the picture.
        data: what the model was trained on shows, in a word, as "rooms".
        facts: what prediction.json holds beside the warnings and what it tells of the checkpoint;
            `simulated` is true where the recording is.
        warnings: see Prediction; a clip that cannot be cut is added to them, and costs no more.
        targets_S: drawn beside `line_S`; None: not known.
        clips_from: the video that the highlights are cut from, into OUT/clips; None: no clips.

    Raises:
        InputError: the folder holds files of somebody else.
    """
    label = f"by a model of simulated {data}" if checkpoint.spec.simulated else ""
    label = "simulated" if facts.get("simulated") else label
    facts = {
        **facts,
        "target": checkpoint.spec.target,
        "checkpoint": str(checkpoint.folder),
        "trained_on_simulated": checkpoint.spec.simulated,
    }
    clips = [] if clips_from is None else _clip_names(clips_from, highlights)
    with output_folder(out, _KIND, [*reversed(NAMES), *clips]):
        with atomic(out / "curve.csv") as temporary:
            _rounded(curve).write_csv(temporary)
        _draw(out, title, label, curve, line_S, highlights, targets_S)
        cut: list[_Clip | None] = [None] * len(highlights)
        if clips_from is not None:
            paths = [out / name for name in clips]
            cut = _cut(clips_from, highlights, paths, warnings)
        _write_highlights(out / "highlights.csv", highlights, cut)
        write_json(out / "prediction.json", {**facts, "warnings": warnings})
    return Prediction(
        curve=curve,
        highlights=highlights,
        files=[*(out / name for name in NAMES), *(clip.path for clip in cut if clip is not None)],
        warnings=warnings,
        label=label,
        speech=str(facts.get("speech_source", "")),
    )


def _draw(
    out: Path,
    title: str,
    label: str,
    curve: pl.DataFrame,
    line_S: npt.NDArray[np.float64],
    highlights: Sequence[Highlight],
    targets_S: npt.NDArray[np.float64] | None,
) -> None:
    legend = [("predicted", "Predicted")]
    legend += [("target", "True")] if targets_S is not None else []
    legend += [("highlight box", "Highlight")] if highlights else []
    Canvas(folder=out, note=label).save(
        "curve",
        title,
        lambda ax: draw_curve(
            ax, curve["start_s"], curve["end_s"], line_S, targets=targets_S, highlights=highlights
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
            "score": h.score,
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
