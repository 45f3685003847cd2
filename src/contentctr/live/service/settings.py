"""What can be set where the service is run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """Limits of the service, and its key."""

    api_key: str | None = None
    """What X-API-Key must hold; None: no key is needed."""
    rate: float = 1000.0
    """Requests a second of one address, on average; 0: no limit."""
    burst: float = 2000.0
    """Requests at once of one address."""
    max_body: int = 4 * 2**20
    """Bytes of a body."""
    body_timeout_s: float = 15.0
    """Seconds in which a body must have come."""
    max_listeners: int = 256
    """Open event streams."""
