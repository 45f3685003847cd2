"""Figures of an A/B test's report, as SVG in the page's colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from contentctr.report.figures import PALETTE, draw_svgs, new_figure, to_svg

ROLES = ("target", "predicted", "truth", "highlight")
"""Colours of the arms, the control first; a fifth arm begins again."""


def lift_figure(effects: Mapping[str, Any], names: Mapping[str, str], prefix: str) -> list[Markup]:
    """Each metric's lift as a dot with its interval, one row a metric; in two widths.

    Args:
        effects: of one treatment, by metric, as in abtest.json; those without a lift are left out.
        names: of the metrics.
        prefix: of the SVGs' ids.
    """
    rows = {m: effect for m, effect in effects.items() if effect["lift_interval"] is not None}
    said = []
    for metric, effect in rows.items():
        low, high = effect["lift_interval"]
        said.append(f"{names[metric]} {effect['lift']:+.2%}, {low:+.2%} to {high:+.2%}")

    def paint(ax: Axes) -> None:
        for y, effect in enumerate(rows.values()):
            ax.plot(effect["lift_interval"], [y, y], color=PALETTE["predicted"], linewidth=2.4)
            ax.plot([effect["lift"]], [y], "o", color=PALETTE["predicted"], markersize=8)
        ax.set_yticks(range(len(rows)), [names[m].replace(" per ", "\nper ") for m in rows])
        ax.set_ylim(max(1, len(rows)) - 0.5, -0.5)
        ax.axvline(0, color=PALETTE["muted"], linewidth=1.2)
        ax.grid(False, axis="y")
        ax.grid(True, axis="x", color=PALETTE["grid"], linewidth=1)
        _percent(ax, "x")

    height = 60 + 44 * len(rows)
    sizes = (("wide", 760, height), ("narrow", 350, height))
    return draw_svgs(paint, sizes, "Relative change: " + "; ".join(said), prefix)


def day_figure(found: Mapping[str, Any], metric: str) -> Markup:
    """A metric of each arm on each day, with intervals; arms side by side."""
    figure, (ax, *_) = new_figure(440, 300)
    arms = list(found["arms"])
    for k, arm in enumerate(arms):
        shift = 0.12 * (k - (len(arms) - 1) / 2)
        points = [
            (day + shift, row["arms"][arm]["metrics"][metric])
            for day, row in enumerate(found["by_day"])
            if row["arms"][arm] is not None
        ]
        color = PALETTE[ROLES[k % len(ROLES)]]
        for x, value in points:
            ax.plot([x, x], value["interval"], color=color, linewidth=2)
        ax.plot(
            [x for x, _ in points],
            [v["value"] for _, v in points],
            "o-",
            color=color,
            linewidth=1.2,
            markersize=6,
        )
    _days(ax, [row["day"] for row in found["by_day"]])
    _percent(ax, "y")
    return to_svg(figure, f"{metric} of {', '.join(arms)} on each day", f"days-{metric}")


def running_figure(running: Sequence[Mapping[str, Any]], prefix: str) -> Markup:
    """A lift with all data up to each day, with its interval as a band."""
    figure, (ax, *_) = new_figure(440, 300)
    rows = [row for row in running if row["lift_interval"] is not None]
    x = np.arange(len(rows))
    low, high = ([row["lift_interval"][end] for row in rows] for end in (0, 1))
    ax.fill_between(x, low, high, color=PALETTE["predicted"], alpha=0.18, linewidth=0)
    for day, ends in enumerate(zip(low, high, strict=True)):
        ax.plot([day, day], ends, color=PALETTE["predicted"], linewidth=1.2)
    ax.plot(x, [row["lift"] for row in rows], "o-", color=PALETTE["predicted"], linewidth=2.2)
    ax.axhline(0, color=PALETTE["muted"], linewidth=1.2)
    _days(ax, [row["day"] for row in rows])
    _percent(ax, "y")
    said = "; ".join(f"day {row['day']}: {row['lift']:+.2%}" for row in rows)
    return to_svg(figure, f"Lift so far: {said}", prefix)


def _days(ax: Axes, days: Sequence[str]) -> None:
    step = max(1, -(-len(days) // 6))
    ax.set_xticks(range(0, len(days), step), days[::step])
    ax.set_xlim(-0.5, max(0.5, len(days) - 0.5))


def _percent(ax: Axes, axis: str) -> None:
    which = ax.xaxis if axis == "x" else ax.yaxis
    which.set_major_locator(MaxNLocator(4))
    which.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.3g} %"))
