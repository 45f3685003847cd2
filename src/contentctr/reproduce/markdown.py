"""A page as Markdown, from the same blocks as its HTML."""

from __future__ import annotations

import re

from contentctr.report.blocks import (
    Beside,
    Block,
    Card,
    Cell,
    Figure,
    Grid,
    Items,
    Legend,
    Notice,
    Paragraph,
)
from contentctr.report.page import Page


def page_markdown(page: Page) -> str:
    """The whole page; what could be read as markup is escaped."""
    parts = [f"# {markdown_text(page.title)}", markdown_text(page.lead)]
    parts += [as_markdown(notice) for notice in page.notices]
    for section in page.sections:
        parts.append(f"## {markdown_text(section.title)}")
        parts += [as_markdown(block) for block in section.blocks]
    return "\n\n".join(part for part in parts if part) + "\n"


def as_markdown(block: Block) -> str:
    """One block of those that a reproduction has; "" for a legend: every PNG has its own."""
    match block:
        case Paragraph():
            return markdown_text(block.text)
        case Notice():
            return f"> **{markdown_text(f'{block.label} {block.text}')}**"
        case Items():
            items = "\n".join(f"- {markdown_text(line)}" for line in block.lines)
            return f"{markdown_text(block.summary)}:\n\n{items}"
        case Grid():
            rule = ["---:" if i in block.numbers else "---" for i in range(len(block.head))]
            head, *rows = [list(map(_cell, row)) for row in (block.head, *block.rows)]
            return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))
        case Figure():
            return f"![{markdown_text(block.alt)}]({block.png})"
        case Card():
            return "\n\n".join([markdown_text(block.title), *map(as_markdown, block.blocks)])
        case Beside():
            return "\n\n".join(map(as_markdown, block.cards))
        case Legend():
            return ""
    raise TypeError(f"no Markdown is known for {block}")


def _cell(cell: Cell) -> str:
    return markdown_text(cell if isinstance(cell, str) else " ".join(cell))


def markdown_text(text: str) -> str:
    """Plain text in Markdown: on one line, with its marks escaped."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))
