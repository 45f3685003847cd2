"""Which model's scores are served, and which one scores in the shadow: one key each.

The workers of an installation's first model make it the *current* one. A worker of another joins as
the *candidate*: it reads the same streams by a group of its own, and keeps what it makes under its
own keys; nobody is shown it. Workers of a third model stand by. `promote` gives the two their
places in one step, and the model that was current goes on in the shadow, so that `back` is the same
step again. `drop` ends the candidate: what it has made is gone, and its workers stand by.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from contentctr.errors import InputError
from contentctr.files import parse_json
from contentctr.live.engine import Engine
from contentctr.live.inputs import input_spec, require_same_inputs
from contentctr.live.redis.keys import Keys
from contentctr.live.redis.messages import partition_count

Role = Literal["current", "candidate", "standby"]
_PREDICTS = ("horizon", "target", "target_scale", "segment_seconds")
"""What must be the same for scores of two models to stand in for each other."""
_AT_ONCE, _ROUNDS = 1000, 20
"""Keys that are looked at together, and how often in a heartbeat: it must not take long."""

# KEYS: current, candidate, candidate_since, dropped, models, events, to_delete
# ARGV: model, what is said of it, whether it may be the first, the current one that it fits.
_JOIN = """
local current, candidate = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
local model = ARGV[1]
redis.call('SREM', KEYS[4], '')  -- a full Redis takes what follows a removal
if not current and ARGV[3] == '1' then
  redis.call('SREM', KEYS[7], model)
  redis.call('SET', KEYS[1], model)
  redis.call('XADD', KEYS[6], '*', 'kind', 'model', 'room', '', 'model', model, 'data', '{}')
  current = model
elseif current == ARGV[4] and current ~= model and not candidate
    and redis.call('SISMEMBER', KEYS[4], model) == 0
    and redis.call('SISMEMBER', KEYS[7], model) == 0 then  -- or new keys were deleted with the old
  redis.call('SET', KEYS[2], model)
  redis.call('SET', KEYS[3], redis.call('TIME')[1])
  candidate = model
end
if model == current or model == candidate then
  if redis.call('HGET', KEYS[5], model) ~= ARGV[2] then
    redis.call('HSET', KEYS[5], model, ARGV[2])
  end
end
return {current or '', candidate or ''}
"""
# KEYS: current, candidate, previous, events, candidate_since
# ARGV: current and candidate as the caller knows them, prefix, whether it is forced.
_PROMOTE = """
local current, candidate = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
if current ~= ARGV[1] or candidate ~= ARGV[2] then return {'moved'} end
local base = ARGV[3] .. ':model:'
if ARGV[4] ~= '1' then
  local without = redis.call('ZDIFF', 2, base .. current .. ':ranking',
    base .. candidate .. ':ranking')
  if #without > 0 then return {'without', #without, without[1]} end
end
redis.call('SET', KEYS[1], candidate)
redis.call('SET', KEYS[2], current)
redis.call('SET', KEYS[3], current)
redis.call('SET', KEYS[5], redis.call('TIME')[1])
redis.call('XADD', KEYS[4], '*', 'kind', 'model', 'room', '', 'model', candidate, 'data', '{}')
return {'done'}
"""
# KEYS: current, candidate, candidate_since, dropped, models, to_delete
# ARGV: the candidate as the caller knows it, prefix, number of partitions.
_DROP = """
local current, candidate = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
if candidate ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2], KEYS[3])
redis.call('HDEL', KEYS[5], candidate)
for partition = 0, tonumber(ARGV[3]) - 1 do
  local stream = ARGV[2] .. ':segments:' .. partition
  local bytes = ARGV[2] .. ':bytes:' .. partition
  local own = ARGV[2] .. ':model:' .. (current or '')
  local theirs = ARGV[2] .. ':model:' .. candidate
  for _, member in ipairs(redis.call('ZRANGE', own .. ':done:' .. partition, 0, -1)) do
    local id, size = string.match(member, '^(%S+) (%d+)$')
    if redis.call('XDEL', stream, id) == 1 then redis.call('DECRBY', bytes, size) end
  end
  if redis.call('XLEN', stream) == 0 then redis.call('DEL', bytes) end
  redis.call('DEL', own .. ':done:' .. partition, own .. ':done_bytes:' .. partition,
    own .. ':refused:' .. partition, theirs .. ':done:' .. partition,
    theirs .. ':done_bytes:' .. partition, theirs .. ':refused:' .. partition,
    theirs .. ':lease:' .. partition)
  redis.pcall('XGROUP', 'DESTROY', stream, candidate)
end
redis.call('SADD', KEYS[4], candidate)
redis.call('SADD', KEYS[6], candidate)
return 1
"""


@dataclass(frozen=True, kw_only=True)
class Places:
    """The models that score; "": none does."""

    current: str = ""
    candidate: str = ""

    def role(self, model: str) -> Role:
        """What a model is by them."""
        if model == self.current:
            return "current"
        return "candidate" if model == self.candidate else "standby"


class Models:
    """The places of an installation's models.

    Args:
        client: of `connect`.
        keys: names of the keys.
    """

    def __init__(self, client: Any, keys: Keys) -> None:
        self._client, self._keys = client, keys
        script = client.register_script
        self._cursor = ("", 0)
        """Of the model whose keys are being deleted, how far."""
        self._join, self._promote, self._drop = script(_JOIN), script(_PROMOTE), script(_DROP)

    def places(self) -> Places:
        """As they are now."""
        found = self._client.mget([self._keys.current, self._keys.candidate])
        current, candidate = ((value or b"").decode(errors="replace") for value in found)
        return Places(current=current, candidate=candidate)

    def about(self, model: str) -> Mapping[str, Any]:
        """What is said of a model (`about`); empty where it is damaged, or nothing is said."""
        data = self._client.hget(self._keys.models, model) if model else None
        try:
            values = parse_json(data or b"{}")
        except ValueError:
            return {}
        return values if isinstance(values, dict) else {}

    def join(self, model: str, about: str, *, first: bool, fits: str) -> Places:
        """Take the place that is free, as a worker of a model; what the places are then.

        Args:
            model: its id.
            about: of `about`, as JSON.
            first: whether it may become current where none is.
            fits: id of the current model, if it may become the candidate beside it; or "".
        """
        keys = self._keys
        names = [keys.current, keys.candidate, keys.candidate_since, keys.dropped, keys.models]
        names += [keys.events, keys.to_delete]
        found = self._join(keys=names, args=[model, about, int(first), fits])
        current, other = (value.decode(errors="replace") for value in found)
        return Places(current=current, candidate=other)

    def promote(self, places: Places, *, force: bool = False) -> None:
        """Make the candidate current, and the current one the candidate, in one step.

        Args:
            places: as the caller knows them.
            force: also where live rooms have no score of the candidate's.

        Raises:
            InputError: they are others by now, or rooms have no score of the candidate's.
        """
        keys = self._keys
        names = [keys.current, keys.candidate, keys.previous, keys.events, keys.candidate_since]
        args = [places.current, places.candidate, keys.prefix, int(force)]
        found, *rest = self._promote(keys=names, args=args)
        if found == b"moved":
            raise InputError("rollout: the models have changed their places meanwhile; look again")
        if found == b"without":
            count, room = rest[0], rest[1].decode(errors="replace")
            raise InputError(
                f"rollout: {count} live rooms, {room!r} one of them, have no score of the "
                f"candidate's ({places.candidate}); wait, or --force"
            )

    def drop(self, candidate: str) -> None:
        """End a candidate: its place is free, and what it has made is deleted.

        Raises:
            InputError: another is the candidate by now.
        """
        self.begin_drop(candidate)
        while self.delete_some():
            pass

    def begin_drop(self, candidate: str) -> None:
        """End a candidate; what it has made is deleted by `delete_some`, in the workers' beats.

        Raises:
            InputError: another is the candidate by now.
        """
        keys = self._keys
        names = [keys.current, keys.candidate, keys.candidate_since, keys.dropped, keys.models]
        names.append(keys.to_delete)
        count = partition_count(self._client.get(keys.partitions))
        if not self._drop(keys=names, args=[candidate, keys.prefix, count]):
            raise InputError("rollout: the models have changed their places meanwhile; look again")

    def delete_some(self) -> bool:
        """Delete some keys of models that were dropped; whether any may be left.

        Which models these are stands in Redis: whoever is killed, another goes on.
        """
        names = {
            name.decode(errors="replace") for name in self._client.smembers(self._keys.to_delete)
        }
        if not names:
            return False
        model, cursor = self._cursor
        if model not in names:
            model, cursor = min(names), 0
        escaped = "".join(f"\\{c}" if c in "*?[]^\\" else c for c in self._keys.of(model).own)
        for _ in range(_ROUNDS):
            cursor, found = self._client.scan(cursor, match=f"{escaped}:*", count=_AT_ONCE)
            if found:
                self._client.unlink(*found)
            if cursor == 0:  # all that was there at the beginning has been seen
                self._client.srem(self._keys.to_delete, model)
                model = ""
                break
        self._cursor = model, cursor
        return True

    def may_return(self, model: str) -> None:
        """A worker of a model that was dropped is started again: somebody wants it back."""
        self._client.srem(self._keys.dropped, model)


def about(engine: Engine) -> dict[str, Any]:
    """What a model takes and predicts, for those of others."""
    spec = engine.spec
    return {
        "inputs": input_spec(spec),
        "window_len": engine.scorer.window_len,
        "horizon": engine.scorer.horizon,
        "target": spec.target,
        "target_scale": spec.target_scale,
        "segment_seconds": spec.segment_seconds,
    }


def require_fits(engine: Engine, current: Mapping[str, Any], what: str) -> None:
    """Stop where a model can never stand in for the current one.

    Args:
        engine: with the model.
        current: what is said of the current one (Models.about); empty: nothing is known.
        what: names the model, for the error.

    Raises:
        InputError: they take other inputs, or predict something else; names what.
    """
    if not current:
        return
    inputs = current.get("inputs")
    require_same_inputs(engine.spec, inputs if isinstance(inputs, dict) else {}, what)
    own = json.loads(json.dumps(about(engine)))
    wrong = [name for name in _PREDICTS if own[name] != current.get(name)]
    if wrong:
        raise InputError(
            f"{what}: predicts something else than the current model: "
            + "; ".join(f"{n} must be {current.get(n)!r}, not {own[n]!r}" for n in wrong)
        )
