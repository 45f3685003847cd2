"""Scores on many machines: Redis Streams, leases and the worker."""
