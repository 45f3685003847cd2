"""A worker's place: whether its model is current, the candidate, or stands by."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from contentctr.errors import InputError
from contentctr.live.engine import Engine
from contentctr.live.redis.beats import WorkerWatch
from contentctr.live.redis.keys import Keys
from contentctr.live.redis.models import Models, Role, about, require_fits

SPARE_INPUTS = 2
"""Inputs of a room beyond the longest window: a candidate that comes to a room while the current
model is so many segments ahead of it still finds a whole one."""

ALONE_LEASES = 6
"""Leases without a worker of the current model after which the candidate takes its place: longer
than a worker of the current one takes to start again."""


class _Absence:
    """For how long another model has had no worker. For one thread."""

    def __init__(self, client: Any, lease_s: float) -> None:
        self._client, self._lease_s, self._watch = client, lease_s, WorkerWatch()
        self._model, self._seen_at, self._looked_at = "", 0.0, 0.0

    def look(self, keys: Keys) -> float:
        """Seconds since a worker of the keys' model was last seen alive, by looks close by."""
        now = time.monotonic()
        # While nobody looked (Redis was away) its workers could not be seen: no fault of theirs.
        if keys.model != self._model or now - self._looked_at > 2 * self._lease_s:
            self._watch.reset()
            self._model, self._seen_at = keys.model, now
        self._looked_at = now
        if self._watch.look(self._client, keys):
            self._seen_at = now
        return now - self._seen_at


class WorkerPlace:
    """Takes a place for a worker's model, and says when it changes.

    Args:
        client: of `connect`.
        engine: with the model.
        keys: names of the keys, the model's among them.
        lease_s: as the worker's.
        forget_after_s: seconds without a worker after which a candidate is dropped: what waits for
            it is kept no longer.
        report: told in a line what changes.

    Raises:
        InputError: the model can never stand in for the current one.
    """

    def __init__(
        self,
        client: Any,
        engine: Engine,
        keys: Keys,
        lease_s: float,
        forget_after_s: float,
        report: Callable[[str], None],
    ) -> None:
        self._client, self._engine, self._keys = client, engine, keys
        self._lease_s, self._forget_after_s, self._report = lease_s, forget_after_s, report
        self._models = Models(client, keys)
        self._about = json.dumps(about(engine))
        self.places = self._models.places()
        self.role: Role | None = None
        """None: it has not been asked for yet."""
        self.inputs_kept = engine.scorer.window_len + SPARE_INPUTS
        """Of each room: as many as the model of the longest window reads, and some."""
        self._fits: tuple[str, bool] = ("", True)
        self._missing_since: float | None = None
        self._current, self._candidate = _Absence(client, lease_s), _Absence(client, lease_s)
        self._refused = ""
        """Why the candidate could not take the place of a model without workers."""
        if self.places.role(keys.model) == "standby":
            current = self._models.about(self.places.current)
            require_fits(engine, current, f"model {keys.model}")
            self._models.may_return(keys.model)

    def take(self) -> Role:
        """The model's place, as it is now; a free one is taken."""
        model, before, placed = self._keys.model, self.role, self.places
        current = self._models.places().current
        now = time.monotonic()
        if current or self._missing_since is None:
            self._missing_since = None if current else now
        # Where Redis has lost its data, the workers of the model that was current come first.
        waited = not current and now - (self._missing_since or now) > 2 * self._lease_s
        self.places = self._models.join(
            model,
            self._about,
            first=before in (None, "current") or waited,
            fits=current if self._fits_with(current) else "",
        )
        if self.places.role(model) == "candidate":
            self._replace_absent()
        self.role = role = self.places.role(model)
        if role != before:
            self._report(self._words(role))
        if role != before or self.places != placed:  # a candidate may come with a longer window
            self.inputs_kept = self._longest_window() + SPARE_INPUTS
        if role == "current":
            self._models.delete_some()
        if role != "candidate" and self.places.candidate:
            self._watch_candidate(self.places.candidate)
        return role

    def _longest_window(self) -> int:
        """Segments that the model of the longest window reads, of those that score."""
        others = {self.places.current, self.places.candidate} - {self._keys.model, ""}
        lengths = [self._models.about(other).get("window_len") for other in others]
        known = [n for n in lengths if isinstance(n, int) and 0 < n <= 10_000]
        return max([self._engine.scorer.window_len, *known])

    def _words(self, role: Role) -> str:
        model, places = self._keys.model, self.places
        if role == "current":
            return f"model {model} is current: its scores are served"
        if role == "candidate":
            return (
                f"model {model} is the candidate beside {places.current}: it scores in the shadow "
                "until `contentctr rollout promote`"
            )
        return (
            f"model {model} stands by: {places.current or 'none'} is current, and "
            f"{places.candidate or 'none'} the candidate; it scores nothing"
        )

    def _fits_with(self, current: str) -> bool:
        """Whether the model can stand in for the current one."""
        if current in ("", self._keys.model):
            return True
        if self._fits[0] != current:
            try:
                require_fits(self._engine, self._models.about(current), f"model {self._keys.model}")
                self._fits = current, True
            except InputError as error:
                self._report(str(error))
                self._fits = current, False
        return self._fits[1]

    def _watch_candidate(self, candidate: str) -> None:
        """Drop a candidate that has had no worker for long."""
        if self._candidate.look(self._keys.of(candidate)) <= self._forget_after_s:
            return
        try:
            self._models.begin_drop(candidate)
        except InputError:
            return  # another worker did it, or it has been promoted
        self._report(f"model {candidate}, the candidate, has no worker any more: dropped")

    def _replace_absent(self) -> None:
        """Take the place of a current model without workers: all may have begun with this one."""
        places = self.places
        absent_s = self._current.look(self._keys.of(places.current))
        if absent_s <= ALONE_LEASES * self._lease_s:
            return
        try:
            # Rooms that were silent for so long are over, whichever scores they have.
            self._models.promote(places, force=absent_s > self._forget_after_s)
        except InputError as error:
            self.places = self._models.places()  # another worker may have done it
            if self.places == places and str(error) != self._refused:
                self._refused = str(error)
                self._report(f"model {places.current} is current and has no worker; {error}")
            return
        self.places = self._models.places()
        self._report(
            f"model {places.current}, the current one, has had no worker for {absent_s:.0f} s: "
            f"model {places.candidate} takes its place"
        )
