"""What a watched room's segments become: features, and a score from here or from a service."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol

from PIL import Image

from contentctr.live.encoding import LiveEncoder
from contentctr.live.engine import Engine, Taken
from contentctr.live.scorer_segments import LiveSegment, RawSegment
from contentctr.live.service.schemas import THUMBNAIL_BYTES
from contentctr.live.watch.client import base64_of
from contentctr.live.watch.outbox import Outbox
from contentctr.live.watch.video import WatchedSegment

Report = Callable[[dict[str, Any]], None]
"""Given each outcome: index, start_s, end_s, status, score, and of a service highlight."""
_SHOWN = 10
"""Comments of a segment that go to the service to be shown."""


class Scorer(Protocol):
    """What scores segments and reports each outcome, at once or later."""

    def score(self, segment: LiveSegment, seen: WatchedSegment) -> None:
        """Take one more segment."""

    def close(self) -> None:
        """See to it that all were scored."""


class Watcher:
    """Encodes one room's segments and has them scored.

    Args:
        encoder: the checkpoint's encoders.
        scorer: LocalScorer or ServiceScorer.
        room_id: of the room.
        streamer_id: its streamer's.
        run: gives the name of the source's run, once the first segment is there.
    """

    def __init__(
        self,
        encoder: LiveEncoder,
        scorer: Scorer,
        *,
        room_id: str,
        streamer_id: str,
        run: Callable[[], str] = lambda: "",
    ) -> None:
        self._encoder, self._scorer = encoder, scorer
        self._room_id, self._streamer_id = room_id, streamer_id
        self._find_run = run

    @cached_property
    def _run(self) -> str:
        return self._find_run()

    def take(self, seen: WatchedSegment) -> None:
        """One more segment."""
        raw = RawSegment(
            room_id=self._room_id,
            streamer_id=self._streamer_id,
            index=seen.index,
            run=self._run,
            pictures=tuple(self._encoder.preprocess(image) for image in seen.pictures),
            speech=seen.speech,
            comments=seen.comments,
            sound=self._encoder.hear(seen.sound),
            counts=seen.counts,
        )
        [segment] = self._encoder.encode([raw])
        self._scorer.score(segment, seen)


class LocalScorer:
    """Scores by an engine of this process.

    Args:
        engine: with the checkpoint's model.
        report: given each outcome.
    """

    def __init__(self, engine: Engine, report: Report) -> None:
        self._engine, self._report = engine, report

    def score(self, segment: LiveSegment, seen: WatchedSegment) -> None:
        """See Scorer."""
        [taken] = self._engine.score([segment])
        if not isinstance(taken, Taken):
            raise taken
        scored = taken.scored
        self._report({**_place(seen), "status": scored.status, "score": scored.score})

    def close(self) -> None:
        """See Scorer."""


class ServiceScorer:
    """Scores by a service, where the room then shows, with a picture and comments.

    Args:
        outbox: on the way to it.
        report: given each outcome.
        title: to be shown.
    """

    def __init__(self, outbox: Outbox, report: Report, *, title: str = "") -> None:
        self._outbox, self._report, self._title = outbox, report, title

    def score(self, segment: LiveSegment, seen: WatchedSegment) -> None:
        """See Scorer."""
        comments = seen.comments.split("\n") if seen.comments else []
        post = {
            "room_id": segment.room_id,
            "streamer_id": segment.streamer_id,
            "index": segment.index,
            "run": segment.run,
            "visual": base64_of(segment.visual),
            "text": base64_of(segment.text),
            "sound": base64_of(segment.sound),
            "words": base64_of(segment.words),
            "has_speech": segment.has_speech,
            "has_comments": segment.has_comments,
            "counts": segment.counts or None,
            "title": self._title,
            "comments": [comment[:500] for comment in comments[-_SHOWN:]],
            "thumbnail": _thumbnail(seen.pictures[-1]) if seen.pictures else None,
            "ended_at": time.time(),  # it may be sent much later
        }
        place = _place(seen)

        def take(answer: dict[str, Any]) -> None:
            found = {name: answer.get(name) for name in ("status", "score", "highlight")}
            self._report({**place, **found})

        self._outbox.put(post, take)

    def close(self) -> None:
        """See Scorer."""
        self._outbox.close()


def _place(seen: WatchedSegment) -> dict[str, Any]:
    return {"index": seen.index, "start_s": seen.start_s, "end_s": seen.end_s}


def _thumbnail(image: Image.Image) -> str | None:
    small = image.copy()
    small.thumbnail((240, 240))
    data = io.BytesIO()
    small.save(data, "JPEG", quality=70)
    return base64.b64encode(data.getvalue()).decode() if data.tell() <= THUMBNAIL_BYTES else None
