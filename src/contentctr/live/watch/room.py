"""A watched room: its pictures, its chat and its speech, put together segment by segment.

Speech is from a transcript that is written beside it, or from its sound.

Comments and speech belong to a segment by their times alone, as in `prepare`, which also cuts the
texts here. Lines are written a little later than the picture that they are about: a segment that
has just ended waits for them, until there is one of `delay_s` after its end, at most `delay_s`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from contentctr.batch import DataSpec
from contentctr.errors import InputError
from contentctr.live.watch.listener import Listener
from contentctr.live.watch.logs import GrowingLog
from contentctr.live.watch.video import WatchedSegment, WatchedVideo
from contentctr.live.watch.waiting import SourceBrokenError, Waiting
from contentctr.prepare.segments import segment_rooms
from contentctr.rooms.listening import Samples
from contentctr.rooms.room import Room
from contentctr.rooms.sound import own_length
from contentctr.store.statistics import COLUMNS

DELAY_S = 2.0


class WatchedRoom:
    """A room that is watched.

    Args:
        source: of `open_source`.
        spec: length of a segment, and its frames.
        waiting: how it is waited for.
        comments: its chat.
        speech: its transcript.
        delay_s: how long a segment waits for lines of the two.
        listener: hears it, where it has no transcript.
        sound: whether segments are given out with their sound.
        reconnect_s: how long a stream of the network that broke is tried again.
    """

    def __init__(
        self,
        source: str,
        spec: DataSpec,
        waiting: Waiting,
        *,
        comments: GrowingLog | None = None,
        speech: GrowingLog | None = None,
        delay_s: float = DELAY_S,
        listener: Listener | None = None,
        sound: bool = False,
        reconnect_s: float = 60.0,
    ) -> None:
        self.count = 0
        """Segments given out."""
        assert speech is None or listener is None
        self._has_sound, listen = sound, sound or listener is not None
        self._video = WatchedVideo(source, spec, waiting, listen=listen, reconnect_s=reconnect_s)
        self._listener = listener
        self._source, self._spec, self._waiting, self._delay_s = source, spec, waiting, delay_s
        self._comments, self._speech = comments, speech
        self._logs = [log for log in (comments, speech) if log is not None]

    @property
    def duration_s(self) -> float:
        """How long the room has lasted."""
        return self._video.duration_s

    @property
    def has_sound(self) -> bool:
        """Whether sound has come."""
        return self._video.has_sound

    def watch(self, take: Callable[[WatchedSegment], None]) -> None:
        """Give each segment out as it ends, with its texts, until the room or the user ends it.

        Raises:
            InputError: the source or a log cannot be read, or no segment came.
            SourceBrokenError: the source broke off; what came before was given out.
        """
        broken: SourceBrokenError | None = None
        try:
            self._watch(take)
        except SourceBrokenError as error:
            broken = error
        except InputError:
            if not self._waiting.stopped:  # it was ended before there was anything to be read
                raise
        for log in self._logs:
            log.finish()
        if broken is not None:
            raise broken
        if not self.count and not self._waiting.stopped:
            raise InputError(
                f"{self._source}: too short: {self.duration_s:.1f} s, less than half of a segment "
                f"of {self._spec.segment_seconds:g} s"
            )

    def _watch(self, take: Callable[[WatchedSegment], None]) -> None:
        for segment in self._video.segments():
            listens = self._listener is not None or self._has_sound
            if not self._video.has_pictures and not self._logs and not listens:
                raise InputError(
                    f"{self._source}: has sound alone: with no pictures, comments or speech there "
                    "is nothing to score by; give its --comments or --speech"
                )
            if self._listener is not None:
                # Before its chat is waited for: that may be written meanwhile.
                segment = replace(segment, speech=self._listener.hear(segment))
            segment = replace(segment, sound=self._own_sound(segment))
            self._await_lines(segment.end_s)
            take(self._with_texts(segment))
            self.count += 1
            if self._waiting.stopped:
                break

    def _own_sound(self, segment: WatchedSegment) -> Samples | None:
        """The segment's sound without what lies before it."""
        if segment.sound is None or not self._has_sound:
            return None
        return segment.sound[-own_length(segment.start_s, segment.end_s) :]

    def _await_lines(self, end_s: float) -> None:
        """Read the logs; wait for lines of the segment, if its pictures have come only now."""
        for log in self._logs:
            log.poll()
        due = self._waiting.last + self._delay_s
        late = [log for log in self._logs if not log.reaches(end_s + self._delay_s)]
        if late and time.monotonic() < due:
            self._waiting.settled(due)
            for log in late:
                log.poll()

    def _with_texts(self, segment: WatchedSegment) -> WatchedSegment:
        if not self._logs:
            return segment
        start_s, end_s = segment.start_s, segment.end_s
        room = Room(
            room_id="watched",
            streamer_id="",
            started_at=None,
            duration_s=end_s,
            comments=None if self._comments is None else self._comments.between(start_s, end_s),
            gifts=None if self._comments is None else self._comments.gifts_between(start_s, end_s),
            speech=None if self._speech is None else self._speech.between(start_s, end_s),
        )
        table = segment_rooms([room], segment_seconds=self._spec.segment_seconds)
        row = table.row(segment.index, named=True)
        speech = row["speech"] if self._listener is None else segment.speech
        return replace(
            segment,
            speech=(speech or "").strip(),
            comments=(row["comments"] or "").strip(),
            counts={name: row[name] for name in COLUMNS if row[name] is not None},
        )
