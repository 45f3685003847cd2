"""The rule's curve of a recording: its parts, its score, and what is doubtful about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import ArrayLike
from scipy.special import gammainc

from contentctr.progress import Progress, progress_bar
from contentctr.rooms.room import Room
from contentctr.rule.chat import Chat, read_chat
from contentctr.rule.lag import REACTION_S, estimate_lag
from contentctr.rule.parts import (
    PARTS,
    Signal,
    chat_signals,
    score_parts,
    speech_signal,
    watched_signals,
)
from contentctr.rule.usual import STEP_S, Floats, count_steps, step_spans
from contentctr.rule.watched import PICTURE_S, Watched, watch_recording

FAINT = 0.15
"""A curve that never rises above this has no highlight."""
CHANCE = 0.05
"""A chat whose best moment chance alone would bring with this probability shows too little."""
SURE = 0.5
"""Another part that speaks so loud needs no chat."""
FAINT_SAYS = "nothing rises clearly above what is usual in this recording: it has no highlight"
CHANCE_SAYS = "the chat is too thin to tell its moments from chance: the best one alone is shown"


@dataclass(frozen=True, kw_only=True)
class RuleCurve:
    """What the rule says of a recording."""

    duration_s: float
    score_T: Floats
    """In [0, 1]."""
    signals: Mapping[str, Signal]
    """By part; those that the recording has."""
    chat: Chat | None = None
    lag_s: float = 0.0
    """What was taken off the chat's times."""
    lag_from: str = ""
    """What told the lag: "loudness" or "cuts"; "" where it is assumed."""

    def table(self) -> pl.DataFrame:
        """A row a step: segment, start_s, end_s, score, and a column a part, null without it."""
        spans = np.array(step_spans(self.duration_s))
        columns: dict[str, ArrayLike] = {
            "segment": np.arange(len(spans), dtype=np.int32),
            "start_s": spans[:, 0],
            "end_s": spans[:, 1],
            "score": self.score_T,
        }
        return pl.DataFrame(columns).with_columns(self.part_columns(spans[:, 0], spans[:, 1]))

    def part_columns(self, starts_N: ArrayLike, ends_N: ArrayLike) -> list[pl.Series]:
        """A column a part: its highest score in each of some spans; null where it is missing."""
        columns = []
        for name in PARTS:
            signal = self.signals.get(name)
            values: Sequence[float | None] = [None] * len(np.asarray(starts_N))
            if signal is not None:
                values = [float(part.max()) for part in self._parts_of(signal, starts_N, ends_N)]
            columns.append(pl.Series(f"part_{name}", values, dtype=pl.Float64))
        return columns

    def parts(self) -> list[dict[str, str]]:
        """The parts that the recording has, as prediction.json lists them."""
        return [
            {"part": p.name, "column": f"part_{p.name}", "title": p.title, "text": p.text}
            for p in PARTS.values()
            if p.name in self.signals
        ]

    def doubt(self) -> tuple[str, int | None]:
        """Why there are few highlights or none, and how many are shown at most; "" and None."""
        if not len(self.score_T) or self.score_T.max() < FAINT:
            return FAINT_SAYS, 0
        best = int(self.score_T.argmax())
        counted = [self.signals[n] for n in ("chat", "laughter") if n in self.signals]
        others = [
            self.signals[n].score_T[best] for n in ("loudness", "scenes") if n in self.signals
        ]
        if not counted or max(others, default=0.0) >= SURE:
            return "", None
        # Of people who write as independently as rain falls, so many steps have so many or more:
        # Poisson's upper tail, which is this function (scipy.stats takes half a second to load).
        # A median is a whole number, and may lie below the mean by half a person.
        by_chance = min(
            gammainc(s.now_T[best], max(s.usual_T[best], s.now_T.mean(), 1e-9)) for s in counted
        )
        doubtful = by_chance * len(counted) * len(self.score_T) > CHANCE
        return (CHANCE_SAYS, 1) if doubtful else ("", None)

    def _parts_of(self, signal: Signal, starts_N: ArrayLike, ends_N: ArrayLike) -> list[Floats]:
        """A signal's scores in each of some spans, at least one."""
        firsts = (np.asarray(starts_N, np.float64) / STEP_S + 1e-9).astype(np.int64)
        lasts = np.ceil(np.asarray(ends_N, np.float64) / STEP_S - 1e-9).astype(np.int64)
        top = len(signal.score_T)
        return [
            signal.score_T[min(first, top - 1) : max(last, min(first, top - 1) + 1)]
            for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True)
        ]


def read_curve(
    room: Room,
    *,
    watch: bool = True,
    warnings: list[str] | None = None,
    show_progress: bool = True,
) -> RuleCurve:
    """The rule's curve of a room, from whatever it has of chat, sound, pictures and speech.

    Args:
        room: read already.
        watch: whether its sound and pictures are read for it; else its chat and speech alone.
        warnings: messages about the recording are added to it.
        show_progress: show a bar.

    Raises:
        InputError: the recording cannot be read.
    """
    if not watch:
        return make_curve(room, Watched())
    notes = [] if warnings is None else warnings
    total = int(room.duration_s / PICTURE_S) if room.media is not None else 0
    with progress_bar("watch", max(total, 1), show=show_progress and total > 0) as bar:
        watched = _watch(room, notes, bar)
    return make_curve(room, watched)


def _watch(room: Room, warnings: list[str], progress: Progress) -> Watched:
    return watch_recording(
        room, hear_speech=room.speech is None, warnings=warnings, progress=progress
    )


def make_curve(room: Room, watched: Watched) -> RuleCurve:
    """The rule's curve of a room that was watched."""
    steps = count_steps(room.duration_s)
    signals: dict[str, Signal] = {}
    chat, lag_s, lag_from = None, 0.0, ""
    if room.comments is not None and room.comments.height:
        lag_s, lag_from = estimate_lag(room.comments["t"].to_numpy(), watched, room.duration_s)
        chat = read_chat(room.comments, steps, lag_s)
        signals |= chat_signals(chat)
    signals |= watched_signals(watched, steps)
    if room.speech is not None:
        signals["speech"] = speech_signal(room.speech, steps)
    ordered = {name: signals[name] for name in PARTS if name in signals}
    return RuleCurve(
        duration_s=room.duration_s,
        score_T=score_parts(ordered, steps),
        signals=ordered,
        chat=chat,
        lag_s=lag_s,
        lag_from=lag_from,
    )


def score_chat(
    comments: pl.DataFrame,
    duration_s: float,
    starts_N: ArrayLike,
    ends_N: ArrayLike,
    *,
    lag_s: float = REACTION_S,
    weights: Mapping[str, float] | None = None,
) -> Floats:
    """The rule's scores of any stretches of a room with nothing but a chat, [N].

    Args:
        comments: of COMMENTS_SCHEMA.
        duration_s: of the room.
        starts_N: seconds; a stretch has the score of the step that its middle lies in.
        ends_N: seconds.
        lag_s: how long comments come after what they are of.
        weights: of chat, laughter and words; None: those of PARTS.
    """
    signals = chat_signals(read_chat(comments, count_steps(duration_s), lag_s))
    score_T = score_parts(signals, count_steps(duration_s))
    if weights is not None:
        score_T = sum(
            (weights[name] * signal.score_T for name, signal in signals.items()),
            np.zeros(len(score_T)),
        )
    middles = (np.asarray(starts_N, np.float64) + np.asarray(ends_N, np.float64)) / 2
    at = np.clip((middles / STEP_S).astype(np.int64), 0, len(score_T) - 1)
    return np.asarray(score_T[at], np.float64)
