"""Where a room's segments begin and end.

Segment k is the half-open interval [b_k, b_(k+1)) of its room, where b_k is the float nearest to
the decimal number k * segment_seconds: so t = 0.3 belongs to segment 3 of 0.1 s, though 3 * 0.1 and
0.3 / 0.1 in floats say otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import polars as pl

from contentctr.errors import InputError


@dataclass(frozen=True)
class Grid:
    """Where segments begin and end.

    Args:
        segment_seconds: length in seconds, above 0, with at most 6 decimals.

    Raises:
        InputError: it is not.
    """

    segment_seconds: float

    def __post_init__(self) -> None:
        length = self.segment_seconds
        if not (0 < length < 1e9) or 10**6 % Fraction(repr(float(length))).denominator:
            raise InputError(
                f"segment_seconds must be above 0, with at most 6 decimals, not {length!r}"
            )

    @property
    def length(self) -> Fraction:
        """The length as the decimal number that was written."""
        return Fraction(repr(float(self.segment_seconds)))

    def border(self, number: pl.Expr) -> pl.Expr:
        """b_k, in seconds. Both sides of the division are exact, so it rounds once."""
        length = self.length

        def divide(number: pl.Series) -> pl.Series:
            return pl.Series(number.to_numpy() * length.numerator / length.denominator)

        # NumPy's division, since Polars multiplies by the rounded reciprocal: 3 / 10 != 0.3.
        return number.map_batches(divide, return_dtype=pl.Float64)

    def start_s(self, number: int) -> float:
        """b_k of one segment, the same float."""
        return number * self.length.numerator / self.length.denominator

    def segment_of(self, t: pl.Expr) -> pl.Expr:
        """Number of the segment that holds the time `t` >= 0, in seconds."""
        near = (t / self.segment_seconds).floor().cast(pl.Int64)
        # The division can be wrong by one at a border; the borders themselves decide.
        return (
            pl.when(t < self.border(near))
            .then(near - 1)
            .when(t >= self.border(near + 1))
            .then(near + 1)
            .otherwise(near)
        )

    def count(self, duration_s: float) -> int:
        """Segments of a room: the whole ones, and a shorter last one of at least half the length.

        What comes after the last segment belongs to none.
        """
        whole, rest = divmod(Fraction(repr(float(duration_s))), self.length)
        return int(whole) + (rest >= self.length / 2)

    def spans(self, duration_s: float) -> list[tuple[float, float]]:
        """Start and end of each segment of a room; the last one may end with it."""
        count = self.count(duration_s)
        return [(self.start_s(k), min(self.start_s(k + 1), duration_s)) for k in range(count)]
