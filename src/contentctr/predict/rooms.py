"""From a raw recording to its curve and highlights."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from contentctr.encode.encoders import TextEncoder
from contentctr.encode.segments import NoTexts, default_batch_size, encode_segments, text_pairs
from contentctr.errors import InputError
from contentctr.predict.by_rule import finish
from contentctr.predict.editing import Editing, require_cuttable, wanted_editing
from contentctr.predict.files import Prediction, held_output, write_prediction
from contentctr.predict.found import Found, Reasons
from contentctr.predict.loaded import LoadedRun
from contentctr.predict.recording import has_video, playable, read_recording
from contentctr.prepare.segments import segment_rooms
from contentctr.progress import progress_bar
from contentctr.rooms.room import Room
from contentctr.rule.curve import RuleCurve, read_curve
from contentctr.score.checkpoint import Checkpoint
from contentctr.score.choose import HighlightChoice, choose_highlights
from contentctr.score.rooms import score_segments
from contentctr.transcribe.recogniser import Choice, source_of
from contentctr.transcribe.rooms import hear_room
from contentctr.transcribe.segments import Recogniser
from contentctr.transcribe.source import FILES, NONE
from contentctr.transcribe.transcript import SPEECH_FILE, made_from
from contentctr.windows.segment_data import from_features, with_extra


def predict_recording(
    checkpoint: Checkpoint | Path | str,
    source: Path | str,
    out: Path | str,
    *,
    comments: Path | str | None = None,
    speech: Path | str | None = None,
    events: Path | str | None = None,
    streamer_id: str = "",
    started_at: datetime | None = None,
    names: Mapping[str, str] | None = None,
    asr: Path | str | Recogniser | None = None,
    language: str | None = None,
    top_k: int = 5,
    choice: HighlightChoice | None = None,
    clips: bool = False,
    editing: Editing | None = None,
    device: torch.device | str = "cpu",
    engine: str = "auto",
    reasons: Reasons = "logs",
    show_progress: bool = True,
) -> Prediction:
    """Score a recording; write its curve, a picture of it, its highlights, and their clips.

    Writes OUT/curve.csv, OUT/curve.png, OUT/highlights.csv, OUT/prediction.json, and with `clips`
    OUT/clips/*. Parts that the recording does not have are taken as missing.

    Args:
        checkpoint: a checkpoint or run folder.
        source: a room folder, or a video file.
        out: a new or empty folder, or one of an earlier prediction, whose files are replaced.
        comments: chat log of a video file.
        speech: transcript or subtitles of a video file.
        events: event log of a video file.
        streamer_id: who streams, in a video file; a streamer that the model does not know, or
            none, gets the "unknown" embedding.
        started_at: when a video file started, with a zone, for clock times in its logs.
        names: the user's own names of columns in the logs, of `read_room`.
        asr: what hears a recording without a transcript, of `Choice`; None: what heard the model's
            training rooms, as `choice_for` has it.
        language: what is spoken, of `Choice`.
        top_k: highlights to find at most, where there is no `choice`.
        choice: which highlights are wanted.
        clips: cut the highlights from the video, without encoding it again.
        editing: what else is wanted for editing: exact clips, a reel, files for other programs.
        device: where to compute.
        engine: what runs the encoders, as `encode_rooms` takes it.
        reasons: what is read for the reasons of highlights.
        show_progress: show a bar.

    Raises:
        InputError: the recording cannot be read, or lacks what is asked for; the recogniser cannot
            be had; or `out` holds files of somebody else.
    """
    choice = choice or HighlightChoice(top_k=top_k)
    choice.require()
    editing = wanted_editing(editing, clips=clips)
    with held_output(Path(out), (source, comments, speech, events)):
        run = LoadedRun(checkpoint, asr=asr, language=language, device=device, engine=engine)
        room = read_recording(source, comments, speech, events, streamer_id, started_at, names)
        require_cuttable(source, editing, has_video=has_video(room))
        found = find_by_run(
            run, Path(source), room, choice, reasons=reasons, show_progress=show_progress
        )
        return write_prediction(Path(out), found, editing)


def find_by_run(
    run: LoadedRun,
    source: Path,
    room: Room,
    choice: HighlightChoice,
    *,
    reasons: Reasons = "logs",
    show_progress: bool = True,
) -> Found:
    """A run's curve of a recording and its highlights; nothing is written.

    Args:
        run: its model, its encoders and what hears for it, which stay loaded.
        source: the recording, as it was given.
        room: as it was read.
        choice: which highlights are wanted.
        reasons: what is read for them.
        show_progress: show a bar.

    Raises:
        InputError: the recording cannot be read or lacks what the model reads, or the recogniser
            or an encoder cannot be had.
    """
    checkpoint = run.checkpoint
    _require_parts(room, source, run.hearing, checkpoint)
    warnings = list(room.warnings)
    room, heard_from = _with_speech(room, source, run, warnings, show_progress)
    warnings += _missing_parts(room, checkpoint)
    table = segment_rooms([room], segment_seconds=checkpoint.spec.segment_seconds)
    if not table.height:
        raise InputError(
            f"{source}: too short: {room.duration_s:.1f} s, less than half of a segment of "
            f"{checkpoint.spec.segment_seconds:g} s"
        )
    scores_S = _score(run, room, table, warnings, show_progress)
    facts = {**_facts(room, checkpoint), **run.engines(), "speech_source": heard_from}
    # What it warns of was told when the encoders read the recording.
    rule = read_curve(room, watch=reasons == "all", show_progress=show_progress)
    return _found(source, room, table, scores_S, choice, warnings, checkpoint, facts, rule)


def _require_parts(room: Room, source: Path, choice: Choice, checkpoint: Checkpoint) -> None:
    """Stop at a recording of which the model reads nothing."""
    nothing = room.media is None and room.comments is None and room.speech is None
    if source.is_file() and nothing and choice.lacks and not checkpoint.config.model.sound:
        raise InputError(
            f"{source}: has sound alone: with no pictures, comments or speech there is nothing to "
            f"score by, as its speech is not recognised ({choice.lacks}); give its --comments or "
            "--speech"
        )


def _with_speech(
    room: Room,
    source: Path,
    run: LoadedRun,
    warnings: list[str],
    show_progress: bool,
) -> tuple[Room, str]:
    """The room with its speech, heard where it has no transcript; and where that is from."""
    found, choice, checkpoint = NONE, run.hearing, run.checkpoint
    if room.speech is not None:
        found = made_from(source / SPEECH_FILE) or FILES
    elif room.sound is not None and choice.lacks:
        warnings.append(f"{room.sound}: its speech is not recognised: {choice.lacks}")
    elif room.sound is not None:
        recogniser = run.recogniser
        room = hear_room(
            room,
            recogniser,
            language=choice.language,
            segment_seconds=checkpoint.spec.segment_seconds,
            warnings=warnings,
            show_progress=show_progress,
        )
        found = source_of(recogniser)
    warnings += checkpoint.speech_warnings(found)
    return room, found


def _missing_parts(room: Room, checkpoint: Checkpoint) -> list[str]:
    """What the recording does not have, or has and the model does not know."""
    parts = {"pictures": room.media, "speech": room.speech, "comments": room.comments}
    notes = [f"no {name}: taken as missing" for name, part in parts.items() if part is None]
    if checkpoint.config.model.sound and room.sound is None:
        notes.append("no sound: taken as missing")
    if checkpoint.config.model.reads_counts and room.events is None:
        notes.append(
            "no events: the model reads counts of earlier segments, and here knows "
            + ("none" if room.comments is None else "only comments")
        )
    if room.streamer_id not in checkpoint.vocabulary.streamers:
        name = f"streamer {room.streamer_id!r}" if room.streamer_id else "the streamer"
        notes.append(f"{name} is not known to the model: scored as an unknown one")
    return notes


def _score(
    run: LoadedRun,
    room: Room,
    table: pl.DataFrame,
    warnings: list[str],
    show_progress: bool,
) -> npt.NDArray[np.float64]:
    """Scores of the room's segments, [S]; NaN where the horizon leaves none."""
    checkpoint, spec = run.checkpoint, run.checkpoint.spec
    visual = run.visual
    text: TextEncoder | NoTexts = NoTexts(spec.text_encoder, spec.text_dim)
    if any(any(pair) for pair in text_pairs(table, spec.comment_lag)):
        text = run.text
    warnings += run.notes
    with progress_bar("encode", table.height, show=show_progress) as bar:
        found = encode_segments(
            room.media,
            table,
            visual=visual,
            text=text,
            frames_per_segment=spec.frames_per_segment,
            frames=spec.frames,
            comment_lag=spec.comment_lag,
            sound=run.sound,
            recording=room.sound,
            batch_size=default_batch_size(run.device),
            warnings=warnings,
            progress=bar,
        )
    config = checkpoint.config.data
    data = with_extra(
        from_features(table, found, checkpoint.vocabulary, horizon=config.horizon),
        table,
        checkpoint.config.model,
        horizon=config.horizon,
        target=checkpoint.spec.target,
        scale=checkpoint.spec.target_scale,
    )
    scores_S = score_segments(
        run.model,
        data,
        window_len=config.window_len,
        horizon=config.horizon,
        device=run.device,
    )
    return checkpoint.calibration(scores_S)


def _found(
    source: Path,
    room: Room,
    table: pl.DataFrame,
    scores_S: npt.NDArray[np.float64],
    choice: HighlightChoice,
    warnings: list[str],
    checkpoint: Checkpoint,
    facts: dict[str, Any],
    rule: RuleCurve,
) -> Found:
    starts, ends = table["start_s"], table["end_s"]
    curve = table.select("segment", "start_s", "end_s").with_columns(
        pl.Series("score", scores_S).fill_nan(None)
    )
    if room.events is not None:
        curve = curve.with_columns(table["ctr"], table["viewers"])
    curve = curve.with_columns(rule.part_columns(starts, ends))
    highlights, verdict = choose_highlights(scores_S, starts, ends, choice)
    highlights = finish(room, rule, highlights, choice, checkpoint.spec.segment_seconds)
    warnings += [verdict] if verdict else []
    return Found(
        checkpoint=checkpoint,
        recording=source,
        video=playable(room),
        has_video=has_video(room),
        curve=curve,
        line_S=scores_S,
        highlights=highlights,
        title=f"Predicted {checkpoint.spec.target_name}",
        settings=choice.as_settings(),
        facts=facts,
        warnings=warnings,
        verdict=verdict,
        parts=rule.parts(),
        targets_S=_targets(table, checkpoint),
        comments=room.comments,
        speech=room.speech,
    )


def _targets(table: pl.DataFrame, checkpoint: Checkpoint) -> npt.NDArray[np.float64] | None:
    """The room's own CTR, where it is what the model predicts and the room has events."""
    if checkpoint.spec.target != "ctr" or table["ctr"].null_count() == table.height:
        return None
    return table["ctr"].fill_null(np.nan).to_numpy()


def _facts(room: Room, checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "room_id": room.room_id,
        "streamer_id": room.streamer_id,
        "duration_s": room.duration_s,
        "horizon": checkpoint.config.data.horizon,
        "later_segments": checkpoint.later_segments,
        "segment_seconds": checkpoint.spec.segment_seconds,
        "simulated": room.simulated,
    }
