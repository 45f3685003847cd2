"""Cards of curves over time, of rooms and of users: which are shown, their drawings and PNGs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from matplotlib.axes import Axes

from contentctr.counting import counted
from contentctr.report import figures
from contentctr.report.blocks import Block, Card, Fold, Highlights, Legend
from contentctr.report.canvas import Canvas, Lines

T = TypeVar("T")


def best_median_worst(ranked: Sequence[T], most: int, alone: str) -> list[tuple[str, T]]:
    """Up to `most` of them, each with its label.

    Best, median (the better of two middle ones) and worst come first, then others evenly spread
    over the ranks: the best alone would flatter a model.

    Args:
        ranked: from the best down.
        most: at least 1.
        alone: label where there is one only.
    """
    n = len(ranked)
    labels: dict[int, str] = {}
    for place, name in ((0, "Best"), ((n - 1) // 2, "Median"), (n - 1, "Worst")):
        if n:
            labels.setdefault(place, f"{name} of {n:,}" if n > 1 else alone)
    others = [place for place in range(n) if place not in labels]
    extra = min(max(0, most - len(labels)), len(others))
    for i in np.linspace(0, len(others) - 1, extra).round().astype(int).tolist():
        labels[others[i]] = f"Rank {others[i] + 1:,} of {n:,}"
    return [(label, ranked[place]) for place, label in labels.items()][:most]


@dataclass(frozen=True, kw_only=True)
class CurveCard:
    """One curve, and the words around it."""

    label: str
    """Why it is shown, such as "Best of 12"; names the PNG."""
    heading: str
    facts: str
    alt: str
    png_title: str
    """Without the label."""
    curve: tuple[figures.Floats, figures.Floats, figures.Floats]
    """Starts, ends and scores, as `figures.draw_curve` takes them."""
    style: dict[str, Any]
    """What else it takes."""
    highlights: Sequence[str] = ()
    """Their times, best first."""


def curve_cards(
    cards: Sequence[CurveCard], thing: str, legend: Lines, canvas: Canvas
) -> list[Block]:
    """The legend and the cards; those labelled by a rank are folded away.

    Args:
        cards: in the order of `best_median_worst`.
        thing: what each is of, such as "room".
        legend: the lines of all.
        canvas: draws each, as PNG too.
    """
    drawn = [_card(card, thing, number, legend, canvas) for number, card in enumerate(cards, 1)]
    named = sum(not card.label.startswith("Rank") for card in cards)
    more = drawn[named:]
    folded = [Fold(summary=counted(len(more), f"more {thing}"), blocks=more)] if more else []
    return [Legend(items=legend), *drawn[:named], *folded]


def _card(card: CurveCard, thing: str, number: int, legend: Lines, canvas: Canvas) -> Card:
    def paint(ax: Axes) -> None:
        figures.draw_curve(ax, *card.curve, **card.style)

    word = card.label.split()[0].lower()
    name = word if word in ("best", "median", "worst") else f"{number:02d}"
    things = f" {thing}s" if " of " in card.label else ""
    title = f"{card.label}{things}: {card.png_title}"
    figure = canvas.draw(f"curve-{name}", title, card.alt, paint, figures.ACROSS, legend=legend)
    blocks: list[Block] = [figure]
    if card.highlights:
        blocks.append(Highlights(times=card.highlights))
    return Card(title=card.heading, badge=card.label, facts=card.facts, blocks=blocks)
