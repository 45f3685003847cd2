"""What a watched room's segments become: features, and a score from here or from a service."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

from PIL import Image

from contentctr.live.encoding import LiveEncoder, RawSegment
from contentctr.live.engine import Engine, Taken
from contentctr.live.scorer_segments import LiveSegment
from contentctr.live.service.schemas import THUMBNAIL_BYTES
from contentctr.live.watch.client import Client, base64_of
from contentctr.live.watch.video import WatchedSegment

Scorer = Callable[[LiveSegment, WatchedSegment, list[str]], dict[str, Any]]
_TRIES = 5
"""Of a post: a room goes on meanwhile, and a service that stays away is an error."""
_SHOWN = 10
"""Comments of a segment that go to the service to be shown."""


class Watcher:
    """Encodes and scores one room's segments.

    Args:
        encoder: the checkpoint's encoders.
        score: of `score_here` or `score_at`.
        room_id: of the room.
        streamer_id: its streamer's.
        report: given each outcome: index, start_s, end_s, status, score, highlight.
    """

    def __init__(
        self,
        encoder: LiveEncoder,
        score: Scorer,
        *,
        room_id: str,
        streamer_id: str,
        report: Callable[[dict[str, Any]], None],
    ) -> None:
        self._encoder, self._score, self._report = encoder, score, report
        self._room_id, self._streamer_id = room_id, streamer_id

    def take(self, seen: WatchedSegment, comments: list[str]) -> None:
        """One more segment."""
        raw = RawSegment(
            room_id=self._room_id,
            streamer_id=self._streamer_id,
            index=seen.index,
            pictures=tuple(self._encoder.preprocess(image) for image in seen.pictures),
            speech="",
            comments="\n".join(comments),
        )
        [segment] = self._encoder.encode([raw])
        found = self._score(segment, seen, comments)
        self._report({"index": seen.index, "start_s": seen.start_s, "end_s": seen.end_s, **found})


def score_here(engine: Engine) -> Scorer:
    """Scores by an engine of this process."""

    def score(segment: LiveSegment, seen: WatchedSegment, comments: list[str]) -> dict[str, Any]:
        [taken] = engine.score([segment])
        if not isinstance(taken, Taken):
            raise taken
        return {"status": taken.scored.status, "score": taken.scored.score}

    return score


def score_at(client: Client, *, title: str = "") -> Scorer:
    """Scores by a service, where the room then shows, with a picture and comments.

    Args:
        client: of the service; its checkpoint must be the same.
        title: to be shown.
    """

    def score(segment: LiveSegment, seen: WatchedSegment, comments: list[str]) -> dict[str, Any]:
        post = {
            "room_id": segment.room_id,
            "streamer_id": segment.streamer_id,
            "index": segment.index,
            "visual": base64_of(segment.visual),
            "text": base64_of(segment.text),
            "has_speech": segment.has_speech,
            "has_comments": segment.has_comments,
            "title": title,
            "comments": [comment[:500] for comment in comments[-_SHOWN:]],
            "thumbnail": _thumbnail(seen.pictures[-1]) if seen.pictures else None,
        }
        answer = client.post("/v1/segments", post, tries=_TRIES) or {}
        return {name: answer.get(name) for name in ("status", "score", "highlight")}

    return score


def _thumbnail(image: Image.Image) -> str | None:
    small = image.copy()
    small.thumbnail((240, 240))
    data = io.BytesIO()
    small.save(data, "JPEG", quality=70)
    return base64.b64encode(data.getvalue()).decode() if data.tell() <= THUMBNAIL_BYTES else None
