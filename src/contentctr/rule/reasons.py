"""Why a stretch is a highlight, in plain words, from the rule's parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import polars as pl

from contentctr.rule.curve import RuleCurve
from contentctr.rule.parts import QUIET_DB, Signal
from contentctr.rule.usual import STEP_S
from contentctr.score.highlights import Highlight, Reason

SPEAKS = 0.25
"""A part that says less than this of a highlight is not told, but for the one that says most."""
_WORDS = 3


def explain(curve: RuleCurve, highlights: Sequence[Highlight]) -> list[Highlight]:
    """The highlights with their reasons, strongest first."""
    return [dataclasses.replace(h, reasons=reasons_of(curve, h)) for h in highlights]


def reasons_of(curve: RuleCurve, highlight: Highlight) -> tuple[Reason, ...]:
    """What each part says of a highlight, at the step where it says most."""
    found = []
    for name, signal in curve.signals.items():
        first = min(int(highlight.start_s / STEP_S + 1e-9), len(signal.score_T) - 1)
        last = max(first + 1, round(highlight.end_s / STEP_S + 0.499))
        at = first + int(signal.score_T[first:last].argmax())
        score, text = float(signal.score_T[at]), _TEXTS[name](curve, signal, at)
        if score > 0 and text:
            found.append(Reason(part=name, score=round(score, 4), text=text))
    found.sort(key=lambda reason: -reason.score)
    return tuple(r for i, r in enumerate(found) if i == 0 or r.score >= SPEAKS)


def _times(signal: Signal, at: int, least: float) -> str:
    """As "4.1 x its usual"; empty where its usual is too little to be a measure."""
    usual = float(signal.usual_T[at])
    return f"{signal.now_T[at] / usual:.1f} x its usual" if usual >= least else ""


def _chat(curve: RuleCurve, signal: Signal, at: int) -> str:
    people = int(signal.now_T[at])
    rise = _times(signal, at, 1.0) or "where it is usually quiet"
    return f"chat {rise}, {people} {'person' if people == 1 else 'people'}"


def _laughter(curve: RuleCurve, signal: Signal, at: int) -> str:
    people = int(signal.now_T[at])
    return f"{people} {'person laughs' if people == 1 else 'people laugh'} in the chat"


def _words(curve: RuleCurve, signal: Signal, at: int) -> str:
    assert curve.chat is not None
    rows = curve.chat.words.filter(pl.col("step") == at)["word"].to_list()
    quoted = [f"'{word}'" for word in _joined(rows)[:_WORDS]]
    if len(quoted) > 1:
        return ", ".join(quoted[:-1]) + f" and {quoted[-1]}"
    return "".join(quoted)


def _joined(words: list[str]) -> list[str]:
    """Words of which pairs of characters that overlap, as of scripts without spaces, are one."""
    joined: list[str] = []
    for word in words:
        for i, other in enumerate(joined):
            pairs = len(word) == 2 and not word.isascii() and not other.isascii()
            if pairs and other[-1] == word[0] and other[-2:] != word:
                joined[i] = other + word[1]
                break
            if pairs and other[0] == word[-1] and other[:2] != word:
                joined[i] = word[0] + other
                break
        else:
            joined.append(word)
    return joined


def _loudness(curve: RuleCurve, signal: Signal, at: int) -> str:
    if signal.usual_T[at] <= QUIET_DB:
        return "sound where it is usually silent"
    return f"loud: {signal.now_T[at] - signal.usual_T[at]:.0f} dB above its usual"


def _scenes(curve: RuleCurve, signal: Signal, at: int) -> str:
    cuts = int(signal.now_T[at])
    return f"{cuts} {'change' if cuts == 1 else 'changes'} of shot in 15 s"


def _speech(curve: RuleCurve, signal: Signal, at: int) -> str:
    rise = _times(signal, at, 1e-9)
    return f"speech {rise}" if rise else "speech where there is usually none"


_TEXTS: dict[str, Callable[[RuleCurve, Signal, int], str]] = {
    "chat": _chat,
    "laughter": _laughter,
    "words": _words,
    "loudness": _loudness,
    "scenes": _scenes,
    "speech": _speech,
}
