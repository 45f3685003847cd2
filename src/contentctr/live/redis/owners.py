"""Owners of rooms that several services share: in Redis, each until its room is forgotten.

Until when is told by a clock that takes no part in a jump of Redis' own, as the workers': keys that
expire would make every room nobody's, free to be taken, when Redis' clock is set.
"""

from __future__ import annotations

from typing import Any

from contentctr.live.redis.keys import Keys
from contentctr.live.redis.leases import STEADY_CLOCK
from contentctr.live.service.keys import Caller
from contentctr.live.service.owners import not_owner, too_many_rooms

_STEP_S = 10.0
"""By which the clock goes on at most, from one look of anybody's to the next."""
# KEYS: owners_clock, owners, owned_until; ARGV: step, prefix of owned:KEY, room.
_BEGIN = """
local function forget(room)
  local owner = redis.call('HGET', KEYS[2], room)
  redis.call('HDEL', KEYS[2], room)
  redis.call('ZREM', KEYS[3], room)
  if owner then redis.call('ZREM', ARGV[2] .. owner, room) end
  return owner
end
"""
_CLAIM = f"""
{STEADY_CLOCK} {_BEGIN}
local now, name, kept, quota, admin = steady(KEYS[1], ARGV[1]), unpack(ARGV, 4)
for _, room in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 100)) do
  forget(room)
end
local till = tonumber(redis.call('ZSCORE', KEYS[3], ARGV[3]) or 0)
local owner = till > now and redis.call('HGET', KEYS[2], ARGV[3])
if owner and owner ~= name then return admin == '1' and 0 or 1 end
if not owner then
  if quota ~= '' and redis.call('ZCOUNT', ARGV[2] .. name, now, '+inf') >= tonumber(quota) then
    return 2
  end
  forget(ARGV[3])
end
till = now + kept
redis.call('HSET', KEYS[2], ARGV[3], name)
redis.call('ZADD', KEYS[3], till, ARGV[3])
redis.call('ZADD', ARGV[2] .. name, till, ARGV[3])
return 0
"""
_RELEASE = f"{_BEGIN} forget(ARGV[3])"


class RedisOwners:
    """As service/owners.py, for callers with a key.

    Args:
        client: of `connect`.
        keys: names of its keys.
        kept_s: seconds after a room's last segment that it stays its owner's.
    """

    def __init__(self, client: Any, keys: Keys, kept_s: float) -> None:
        self._client, self._kept_s = client, kept_s
        self._names = [keys.owners_clock, keys.owners, keys.owned_until]
        self._owned = f"{keys.prefix}:owned:"
        self._claim, self._release = map(client.register_script, (_CLAIM, _RELEASE))

    def claim(self, room_id: str, caller: Caller) -> None:
        """See Owners."""
        quota = "" if caller.rooms is None else caller.rooms
        about = [caller.name, self._kept_s, quota, int(caller.may("admin"))]
        found = self._claim(keys=self._names, args=[_STEP_S, self._owned, room_id, *about])
        if found == 1:
            raise not_owner(room_id)
        if found == 2:
            raise too_many_rooms(caller)

    def require(self, room_id: str, caller: Caller) -> None:
        """See Owners."""
        owner = self._client.hget(self._names[1], room_id)
        if owner not in (None, caller.name.encode()) and not caller.may("admin"):
            raise not_owner(room_id)

    def release(self, room_id: str) -> None:
        """See Owners."""
        self._release(keys=self._names, args=[_STEP_S, self._owned, room_id])
