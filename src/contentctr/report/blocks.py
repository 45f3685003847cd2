"""What a page is made of: plain data; the template of a class's name turns it into HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

Cell = str | tuple[str, str]
"""Of a table: a text, or a text and a small one beneath it."""


@dataclass(frozen=True, kw_only=True)
class Paragraph:
    """A text; a `note` is smaller."""

    text: str
    note: bool = False


@dataclass(frozen=True, kw_only=True)
class Notice:
    """A paragraph that must not be missed, and what it begins with in bold."""

    text: str
    label: str = ""


@dataclass(frozen=True, kw_only=True)
class Items:
    """A list, folded away under its summary."""

    summary: str
    lines: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table, in a box that scrolls where the page is narrow."""

    name: str
    head: Sequence[Cell]
    rows: Sequence[Sequence[Cell]]
    numbers: Sequence[int] = ()
    """Columns that hold numbers."""
    small: bool = False


@dataclass(frozen=True, kw_only=True)
class Bars:
    """Numbers in [0, 1] as bars, the model's first; below 0 a bar is empty."""

    rows: Sequence[tuple[str, str, float | None]]
    """Name, what it is, and the number; None where it is undefined."""
    limits: Sequence[tuple[float, float] | None] = ()
    """Of each row's interval, where it has one."""


@dataclass(frozen=True, kw_only=True)
class Legend:
    """What the lines and colours of figures are."""

    items: Sequence[tuple[str, str]]
    """A role of figures.PALETTE, perhaps with `dotted`, `dot` or `box` after it, and a name."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A drawing, perhaps in several sizes of which the page shows the one that fits."""

    drawings: Sequence[Markup]
    caption: str = ""
    png: str = ""
    """The same as a file, for Markdown: its path from the page."""
    alt: str = ""
    """The picture in words, for Markdown; the drawings have it inside."""


@dataclass(frozen=True, kw_only=True)
class Highlights:
    """Stretches of time, numbered from the best."""

    times: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Card:
    """Blocks on a ground of their own, under a title."""

    title: str = ""
    badge: str = ""
    """Before the title, such as "Best of 12"."""
    facts: str = ""
    """After it."""
    blocks: Sequence[Block]


@dataclass(frozen=True, kw_only=True)
class Beside:
    """Cards beside each other where there is room; `wide` ones sooner below each other."""

    cards: Sequence[Card]
    wide: bool = False


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Blocks folded away under a summary."""

    summary: str
    blocks: Sequence[Block]


Block = (
    Paragraph | Notice | Items | Grid | Bars | Legend | Figure | Highlights | Card | Beside | Fold
)
