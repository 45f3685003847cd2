"""Which worker has which partition: leases with a token, and commands that are only done with it.

A lease is a key that holds its owner's token and lapses by itself. Everything an owner does to its
partition, reading too, is one script that first looks whether the token still stands there. So a
worker that was held up beyond its lease can do no harm when it comes back: nothing it computed is
kept, and it takes no message from its successor.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable
from typing import Any

from contentctr.live.redis.messages import GROUP, Keys
from contentctr.live.redis.store import Command

Entries = list[tuple[bytes, dict[bytes, bytes]]]

_COMMIT = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local i = 2
while i <= #ARGV do
  local n = tonumber(ARGV[i])
  redis.call(unpack(ARGV, i + 1, i + n))
  i = i + n + 1
end
return 1
"""
_READ = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
local found = redis.call('XREADGROUP', 'GROUP', ARGV[2], ARGV[3], 'COUNT', ARGV[4],
  'STREAMS', KEYS[2], '>')
if not found then return {} end
return found[1][2]
"""
_CLAIM = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
local cursor, entries = '0-0', {}
repeat
  local found = redis.call('XAUTOCLAIM', KEYS[2], ARGV[2], ARGV[3], 0, cursor, 'COUNT', 100)
  cursor = found[1]
  for _, entry in ipairs(found[2]) do entries[#entries + 1] = entry end
until cursor == '0-0'
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[2], ARGV[2])) do
  if consumer[2] ~= ARGV[3] then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[2], ARGV[2], consumer[2])
  end
end
return entries
"""


class LostLeaseError(Exception):
    """The partition is another worker's by now."""


class Leases:
    """A worker's partitions.

    Args:
        client: of `connect`.
        keys: names of the keys.
        partitions: of `settle_partitions`.
        name: the worker's, unlike all others'.
        lease_s: seconds after which a worker that is silent loses its partitions.
    """

    def __init__(self, client: Any, keys: Keys, partitions: int, name: str, lease_s: float) -> None:
        self._client, self._keys, self._partitions = client, keys, partitions
        self._name, self._lease_s = name, lease_s
        self._tokens: dict[int, str] = {}
        script = client.register_script
        self._commit, self._read, self._claim = script(_COMMIT), script(_READ), script(_CLAIM)

    @property
    def owned(self) -> list[int]:
        """Partitions that this worker has, as far as it knows."""
        return sorted(self._tokens)

    def now(self) -> float:
        """Redis' clock, seconds: the one clock of all workers."""
        seconds, micros = self._client.time()
        return float(seconds + micros / 1e6)

    def balance(self) -> tuple[list[int], list[int]]:
        """Say that this worker lives, renew its leases, and have its fair share of partitions.

        Returns:
            Partitions it has got, and those it has lost or given up.
        """
        keys, now = self._keys, self.now()
        pipe = self._client.pipeline(transaction=True)
        pipe.zadd(keys.workers, {self._name: now})
        pipe.zremrangebyscore(keys.workers, "-inf", now - 2 * self._lease_s)
        pipe.zcard(keys.workers)
        share = math.ceil(self._partitions / pipe.execute()[2])
        gone = [partition for partition in self.owned if not self._renew(partition)]
        extra = self.owned[share:]
        for partition in extra:
            self.release(partition)
        got: list[int] = []
        for partition in range(self._partitions):
            if len(self._tokens) >= share:
                break
            if partition not in self._tokens and self._acquire(partition):
                got.append(partition)
        return got, gone + extra

    def commit(self, partition: int, commands: Iterable[Command]) -> None:
        """All of the commands in one step, if the partition is still ours.

        Raises:
            LostLeaseError: it is not; nothing was done.
        """
        flat: list[str | bytes | int | float] = []
        for command in commands:
            flat += [len(command), *command]
        token = self._token(partition)
        if not self._commit(keys=[self._keys.lease(partition)], args=[token, *flat]):
            self._lost(partition)

    def read(self, partition: int, count: int) -> Entries:
        """New messages of the partition, in order."""
        args = [self._token(partition), GROUP, self._name, count]
        return self._entries(partition, self._read(keys=self._names(partition), args=args))

    def claim(self, partition: int) -> Entries:
        """Messages that were given to workers before, and not done with; in order."""
        args = [self._token(partition), GROUP, self._name]
        return self._entries(partition, self._claim(keys=self._names(partition), args=args))

    def deliveries(self, partition: int) -> dict[bytes, int]:
        """How often each message that is not done with was given out; of the first 1,000."""
        rows = self._client.xpending_range(self._keys.stream(partition), GROUP, "-", "+", 1000)
        return {row["message_id"]: row["times_delivered"] for row in rows}

    def release(self, partition: int) -> None:
        """Give a partition up."""
        token = self._tokens.pop(partition)
        name = self._keys.lease(partition)
        self._commit(keys=[name], args=[token, 2, "DEL", name])

    def leave(self) -> None:
        """Give all up: this worker ends."""
        for partition in self.owned:
            self.release(partition)
        self._client.zrem(self._keys.workers, self._name)

    def _acquire(self, partition: int) -> bool:
        token, stream = uuid.uuid4().hex, self._keys.stream(partition)
        lease_ms = int(self._lease_s * 1000)
        if not self._client.set(self._keys.lease(partition), token, nx=True, px=lease_ms):
            return False
        self._tokens[partition] = token
        if not any(group["name"] == GROUP.encode() for group in self._groups(stream)):
            make = ("XGROUP", "CREATE", stream, GROUP, "0", "MKSTREAM")
            self.commit(partition, [make])
        return True

    def _groups(self, stream: str) -> list[dict[str, Any]]:
        if not self._client.exists(stream):
            return []
        groups: list[dict[str, Any]] = self._client.xinfo_groups(stream)
        return groups

    def _renew(self, partition: int) -> bool:
        name = self._keys.lease(partition)
        renew = ("PEXPIRE", name, int(self._lease_s * 1000))
        try:
            self.commit(partition, [renew])
        except LostLeaseError:
            return False
        return True

    def _token(self, partition: int) -> str:
        if partition not in self._tokens:
            raise LostLeaseError(f"partition {partition}")
        return self._tokens[partition]

    def _lost(self, partition: int) -> None:
        self._tokens.pop(partition, None)
        raise LostLeaseError(f"partition {partition}")

    def _names(self, partition: int) -> list[str]:
        return [self._keys.lease(partition), self._keys.stream(partition)]

    def _entries(self, partition: int, found: Any) -> Entries:
        if found is None:
            self._lost(partition)
        entries: Entries = []
        for id, fields in found:
            # A message that was deleted while it was out has no fields.
            if fields:
                entries.append((id, dict(zip(fields[::2], fields[1::2], strict=True))))
        return entries
