"""Pieces of HTML that every report is made of; all text is escaped here."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a kind of evaluation has to say, to be put into the one page; all of it HTML."""

    title: str
    lead: str
    notice: str
    mark: str
    """What stands beside every section's name: "simulated" or nothing."""
    sections: Sequence[tuple[str, str, str]]
    """Id, name and body of each; one without a body is left out."""


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


def bars(rows: Sequence[tuple[str, str, float | None]]) -> str:
    """Numbers in [0, 1] as bars, the model's first.

    Args:
        rows: name, what it is, and the number; None where it is undefined.
    """
    items = []
    for place, (name, about, value) in enumerate(rows):
        width = 100 * max(0.0, value or 0.0)
        items.append(
            f'<li class="{"reference" if place else "model"}"><span class="name">{escaped(name)} '
            f'<small>{escaped(about)}</small></span><span class="number">{show_number(value)}'
            f'</span><span class="track" aria-hidden="true"><span style="width:{width:.1f}%">'
            "</span></span></li>"
        )
    return '<ul class="bars">\n' + "\n".join(items) + "\n</ul>"


def comparison(
    value: float | None,
    below: tuple[str, float | None],
    ceiling: tuple[str, float | None],
) -> str:
    """How far the model is above a simple reference, and how near to the ceiling; "" if neither.

    Args:
        value: the model's number.
        below: words for the simple reference, and its number.
        ceiling: words for the ceiling's number, and that number.
    """
    words = []
    if value is not None and below[1] is not None:
        side = "above" if value >= below[1] else "below"
        words.append(f"The model is {abs(value - below[1]):.3f} {side} {below[0]}")
    if value is not None and ceiling[1] is not None and ceiling[1] > 0:
        words.append(f"reaches {100 * value / ceiling[1]:.0f} % of {ceiling[0]}")
    text = " and ".join(words)
    return escaped(f"{text[0].upper()}{text[1:]}.") if text else ""


def notice(metrics: Mapping[str, Any], things: str, made: str) -> str:
    """What the page's numbers come from, where that is not the world; "" where it is.

    Args:
        metrics: of metrics.json.
        things: what the data is of, such as "rooms".
        made: what a simulation makes, such as "live rooms and simulated viewers".
    """
    if metrics["simulated"]:
        words = (
            f"<strong>Simulated {things}:</strong> every number and curve on this page comes from "
            f"simulated {made}, not from real ones."
        )
    elif metrics.get("trained_on_simulated") is True:
        words = f"<strong>Trained on simulated {things}:</strong> the {things} here are real; the "
        words += f"model's training {things} were not."
    else:
        return ""
    return f'<p class="notice" role="note">{words}</p>'


def split_name(metrics: Mapping[str, Any]) -> str:
    """The split, for people; "simulated" before it where it is."""
    split = str(metrics["split"])
    name = {"train": "training", "val": "validation"}.get(split, split)
    return f"simulated {name}" if metrics["simulated"] else name


def simulated_note(metrics: Mapping[str, Any]) -> str:
    """The word "simulated" or nothing, for pictures and sections."""
    return "simulated" if metrics["simulated"] else ""


def model_kind(metrics: Mapping[str, Any]) -> str:
    """The model's name in the settings; "" where they have none."""
    model = metrics["config"].get("model")
    return str(model.get("kind", "")) if isinstance(model, dict) else ""


def setup_section(metrics: Mapping[str, Any], counts: Mapping[str, Any]) -> str:
    """Counts, and folded beneath them the data and the settings."""
    rows = [[escaped(k.replace("_", " ")), show_value(v)] for k, v in counts.items()]
    parts = [html_table("Counts", ["Counted", "Number"], rows, numbers=[1], css_class="small")]
    for title, name in (("Data", "data_spec"), ("Settings", "config")):
        rows = [[escaped(k), show_value(v)] for k, v in flat(metrics[name])]
        if rows:
            table = html_table(title, ["Name", "Value"], rows, css_class="small")
            parts.append(f"<details><summary>{title}</summary>{table}</details>")
    return "\n".join(parts)


def flat(block: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    """Names and values of a block; a name inside another block has that one's before it."""
    for name, value in block.items():
        if isinstance(value, dict):
            yield from flat(value, f"{before}{name}.")
        else:
            yield before + name, value
