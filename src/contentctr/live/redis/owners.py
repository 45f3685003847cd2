"""Owners of rooms that several services share: in Redis, each until its room is forgotten."""

from __future__ import annotations

from typing import Any

from contentctr.live.redis.messages import Keys
from contentctr.live.service.keys import Caller
from contentctr.live.service.owners import not_owner, too_many_rooms

_CLAIM = """
local now = tonumber(redis.call('TIME')[1])
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then
  if ARGV[5] == '1' then return 0 end
  return 1
end
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
if not owner and ARGV[4] ~= '' and redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[4]) then
  return 2
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])
redis.call('ZADD', KEYS[2], now + ARGV[3], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[3])
return 0
"""


class RedisOwners:
    """As service/owners.py, for callers with a key.

    Args:
        client: of `connect`.
        keys: names of its keys.
        kept_s: seconds after a room's last segment that it stays its owner's.
    """

    def __init__(self, client: Any, keys: Keys, kept_s: float) -> None:
        self._client, self._prefix, self._kept_s = client, keys.prefix, max(1, int(kept_s))
        self._claim = client.register_script(_CLAIM)

    def claim(self, room_id: str, caller: Caller) -> None:
        """See Owners."""
        quota = "" if caller.rooms is None else caller.rooms
        admin = int(caller.may("admin"))
        found = self._claim(
            keys=[self._owner(room_id), self._rooms(caller.name)],
            args=[caller.name, room_id, self._kept_s, quota, admin],
        )
        if found == 1:
            raise not_owner(room_id)
        if found == 2:
            raise too_many_rooms(caller)

    def require(self, room_id: str, caller: Caller) -> None:
        """See Owners."""
        owner = self._client.get(self._owner(room_id))
        if owner not in (None, caller.name.encode()) and not caller.may("admin"):
            raise not_owner(room_id)

    def release(self, room_id: str) -> None:
        """See Owners."""
        owner = self._client.getdel(self._owner(room_id))
        if owner is not None:
            self._client.zrem(self._rooms(owner.decode()), room_id)

    def _owner(self, room_id: str) -> str:
        return f"{self._prefix}:owner:{room_id}"

    def _rooms(self, name: str) -> str:
        return f"{self._prefix}:owned:{name}"
