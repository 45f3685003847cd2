"""A recording's curve and highlights without a run, by the rule of rule/; and why they are ones."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from contentctr.counting import counted
from contentctr.errors import InputError
from contentctr.predict.editing import Editing, require_cuttable, wanted_editing
from contentctr.predict.files import Prediction, held_output, write_prediction
from contentctr.predict.found import Found
from contentctr.predict.recording import has_video, playable, read_recording
from contentctr.rooms.room import Room
from contentctr.rule.borders import move_borders
from contentctr.rule.curve import RuleCurve, read_curve
from contentctr.rule.reasons import explain
from contentctr.rule.usual import STEP_S
from contentctr.score.choose import HighlightChoice, choose_highlights
from contentctr.score.highlights import Highlight

LEAD_S = 3.0
"""A highlight by the rule begins so much before what people react to: a moment has a beginning."""


def highlight_recording(
    source: Path | str,
    out: Path | str,
    *,
    comments: Path | str | None = None,
    speech: Path | str | None = None,
    events: Path | str | None = None,
    streamer_id: str = "",
    started_at: datetime | None = None,
    names: Mapping[str, str] | None = None,
    choice: HighlightChoice | None = None,
    clips: bool = False,
    editing: Editing | None = None,
    show_progress: bool = True,
) -> Prediction:
    """Score a recording by the rule, without a trained model, and write what was found.

    Writes what `predict_recording` does, with `part_*` columns in curve.csv and reasons.

    Args:
        source: a room folder, a video file or a sound file.
        out: a new or empty folder, or one of an earlier prediction, whose files are replaced.
        comments: chat log of a file.
        speech: transcript or subtitles of a file.
        events: event log of a file; shown, not scored by.
        streamer_id: who streams, in a file.
        started_at: when a file started, with a zone, for clock times in its logs.
        names: the user's own names of columns in the logs, of `read_room`.
        choice: which highlights are wanted.
        clips: cut the highlights from the video, without encoding it again.
        editing: what else is wanted for editing: exact clips, a reel, files for other programs.
        show_progress: show a bar.

    Raises:
        InputError: the recording cannot be read or has nothing to score by, a setting is wrong, or
            `out` holds files of somebody else.
    """
    choice = choice or HighlightChoice()
    choice.require()
    editing = wanted_editing(editing, clips=clips)
    with held_output(Path(out), (source, comments, speech, events)):
        room = read_recording(source, comments, speech, events, streamer_id, started_at, names)
        require_cuttable(source, editing, has_video=has_video(room))
        found = find_by_rule(Path(source), room, choice, show_progress=show_progress)
        return write_prediction(Path(out), found, editing)


def find_by_rule(
    source: Path, room: Room, choice: HighlightChoice, *, show_progress: bool = True
) -> Found:
    """The rule's curve of a recording and its highlights; nothing is written.

    Args:
        source: the recording, as it was given.
        room: as it was read.
        choice: which highlights are wanted.
        show_progress: show a bar.

    Raises:
        InputError: the recording cannot be read, or has nothing to score by.
    """
    warnings = list(room.warnings)
    curve = read_curve(room, warnings=warnings, show_progress=show_progress)
    if not curve.signals:
        raise InputError(
            f"{source}: has no chat, sound, pictures or speech to score by; give its --comments or "
            "--speech"
        )
    warnings += _notes(room, curve)
    table = curve.table()
    doubt, most = curve.doubt()
    highlights, verdict = choose_highlights(
        curve.score_T, table["start_s"], table["end_s"], choice, lag_s=LEAD_S
    )
    if doubt:
        highlights, verdict = highlights[:most], doubt
    highlights = finish(room, curve, highlights, choice, STEP_S)
    warnings += [verdict] if verdict else []
    return Found(
        checkpoint=None,
        recording=source,
        video=playable(room),
        has_video=has_video(room),
        curve=table,
        line_S=curve.score_T,
        highlights=highlights,
        title=f"How much happens: {room.room_id}",
        settings=choice.as_settings(),
        facts=_facts(room, curve),
        warnings=warnings,
        verdict=verdict,
        parts=curve.parts(),
        comments=room.comments,
        speech=room.speech,
    )


def finish(
    room: Room,
    curve: RuleCurve,
    highlights: list[Highlight],
    choice: HighlightChoice,
    segment_s: float,
) -> list[Highlight]:
    """Highlights with their borders at sentences and cuts, and with their reasons."""
    if not highlights:
        return []
    shortest_s = min(h.end_s - h.start_s for h in highlights)
    moved = move_borders(
        room,
        highlights,
        min_length_s=min(choice.min_length_s, shortest_s),
        max_length_s=max(choice.max_length_s, segment_s),
        half_peak_s=segment_s / 2,
        may_grow=not choice.length,
    )
    return explain(curve, moved)


def _notes(room: Room, curve: RuleCurve) -> list[str]:
    """What the recording does not have, and what was left out or assumed of it."""
    parts = {
        "chat": room.comments,
        "sound": room.sound,
        "pictures": room.media,
        "speech": room.speech,
    }
    heard = room.speech is None and "speech" in curve.signals
    missing = [n for n, part in parts.items() if part is None and not (heard and n == "speech")]
    notes = [f"no {', no '.join(missing)}: the rule has the other parts"] if missing else []
    if heard:
        notes.append("no transcript: where there is speech is told from the sound alone")
    if room.sound is not None and "loudness" not in curve.signals:
        notes.append("its sound is silence throughout")
    if curve.chat is not None and curve.chat.left_out:
        notes.append(f"{counted(curve.chat.left_out, 'comment')} of bots and commands not counted")
    return notes


def _facts(room: Room, curve: RuleCurve) -> dict[str, Any]:
    return {
        "room_id": room.room_id,
        "streamer_id": room.streamer_id,
        "duration_s": room.duration_s,
        "segment_seconds": STEP_S,
        "simulated": room.simulated,
        "chat_lag_s": curve.lag_s if curve.chat is not None else None,
        "chat_lag_from": (curve.lag_from or "assumed") if curve.chat is not None else None,
    }
