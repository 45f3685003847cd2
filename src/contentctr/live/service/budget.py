"""So much of something, of which one client may hold a part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Budget:
    """What is taken and given back; nobody may take what would exceed a limit. For one thread.

    Args:
        total: that all together may hold.
        per_client: that one client may hold; None: half of the total.
    """

    def __init__(self, total: int, per_client: int | None = None) -> None:
        assert total >= 1
        self._total = total
        self._per_client = min(total, per_client or max(1, total // 2))
        self._of_client: Counter[str] = Counter()
        self.held = 0

    def take(self, client: str, amount: int = 1) -> bool:
        """Whether there was so much left, also of the client's part; then it is taken."""
        if self.held + amount > self._total:
            return False
        if self._of_client[client] + amount > self._per_client:
            if not self._of_client[client]:
                del self._of_client[client]
            return False
        self.held += amount
        self._of_client[client] += amount
        return True

    def give(self, client: str, amount: int = 1) -> None:
        """Give back what was taken."""
        self.held -= amount
        self._of_client[client] -= amount
        if not self._of_client[client]:
            del self._of_client[client]

    @contextmanager
    def hold(self, client: str, amount: int = 1) -> Iterator[bool]:
        """Take for the length of a block; gives whether it could be."""
        taken = self.take(client, amount)
        try:
            yield taken
        finally:
            if taken:
                self.give(client, amount)
