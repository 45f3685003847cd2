"""What a watched room's segments become: features, and a score from here or from a service."""

from __future__ import annotations

import base64
import io
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from contentctr.errors import InputError
from contentctr.live.encoding import LiveEncoder
from contentctr.live.engine import Engine, Taken
from contentctr.live.scorer_segments import LiveSegment
from contentctr.live.service.decode import RawSegment
from contentctr.live.service.schemas import THUMBNAIL_BYTES
from contentctr.live.watch.video import WatchedSegment

Scorer = Callable[[LiveSegment, WatchedSegment, list[str]], dict[str, Any]]
_TRIES = 5
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


def score_at(url: str, *, title: str = "", api_key: str | None = None) -> Scorer:
    """Scores by a service, where the room then shows, with a picture and comments.

    Args:
        url: the service's, such as http://127.0.0.1:8000; its checkpoint must be the same.
        title: to be shown.
        api_key: the service's.
    """
    if not url.startswith(("http://", "https://")):
        raise InputError(f"--url must begin with http:// or https://, not {url!r}")

    def score(segment: LiveSegment, seen: WatchedSegment, comments: list[str]) -> dict[str, Any]:
        post = {
            "room_id": segment.room_id,
            "streamer_id": segment.streamer_id,
            "index": segment.index,
            "visual": _half(segment.visual),
            "text": _half(segment.text),
            "has_speech": segment.has_speech,
            "has_comments": segment.has_comments,
            "title": title,
            "comments": [comment[:500] for comment in comments[-_SHOWN:]],
            "thumbnail": _thumbnail(seen.pictures[-1]) if seen.pictures else None,
        }
        answer = _post(f"{url.rstrip('/')}/v1/segments", post, api_key)
        return {name: answer.get(name) for name in ("status", "score", "highlight")}

    return score


def _post(url: str, body: dict[str, Any], api_key: str | None) -> dict[str, Any]:
    """The service's answer; one that is busy or away is asked again."""
    headers = {"content-type": "application/json", **({"x-api-key": api_key} if api_key else {})}
    reason = ""
    for number in range(_TRIES):
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            with error:
                reason = f"{error.code}: {error.read(2000).decode(errors='replace')}"
            if error.code not in (429, 503):
                break
        except (urllib.error.URLError, OSError) as error:
            reason = str(error)
        time.sleep(min(2.0**number / 2, 5.0))
    raise InputError(f"{url}: {reason}")


def _half(values: NDArray[np.floating] | None) -> str | None:
    if values is None:
        return None
    return base64.b64encode(values.astype("<f2").tobytes()).decode()


def _thumbnail(image: Image.Image) -> str | None:
    small = image.copy()
    small.thumbnail((240, 240))
    data = io.BytesIO()
    small.save(data, "JPEG", quality=70)
    return base64.b64encode(data.getvalue()).decode() if data.tell() <= THUMBNAIL_BYTES else None
