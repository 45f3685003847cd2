"""Pieces of HTML that the report's sections are made of; all text is escaped here."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

import numpy as np


def escaped(value: object) -> str:
    """Plain text as HTML, also inside quoted attributes."""
    return html.escape(str(value))


def show_value(value: object) -> str:
    """A setting or count as HTML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    return "–" if value is None or value == "" else escaped(value)


def show_number(value: float | None) -> str:
    """A metric with three digits after the point, four where it is small."""
    if value is None or np.isnan(value):
        return "undefined"
    return f"{value:.4f}" if abs(value) < 0.01 and value else f"{value:.3f}"


def html_table(
    name: str,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    numbers: Iterable[int] = (),
    css_class: str = "",
) -> str:
    """A table of cells that are already HTML, in a box that scrolls where the page is narrow."""
    right = set(numbers)
    css = [' class="number"' if i in right else "" for i in range(len(head))]
    top = "".join(f'<th scope="col"{c}>{cell}</th>' for c, cell in zip(css, head, strict=True))
    body = "\n".join(
        "<tr>"
        + "".join(
            f'<th scope="row"{c}>{cell}</th>' if i == 0 else f"<td{c}>{cell}</td>"
            for i, (c, cell) in enumerate(zip(css, row, strict=True))
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll {css_class}" role="region" tabindex="0" '
        f'aria-label="{escaped(name)}"><table>'
        f"<thead><tr>{top}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )
