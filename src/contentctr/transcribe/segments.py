"""One segment's speech from its sound: the one function for recordings and for live rooms.

A segment is heard with a few seconds before it, and nothing after it, which a live room does not
have yet. To it belong the words that end in it: one that is cut by its end is heard whole with the
next segment. The rules that bound the time that this takes:

- Voice activity comes first: where there is none, nothing is recognised.
- A recogniser hears WINDOW_S at once, for which it takes the same time however little is said. So
  the pieces in which somebody speaks are joined, and the seconds before a segment are cut where
  with them there would be one more window.
- The language is the one that most of a room's first LANGUAGE_S of speech sounded like, and until
  then that of what was said so far; or it is given.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from contentctr.rooms.sound import RATE

CONTEXT_S = 5.0
"""Seconds that are heard before a segment."""
CUT_S = 0.1
"""A word that ends this little before the segment's end may go on after it."""
WINDOW_S = 30.0
LANGUAGE_S = 30.0
_PAUSE_S = 0.8
"""Between two words, it begins another utterance."""
_SENTENCE_ENDS = tuple(".?!。？！…")
RULES = 1
"""Goes up when other text comes of the same sound, so that no transcript is half of each."""

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Word:
    """A word, with the white space before it that its language has."""

    start_s: float
    end_s: float
    text: str


class Recogniser(Protocol):
    """What hears speech in samples of `RATE` a second."""

    name: str
    """As the user names it."""
    revision: str
    """Hash of its weights and settings."""

    def voiced(self, samples: Samples) -> list[tuple[int, int]]:
        """Where somebody speaks: first sample and end of each piece, at most WINDOW_S long."""

    def languages(self, samples: Samples) -> dict[str, float]:
        """How likely each language is, of at most WINDOW_S of speech."""

    def words(self, samples: Samples, language: str) -> list[Word]:
        """The words of at most WINDOW_S of speech, with times from its start."""


@dataclass(frozen=True)
class Utterance:
    """What was said without a pause, in seconds of the room."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Heard:
    """A segment's speech."""

    segment: int
    utterances: tuple[Utterance, ...] = ()
    voiced_s: float = 0.0
    """How long somebody spoke in it."""
    language: str = ""
    """"" where nobody spoke."""

    @property
    def text(self) -> str:
        """All of it, as segments have it."""
        return " ".join(utterance.text for utterance in self.utterances)


@dataclass
class RoomLanguage:
    """The language of a room, as far as it is known.

    Args:
        given: by the user; None: detected.
    """

    given: str | None = None
    voiced_s: float = 0.0
    """Speech that it was detected from."""
    votes: dict[str, float] = field(default_factory=dict)
    """Seconds times probability, by language."""

    def of(self, recogniser: Recogniser, speech: Samples) -> str:
        """The language in which some more of the room's speech is to be recognised."""
        if self.given is not None:
            return self.given
        if self.voiced_s < LANGUAGE_S:
            heard_s = len(speech) / RATE
            for language, probability in recogniser.languages(speech).items():
                self.votes[language] = self.votes.get(language, 0.0) + heard_s * probability
            self.voiced_s += heard_s
        # Of equal ones the first by name, whatever order a recogniser lists them in.
        return min(self.votes, key=lambda language: (-self.votes[language], language))

    def state(self) -> dict[str, Any]:
        """What `RoomLanguage(**state)` goes on from."""
        return asdict(self)


def hear_segment(
    recogniser: Recogniser,
    samples: Samples,
    *,
    segment: int,
    start_s: float,
    end_s: float,
    language: RoomLanguage,
) -> Heard:
    """What is said in a segment.

    Args:
        recogniser: hears it.
        samples: of [start_s - CONTEXT_S, end_s), in seconds of the room.
        segment: its number.
        start_s: when it begins.
        end_s: when it ends.
        language: the room's, after the segments before this one; what it says of it is added.
    """
    end = len(samples)
    before = end - round((end_s - start_s) * RATE)
    pieces = [piece for piece in recogniser.voiced(samples) if piece[1] > before]
    if not pieces:
        return Heard(segment=segment)
    voiced = sum(stop - max(first, before) for first, stop in pieces)
    words: list[Word] = []
    spoken = ""
    for window in _windows(_without_excess(pieces, before)):
        speech = np.concatenate([samples[first:stop] for first, stop in window])
        spoken = language.of(recogniser, speech)
        offset_s = end_s - end / RATE
        words += _placed(recogniser.words(speech, spoken), window, offset_s)
    inside = [word for word in words if start_s <= word.end_s + CUT_S < end_s]
    return Heard(
        segment=segment,
        utterances=tuple(_utterances(inside, start_s, end_s)),
        voiced_s=voiced / RATE,
        language=spoken,
    )


Pieces = Sequence[tuple[int, int]]


def _without_excess(pieces: Pieces, before: int) -> list[tuple[int, int]]:
    """The pieces, less of what lies before the segment where it would take another window."""
    window = round(WINDOW_S * RATE)
    (first, stop), *others = pieces
    inside = sum(stop - max(first, before) for first, stop in pieces)
    excess = sum(stop - first for first, stop in pieces) - -(-inside // window) * window
    return [(first + max(excess, 0), stop), *others]


def _windows(pieces: Pieces) -> Iterator[list[tuple[int, int]]]:
    """The pieces by windows, each as full as it can be."""
    window: list[tuple[int, int]] = []
    filled, size = 0, round(WINDOW_S * RATE)
    for first, stop in pieces:
        if window and filled + stop - first > size:
            yield window
            window, filled = [], 0
        window.append((first, stop))
        filled += stop - first
    yield window


def _placed(words: Sequence[Word], window: Pieces, offset_s: float) -> Iterator[Word]:
    """Words of the joined pieces of a window, with times of the room."""
    ends = np.cumsum([stop - first for first, stop in window])
    for word in words:
        middle = (word.start_s + word.end_s) / 2 * RATE
        number = min(int(np.searchsorted(ends, middle, side="right")), len(window) - 1)
        first, stop = window[number]
        shift_s = (stop - int(ends[number])) / RATE + offset_s
        yield Word(word.start_s + shift_s, word.end_s + shift_s, word.text)


def _utterances(words: Sequence[Word], start_s: float, end_s: float) -> Iterator[Utterance]:
    """Words joined to utterances inside of [start_s, end_s)."""
    group: list[Word] = []
    for number, word in enumerate(words):
        group.append(word)
        following = words[number + 1] if number + 1 < len(words) else None
        ends = following is None or following.start_s - word.end_s > _PAUSE_S
        if ends or word.text.rstrip().endswith(_SENTENCE_ENDS):
            text = "".join(each.text for each in group).strip()
            if text:
                yield _utterance(group, text, start_s, end_s)
            group = []


def _utterance(words: Sequence[Word], text: str, start_s: float, end_s: float) -> Utterance:
    """Hundredths of a second are enough; what is read back must lie in the same segment."""
    first_s = max(math.floor(words[0].start_s * 100) / 100, start_s)
    return Utterance(first_s, max(min(round(words[-1].end_s, 2), end_s), first_s), text)
