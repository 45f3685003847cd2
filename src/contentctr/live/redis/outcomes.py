"""Outcomes in Redis: one stream that every service writes and reads, so all of them tell the same.

An entry holds some outcomes with the scores that predicted them; or a room that has ended, which
its worker writes: behind it outcomes are of another room of that name. A service that starts reads
what is kept of the last day again, in the same order, and so knows what the others know.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import Any

from contentctr.errors import InputError
from contentctr.files import parse_json
from contentctr.live.outcomes import MODELS_KEPT, Joined, Outcome, OutcomeLog
from contentctr.live.redis.keys import Keys
from contentctr.live.redis.messages import message_id
from contentctr.live.redis.store import outcomes_command
from contentctr.live.rolling import DAY_S

_TOGETHER = 50
"""Outcomes of an entry."""
_AT_ONCE = 100


class OutcomeStream:
    """The stream, and how far it was read into a log. For any number of threads.

    Args:
        client: of `connect`.
        keys: names of its keys.
        log: told of all outcomes, in the stream's order.
    """

    def __init__(self, client: Any, keys: Keys, log: OutcomeLog) -> None:
        self._client, self._keys, self._log, self._lock = client, keys, log, Lock()
        self._last: bytes | str = ""

    def append(self, joined: Sequence[Joined]) -> None:
        """Put outcomes into the stream."""
        pipe = self._client.pipeline(transaction=False)
        for start in range(0, len(joined), _TOGETHER):
            rows = [_row(one) for one in joined[start : start + _TOGETHER]]
            data = json.dumps(rows, allow_nan=False, ensure_ascii=False)
            pipe.execute_command(*outcomes_command(self._keys, data=data))
        pipe.execute()

    def read(self) -> int:
        """Read on to the stream's end; how many entries were none of ours, and passed over."""
        bad = 0
        with self._lock:
            if not self._last:
                seconds, _ = self._client.time()
                self._last = f"{int(1000 * max(seconds - DAY_S, 0))}-0"
            while True:
                found = self._client.xread({self._keys.outcomes: self._last}, _AT_ONCE)
                if not found:
                    return bad
                for id, fields in found[0][1]:
                    self._last = id
                    if b"end" in fields:
                        self._log.forget(fields[b"end"].decode(errors="replace"))
                        continue
                    try:
                        rows = list(_rows(fields))
                    except InputError:
                        bad += 1
                        continue
                    self._log.add(rows, message_id(id)[0] / 1000)


def _row(joined: Joined) -> list[Any]:
    outcome = joined.outcome
    about = [outcome.room_id, outcome.target_index, outcome.weight, outcome.value]
    return [*about, joined.run, joined.scores]


def _rows(fields: dict[bytes, bytes]) -> Iterator[Joined]:
    """The outcomes of an entry.

    Raises:
        InputError: it holds none.
    """
    try:
        for room_id, target, weight, value, run, scores in parse_json(fields[b"data"]):
            outcome = Outcome(
                room_id=str(room_id),
                target_index=int(target),
                weight=float(weight),
                value=_share(value),
            )
            if not 0 < outcome.weight < math.inf or len(scores) > MODELS_KEPT:
                raise ValueError
            found = tuple((str(model)[:64], _share(score)) for model, score in scores)
            yield Joined(outcome=outcome, scores=found, run=str(run))
    except (KeyError, TypeError, ValueError, OverflowError):
        raise InputError("outcomes: not an entry of ours") from None


def _share(value: Any) -> float:
    found = float(value)
    if not 0 <= found <= 1:  # false for NaN
        raise ValueError
    return found
