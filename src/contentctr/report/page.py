"""The one page builder: title, notices and sections, as plain data, become one file of HTML.

The page asks no other host for anything: its style and its drawings stand inside it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from contentctr.report.blocks import Block, Notice
from contentctr.report.words import show_number


@dataclass(frozen=True, kw_only=True)
class Section:
    """A heading and what stands under it; without blocks it is left out."""

    key: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, kw_only=True)
class Page:
    """All that a page says, as plain text and blocks."""

    title: str
    lead: str
    notices: Sequence[Notice] = ()
    mark: str = ""
    """What stands beside every section's title: "simulated" or nothing."""
    sections: Sequence[Section]
    footer: Sequence[str] = ()
    """Plain text and names of files by turns, beginning with text."""
    warning: str = ""
    """What the pictures lack, such as a font."""


def page_html(page: Page) -> str:
    """The page as HTML; every text on it is escaped, drawings (Markup) alone are not."""
    return _templates().get_template("page.html").render(page=page)


def template_name(block: Block) -> str:
    """The file in templates/ that shows such a block."""
    return f"{type(block).__name__.lower()}.html"


@functools.cache
def _templates() -> Environment:
    templates = Environment(
        loader=PackageLoader("contentctr.report"),
        autoescape=True,  # ids, names of folders and notes are other people's words
        undefined=StrictUndefined,  # a misspelt field stops the page; it would be blank
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["number"] = show_number
    templates.filters["template"] = template_name
    return templates
