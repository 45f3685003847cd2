"""Which worker has which partition: leases with a token, and commands that are only done with it.

A lease is a key that holds its owner's name and a token. It stands until its owner gives it up, or
is dead by its heartbeats (redis/beats.py); then another takes it. Everything an owner does to its
partition, reading too, is one script that first looks whether the token still stands there. So a
worker that was held up beyond its lease can do no harm when it comes back: nothing it computed is
kept, and it takes no message from its successor.

Scripts remove before they write: once something was removed, a Redis whose memory is full takes
the rest of the script, so that workers go on and make room. Nothing but a script sees the order.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from contentctr.live.redis.beats import LiveWorker, WorkerWatch, row_of
from contentctr.live.redis.keys import Keys
from contentctr.live.redis.messages import PartitionsMovedError, partition_count, size_of
from contentctr.live.redis.store import Command
from contentctr.live.redis.waiting import WAIT

MAX_BEHIND, BYTES_BEHIND = 2_000, 16 * 2**20
"""Messages of a partition, and their bytes, that wait for a candidate alone: it misses the rest,
and makes its rooms' states from their inputs."""
Entries = list[tuple[bytes, dict[bytes, bytes]]]

# KEYS: lease, stream, bytes, current, candidate, the model's done, done_bytes and refused.
# ARGV: token, model, prefix, partition, most that the candidate may be behind: messages and bytes;
# then the number of messages that are finished, id and size of each, and the commands.
_COMMIT = (
    WAIT
    + """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local model, base, partition = ARGV[2], ARGV[3] .. ':model:', ARGV[4]
local current, candidate = redis.call('GET', KEYS[4]), redis.call('GET', KEYS[5])
if model ~= current and model ~= candidate then return 0 end
local other = candidate and (model == current and candidate or current)
local theirs = other and base .. other .. ':done:' .. partition
local their_bytes = other and base .. other .. ':done_bytes:' .. partition
local their_refused = other and base .. other .. ':refused:' .. partition
local waits, refused, gave_way = {}, {}, 0

local function less(key, size)
  if size > 0 and redis.call('DECRBY', key, size) <= 0 then redis.call('DEL', key) end
end
local function forget(id, size)
  if redis.call('XDEL', KEYS[2], id) == 1 then less(KEYS[3], size) end
end
local function finish(id, size)
  redis.call('XACK', KEYS[2], model, id)
  if not other then return forget(id, size) end
  local member = id .. ' ' .. size
  if redis.call('ZREM', theirs, member) == 1 then
    less(their_bytes, size)
    refused[id] = redis.call('SREM', their_refused, id) == 1
    forget(id, size)
  elseif #redis.call('XRANGE', KEYS[2], id, id) == 1 then
    redis.call('ZADD', KEYS[6], string.match(id, '^%d+'), member)
    redis.call('INCRBY', KEYS[7], size)
    waits[id] = true
  end
end
local function bound()
  local missed = 0
  while redis.call('ZCARD', KEYS[6]) > tonumber(ARGV[5])
      or tonumber(redis.call('GET', KEYS[7]) or 0) > tonumber(ARGV[6]) do
    local oldest = redis.call('ZPOPMIN', KEYS[6])[1]
    if not oldest then redis.call('DEL', KEYS[7]) break end
    local id, size = string.match(oldest, '^(%S+) (%d+)$')
    less(KEYS[7], tonumber(size))
    redis.call('SREM', KEYS[8], id)
    forget(id, tonumber(size))
    missed = missed + 1
  end
  if missed > 0 then redis.call('INCRBY', base .. other .. ':missed', missed) end
end
local function newer(id, key)
  local last = redis.pcall('LINDEX', key, -1)
  if type(last) == 'table' then redis.call('DEL', key) end
  local ms, number = string.match(type(last) == 'string' and last or '', '^(%d+)-(%d+) ')
  if not ms then return true end
  local own_ms, own_number = string.match(id, '^(%d+)-(%d+)$')
  ms, own_ms = tonumber(ms), tonumber(own_ms)
  return own_ms > ms or own_ms == ms and tonumber(own_number) > tonumber(number)
end
local function keep_input(id, key, begins, count, seconds, data)
  if not newer(id, key) then return end
  if begins == '1' then redis.call('DEL', key) end
  redis.call('RPUSH', key, id .. ' ' .. data)
  redis.call('LTRIM', key, -count, -1)
  redis.call('EXPIRE', key, seconds)
end
-- The current model's word counts, whoever's place was whose when the worker last looked. The other
-- one's is remembered: where it takes the place in between, both have refused the message.
local function put_aside(id, ...)
  if model ~= current and not refused[id] then
    if waits[id] then redis.call('SADD', KEYS[8], id) end
    return
  end
  local command = {...}
  for _, entry in ipairs(redis.call('XREVRANGE', command[2], '+', '-', 'COUNT', 100)) do
    for k = 1, #entry[2], 2 do
      if entry[2][k] == 'id' and entry[2][k + 1] == id then return end
    end
  end
  redis.call(unpack(command))
end

local done = tonumber(ARGV[7])
for i = 8, 6 + 2 * done, 2 do finish(ARGV[i], tonumber(ARGV[i + 1])) end
if done > 0 then
  if other and model == current then bound() end
  if redis.call('XLEN', KEYS[2]) == 0 then
    redis.call('DEL', KEYS[3], KEYS[6], KEYS[7], KEYS[8])
    if other then redis.call('DEL', theirs, their_bytes, their_refused) end
  end
end
local i = 8 + 2 * done
while i <= #ARGV do
  local n, name = tonumber(ARGV[i]), ARGV[i + 1]
  if name == 'KEEP_INPUT' then keep_input(unpack(ARGV, i + 2, i + n))
  elseif name == 'WAIT' then gave_way = gave_way + wait(unpack(ARGV, i + 2, i + n))
  elseif name == 'PUT_ASIDE' then put_aside(unpack(ARGV, i + 2, i + n))
  elseif name == 'END_INPUTS' then
    if newer(ARGV[i + 2], ARGV[i + 3]) then redis.call('DEL', ARGV[i + 3]) end
  else redis.call(unpack(ARGV, i + 1, i + n)) end
  i = i + n + 1
end
return 1 + gave_way
"""
)
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"
_READ = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
local found = redis.call('XREADGROUP', 'GROUP', ARGV[2], ARGV[3], 'COUNT', ARGV[4],
  'STREAMS', KEYS[2], '>')
if not found then return {} end
return found[1][2]
"""
# JUSTID leaves the count of deliveries as it is: it is for a worker that had the messages itself.
_CLAIM = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
local cursor, entries, again = '0-0', {}, ARGV[4] == '1'
repeat
  local args = {KEYS[2], ARGV[2], ARGV[3], 0, cursor, 'COUNT', 100}
  if again then args[#args + 1] = 'JUSTID' end
  local found = redis.call('XAUTOCLAIM', unpack(args))
  cursor = found[1]
  for _, entry in ipairs(found[2]) do
    if again then entry = redis.call('XRANGE', KEYS[2], entry, entry)[1] end
    if entry then entries[#entries + 1] = entry end
  end
until cursor == '0-0'
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[2], ARGV[2])) do
  if consumer[2] ~= ARGV[3] then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[2], ARGV[2], consumer[2])
  end
end
return entries
"""
_BEAT = """
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if not redis.call('GET', KEYS[2]) then redis.call('SET', KEYS[2], ARGV[3]) end
return {redis.call('GET', KEYS[2]), redis.call('HGETALL', KEYS[1])}
"""
_ACQUIRE = """
local found = redis.call('GET', KEYS[1])
if found and found ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1])
local made = redis.pcall('XGROUP', 'CREATE', KEYS[2], ARGV[3], '0', 'MKSTREAM')
if made.err and not string.find(made.err, 'BUSYGROUP') then return made end
return 1
"""
_BURY = """
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then redis.call('HDEL', KEYS[1], ARGV[1]) end
"""
STEADY_CLOCK = """
local function steady(key, longest)
  local time = redis.call('TIME')
  local wall = time[1] + time[2] / 1e6
  local last = redis.call('HMGET', key, 'wall', 'now')
  local now = tonumber(last[2]) or wall
  local step = wall - (tonumber(last[1]) or wall)
  now = now + math.max(0, math.min(step, tonumber(longest)))
  redis.call('HDEL', key, 'wall')
  redis.call('HSET', key, 'wall', string.format('%.6f', wall), 'now', string.format('%.6f', now))
  return now
end
"""
"""See Leases.now."""
_CLOCK = f"{STEADY_CLOCK} return string.format('%.6f', steady(KEYS[1], ARGV[1]))"


class LostLeaseError(Exception):
    """The partition is another worker's by now."""


@dataclass(frozen=True)
class Done:
    """Messages that a commit finishes: they leave the stream."""

    messages: Sequence[tuple[bytes, int]] = ()
    """Of each its id, and its bytes as `size_of` counts them."""

    @classmethod
    def of(cls, *messages: tuple[bytes, Mapping[bytes, bytes]]) -> Done:
        """With messages by id and fields."""
        return cls([(id, size_of(fields)) for id, fields in messages])


class Leases:
    """A worker's partitions.

    Args:
        client: of `connect`.
        keys: names of the keys, the model's among them.
        partitions: of `settle_partitions`.
        name: the worker's, unlike all others'.
        lease_s: seconds after which a worker that is silent loses its partitions.
    """

    def __init__(self, client: Any, keys: Keys, partitions: int, name: str, lease_s: float) -> None:
        self._client, self._keys, self._partitions = client, keys, partitions
        self._name, self._lease_s = name, lease_s
        self._tokens: dict[int, str] = {}
        self._beats = 0
        self.watch = WorkerWatch()
        script = client.register_script
        self._commit, self._read, self._claim = script(_COMMIT), script(_READ), script(_CLAIM)
        self._beat, self._take, self._bury = script(_BEAT), script(_ACQUIRE), script(_BURY)
        self._clock, self._release = script(_CLOCK), script(_RELEASE)

    @property
    def owned(self) -> list[int]:
        """Partitions that this worker has, as far as it knows."""
        return sorted(self._tokens)

    def now(self) -> float:
        """Seconds on the one clock of all workers.

        It is Redis' clock without its jumps: from one look to the next it goes on by a lease at
        most, and never back. So a jump ends no room, and neither does a pause of all workers.
        """
        return float(self._clock(keys=[self._keys.clock], args=[self._lease_s]))

    def balance(self) -> tuple[list[int], list[int]]:
        """Say that this worker lives, and have its fair share of partitions.

        Returns:
            Partitions it has got, and those it has lost or given up.

        Raises:
            PartitionsMovedError: there is another number of partitions.
        """
        others = {worker.name for worker in self._say_alive()} - {self._name}
        for name, row in self.watch.dead().items():
            self._bury(keys=[self._keys.workers], args=[name, row])
        share = math.ceil(self._partitions / (1 + len(others)))
        holders = self._client.mget([self._keys.lease(p) for p in range(self._partitions)])
        gone = [p for p in self.owned if holders[p] != self._tokens[p].encode()]
        for partition in gone:
            del self._tokens[partition]
        extra = self.owned[share:]
        for partition in extra:
            self.release(partition)
        got: list[int] = []
        for partition, holder in enumerate(holders):
            if partition in self._tokens or partition in extra:
                continue
            if len(self._tokens) < share:
                if _name_of(holder) not in others and self._acquire(partition, holder):
                    got.append(partition)
            # One in our own name is from before Redis failed: it could not be given up then, and
            # nobody takes it from a worker that lives.
            elif holder is not None and _name_of(holder) == self._name:
                self._release(keys=[self._keys.lease(partition)], args=[holder])
        return got, gone + extra

    def commit(self, partition: int, commands: Iterable[Command], done: Done | None = None) -> int:
        """All of the commands in one step, if the partition is still ours.

        Args:
            partition: which.
            commands: done after what `done` says.
            done: messages that are finished with it.

        Returns:
            Segments whose counts gave way to those that wait again, as too many would.

        Raises:
            LostLeaseError: it is not ours; nothing was done.
        """
        done, keys = done or Done(), self._keys
        args: list[str | bytes | int | float] = [self._token(partition), keys.model, keys.prefix]
        args += [partition, MAX_BEHIND, BYTES_BEHIND, len(done.messages)]
        args += chain.from_iterable(done.messages)
        for command in commands:
            args += [len(command), *command]
        names = [*self._names(partition), keys.bytes(partition), keys.current, keys.candidate]
        names += [keys.done(partition), keys.done_bytes(partition), keys.refused(partition)]
        found = int(self._commit(keys=names, args=args))
        if not found:
            self._lost(partition)
        return found - 1

    def read(self, partition: int, count: int) -> Entries:
        """New messages of the partition, in order."""
        args = [self._token(partition), self._keys.model, self._name, count]
        return self._entries(partition, self._read(keys=self._names(partition), args=args))

    def claim(self, partition: int, *, again: bool = False) -> Entries:
        """Messages that were given to workers before, and not done with; in order.

        Args:
            partition: which.
            again: it was this worker that had them, and nothing came of it because of Redis: that
                counts as no delivery, or messages would be put aside for a Redis that fails.
        """
        args = [self._token(partition), self._keys.model, self._name, int(again)]
        return self._entries(partition, self._claim(keys=self._names(partition), args=args))

    def deliveries(self, partition: int) -> dict[bytes, int]:
        """How often each message that is not done with was given out; of the first 1,000."""
        stream, group = self._keys.stream(partition), self._keys.model
        rows = self._client.xpending_range(stream, group, "-", "+", 1000)
        return {row["message_id"]: row["times_delivered"] for row in rows}

    def release(self, partition: int) -> None:
        """Give a partition up."""
        token = self._tokens.pop(partition)
        name = self._keys.lease(partition)
        self._release(keys=[name], args=[token])

    def leave(self) -> None:
        """Give all up: this worker ends."""
        for partition in self.owned:
            self.release(partition)
        self._client.hdel(self._keys.workers, self._name)

    def _say_alive(self) -> list[LiveWorker]:
        self._beats += 1
        row = row_of(self._beats, self._lease_s, self.owned)
        keys = [self._keys.workers, self._keys.partitions]
        count, flat = self._beat(keys=keys, args=[self._name, row, self._partitions])
        if (now := partition_count(count)) != self._partitions:
            raise PartitionsMovedError(now)
        return self.watch.note(dict(zip(flat[::2], flat[1::2], strict=True)))

    def _acquire(self, partition: int, holder: bytes | None) -> bool:
        """Take a partition that nobody has, or whose `holder` is dead."""
        token = f"{self._name}/{uuid.uuid4().hex}"
        args = [token, holder or b"", self._keys.model]
        if not self._take(keys=self._names(partition), args=args):
            return False
        self._tokens[partition] = token
        return True

    def _token(self, partition: int) -> str:
        if partition not in self._tokens:
            raise LostLeaseError(f"partition {partition}")
        return self._tokens[partition]

    def _lost(self, partition: int) -> None:
        del self._tokens[partition]
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


def _name_of(holder: bytes | None) -> str:
    """The worker in a lease's value."""
    return "" if holder is None else holder.decode(errors="replace").rpartition("/")[0]
