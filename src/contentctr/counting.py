"""Counts in words."""

from __future__ import annotations


def counted(number: int, noun: str, nouns: str = "") -> str:
    """A count and its noun, such as "1 segment" or "1,200 segments".

    Args:
        number: how many.
        noun: of one.
        nouns: of several; "": with an s.
    """
    return f"{number:,} {noun if number == 1 else nouns or f'{noun}s'}"
