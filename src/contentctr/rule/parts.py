"""The rule's parts, each a score from 0 to 1 a step, and the one score that they make.

The score is the mean of the parts that the recording has, each with its weight. Weights of the
chat's parts were chosen on real films (docs/decisions.md, "The rule without training"); those of
the others are set by hand, for want of recordings with both sound and labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import ArrayLike

from contentctr.rule.chat import ENOUGH, Chat
from contentctr.rule.usual import AROUND, STEP_S, Floats, rise, usual
from contentctr.rule.watched import Watched, step_loudness

LOUD_DB = 12.0
"""So far above its usual, sound is as loud as can be told."""
QUIET_DB = -60.0
"""Below this, sound is as good as none."""
CHARACTERS = 60.0
"""Of speech in 15 s that say something: a slow sentence."""
CUTS = 1.0


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the rule."""

    name: str
    title: str
    text: str
    """What its score says."""
    weight: float


PARTS = {
    part.name: part
    for part in (
        Part(
            name="chat",
            title="Chat",
            text="People who write within 15 s, against the median of 20 minutes around: "
            "1 - (usual + 3) / (now + 3).",
            weight=4.0,
        ),
        Part(
            name="laughter",
            title="Laughter",
            text="People who laugh in the chat within 15 s, against their usual: "
            "1 - (usual + 3) / (now + 3).",
            weight=4.0,
        ),
        Part(
            name="words",
            title="Words",
            text="People who write the same word or emote within 15 s, beyond those who would as "
            "usual in this chat: 1 - (usual + 3) / (now + 3).",
            weight=1.0,
        ),
        Part(
            name="loudness",
            title="Loudness",
            text="dB above the median of 20 minutes around; 12 dB are 1.",
            weight=4.0,
        ),
        Part(
            name="scenes",
            title="Scenes",
            text="Changes of shot within 15 s, against their usual: 1 - (usual + 1) / (now + 1).",
            weight=1.0,
        ),
        Part(
            name="speech",
            title="Speech",
            text="How much is said within 15 s, in characters of the transcript (without one, the "
            "share of the time with speech), against its usual.",
            weight=1.0,
        ),
    )
}
"""By name, in the order of curve.csv's columns."""


@dataclass(frozen=True, kw_only=True)
class Signal:
    """A part of one recording."""

    score_T: Floats
    """In [0, 1]."""
    now_T: Floats
    """What is counted or measured."""
    usual_T: Floats


def score_parts(signals: dict[str, Signal], steps: int) -> Floats:
    """The rule's score of each step, [T], in [0, 1]: the weighted mean of the parts there are."""
    weights = sum(PARTS[name].weight for name in signals)
    total_T = np.zeros(steps)
    for name, signal in signals.items():
        total_T += PARTS[name].weight * signal.score_T
    return np.asarray(total_T / weights if weights else total_T, np.float64)


def chat_signals(chat: Chat) -> dict[str, Signal]:
    """Those of a chat."""
    counts = {"chat": chat.people_T, "laughter": chat.laughing_T, "words": chat.same_T}
    return {
        # Nobody laughs as a greeting: at the borders, too, laughter is what it is.
        name: _counted(now_T, ENOUGH, greeting=name != "laughter")
        for name, now_T in counts.items()
    }


def watched_signals(watched: Watched, steps: int) -> dict[str, Signal]:
    """Those of what is heard and seen; speech only where the detector told it."""
    signals = {}
    if watched.loudness_S is not None:
        now_T = np.maximum(step_loudness(watched.loudness_S, steps), QUIET_DB)
        usual_T = usual(now_T)
        score_T = np.clip((now_T - usual_T) / LOUD_DB, 0.0, 1.0)
        signals["loudness"] = Signal(score_T=score_T, now_T=now_T, usual_T=usual_T)
    if watched.cuts is not None:
        cuts_T = np.clip((watched.cuts / STEP_S).astype(np.int64), 0, steps - 1)
        signals["scenes"] = _counted(_near(np.bincount(cuts_T, minlength=steps)), CUTS)
    if watched.speaking_T is not None:
        signals["speech"] = _counted(_near(watched.speaking_T), 1.0)
    return signals


def speech_signal(speech: pl.DataFrame, steps: int) -> Signal:
    """That of a transcript: the characters of each utterance, spread over its time."""
    said_T = np.zeros(steps)
    for start_s, end_s, text in speech.select("start", "end", "text").iter_rows():
        length_s = max(end_s - start_s, 0.5)  # a point in time is half a second long
        first, last = int(start_s / STEP_S), int((start_s + length_s) / STEP_S)
        for step in range(first, min(last, steps - 1) + 1):
            begin_s = max(start_s, step * STEP_S)
            until_s = min(start_s + length_s, (step + 1) * STEP_S)
            said_T[step] += len(text) * (until_s - begin_s) / length_s
    return _counted(_near(said_T), CHARACTERS)


def _counted(now_T: Floats, enough: float, *, greeting: bool = False) -> Signal:
    usual_T = usual(now_T, greeting=greeting)
    return Signal(score_T=rise(now_T, usual_T, enough), now_T=now_T, usual_T=usual_T)


def _near(values_T: ArrayLike) -> Floats:
    """The sum over the steps around each."""
    values = np.asarray(values_T, np.float64)
    whole = np.convolve(values, np.ones(2 * AROUND + 1))
    return np.asarray(whole[AROUND : AROUND + len(values)], np.float64)
