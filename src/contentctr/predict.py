"""From a raw recording to its curve and highlights."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from contentctr.checkpoint import Checkpoint, load_for
from contentctr.errors import InputError
from contentctr.figures import draw_curve
from contentctr.files import atomic, write_json
from contentctr.highlights import Highlight, clock, find_highlights, highlight_mask
from contentctr.progress import progress_bar
from contentctr.rooms.folder import read_room, room_from_video
from contentctr.rooms.media import CLIP_FORMATS, cut_clip
from contentctr.rooms.room import Room
from contentctr.scoring import score_segments
from contentctr.segment_data import from_features
from contentctr.segment_features import default_batch_size, encode_segments
from contentctr.segments import segment_rooms


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What `predict` found, and where it put it."""

    curve: pl.DataFrame
    """One row a segment: segment, start_s, end_s, score, highlight, and ctr and viewers where the
    room has events."""
    highlights: list[Highlight]
    """Best first."""
    files: list[Path]
    """Everything that was written."""
    warnings: list[str]
    """What the user should know of the recording."""
    label: str
    """What has to stand beside every number: that the room, or the model's rooms, are simulated;
    "" if neither is."""


def predict_recording(
    checkpoint: Checkpoint | Path | str,
    source: Path | str,
    out: Path | str,
    *,
    comments: Path | None = None,
    speech: Path | None = None,
    events: Path | None = None,
    streamer_id: str = "",
    top_k: int = 5,
    clips: bool = False,
    device: torch.device | str = "cpu",
    show_progress: bool = True,
) -> Prediction:
    """Score a recording; write its curve, a picture of it, its highlights, and their clips.

    Writes OUT/curve.csv, OUT/curve.png, OUT/highlights.csv, OUT/prediction.json, and with `clips`
    OUT/clips/*. Parts that the recording does not have are taken as missing.

    Args:
        checkpoint: a checkpoint or run folder.
        source: a room folder, or a video file.
        out: folder for the results; files of an earlier prediction are replaced.
        comments: chat log of a video file.
        speech: transcript or subtitles of a video file.
        events: event log of a video file.
        streamer_id: who streams, in a video file; a streamer that the model does not know, or
            none, gets the "unknown" embedding.
        top_k: highlights to find at most.
        clips: cut the highlights from the video, without encoding it again.
        device: where to compute.
        show_progress: show a bar.

    Raises:
        InputError: the recording cannot be read, or lacks what is asked for.
    """
    if top_k < 1:
        raise InputError(f"top_k must be at least 1, not {top_k}")
    checkpoint = load_for(checkpoint, "ctr")
    room = _read(Path(source), comments, speech, events, streamer_id)
    if clips and (room.media is None or room.media.kind != "video"):
        raise InputError(f"{source}: clips can be cut from a video only; it has none")
    warnings = [*room.warnings, *_missing(room, checkpoint)]
    table = segment_rooms([room], segment_seconds=checkpoint.spec.segment_seconds)
    if not table.height:
        raise InputError(
            f"{source}: too short: {room.duration_s:.1f} s, less than half of a segment of "
            f"{checkpoint.spec.segment_seconds:g} s"
        )
    scores_S = _score(checkpoint, room, table, device, warnings, show_progress)
    return _write(Path(out), room, table, scores_S, top_k, clips, warnings, checkpoint)


def _read(
    source: Path,
    comments: Path | None,
    speech: Path | None,
    events: Path | None,
    streamer_id: str,
) -> Room:
    if source.is_dir():
        given = {"comments": comments, "speech": speech, "events": events}
        extra = [name for name, path in given.items() if path is not None]
        if extra or streamer_id:
            raise InputError(
                f"{source}: a room folder names its own parts; --{(extra or ['streamer'])[0]} is "
                "for a video file"
            )
        return read_room(source)
    if not source.is_file():
        raise InputError(f"{source}: no such file or folder")
    return room_from_video(
        source, comments=comments, speech=speech, events=events, streamer_id=streamer_id
    )


def _missing(room: Room, checkpoint: Checkpoint) -> list[str]:
    parts = {"pictures": room.media, "speech": room.speech, "comments": room.comments}
    notes = [f"no {name}: taken as missing" for name, part in parts.items() if part is None]
    if room.streamer_id not in checkpoint.vocabulary.streamers:
        who = f"streamer {room.streamer_id!r}" if room.streamer_id else "the streamer"
        notes.append(f"{who} is not known to the model: scored as an unknown one")
    return notes


def _score(
    checkpoint: Checkpoint,
    room: Room,
    table: pl.DataFrame,
    device: torch.device | str,
    warnings: list[str],
    show_progress: bool,
) -> npt.NDArray[np.float64]:
    """Scores of the room's segments, [S]; NaN where the horizon leaves none."""
    visual, text = checkpoint.load_encoders(device)
    model = checkpoint.load_model(device)
    with progress_bar("encode", table.height, show=show_progress) as bar:
        found = encode_segments(
            room.media, table, visual=visual, text=text,
            frames_per_segment=checkpoint.spec.frames_per_segment,
            comment_lag=checkpoint.spec.comment_lag, batch_size=default_batch_size(device),
            warnings=warnings, progress=bar,
        )  # fmt: skip
    config = checkpoint.config.data
    data = from_features(table, found, checkpoint.vocabulary, horizon=config.horizon)
    return score_segments(
        model, data, window_len=config.window_len, horizon=config.horizon, device=device
    )


def _write(
    out: Path,
    room: Room,
    table: pl.DataFrame,
    scores_S: npt.NDArray[np.float64],
    top_k: int,
    clips: bool,
    warnings: list[str],
    checkpoint: Checkpoint,
) -> Prediction:
    starts, ends = table["start_s"].to_numpy(), table["end_s"].to_numpy()
    highlights = find_highlights(scores_S, starts, ends, top_k=top_k)
    curve = table.select("segment", "start_s", "end_s").with_columns(
        pl.Series("score", scores_S).fill_nan(None),
        pl.Series("highlight", highlight_mask(scores_S)),
    )
    if room.events is not None:
        curve = curve.with_columns(table["ctr"], table["viewers"])
    out.mkdir(parents=True, exist_ok=True)
    for name in ("prediction.json", "highlights.csv", "curve.csv", "curve.png"):
        (out / name).unlink(missing_ok=True)  # nothing of an earlier prediction stays beside this
    shutil.rmtree(out / "clips", ignore_errors=True)
    with atomic(out / "curve.csv") as temporary:
        curve.write_csv(temporary)
    with atomic(out / "curve.png") as temporary:
        draw_curve(
            temporary, starts, ends, scores_S, targets=_targets(table, checkpoint),
            highlights=highlights, title="Predicted " + _target_name(checkpoint),
            label=_label(room, checkpoint),
        )  # fmt: skip
    cut = _cut(out / "clips", room, highlights) if clips else [None] * len(highlights)
    _write_highlights(out / "highlights.csv", highlights, cut)
    write_json(out / "prediction.json", _facts(room, checkpoint, warnings))
    names = ("curve.csv", "curve.png", "highlights.csv", "prediction.json")
    files = [*(out / name for name in names), *(c.path for c in cut if c is not None)]
    return Prediction(
        curve=curve,
        highlights=highlights,
        files=files,
        warnings=warnings,
        label=_label(room, checkpoint),
    )


@dataclass(frozen=True)
class _Clip:
    path: Path
    start_s: float
    end_s: float


def _cut(folder: Path, room: Room, highlights: Sequence[Highlight]) -> list[_Clip | None]:
    """One file a highlight."""
    assert room.media is not None
    suffix = room.media.path.suffix.lower()
    suffix = suffix if suffix in CLIP_FORMATS else ".mkv"  # Matroska holds nearly any codec
    made: list[_Clip | None] = []
    for rank, h in enumerate(highlights, 1):
        times = f"{clock(h.start_s)}-{clock(h.end_s)}".replace(":", ".")
        path = folder / f"{rank:02d}_{times}{suffix}"
        made.append(_Clip(path, *cut_clip(room.media.path, h.start_s, h.end_s, path)))
    return made


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
    schema = {
        "rank": pl.Int64, "start": pl.String, "end": pl.String, "start_s": pl.Float64,
        "end_s": pl.Float64, "score": pl.Float64, "clip": pl.String,
        "clip_start_s": pl.Float64, "clip_end_s": pl.Float64,
    }  # fmt: skip
    with atomic(path) as temporary:
        pl.DataFrame(rows, schema=schema).write_csv(temporary)


def _targets(table: pl.DataFrame, checkpoint: Checkpoint) -> npt.NDArray[np.float64] | None:
    """The room's own CTR, where it is what the model predicts and the room has events."""
    if checkpoint.spec.target != "ctr" or table["ctr"].null_count() == table.height:
        return None
    return table["ctr"].fill_null(np.nan).to_numpy()


def _label(room: Room, checkpoint: Checkpoint) -> str:
    if room.simulated:
        return "simulated"
    return "by a model of simulated rooms" if checkpoint.spec.simulated else ""


def _target_name(checkpoint: Checkpoint) -> str:
    target = checkpoint.spec.target
    return "CTR" if target == "ctr" else f"{target} (rank inside the room)"


def _facts(room: Room, checkpoint: Checkpoint, warnings: list[str]) -> dict[str, Any]:
    return {
        "room_id": room.room_id,
        "streamer_id": room.streamer_id,
        "duration_s": room.duration_s,
        "target": checkpoint.spec.target,
        "horizon": checkpoint.config.data.horizon,
        "segment_seconds": checkpoint.spec.segment_seconds,
        "checkpoint": str(checkpoint.folder),
        "simulated": room.simulated,
        "trained_on_simulated": checkpoint.spec.simulated,
        "warnings": warnings,
    }
