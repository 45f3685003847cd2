"""What the page of one recording holds, and how much of a long recording's chat it shows.

The page is one file that a phone opens too, so that what goes into it is bounded: of a chat of a
million lines those around the highlights are kept first, then lines spread evenly over the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

MAX_LINES = 5000
"""Of comments, and of utterances, that stand on the page."""
MAX_POINTS = 4000
"""Of the curve; more would be thinner than a pixel."""
MAX_TEXT, MAX_NAME = 240, 40
"""Characters of a line and of a name; what is longer ends in an ellipsis."""
AROUND_S = 45.0
"""Lines so near to a highlight are kept first."""
_NEAR_SHARE = 0.7
"""Share of the lines that may go to the highlights, so that the rest never goes without."""
_UTTERANCE = 80
"""Characters from which on words that come one by one begin a new line."""
_PAUSE_S = 1.0
"""Words further apart begin a new line."""
_ZERO_WIDTH_KEPT = "\u200c\u200d"
"""Joiners, without which emoji and several scripts fall apart."""
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff"
    "\ufff9-\ufffb\U000e0001-\U000e007f\ud800-\udfff]"
)
"""Characters that show nothing, turn the direction of what follows, or cannot be written."""
_SPACES = re.compile(r"[ \t\r\n\x0b\x0c]+")


@dataclass(frozen=True, kw_only=True)
class Reason:
    """Why a stretch is a highlight: one part of it, with a score where it has one."""

    part: str
    text: str
    score: float | None = None
    """In [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """A highlight as the page shows it."""

    rank: int
    start_s: float
    end_s: float
    peak_s: float
    score: float
    reasons: Sequence[Reason] = ()
    clip: str = ""
    """Its file, relative to the page and escaped as a URL; "" without one."""
    clip_start_s: float = 0.0
    """Where the clip begins, in seconds of the recording."""
    picture: bytes = b""
    """A small JPEG of its peak; empty without one."""


@dataclass(frozen=True, kw_only=True)
class VideoLink:
    """Where the page finds the recording, and what is known of it."""

    href: str
    """Relative to the page, escaped as a URL."""
    name: str
    format: str
    """Container and codecs, for people."""
    playable: bool
    """False where no browser plays such a file."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """All that the page of a recording shows."""

    title: str
    facts: Sequence[str] = ()
    """Short facts beneath the title."""
    label: str = ""
    """What stands beside every number, such as "a rule, not a trained model"."""
    warnings: Sequence[str] = ()
    duration_s: float
    score_name: str
    """Such as "predicted CTR"."""
    percent: bool
    """Whether scores are shares, shown in percent."""
    curve: pl.DataFrame
    """start_s, end_s, score (null where there is none), and perhaps part_* in [0, 1]."""
    parts: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """By a part's name in `part_*` its title, and how it is reckoned."""
    chapters: Sequence[Chapter] = ()
    """Best first."""
    comments: pl.DataFrame | None = None
    """Of COMMENTS_SCHEMA."""
    speech: pl.DataFrame | None = None
    """Of SPEECH_SCHEMA."""
    video: VideoLink | None = None
    files: Sequence[tuple[str, str]] = ()
    """Names of other files beside the page and what they are."""


def visible(text: str, limit: int = MAX_TEXT) -> str:
    """A text as one line in which nothing is hidden, of at most `limit` characters.

    Control characters, marks that turn the writing's direction, and other characters that show
    nothing become visible ones, so that a comment cannot reorder or blank out its surroundings.
    """
    text = _SPACES.sub(" ", text[: 4 * limit]).strip()
    text = _UNSEEN.sub(_shown, text)
    return text if len(text) <= limit else text[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _shown(found: re.Match[str]) -> str:
    character = found[0]
    code = ord(character)
    if character in _ZERO_WIDTH_KEPT:
        return character
    if code < 0x20 or code == 0x7F:
        return chr(0x2421 if code == 0x7F else 0x2400 + code)  # Unicode's control pictures
    return "\N{REPLACEMENT CHARACTER}" if 0xD800 <= code < 0xE000 else f"⟨U+{code:04X}⟩"


def thin(table: pl.DataFrame, time: str, spans: Sequence[tuple[float, float]]) -> pl.DataFrame:
    """At most MAX_LINES rows in their order: those around `spans` first, then evenly of the rest.

    Args:
        table: sorted by `time`.
        time: its column of seconds.
        spans: start and end of stretches, in seconds.
    """
    if table.height <= MAX_LINES:
        return table
    times = table[time].to_numpy()
    near = np.zeros(table.height, dtype=np.bool_)
    for start_s, end_s in spans:
        near |= (times >= start_s - AROUND_S) & (times < end_s + AROUND_S)
    inner, outer = np.flatnonzero(near), np.flatnonzero(~near)
    room = max(int(_NEAR_SHARE * MAX_LINES), MAX_LINES - len(outer))
    inner = _evenly(inner, room)
    kept = np.concatenate([inner, _evenly(outer, MAX_LINES - len(inner))])
    return table[np.sort(kept)]


def _evenly(rows: np.ndarray, most: int) -> np.ndarray:
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).round().astype(np.int64)]


def utterances(speech: pl.DataFrame) -> pl.DataFrame:
    """Speech as lines to read: words that come one by one are put together.

    Args:
        speech: of SPEECH_SCHEMA; a row is an utterance, or a word where the source times words.
    """
    if not speech.height:
        return speech
    rows: list[tuple[float, float, str]] = []
    joined = False
    for start, end, text in speech.iter_rows():
        word = start == end  # only single words are stored as a moment (see read_speech)
        last = rows[-1] if rows else None
        if (
            word
            and joined
            and last is not None
            and start - last[1] < _PAUSE_S
            and len(last[2]) + len(text) < _UTTERANCE
        ):
            rows[-1] = (last[0], end, f"{last[2]} {text}")
        else:
            rows.append((start, end, text))
        joined = word
    return pl.DataFrame(rows, schema=speech.schema, orient="row")


def thin_curve(curve: pl.DataFrame) -> pl.DataFrame:
    """At most MAX_POINTS rows: of neighbours the highest stays, so that no peak is lost."""
    step = -(-curve.height // MAX_POINTS)
    if step <= 1:
        return curve
    parts = [name for name in curve.columns if name.startswith("part_")]
    return (
        curve.with_columns((pl.int_range(pl.len()) // step).alias("_group"))
        .group_by("_group", maintain_order=True)
        .agg(
            pl.col("start_s").first(),
            pl.col("end_s").last(),
            pl.col("score").max(),
            *(pl.col(name).max() for name in parts),
        )
        .drop("_group")
    )
