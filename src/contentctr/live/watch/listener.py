"""The speech of a watched room, from its sound; skipped where the machine cannot keep up."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property

from contentctr.live.watch.video import WatchedSegment
from contentctr.live.watch.waiting import Waiting
from contentctr.transcribe.doubts import SpeechDoubts
from contentctr.transcribe.segments import Recogniser, RoomLanguage, hear_segment


class Listener:
    """Hears a watched room's segments, one after the other.

    A segment for which there is no time any more is taken without speech, so that its score is not
    late and the next one has time again. What was recorded before anything had to be waited for is
    heard in any case: nobody waits for it.

    Args:
        load: gives what hears them, once there is sound.
        waiting: how the room is waited for.
        language: what is spoken; None: detected.
        late_s: the machine cannot keep up where for so long there was always more to take: as long
            as a segment.
    """

    def __init__(
        self,
        load: Callable[[], Recogniser],
        waiting: Waiting,
        *,
        language: str | None,
        late_s: float,
    ) -> None:
        self.skipped = 0
        """Segments that were taken without their speech."""
        self._load, self._waiting, self._late_s = load, waiting, late_s
        self._language = RoomLanguage(language)
        self._doubts = SpeechDoubts(self._language)

    @cached_property
    def _recogniser(self) -> Recogniser:
        return self._load()

    def hear(self, segment: WatchedSegment) -> str:
        """What is said in a segment; "" if it is skipped."""
        assert segment.sound is not None
        if not segment.sound.any():
            return ""
        waited = self._waiting.last
        if waited > float("-inf") and time.monotonic() - waited > self._late_s:
            self.skipped += 1
            return ""
        heard = hear_segment(
            self._recogniser,
            segment.sound,
            segment=segment.index,
            start_s=segment.start_s,
            end_s=segment.end_s,
            language=self._language,
        )
        self._doubts.add(heard)
        return heard.text

    def doubts(self) -> list[str]:
        """What of the room so far was perhaps heard in a wrong language, or not at all."""
        return self._doubts.told()
