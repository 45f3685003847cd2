"""Cards of curves over time, of rooms and of videos: drawings in two widths, and a PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contentctr.report import figures
from contentctr.report.pieces import escaped


@dataclass(frozen=True, kw_only=True)
class CurveCard:
    """One curve, and what stands around it; all plain text but `below`."""

    label: str
    """Why it is shown, such as "Best of 12"; names the PNG."""
    heading: str
    facts: str
    alt: str
    png_title: str
    png_label: str
    curve: tuple[figures.Floats, figures.Floats, figures.Floats]
    """Starts, ends and scores, as `figures.draw_curve` takes them."""
    style: dict[str, Any]
    """What else it takes."""
    below: str = ""
    """HTML."""


def curve_cards(
    cards: Sequence[CurveCard], thing: str, legend: Sequence[tuple[str, str]], pictures: Path
) -> str:
    """The legend and the cards; those labelled by a rank are folded away.

    Args:
        cards: in the order of `choice.best_median_worst`.
        thing: what each is of, such as "room".
        legend: CSS class and name of each line.
        pictures: folder into which each curve is written as PNG too.
    """
    drawn = [_card(card, thing, number, pictures) for number, card in enumerate(cards, 1)]
    named = sum(not card.label.startswith("Rank") for card in cards)
    more = "\n".join(drawn[named:])
    count = len(drawn) - named
    summary = f"{count} more {thing}{'s' * (count > 1)}"
    folded = f"<details><summary>{summary}</summary>\n{more}\n</details>" if more else ""
    return "\n".join([legend_list(legend), *drawn[:named], folded])


def legend_list(items: Sequence[tuple[str, str]]) -> str:
    """Lines by their CSS class and name."""
    listed = "".join(f'<li><i class="{css}"></i>{escaped(name)}</li>' for css, name in items)
    return f'<ul class="legend">{listed}</ul>'


def _card(card: CurveCard, thing: str, number: int, pictures: Path) -> str:
    drawings = []
    for css_class, width, height in (("wide", 960, 230), ("narrow", 350, 220)):
        figure, axes = figures.new_figure(width, height)
        figures.draw_curve(axes[0], *card.curve, legend=False, **card.style)
        drawings.append(figures.to_svg(figure, card.alt, f"{thing}{number}{css_class}", css_class))
    word = card.label.split()[0].lower()
    name = word if word in ("best", "median", "worst") else f"{number:02d}"
    figures.draw_curve(
        pictures / f"curve-{name}.png",
        *card.curve,
        title=card.png_title,
        label=card.png_label,
        **card.style,
    )
    return (
        f'<article class="card"><header><span class="badge">{escaped(card.label)}</span>'
        f"<h3>{escaped(card.heading)}</h3>"
        f'<span class="facts">{escaped(card.facts)}</span></header>\n'
        f"<figure>{''.join(drawings)}</figure>\n{card.below}</article>"
    )
