"""Counts that came back and wait in Redis for their room's next segment.

A hash a room: `run`, and by the number of a segment its counts as JSON. Whoever puts the room's
next segment into its stream takes them along in the same step (redis/messages.py), so that every
model reads them with that segment. A worker that finds such a segment to be none (it was posted
twice, is late, refused, or cannot be read) puts them back in the step that finishes it. Twice in
the stream they do no harm: of a segment that is known already nothing is added
(store/statistics.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from contentctr.errors import InputError
from contentctr.live.outcomes import LateCounts
from contentctr.live.redis.keys import Keys
from contentctr.live.redis.messages import counts_of_outcomes
from contentctr.live.redis.store import Command
from contentctr.live.scorer_segments import Earlier, earlier_json
from contentctr.store.statistics import LATEST

WAIT = f"""
-- Counts of another run go; of one number the first that came stay; of too many the oldest go.
local function wait(key, run, seconds, ...)
  local given, before = {{...}}, redis.pcall('HGET', key, 'run')
  if before and before ~= run then redis.call('DEL', key) end
  redis.call('HSET', key, 'run', run)
  for i = 1, #given, 2 do redis.call('HSETNX', key, given[i], given[i + 1]) end
  local numbers = {{}}
  for _, name in ipairs(redis.call('HKEYS', key)) do
    if name ~= 'run' then numbers[#numbers + 1] = tonumber(name) end
  end
  table.sort(numbers)
  for i = 1, #numbers - {LATEST} do redis.call('HDEL', key, string.format('%d', numbers[i])) end
  redis.call('EXPIRE', key, seconds)
  return math.max(0, #numbers - {LATEST})
end
"""
_WAIT = f"{WAIT} return wait(KEYS[1], unpack(ARGV))"


class WaitingCounts:
    """Puts counts where their rooms' next segments find them.

    Args:
        client: of `connect`.
        keys: names of the keys.
        seconds: after which those of a room that sends nothing any more are gone.
    """

    def __init__(self, client: Any, keys: Keys, seconds: int) -> None:
        self._client, self._keys, self._seconds = client, keys, seconds
        self._wait: Callable[..., Any] = client.register_script(_WAIT)

    def put(self, late: Iterable[LateCounts]) -> int:
        """Keep counts of some rooms' segments; how many segments' are gone, as too many wait."""
        rooms: dict[tuple[str, str], dict[int, Any]] = {}
        for one in late:
            rooms.setdefault((one.room_id, one.run), {}).setdefault(one.number, one.counts)
        pipe = self._client.pipeline(transaction=False)
        for (room_id, run), earlier in rooms.items():
            args = [run, self._seconds, *_flat(earlier)]
            self._wait(keys=[self._keys.waiting(room_id)], args=args, client=pipe)
        return sum(pipe.execute())


def put_back_command(
    keys: Keys, fields: Mapping[bytes, bytes], run: str, seconds: int
) -> Command | None:
    """What has counts wait again that a segment brought in vain; None where it brought none.

    Args:
        keys: names of the keys.
        fields: of the segment's message, which is repeated, late, refused, or cannot be read.
        run: of its room now; those of another have nobody to wait for.
        seconds: as of WaitingCounts.
    """
    room_id, own = (fields.get(name, b"").decode(errors="replace") for name in (b"room", b"run"))
    if b"outcomes" not in fields or own not in ("", run):
        return None
    try:
        earlier = counts_of_outcomes(fields)
    except InputError:
        return None  # the message is put aside with them
    return ("WAIT", keys.waiting(room_id), run, seconds, *_flat(earlier))


def _flat(earlier: Earlier) -> list[str]:
    """Numbers and counts in turn, as a hash has them."""
    found: list[str] = []
    for number, counts in earlier_json(earlier).items():
        found += [number, json.dumps(counts, separators=(",", ":"))]
    return found
