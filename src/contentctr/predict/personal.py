"""The parts of one's own video that a user of a certain taste would pick.

The video and the user's earlier picks are encoded as encode/personal.py does, at the frame rate
that the model was trained with, and every frame is scored. A part is found from the scores
smoothed over SMOOTH_S, by the rule of score/highlights.py (docs/decisions.md, "Picked parts").

Shape suffixes: T frames of the video, S frames wanted of a file, K picks of the history; V and C
widths of visual and of text features.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from contentctr.batch import DataSpec
from contentctr.config import FrameChoice
from contentctr.encode.encoders import (
    TextEncoder,
    VisualEncoder,
    for_inference,
    load_frame_encoder,
    load_text,
)
from contentctr.encode.engines.runtime import runtime_in
from contentctr.encode.personal import frame_texts
from contentctr.encode.segments import default_batch_size, encode_frames, encode_texts
from contentctr.errors import InputError
from contentctr.predict.editing import Editing, wanted_editing
from contentctr.predict.files import Prediction, held_output, require_output, write_prediction
from contentctr.predict.found import Found
from contentctr.predict.picks import Pick, read_history
from contentctr.progress import Progress, progress_bar
from contentctr.rooms.media import probe
from contentctr.rooms.room import Media
from contentctr.rooms.speech import read_speech
from contentctr.score.checkpoint import Checkpoint, load_for
from contentctr.score.choose import HighlightChoice
from contentctr.score.highlights import SHARE, find_highlights
from contentctr.score.personal import score_videos
from contentctr.store.personal import count_frames, span_frames
from contentctr.store.vectors import to_half
from contentctr.windows.personal import Frames, Stretch, clip_mean

SMOOTH_S = 3.0
"""Scores are averaged over so many seconds before parts are found: PHD's median selection."""
MAX_LENGTH_S = 15.0
"""Of a part; 99 % of PHD's selections are no longer."""


@dataclass(frozen=True, kw_only=True)
class _Source:
    """What the user gave, read and checked; nothing of it is encoded yet."""

    path: Path
    duration_s: float
    frame_rate: float
    texts: list[str]
    """Captions shown during each frame, [T]; all "" without captions."""
    captions: Path | None
    picks: list[Pick]
    warnings: list[str]


@dataclass(kw_only=True)
class _OneVideo:
    """A single user's video as `Videos`; nothing in it is known to be picked."""

    spec: DataSpec
    whole: Frames
    history_KV: NDArray[np.float32]

    def num_frames(self, user: int) -> int:
        return len(self.whole.has_visual_T)

    def frames(self, stretch: Stretch) -> Frames:
        rows = slice(stretch.start, stretch.stop)
        return Frames(**{name: values[rows] for name, values in vars(self.whole).items()})

    def labels(self, user: int) -> NDArray[np.bool_]:
        return np.zeros(self.num_frames(user), np.bool_)

    def history(self, user: int) -> NDArray[np.float32]:
        return self.history_KV


def pick_highlights(
    checkpoint: Checkpoint | Path | str,
    video: Path | str,
    out: Path | str,
    *,
    history: Iterable[Path | str] = (),
    captions: Path | str | None = None,
    top_k: int = 5,
    share: float = SHARE,
    max_length_s: float = MAX_LENGTH_S,
    clips: bool = False,
    editing: Editing | None = None,
    device: torch.device | str = "cpu",
    engine: str = "auto",
    show_progress: bool = True,
) -> Prediction:
    """Score every frame of a video for a user, and write the parts that the user would pick.

    Writes OUT/curve.csv, OUT/curve.png, OUT/highlights.csv, OUT/prediction.json, and with `clips`
    OUT/clips/*. A highlight's score is the highest of its frames' smoothed scores.

    Args:
        checkpoint: a checkpoint or run folder of a model of highlights.
        video: the video file.
        out: a new or empty folder, or one of an earlier prediction, whose files are replaced.
        history: the user's earlier picks, as `read_history` takes them; the first 20 count. Empty:
            scored for a user of whom nothing is known.
        captions: of the video, as `read_speech` takes them.
        top_k: parts to find at most.
        share: of the video that the parts cover at most, in (0, 1).
        max_length_s: a part is no longer.
        clips: cut the parts from the video, without encoding it again.
        editing: what else is wanted for editing: exact clips, a reel, files for other programs.
        device: where to compute.
        engine: what runs the encoders, as `encode_rooms` takes it.
        show_progress: show a bar.

    Raises:
        InputError: the model has no encoders, a file or a setting is wrong, or `out` holds files
            of somebody else. Nothing is written then.
    """
    HighlightChoice(top_k=top_k, share=share, min_length_s=0.0, max_length_s=max_length_s).require()
    editing = wanted_editing(editing, clips=clips)
    with held_output(Path(out), (video, captions)):
        checkpoint = load_for(checkpoint, "personal")
        source = _read_source(checkpoint, Path(video), history, captions)
        require_output(Path(out), (pick.path for pick in source.picks))
        found = _encode_source(checkpoint, source, device, engine, show_progress)
        model = checkpoint.load_model(device)
        source.warnings.extend(_unused_parts(model, source))
        window_len = checkpoint.config.data.window_len
        scores_T = next(score_videos(model, found, [0], window_len=window_len, device=device))
        smoothed_T = smooth(scores_T, source.frame_rate)
        curve = _curve(source, scores_T, smoothed_T)
        highlights = find_highlights(
            smoothed_T,
            curve["start_s"],
            curve["end_s"],
            top_k=top_k,
            share=share,
            max_length_s=max_length_s,
        )
        verdict = "" if highlights else "all frames score alike: no part stands out"
        source.warnings.extend([verdict] if verdict else [])
        found_parts = Found(
            checkpoint=checkpoint,
            recording=source.path,
            video=source.path,
            has_video=True,
            curve=curve,
            line_S=smoothed_T,
            highlights=highlights,
            title=f"How likely each moment is picked: {source.path.name}",
            data="videos",
            settings={
                "top_k": top_k,
                "smooth_s": SMOOTH_S,
                "share": share,
                "max_length_s": max_length_s,
            },
            facts=_facts(source),
            warnings=source.warnings,
            verdict=verdict,
        )
        return write_prediction(Path(out), found_parts, editing)


def _unused_parts(model: Any, source: _Source) -> list[str]:
    """What the user gave and the model does not look at."""
    unused = []
    if source.picks and not model.reads_history:
        unused.append("the model does not read a history: the scores are the same for every user")
    if source.captions is not None and "text" not in model.modalities:
        unused.append("the model does not read captions")
    return unused


def smooth(scores_T: NDArray[np.float64], frame_rate: float) -> NDArray[np.float64]:
    """The mean score of the frames around each frame, SMOOTH_S long; at the ends of those there.

    Args:
        scores_T: finite.
        frame_rate: frames a second.
    """
    half = max(round((SMOOTH_S * frame_rate - 1) / 2), 0)
    around_TW = np.lib.stride_tricks.sliding_window_view(
        np.pad(scores_T, half, constant_values=np.nan), 2 * half + 1
    )
    # Rounding keeps equal means equal, so that a constant curve has no highlight.
    return np.asarray(np.round(np.nanmean(around_TW, axis=1), 12), np.float64)


def _read_source(
    checkpoint: Checkpoint,
    video: Path,
    history: Iterable[Path | str],
    captions: Path | str | None,
) -> _Source:
    spec = checkpoint.spec
    if "simulated" in (spec.visual_encoder, spec.text_encoder):
        raise InputError(
            f"{checkpoint.folder}: the model must have encoders to score a video, and was trained "
            "on simulated features, which no encoder makes"
        )
    # The prepared folder's own number: one over one over it may differ in the last digit.
    rate = round(1 / spec.segment_seconds, 9)
    info = probe(video)
    if info.duration_s * rate < 0.5:
        raise InputError(
            f"{video}: too short: {info.duration_s:.2f} s, less than half of a frame of "
            f"{spec.segment_seconds:g} s"
        )
    picks, warnings = read_history(history)
    warnings = [*info.warnings, *warnings]
    if not picks:
        warnings.append("no history: scored for a user of whom nothing is known, not personally")
    spans: list[tuple[float, float, str]] = []
    if captions is None:
        warnings.append("no captions: taken as missing")
    else:
        part = read_speech(Path(captions))
        warnings += part.warnings
        spans = list(part.table.select("start", "end", "text").iter_rows())
    return _Source(
        path=video,
        duration_s=info.duration_s,
        frame_rate=rate,
        texts=frame_texts(spans, count_frames(info.duration_s, rate), rate),
        captions=None if captions is None else Path(captions),
        picks=picks,
        warnings=warnings,
    )


def _encode_source(
    checkpoint: Checkpoint,
    source: _Source,
    device: torch.device | str,
    engine: str,
    show_progress: bool,
) -> _OneVideo:
    """Features of the video's frames and captions, and of the history, as they are stored."""
    visual, text = _load_encoders(checkpoint, device, engine, source.warnings)
    rate, batch_size, length = source.frame_rate, default_batch_size(device), len(source.texts)
    spans = [
        span_frames(p.start_s, p.end_s, rate, count_frames(p.length_s, rate)) for p in source.picks
    ]
    wanted: dict[Path, set[int]] = {}
    for pick, frames in zip(source.picks, spans, strict=True):
        wanted.setdefault(pick.path, set()).update(frames)
    total = length + sum(map(len, wanted.values()))
    with progress_bar("encode", total, show=show_progress) as bar:
        encoder = _FrameEncoder(
            visual, rate, checkpoint.spec.frames, batch_size, source.warnings, bar
        )
        visual_TV, has_visual_T = encoder.encode(source.path, range(length))
        if not has_visual_T.any():
            raise InputError(f"{source.path}: no picture of it can be decoded")
        read = {path: (sorted(s), *encoder.encode(path, sorted(s))) for path, s in wanted.items()}
    means = []
    for pick, frames in zip(source.picks, spans, strict=True):
        mean_V = clip_mean(frames, *read[pick.path])
        if mean_V is None:
            raise InputError(f"{pick}: no picture of this part can be decoded")
        means.append(mean_V)
    text_TC = encode_texts([(words, "") for words in source.texts], text, batch_size=batch_size)
    return _OneVideo(
        spec=checkpoint.spec,
        whole=Frames(
            visual_TV=visual_TV,
            text_TC=to_half(text_TC, f"{source.captions}, text encoder {text.name!r}"),
            has_visual_T=has_visual_T,
            has_text_T=np.array([bool(words) for words in source.texts], np.bool_),
        ),
        history_KV=np.stack(means) if means else np.zeros((0, visual.dim), np.float32),
    )


@dataclass
class _FrameEncoder:
    """Encodes the pictures of files' frames."""

    visual: VisualEncoder
    frame_rate: float
    choice: FrameChoice
    batch_size: int
    warnings: list[str] = field(default_factory=list)
    bar: Progress | None = None

    def encode(
        self, path: Path, frames: Sequence[int]
    ) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
        """Features [S, V] of a video's frames, ascending, and which can be decoded, [S]."""
        spans = [(i / self.frame_rate, (i + 1) / self.frame_rate) for i in frames]
        visual_SV, has_visual_S = encode_frames(
            Media(path=path, kind="video"),
            spans,
            self.visual,
            frames_per_segment=1,
            frames=self.choice,
            batch_size=self.batch_size,
            warnings=self.warnings,
            progress=self.bar,
        )
        return to_half(visual_SV, f"{path}, visual encoder {self.visual.name!r}"), has_visual_S


def _load_encoders(
    checkpoint: Checkpoint, device: torch.device | str, engine: str, notes: list[str]
) -> tuple[VisualEncoder, TextEncoder]:
    """Both encoders, the very ones that the model was trained with, run by an engine."""
    spec = checkpoint.spec
    visual = load_frame_encoder(checkpoint.encoder_source("visual"), device=device)
    text = load_text(
        checkpoint.encoder_source("text"),
        pooling=spec.text_pooling,
        prefix=spec.text_prefix,
        max_tokens=spec.max_text_tokens,
        device=device,
    )
    checkpoint.require_revision("visual", visual.revision)
    checkpoint.require_revision("text", text.revision)
    return (
        for_inference(visual, engine=engine, like=runtime_in(spec, "visual"), notes=notes),
        for_inference(text, engine=engine, like=runtime_in(spec, "text"), notes=notes),
    )


def _curve(
    source: _Source, scores_T: NDArray[np.float64], smoothed_T: NDArray[np.float64]
) -> pl.DataFrame:
    """One row a frame; the last one ends with the video."""
    frame_T = np.arange(len(scores_T), dtype=np.int32)
    return pl.DataFrame(
        {
            "frame": frame_T,
            "start_s": frame_T / source.frame_rate,
            "end_s": np.minimum((frame_T + 1) / source.frame_rate, source.duration_s),
            "score": scores_T,
            "smoothed": smoothed_T,
        }
    )


def _facts(source: _Source) -> dict[str, Any]:
    return {
        "duration_s": source.duration_s,
        "frame_rate": source.frame_rate,
        "captions": None if source.captions is None else str(source.captions),
        "history": [
            {"file": str(p.path), "start_s": p.start_s, "end_s": p.end_s} for p in source.picks
        ],
    }
