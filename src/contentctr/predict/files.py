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
- `index.html`, the page; `curve.png`; with clips `clips/*` and a picture of each peak; and, where
  they are wanted, a reel and `export/*` (docs/editing.md).

All times are seconds from the recording's start.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl

from contentctr.errors import InputError
from contentctr.files import atomic, write_json, write_text
from contentctr.outputs import alone, check_output, output_folder
from contentctr.predict.clips import (
    Clip,
    clip_names,
    make_clips,
    make_reel,
    peak_pictures,
    thumbnail_name,
)
from contentctr.predict.editing import Editing
from contentctr.predict.export.write import export_highlights, export_names
from contentctr.predict.found import Found
from contentctr.predict.page import PAGE, make_chapters, prediction_html, recording_name
from contentctr.report.canvas import Canvas
from contentctr.report.figures import draw_curve
from contentctr.report.fonts import missing_fonts
from contentctr.report.player.contents import Chapter
from contentctr.score.highlights import Highlight, clock

NAMES = ("curve.csv", "curve.png", "highlights.csv", PAGE, "prediction.json")
_KIND = "a prediction"
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


def require_output(out: Path, inputs: Iterable[Path | str | None] = ()) -> None:
    """Stop before anything is scored, which may take an hour, at a folder that is not ours.

    Args:
        out: where results are to go.
        inputs: what they are made from: an earlier prediction's clip or reel would be removed with
            that prediction, before anything was cut from it.

    Raises:
        InputError: names the folder, or the input in it.
    """
    earlier = {(out / name).resolve() for name in check_output(out, _KIND, NAMES)}
    for path in inputs:
        if path is not None and Path(path).resolve() in earlier:
            raise InputError(
                f"{path}: is of the earlier prediction in {out}, which would be replaced; choose "
                "another folder"
            )


@contextlib.contextmanager
def held_output(out: Path, inputs: Iterable[Path | str | None] = ()) -> Iterator[None]:
    """`require_output`, and keep others out while the block finds and writes a prediction.

    Raises:
        InputError: as `require_output`, or another process is at work there.
    """
    require_output(out, inputs)
    with alone(out, "here"):
        yield


def write_prediction(out: Path, found: Found, editing: Editing) -> Prediction:
    """Write OUT/curve.csv, curve.png, highlights.csv, index.html and prediction.json, and clips.

    Args:
        out: a new or empty folder, or one of an earlier prediction, whose files are replaced.
        found: what is written.
        editing: of `wanted_editing`: clips into OUT/clips, a reel, OUT/export.

    Raises:
        InputError: the folder holds files of somebody else.
    """
    found = replace(found, warnings=list(found.warnings))  # what is told of this writing alone
    files = _Files(found, editing)
    curve = marked_curve(found.curve, found.highlights)
    with output_folder(out, _KIND, [*reversed(NAMES), *files.names]):
        with atomic(out / "curve.csv") as temporary:
            _rounded(curve).write_csv(temporary)
        _draw(out, found)
        found.warnings.extend(filter(None, [missing_fonts(found.title)]))
        made = files.write(out)
        _write_highlights(out / "highlights.csv", found.highlights, files.cut)
        write_json(out / "prediction.json", _facts(found, files.cut))
    return Prediction(
        curve=curve,
        highlights=found.highlights,
        files=[*(out / name for name in NAMES), *made],
        warnings=found.warnings,
        label=found.label,
        speech=str(found.facts.get("speech_source", "")),
        kind=found.kind,
        verdict=found.verdict,
    )


class _Files:
    """What is made of the highlights beside their list: clips, pictures, reel, exports, page."""

    def __init__(self, found: Found, editing: Editing) -> None:
        self.found, self.editing = found, editing
        cuts = editing.clips and found.has_video
        self.clips = clip_names(found.video, found.highlights, editing) if cuts else []  # type: ignore[arg-type]
        self.reel = f"reel{Path(self.clips[0]).suffix}" if editing.reel and self.clips else ""
        self.names = [
            *self.clips,
            *map(thumbnail_name, self.clips),
            *([self.reel] if self.reel else []),
            *export_names(editing.formats),
        ]
        self.cut: list[Clip | None] = [None] * len(found.highlights)

    def write(self, out: Path) -> list[Path]:
        """Write them; what cannot be made is told in the warnings, and costs no more."""
        found, editing = self.found, self.editing
        ends = float(found.curve["end_s"].max() or 0.0)  # type: ignore[arg-type]
        duration_s = float(found.facts.get("duration_s") or ends)
        made: list[Path] = []
        thumbnails: list[Path | None] = [None] * len(found.highlights)
        if self.clips and found.video is not None:
            paths = [out / name for name in self.clips]
            self.cut = make_clips(
                *(found.video, found.highlights, paths, editing, duration_s, found.warnings)
            )
            made += [clip.path for clip in self.cut if clip is not None]
            thumbnails = [
                None if clip is None else out / thumbnail_name(name)
                for clip, name in zip(self.cut, self.clips, strict=True)
            ]
        if self.reel and (reel := make_reel(self.cut, out / self.reel, found.warnings)):
            made.append(reel)
        pictures = [b""] * len(found.highlights)
        if found.video is not None and found.highlights:
            pictures = peak_pictures(found.video, found.highlights, thumbnails, found.warnings)
            made += [path for path in thumbnails if path is not None and path.is_file()]
        chapters = make_chapters(found, self.cut, pictures)
        made += self._export(out, chapters, duration_s)
        page = prediction_html(
            out, found, chapters=chapters, duration_s=duration_s, files=self._listed(out, made)
        )
        write_text(out / PAGE, page)
        return made

    def _export(self, out: Path, chapters: Sequence[Chapter], duration_s: float) -> list[Path]:
        if not self.editing.formats:
            return []
        return export_highlights(
            out,
            self.editing.formats,
            name=recording_name(self.found.recording),
            chapters=chapters,
            duration_s=duration_s,
            video=self.found.video,
            pad_s=self.editing.pad_s,
            warnings=self.found.warnings,
        )

    def _listed(self, out: Path, made: Sequence[Path]) -> list[tuple[str, str]]:
        """Names and kinds of files that the page lists."""
        others = [str(path.relative_to(out).as_posix()) for path in made]
        listed = [("curve.csv", "scores"), ("highlights.csv", "highlights")]
        listed += [(self.reel, "reel")] if self.reel in others else []
        folders = {"clips/": "clips", "export/": "for other programs"}
        return listed + [
            (folder, what)
            for folder, what in folders.items()
            if any(name.startswith(folder) for name in others)
        ]


def marked_curve(curve: pl.DataFrame, highlights: Sequence[Highlight]) -> pl.DataFrame:
    """The curve with `highlight` after its score: whether a row's middle lies in one."""
    middle_S = ((curve["start_s"] + curve["end_s"]) / 2).to_numpy()
    inside_S = np.zeros(curve.height, np.bool_)
    for h in highlights:
        inside_S |= (h.start_s <= middle_S) & (middle_S < h.end_s)
    place = max(
        curve.columns.index(name) for name in ("score", "smoothed") if name in curve.columns
    )
    return curve.clone().insert_column(place + 1, pl.Series("highlight", inside_S))


def _facts(found: Found, clips: Sequence[Clip | None]) -> dict[str, Any]:
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


def _write_highlights(
    path: Path, highlights: Sequence[Highlight], clips: Sequence[Clip | None]
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
