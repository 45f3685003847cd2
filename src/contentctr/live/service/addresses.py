"""Who an address stands for, where clients are counted."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

_LONGEST = 64
"""Of what is no address: a Unix socket's, or what a proxy says."""


@lru_cache(maxsize=10_000)
def client_of(address: str) -> str:
    """The client behind an address: of IPv6 its network of 64 bits, which one machine has whole.

    Counted by single addresses, one machine would be 2^64 clients, each with limits of its own.

    Args:
        address: of a connection, or as a trusted proxy tells it.
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:_LONGEST]
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))
