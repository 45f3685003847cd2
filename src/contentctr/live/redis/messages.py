"""Redis: the partition of a room, and segments as messages of a stream.

Rooms are dealt to a fixed number of partitions by the hash of their id; each is a stream, read by
one worker at a time (redis/leases.py), which is what keeps a room's segments in order. Where
there is a candidate too, each model reads the stream by a consumer group of its own, and a message
leaves it once both are done with it; for the bounds of the stream only those count that the current
model is not done with.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import InvalidResponse, RedisError
from redis.retry import Retry

from contentctr.errors import InputError
from contentctr.files import parse_json
from contentctr.live.known_rooms import Shown
from contentctr.live.redis.keys import Keys
from contentctr.live.scorer_segments import (
    VALUES,
    Earlier,
    LiveSegment,
    earlier_from,
    earlier_json,
)
from contentctr.live.service.decode import require_thumbnail
from contentctr.live.service.schemas import (
    MAX_COMMENTS,
    MAX_LINE,
    MAX_STREAMER,
    MAX_TITLE,
    ROOM_ID,
)

PARTITIONS = 16
"""Of a new installation: the number of workers that can work at once."""
MAX_MESSAGES = 10_000
MAX_BYTES = 64 * 2**20
"""Of a partition's messages that wait: with 16 partitions they take a gigabyte at most."""
_MAX_MOMENT = 1e11
"""Unix seconds: what is no number, or far away, would end whoever writes or ranks by it."""
MOVES = 10
"""Numbers of partitions that are tried at once: Redis loses its data once, not for ever."""
MAX_PARTITIONS = 4096
"""A worker looks at each: a number that is damaged must not make it look at millions."""
Fields = dict[str, bytes | str | int | float]
Script = Callable[..., Any]

# KEYS: stream, bytes, partitions, candidate, current, ingested, the room's waiting counts.
# ARGV: partitions, most messages, most bytes, prefix, partition; of a record of a log its partition
# ("": it is none), offset and time; number of the segment ("": none is taken along; "end": the room
# ends), its run; then the message. An offset that was had is another record's if the log was made
# anew.
_ADD = """
local found = redis.call('GET', KEYS[3])
if found and found ~= ARGV[1] then return {'moved', found} end
local offset, moment = tonumber(ARGV[7]), tonumber(ARGV[8])
if ARGV[6] ~= '' then
  local had = redis.call('HGET', KEYS[6], ARGV[6])
  local before, latest = string.match(had or '', '^(%d+) (-?%d+)$')
  if before and offset <= tonumber(before) then
    if moment <= tonumber(latest) then return {'known', 0} end
  elseif before then
    moment = math.max(moment, tonumber(latest))
  end
end
local count, held, size = redis.call('XLEN', KEYS[1]), tonumber(redis.call('GET', KEYS[2]) or 0), 0
if redis.call('EXISTS', KEYS[4]) == 1 then
  local done = ARGV[4] .. ':model:' .. (redis.call('GET', KEYS[5]) or '') .. ':done'
  count = count - redis.call('ZCARD', done .. ':' .. ARGV[5])
  held = held - tonumber(redis.call('GET', done .. '_bytes:' .. ARGV[5]) or 0)
end
if count >= tonumber(ARGV[2]) then return {'count', count} end
local message, index, taken, run = {unpack(ARGV, 11)}, tonumber(ARGV[9]), {}, nil
local all, counts = index and redis.pcall('HGETALL', KEYS[7]) or {}, {}
for i = 1, #all, 2 do if all[i] == 'run' then run = all[i + 1] end end
for i = 1, run and (ARGV[10] == '' or ARGV[10] == run) and #all or 0, 2 do
  if all[i] ~= 'run' and (tonumber(all[i]) or index) < index then
    taken[#taken + 1] = all[i]
    counts[#counts + 1] = '"' .. all[i] .. '":' .. all[i + 1]
  end
end
if #taken > 0 then
  message[#message + 1] = 'outcomes'
  message[#message + 1] = '{' .. table.concat(counts, ',') .. '}'
end
for i = 1, #message do size = size + #message[i] end
if count > 0 and held + size > tonumber(ARGV[3]) then return {'bytes', held} end
-- Added before anything is removed: a Redis whose memory is full then refuses all of it.
redis.call('XADD', KEYS[1], '*', unpack(message))
if ARGV[6] ~= '' then
  redis.call('HSET', KEYS[6], ARGV[6], string.format('%.0f %.0f', offset, moment))
end
redis.call('INCRBY', KEYS[2], size)
if #taken > 0 then redis.call('HDEL', KEYS[7], unpack(taken)) end
if ARGV[9] == 'end' then redis.call('DEL', KEYS[7]) end
if not found then redis.call('SET', KEYS[3], ARGV[1]) end
return {'added', size}
"""


class PartitionsMovedError(Exception):
    """There are `count` partitions now: Redis lost its data, and another set that number."""

    def __init__(self, count: int) -> None:
        super().__init__(f"partitions are {count} now")
        self.count = count


def always_moving() -> InvalidResponse:
    """What to raise after MOVES of them in a row: an error of Redis, so that callers wait."""
    return InvalidResponse(f"the number of partitions has changed {MOVES} times in a moment")


class StreamFullError(Exception):
    """A partition's stream holds as much as it may."""


@dataclass(frozen=True, kw_only=True)
class LogRecord:
    """Where a message comes from: a log that may be read again from an earlier record on."""

    log: str
    """One in which offsets rise."""
    offset: int
    moment: int
    """When it was written, by whatever clock; -1: nobody knows."""


@dataclass(frozen=True, eq=False)
class Message:
    """A message of a partition's stream, read."""

    id: bytes
    room_id: str
    segment: LiveSegment | None
    """None: the room has ended."""
    shown: Shown | None
    request_id: str
    """Names the request that waits for the outcome; "": none does."""
    fields: Mapping[bytes, bytes]
    """As they stood in the stream."""


def connect(url: str, *, timeout_s: float = 10.0) -> Any:
    """A client that never sends a command twice.

    Raises:
        InputError: not a Redis URL.
    """
    try:
        # A command whose answer was lost may have been done: only its caller knows what then.
        return Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
        )
    except ValueError:  # its words may hold a part of the password
        shown = without_secret(url)
        raise InputError(
            f"--redis must be a Redis URL like redis://HOST:6379/0, not {shown!r}; in a password, "
            "any of @ : / ? # must be written as %40 %3A %2F %3F %23"
        ) from None


def eviction_warning(client: Any) -> str | None:
    """What is wrong with a Redis that throws keys away when its memory is full; None: nothing."""
    try:
        policy = str(client.info("memory").get("maxmemory_policy", "noeviction"))
    except RedisError:  # it may not be asked for, or is away: then others say so
        return None
    if policy == "noeviction":
        return None
    return (
        f"Redis has maxmemory-policy {policy}: when its memory is full it throws rooms and "
        "segments away; set noeviction, with which it refuses new segments until there is room"
    )


def without_secret(url: str) -> str:
    """A URL that may be shown: without its user, its password, and what stands behind `?`."""
    scheme, there, rest = url.partition("://")
    place = rest.rpartition("@")[2].partition("?")[0]
    return f"{scheme}://{place}" if there else "(no URL)"


def settle_partitions(client: Any, keys: Keys, wanted: int | None = None) -> int:
    """The installation's number of partitions, which the first caller sets for good.

    Raises:
        InputError: another number is wanted than there is.
    """
    if wanted is not None and not 1 <= wanted <= MAX_PARTITIONS:
        raise InputError(f"partitions must be 1 to {MAX_PARTITIONS}, not {wanted}")
    # Looked at first: a full Redis refuses the SET, also where it would change nothing.
    if client.get(keys.partitions) is None:
        client.set(keys.partitions, wanted or PARTITIONS, nx=True)
    found = partition_count(client.get(keys.partitions))
    if wanted not in (None, found):
        raise InputError(
            f"partitions must be {found}, as {keys.partitions!r} in Redis says, not {wanted}: "
            "rooms would change their streams"
        )
    return found


def partition_count(value: bytes | None) -> int:
    """The number of partitions that Redis holds.

    Raises:
        InvalidResponse: it is none; an error of Redis, which is waited for until somebody mends it.
    """
    text = value or b""
    if not (text.isdigit() and len(text) <= 9 and 1 <= int(text) <= MAX_PARTITIONS):
        raise InvalidResponse(f"partitions must be 1 to {MAX_PARTITIONS}, not {text[:50]!r}")
    return int(text)


def partition_of(room_id: str, partitions: int) -> int:
    """The partition of a room; the same in every process."""
    return int.from_bytes(hashlib.sha256(room_id.encode()).digest()[:8]) % partitions


def segment_fields(segment: LiveSegment, shown: Shown, *, request_id: str = "") -> Fields:
    """A segment as the fields of a message; features with the bits they have."""
    shown_json = {**asdict(shown), "thumbnail": None, "comments": list(shown.comments)}
    fields: Fields = {
        "room": segment.room_id,
        "streamer": segment.streamer_id,
        "index": int(segment.index),
        "has_speech": int(segment.has_speech),
        "has_comments": int(segment.has_comments),
        "run": segment.run,
        "shown": json.dumps(shown_json),
        "request_id": request_id,
    }
    for name in VALUES:
        values = getattr(segment, name)
        if values is not None:
            half = values.dtype == np.float16
            fields[name] = values.astype("<f2" if half else "<f4").tobytes()
            fields[f"{name}_type"] = "f2" if half else "f4"
    if segment.counts is not None:
        fields["counts"] = json.dumps({k: int(v) for k, v in segment.counts.items()})
    if segment.earlier:
        fields["earlier"] = json.dumps(earlier_json(segment.earlier))
    if shown.thumbnail is not None:
        fields["thumbnail"] = shown.thumbnail
    return fields


def end_fields(room_id: str) -> Fields:
    """The end of a room as the fields of a message."""
    return {"room": room_id, "end": 1}


def size_of(fields: Mapping[bytes, bytes]) -> int:
    """Bytes of a message, as `add_fields` counts them."""
    return sum(len(name) + len(value) for name, value in fields.items())


def adding_script(client: Any) -> Script:
    """What `add_fields` runs."""
    script: Script = client.register_script(_ADD)
    return script


def add_fields(
    client: Any,
    keys: Keys,
    partitions: int,
    room_id: str,
    fields: Fields,
    *,
    max_count: int = MAX_MESSAGES,
    max_bytes: int = MAX_BYTES,
    adding: Script | None = None,
    record: LogRecord | None = None,
) -> bool:
    """Put a message into its room's stream, if that has room for it, with the counts that wait.

    Args:
        client: of `connect`.
        keys: names of the keys.
        partitions: how many the caller takes for granted.
        room_id: of the message's room.
        fields: of the message.
        max_count: messages of a partition that wait at most.
        max_bytes: bytes of them; one message is always taken.
        adding: of `adding_script`, which who adds many makes once.
        record: where the message comes from, if it may come from there again.

    Returns:
        Whether it was put there; False: its record, or a later one of the log, was before.

    Raises:
        PartitionsMovedError: there is another number of partitions; nothing was done.
        StreamFullError: too much waits; nothing was done.
    """
    partition = partition_of(room_id, partitions)
    names = [keys.stream(partition), keys.bytes(partition), keys.partitions]
    # One that was put aside may have its own already, and is put back with them.
    number = "" if "outcomes" in fields else fields.get("index", "")
    found, value = (adding or adding_script(client))(
        keys=[*names, keys.candidate, keys.current, keys.ingested, keys.waiting(room_id)],
        args=[
            *(partitions, max_count, max_bytes, keys.prefix, partition),
            *(("", 0, 0) if record is None else (record.log, record.offset, record.moment)),
            *("end" if "end" in fields else number, fields.get("run", "")),
            *chain.from_iterable(fields.items()),
        ],
    )
    if found == b"moved":
        raise PartitionsMovedError(partition_count(value))
    if found in (b"count", b"bytes"):
        what = "segments" if found == b"count" else "bytes"
        raise StreamFullError(f"{value} {what} of the room's partition wait already")
    return bool(found == b"added")


def add_segment(
    client: Any,
    keys: Keys,
    partitions: int,
    segment: LiveSegment,
    shown: Shown,
    *,
    request_id: str = "",
) -> None:
    """Put a segment into its room's stream. It does no harm to put it there twice."""
    fields = segment_fields(segment, shown, request_id=request_id)
    add_fields(client, keys, partitions, segment.room_id, fields)


def message_id(text: bytes) -> tuple[int, int]:
    """Of a stream's entry: milliseconds, and which of these."""
    ms, _, number = text.partition(b"-")
    return int(ms), int(number)


def read_message(id: bytes, fields: Mapping[bytes, bytes]) -> Message:
    """The message in a stream's entry.

    Raises:
        InputError: it is not one; names the field.
    """
    room_id = _text(fields, "room")
    if not re.fullmatch(ROOM_ID, room_id):
        raise InputError(f"message: field 'room' must be as {ROOM_ID}, not {room_id[:150]!r}")
    if b"end" in fields:
        return Message(id, room_id, None, None, "", fields)
    segment = LiveSegment(
        room_id=room_id,
        streamer_id=_line(_text(fields, "streamer"), MAX_STREAMER, "streamer"),
        index=_whole(fields, "index"),
        visual=_values(fields, "visual"),
        text=_values(fields, "text"),
        sound=_values(fields, "sound"),
        words=_values(fields, "words"),
        has_speech=bool(_whole(fields, "has_speech")),
        has_comments=bool(_whole(fields, "has_comments")),
        counts=_counts(fields),
        earlier=_earlier(fields),
        run=_text(fields, "run") if b"run" in fields else "",
    )
    request_id = _text(fields, "request_id") if b"request_id" in fields else ""
    return Message(id, room_id, segment, _shown(fields), request_id, fields)


def _text(fields: Mapping[bytes, bytes], name: str) -> str:
    try:
        return fields[name.encode()].decode()
    except KeyError:
        raise InputError(f"message: field {name!r} is missing") from None
    except UnicodeDecodeError:
        raise InputError(f"message: field {name!r} must be UTF-8") from None


def _whole(fields: Mapping[bytes, bytes], name: str) -> int:
    text = _text(fields, name)
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise InputError(f"message: field {name!r} must be a whole number, not {text[:50]!r}")
    return int(text)


def _values(fields: Mapping[bytes, bytes], name: str) -> NDArray[np.floating] | None:
    data = fields.get(name.encode())
    if data is None:
        return None
    kind = _text(fields, f"{name}_type")
    if kind not in ("f2", "f4") or len(data) % int(kind[1]):
        raise InputError(f"message: field {name!r} must be whole numbers of type f2 or f4")
    values: NDArray[np.floating] = np.frombuffer(data, f"<{kind}")
    return values


def _counts(fields: Mapping[bytes, bytes]) -> dict[str, int] | None:
    if b"counts" not in fields:
        return None
    return _object(fields, "counts")  # RoomScorer checks what is in it


def counts_of_outcomes(fields: Mapping[bytes, bytes]) -> Earlier:
    """Counts of earlier segments that waited for a message.

    Raises:
        InputError: they are none.
    """
    return _by_number(fields, "outcomes")


def _earlier(fields: Mapping[bytes, bytes]) -> Earlier | None:
    """Counts of earlier segments: those of outcomes, and where these tell none, the post's own."""
    outcomes, own = counts_of_outcomes(fields), _by_number(fields, "earlier")
    numbers = {*outcomes, *own}
    return {k: {**own.get(k, {}), **outcomes.get(k, {})} for k in numbers} or None


def _by_number(fields: Mapping[bytes, bytes], name: str) -> Earlier:
    if name.encode() not in fields:
        return {}
    try:
        return earlier_from(_object(fields, name))
    except ValueError:
        rule = "counts of some segments, by number"
        raise InputError(f"message: field {name!r} must be {rule}") from None


def _object(fields: Mapping[bytes, bytes], name: str) -> dict[str, Any]:
    try:
        value = parse_json(_text(fields, name))
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise InputError(f"message: field {name!r} must be a JSON object")
    return value


def _shown(fields: Mapping[bytes, bytes]) -> Shown:
    try:
        values = parse_json(_text(fields, "shown"))
        ended_at = float(values["ended_at"])
        if not 0 <= ended_at <= _MAX_MOMENT:
            raise ValueError
        title, comments = values.get("title", ""), list(values.get("comments", ()))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise InputError(
            f"message: field 'shown' must be JSON with ended_at, 0 to {_MAX_MOMENT:.0e}"
        ) from None
    if len(comments) > MAX_COMMENTS:
        raise InputError(f"message: field 'shown' must have at most {MAX_COMMENTS} comments")
    thumbnail = fields.get(b"thumbnail")
    if thumbnail is not None:
        require_thumbnail(thumbnail)
    return Shown(
        ended_at=ended_at,
        title=_line(title, MAX_TITLE, "shown.title"),
        comments=tuple(_line(comment, MAX_LINE, "shown.comments") for comment in comments),
        thumbnail=thumbnail,
    )


def _line(text: Any, length: int, name: str) -> str:
    """Text that the service would take, whoever wrote it: all who look at the page are sent it."""
    if not isinstance(text, str) or len(text) > length:
        raise InputError(f"message: field {name!r} must be text of at most {length} characters")
    return text
