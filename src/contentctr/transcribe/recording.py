"""The speech of a recording, segment by segment, in one pass over its packets."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from contentctr.errors import InputError
from contentctr.files import digest
from contentctr.rooms.sound import SoundReader, sound_warnings
from contentctr.rooms.video import Video
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
        warnings: messages are added to it.

    Raises:
        InputError: the recording cannot be read.
    """
    language = RoomLanguage(sound.language)
    kept = None if store is None else Growing(store, _key(recogniser, sound), language)
    heard = [] if kept is None else kept.heard
    advance(len(heard))
    with closing(_segment_sounds(sound, len(heard), warnings)) as sounds:
        for number, samples in sounds:
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
    return heard


def _segment_sounds(
    sound: Sound, first: int, warnings: list[str] | None
) -> Generator[tuple[int, Samples]]:
    """Samples of each segment from number `first` on, and of CONTEXT_S before it."""
    spans, number = sound.spans, first
    if number == len(spans):
        return
    with Video(sound.path) as video:
        reader = SoundReader(video)

        def known() -> Generator[tuple[int, Samples]]:
            nonlocal number
            while number < len(spans) and spans[number][1] <= reader.known_s:
                start_s, end_s = spans[number]
                yield number, reader.take(start_s - CONTEXT_S, end_s)
                number += 1
                reader.drop_before(end_s - CONTEXT_S)

        for timed in video.packets():
            reader.add(timed)
            if number == first:  # what comes before it was heard already
                reader.drop_before(spans[first][0] - CONTEXT_S)
            yield from known()
            if number == len(spans):
                break
        else:
            reader.finish()
            yield from known()
        if warnings is not None:
            warnings += sound_warnings(sound.path, reader)


def _key(recogniser: Recogniser, sound: Sound) -> dict[str, object]:
    """All that a transcript depends on."""
    try:
        state = sound.path.stat()
    except OSError as error:
        raise InputError(f"{sound.path}: cannot be read ({error.strerror})") from None
    return {
        "recogniser": recogniser.revision,
        "language": sound.language,
        "media": [sound.path.name, state.st_size, state.st_mtime_ns],
        "segments": digest(CONTEXT_S, *sound.spans),
    }
