"""What a page is made of, as plain text, and the same as HTML and as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from contentctr.report.pieces import escaped, html_table


@dataclass(frozen=True, kw_only=True)
class Paragraph:
    """Plain text."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Notice:
    """A paragraph that must not be missed."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Items:
    """A list, folded away on the HTML page under `summary`."""

    summary: str
    lines: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table of plain cells."""

    name: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[int] = ()
    """Columns that hold numbers."""
    small: bool = False


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A picture: SVG elements for the HTML page, a PNG file beside it for Markdown."""

    title: str
    svg: Sequence[str]
    png: str
    """Path relative to the page."""
    alt: str


@dataclass(frozen=True, kw_only=True)
class Drawings:
    """Pictures, `beside` each other where there is room."""

    parts: Sequence[Drawing]
    beside: bool = False
    legend: Sequence[tuple[str, str]] = ()
    """Role of a line (a colour of figures.PALETTE) and its name."""


Block = Paragraph | Notice | Items | Grid | Drawings


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading and what stands under it."""

    key: str
    title: str
    blocks: Sequence[Block]


def as_html(block: Block) -> str:
    """The block as HTML; all its text is escaped."""
    if isinstance(block, Paragraph):
        return f"<p>{escaped(block.text)}</p>"
    if isinstance(block, Notice):
        return f'<p class="notice" role="note">{escaped(block.text)}</p>'
    if isinstance(block, Items):
        lines = "".join(f"<li>{escaped(line)}</li>" for line in block.lines)
        return f"<details><summary>{escaped(block.summary)}</summary><ul>{lines}</ul></details>"
    if isinstance(block, Grid):
        cells = [[escaped(c) for c in row] for row in (block.head, *block.rows)]
        css_class = "small" if block.small else ""
        return html_table(block.name, cells[0], cells[1:], block.numbers, css_class)
    return _drawings_html(block)


def _drawings_html(block: Drawings) -> str:
    cards = "\n".join(
        f'<article class="card"><h3>{escaped(d.title)}</h3>'
        f"<figure>{''.join(d.svg)}</figure></article>"
        for d in block.parts
    )
    # The page's style sheet has the colours as variables; a line's role may be any of them.
    names = "".join(
        f'<li><i style="border-top-color:var(--{role})"></i>{escaped(name)}</li>'
        for role, name in block.legend
    )
    legend = f'<ul class="legend">{names}</ul>\n' if names else ""
    return legend + (f'<div class="pair">{cards}</div>' if block.beside else cards)


def as_markdown(block: Block) -> str:
    """The block as Markdown; what could be read as markup is escaped."""
    if isinstance(block, Paragraph):
        return markdown_text(block.text)
    if isinstance(block, Notice):
        return f"> **{markdown_text(block.text)}**"
    if isinstance(block, Items):
        items = "\n".join(f"- {markdown_text(line)}" for line in block.lines)
        return f"{markdown_text(block.summary)}:\n\n{items}"
    if isinstance(block, Grid):
        rule = ["---:" if i in block.numbers else "---" for i in range(len(block.head))]
        lines = [[markdown_text(c) for c in row] for row in (block.head, *block.rows)]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in (lines[0], rule, *lines[1:]))
    pictures = [
        f"{markdown_text(d.title)}\n\n![{markdown_text(d.alt)}]({d.png})" for d in block.parts
    ]
    return "\n\n".join(pictures)


def markdown_text(text: str) -> str:
    """Plain text in Markdown: on one line, with its marks escaped."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))
