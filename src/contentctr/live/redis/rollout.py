"""How a candidate stands beside the current model, and what lets it take that one's place."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from contentctr.errors import InputError
from contentctr.live.agreement import Agreement, agreement_of
from contentctr.live.redis.keys import Keys
from contentctr.live.redis.messages import message_id
from contentctr.live.redis.models import Models, Places
from contentctr.live.redis.store import RedisStore

ROOMS, SEGMENTS = 500, 20
"""Rooms that are compared at most, and the last segments of each."""
ROLLOUT_S = 15.0
"""Between two looks of a service or a worker."""
MOST_BEHIND_S = 10.0
"""What a candidate may be behind the current model to take its place."""
_WAIT_S, _AGAIN_S = 5.0, 0.1
"""Where rooms begin all the time, one or the other has no score of the candidate's for a moment."""


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """The models of an installation, as of now."""

    current: str = ""
    candidate: str = ""
    previous: str = ""
    """The model that was current before; "": there was none."""
    since: float | None = None
    """When the candidate took its place, Unix seconds by Redis' clock."""
    rooms: int = 0
    """Live rooms of the current model."""
    candidate_rooms: int = 0
    without: int = 0
    """Rooms of the current model that have no score of the candidate's."""
    behind: int = 0
    """Messages that the current model is done with and the candidate is not."""
    behind_s: float = 0.0
    """Since the oldest of them came."""
    missed: int = 0
    """Messages that the candidate did not get, as it was too far behind."""
    workers: int = 0
    """Of the current model, as far as they have said that they leave."""
    candidate_workers: int = 0
    agreement: Agreement = Agreement()

    def facts(self) -> dict[str, Any]:
        """All of it as JSON."""
        return asdict(self)


def gauges(found: Callable[[], Rollout]) -> list[tuple[str, str, Callable[[], float]]]:
    """Name, meaning and value of what Prometheus is told of a rollout."""

    def both(name: str) -> Callable[[], float]:
        def value() -> float:
            number = getattr(found().agreement, name)
            return math.nan if number is None else number

        return value

    return [
        ("candidate", "1 where there is a candidate.", lambda: bool(found().candidate)),
        ("candidate_behind", "Segments that it has to score.", lambda: found().behind),
        ("candidate_behind_seconds", "Since the oldest came.", lambda: found().behind_s),
        ("candidate_missed", "Segments that it did not get.", lambda: found().missed),
        ("candidate_rooms_without", "Rooms without its score.", lambda: found().without),
        ("candidate_segments", "Segments that both scored.", both("segments")),
        ("candidate_tau", "Kendall's tau of the two rankings.", both("tau")),
        ("candidate_difference", "Of two scores, on average.", both("mean")),
        ("candidate_largest_difference", "Of two scores.", both("largest")),
    ]


def look(client: Any, keys: Keys, store: RedisStore, *, compare: bool = True) -> Rollout:
    """How things stand.

    Args:
        client: of `connect`.
        keys: names of the keys.
        store: reads rooms.
        compare: whether scores are compared, which reads the curves of up to ROOMS rooms.
    """
    places = Models(client, keys).places()
    previous, since = client.mget([keys.previous, keys.candidate_since])
    found = Rollout(**vars(places), previous=_text(previous))
    if not places.current:
        return found
    own = keys.of(places.current)
    found = replace(found, rooms=client.zcard(own.ranking), workers=client.hlen(own.workers))
    if not places.candidate:
        return found
    other, pipe = keys.of(places.candidate), client.pipeline(transaction=False)
    for partition in range(store.partitions):
        pipe.zcard(own.done(partition))
        pipe.zrange(own.done(partition), 0, 0)
    pipe.time()
    pipe.zcard(other.ranking)
    pipe.zdiff([own.ranking, other.ranking])
    pipe.get(other.missed)
    pipe.hlen(other.workers)
    *rows, (seconds, micros), rooms, without, missed, workers = pipe.execute()
    firsts = [message_id(first.split()[0])[0] / 1000 for oldest in rows[1::2] for first in oldest]
    return replace(
        found,
        since=None if since is None else float(since),
        candidate_rooms=rooms,
        without=len(without),
        behind=sum(rows[::2]),
        behind_s=max(0.0, seconds + micros / 1e6 - min(firsts)) if firsts else 0.0,
        missed=int(missed or 0),
        candidate_workers=workers,
        agreement=compare_scores(client, own, other) if compare else Agreement(),
    )


def compare_scores(client: Any, own: Keys, other: Keys) -> Agreement:
    """How far two models agree on rooms that both have scored.

    Args:
        client: of `connect`.
        own: names of the keys of one of them.
        other: of the other.
    """
    names = client.zinter([own.ranking, other.ranking])[:ROOMS]
    pipe = client.pipeline(transaction=False)
    for name in names:
        for keys in (own, other):
            pipe.lrange(keys.curve(name.decode()), -SEGMENTS, -1)
    found = pipe.execute()
    rooms = []
    for one, two in zip(found[::2], found[1::2], strict=True):
        mine, theirs = _points(one), _points(two)
        if pairs := [(mine[k], theirs[k]) for k in sorted(mine.keys() & theirs.keys())]:
            rooms.append(pairs)
    return agreement_of(rooms)


def promote(client: Any, keys: Keys, store: RedisStore, *, force: bool = False) -> Rollout:
    """Let the candidate take the current model's place, and that one the candidate's.

    Args:
        client: of `connect`.
        keys: names of the keys.
        store: reads rooms.
        force: whether or not it is ready.

    Returns:
        How things stood just before.

    Raises:
        InputError: there is no candidate, or it is not ready; says why.
    """
    end = time.monotonic() + _WAIT_S
    while True:
        found = look(client, keys, store, compare=False)
        if not found.candidate:
            raise InputError("rollout: there is no candidate; start a worker of another model")
        reason = _unready(found)
        if force or not reason:
            places = Places(current=found.current, candidate=found.candidate)
            try:
                Models(client, keys).promote(places, force=force)
                return found
            except InputError as error:
                reason = str(error)
        if time.monotonic() >= end:
            raise InputError(reason)
        time.sleep(_AGAIN_S)


def go_back(client: Any, keys: Keys, store: RedisStore, *, force: bool = False) -> Rollout:
    """Let the model that was current before take its place again; as `promote`.

    Raises:
        InputError: it does not score in the shadow any more, or is not ready; says why.
    """
    found = look(client, keys, store, compare=False)
    if not found.previous:
        raise InputError("rollout: no other model was current before")
    if found.previous != found.candidate:
        raise InputError(
            f"rollout: {found.previous}, which was current before, scores nothing any more; start "
            "a worker of it, and promote it once it has scored all rooms"
        )
    return promote(client, keys, store, force=force)


def _unready(found: Rollout) -> str:
    """Why a candidate cannot take the current model's place; "": it can."""
    name = f"rollout: the candidate, {found.candidate},"
    if not found.candidate_workers:
        return f"{name} has no worker; start one, or --force"
    if found.behind_s > MOST_BEHIND_S:
        return (
            f"{name} is {found.behind_s:.0f} s behind, with {found.behind} segments to score; "
            "wait, or --force"
        )
    return ""


def _points(curve: Sequence[bytes]) -> dict[int, float]:
    """Scores by segment; those of another model, and damaged ones, are left out."""
    found: dict[int, float] = {}
    for point in curve:
        try:
            index, score = point.split()
            if math.isfinite(value := float(score)):
                found[int(index)] = value
        except ValueError:
            continue
    return found


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")
