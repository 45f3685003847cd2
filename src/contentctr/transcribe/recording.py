"""The speech of a recording, segment by segment, in one pass over its packets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from contentctr.errors import InputError
from contentctr.files import digest, file_sha256
from contentctr.rooms.listening import SoundListener, listen
from contentctr.transcribe.doubts import SpeechDoubts
from contentctr.transcribe.segments import (
    CONTEXT_S,
    Heard,
    Recogniser,
    RoomLanguage,
    Samples,
    hear_segment,
)
from contentctr.transcribe.transcript import Growing

Spans = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Sound:
    """A recording to be heard."""

    path: Path
    spans: Spans
    """Start and end of each segment, in seconds of the room."""
    language: str | None = None
    """What is spoken; None: to be detected."""
    content: str = ""
    """SHA-256 of the file, where it is known; "": it is read."""


def hear_recording(
    recogniser: Recogniser,
    sound: Sound,
    *,
    store: Path | None = None,
    advance: Callable[[int], None] = lambda segments: None,
    warnings: list[str] | None = None,
) -> list[Heard]:
    """What is said in each segment of a recording; memory is flat, however long it is.

    Args:
        recogniser: hears it.
        sound: the recording.
        store: keeps what was heard, so that a killed run goes on there; None: nothing does.
        advance: told how many more segments were heard.
        warnings: messages are added to it, also where the language or the words are in doubt.

    Raises:
        InputError: the recording cannot be read.
    """
    notes = [] if warnings is None else warnings
    language = RoomLanguage(sound.language)
    kept = None if store is None else Growing(store, _key(recogniser, sound), language)
    heard = [] if kept is None else kept.heard
    advance(len(heard))

    def hear(samples: Samples) -> None:
        number = len(heard)
        start_s, end_s = sound.spans[number]
        found = hear_segment(
            recogniser,
            samples,
            segment=number,
            start_s=start_s,
            end_s=end_s,
            language=language,
        )
        heard.append(found)
        if kept is not None:
            kept.write(found, language)
        advance(1)

    listener = SoundListener(sound.spans, hear, before_s=CONTEXT_S, first=len(heard))
    if not listener.done:
        listen(sound.path, listener, notes)
    doubts = SpeechDoubts(language)
    for each in heard:
        doubts.add(each)
    notes += [f"{sound.path}: {doubt}" for doubt in doubts.told()]
    return heard


def _key(recogniser: Recogniser, sound: Sound) -> dict[str, object]:
    """All that a transcript depends on."""
    try:
        content = sound.content or file_sha256(sound.path)
    except OSError as error:
        raise InputError(f"{sound.path}: cannot be read ({error.strerror})") from None
    return {
        "recogniser": recogniser.revision,
        "language": sound.language,
        "media": content,
        "segments": digest(CONTEXT_S, *sound.spans),
    }
