"""Messages that were put aside, whole and with the reason: to be listed, and to be played again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contentctr.live.redis.keys import Keys
from contentctr.live.redis.messages import settle_partitions
from contentctr.live.redis.store import Command, RedisStore, append_command

REJECTED_KEPT, REJECTED_BYTES = 1_000, 64 * 2**20
_AT_ONCE = 20
"""Messages that are read together."""
_MARK = b"field:"
"""Stands before the names of the message's own fields."""
_UNWANTED = b"request_id"
"""Nobody waits any more for the outcome."""


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A message that was put aside."""

    id: str
    """In the stream of those; its first number is when it was put aside, Unix ms."""
    reason: str
    fields: Mapping[bytes, bytes]
    """The message's own."""

    @property
    def room_id(self) -> str:
        """Its room, as far as it can be read."""
        return self.fields.get(b"room", b"").decode(errors="replace")

    @property
    def index(self) -> str:
        """The number of its segment, as it stands there."""
        return self.fields.get(b"index", b"").decode(errors="replace")


def rejected_command(
    keys: Keys, partition: int, id: bytes, fields: Mapping[bytes, bytes], reason: str
) -> Command:
    """What puts a message aside, once, and where the worker's model is current then."""
    whole: dict[str, str | bytes] = {"reason": reason, "partition": str(partition), "id": id}
    for name, value in fields.items():
        whole[(_MARK + name).decode(errors="replace")] = value
    append = append_command(keys.rejected, REJECTED_KEPT, REJECTED_BYTES, whole)
    return ("PUT_ASIDE", id, *append)


def list_rejected(client: Any, keys: Keys) -> Iterator[Rejected]:
    """All that were put aside and are still kept, oldest first."""
    last = "-"
    while entries := client.xrange(keys.rejected, last, "+", _AT_ONCE):
        for id, fields in entries:
            last = f"({id.decode()}"
            yield Rejected(
                id=id.decode(),
                reason=fields.get(b"reason", b"").decode(errors="replace"),
                fields={
                    name.removeprefix(_MARK): value
                    for name, value in fields.items()
                    if name.startswith(_MARK)
                },
            )


def replay_rejected(
    client: Any, keys: Keys, ids: Sequence[str] | None = None
) -> tuple[list[Rejected], list[str]]:
    """Put messages back into their rooms' streams, behind what waits there.

    A message may be there twice for a moment, never not at all: taken twice, it does no harm.

    Args:
        client: of `connect`.
        keys: names of the keys.
        ids: which; None: all.

    Returns:
        Those that were put back, and ids of which there is none.

    Raises:
        StreamFullError: too much waits; what was put back before stays so.
    """
    store = RedisStore(client, keys, settle_partitions(client, keys))
    found = [one for one in list_rejected(client, keys) if ids is None or one.id in ids]
    for one in found:
        fields = {k.decode(errors="replace"): v for k, v in one.fields.items() if k != _UNWANTED}
        store.add(one.room_id, {**fields})
        client.xdel(keys.rejected, one.id)
    known = {one.id for one in found}
    return found, [id for id in ids or () if id not in known]
