"""The sound of a room's segments, given out in the pass in which its packets are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from contentctr.rooms.samples import Samples as Samples
from contentctr.rooms.sound import SoundReader, sound_warnings
from contentctr.rooms.video import TimedPacket, Video


class SoundListener:
    """Gives each span's samples out as soon as they are known; holds those of one span.

    Args:
        spans: start and end of each segment in seconds, ascending.
        take: given the samples of each, in order.
        before_s: seconds of sound before each span that are given with it.
        first: the spans before this one are not wanted.
    """

    def __init__(
        self,
        spans: Sequence[tuple[float, float]],
        take: Callable[[Samples], None],
        *,
        before_s: float = 0.0,
        first: int = 0,
    ) -> None:
        self._spans, self._take, self._given = spans, take, first
        self._before_s = before_s
        self._reader: SoundReader | None = None

    @property
    def begun(self) -> bool:
        """Whether a recording was opened for it."""
        return self._reader is not None

    @property
    def done(self) -> bool:
        """Whether all were given out."""
        return self._given == len(self._spans)

    def begin(self, video: Video) -> None:
        """Listen to a recording none of whose packets was read yet."""
        self._reader = SoundReader(video)

    def add(self, timed: TimedPacket) -> None:
        """Take one more packet, of sound or of pictures."""
        assert self._reader is not None
        if not self.done:
            self._reader.add(timed)
            self._give()

    def finish(self, name: Path | str, warnings: list[str]) -> None:
        """No more packets come; adds what the user should know."""
        assert self._reader is not None
        if not self.done:
            self._reader.finish()
            self._give()
        warnings += sound_warnings(name, self._reader)

    def _give(self) -> None:
        assert self._reader is not None
        while not self.done:
            start_s, end_s = self._spans[self._given]
            self._reader.drop_before(start_s - self._before_s)
            if end_s > self._reader.known_s:
                break
            self._given += 1
            self._take(self._reader.take(start_s - self._before_s, end_s))


def listen(path: Path, listener: SoundListener, warnings: list[str]) -> None:
    """Read a recording for its sound alone.

    Raises:
        InputError: it cannot be read.
    """
    with Video(path) as video:
        listener.begin(video)
        for timed in video.packets():
            listener.add(timed)
            if listener.done:
                break
        listener.finish(path, warnings)
