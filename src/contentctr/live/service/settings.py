"""What can be set where the service is run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """Limits of the service, and its keys."""

    api_key: str | None = field(default=None, repr=False)
    """A key with every right, in X-API-Key; None, and no file of keys: no key is needed."""
    keys_file: Path | None = None
    """Keys with roles, as `read_keys` reads them."""
    rooms_per_key: int | None = None
    """Rooms that a key of the file may have open, unless it says otherwise; None: any number."""
    allowed_hosts: tuple[str, ...] = ()
    """What the header Host may say, without its port; none: anything."""
    rate: float = 1000.0
    """Requests a second of one address, on average; 0: no limit."""
    burst: float = 2000.0
    """Requests at once of one address."""
    max_body: int = 4 * 2**20
    """Bytes of a body."""
    body_memory: int = 256 * 2**20
    """Bytes of all bodies that are being read or worked on; one client may have half of them."""
    body_timeout_s: float = 15.0
    """Seconds in which a body must have come."""
    max_encoding: int = 64
    """Posts with pictures or texts to be encoded that wait; one client may have half of them."""
    max_listeners: int = 256
    """Open event streams."""
    listeners_per_client: int | None = None
    """Open event streams of one key or address; None: half of all."""
    access_log: float = 0.0
    """Share of requests, in [0, 1], that are written to the access log; faults always are."""
