"""What of a room was perhaps heard in a wrong language, or not at all, for the user to be told."""

from __future__ import annotations

from contentctr.counting import counted
from contentctr.transcribe.segments import Heard, RoomLanguage

_SURE = 0.5
"""Of a room's language that is less likely, the user is told."""
_LONG_S = 5.0
"""Less speech tells no language, and loses few words: a hum may be taken for a voice."""
_LOST = 0.25
"""Share of segments with so much speech that may be without words before the user is told."""


class SpeechDoubts:
    """Takes a room's segments one by one, as few numbers however long the room is.

    Args:
        language: the room's, as it is when `told` is called.
    """

    def __init__(self, language: RoomLanguage) -> None:
        self._language = language
        self._spoken = self._lost = 0
        self._codes: set[str] = set()

    def add(self, heard: Heard) -> None:
        """One more segment."""
        if heard.voiced_s <= _LONG_S:
            return
        self._spoken += 1
        if not heard.text:
            self._lost += 1
            self._codes.add(heard.language)

    def told(self) -> list[str]:
        """Sentences for the user; none where nothing is in doubt."""
        found = [self._unsure(), self._without_words()]
        return [doubt for doubt in found if doubt]

    def _unsure(self) -> str:
        language = self._language
        if language.given is not None or language.voiced_s <= _LONG_S:
            return ""
        shares = {key: votes / language.voiced_s for key, votes in language.votes.items()}
        likely = sorted(shares, key=lambda key: (-shares[key], key))
        if shares[likely[0]] >= _SURE:
            return ""
        found = ", ".join(f"{key} {shares[key]:.2f}" for key in likely[:3])
        return f"its language is not sure ({found}); where it is another, give --language"

    def _without_words(self) -> str:
        if not self._lost or self._lost < _LOST * self._spoken:
            return ""
        return (
            f"somebody speaks for more than {_LONG_S:g} s in {counted(self._spoken, 'segment')}, "
            f"and in {self._lost:,} of them no words were made out, taken for "
            f"{', '.join(sorted(self._codes))}: songs, much noise or another language (--language)"
        )
