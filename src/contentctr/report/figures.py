"""Figures: curves over time, predicted against true, calibration, users, training; SVG and PNG.

Everything goes through matplotlib's objects: no pyplot and no changed settings, so that a service
may draw in several threads. Sizes are in pixels of the page. An SVG takes its colours from the
page's CSS variables, which is how one drawing serves light and dark pages.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from contentctr.files import atomic
from contentctr.report.fonts import FONT, drawable, families
from contentctr.report.ticks import TICK_SECONDS
from contentctr.score.highlights import Highlight, clock

Floats = NDArray[np.float64]
Series = tuple[Floats, Floats]
"""Steps and values, each of any length."""

PALETTE = {
    "paper": "#ffffff",
    "ink": "#1d2430",
    "muted": "#5d6673",
    "grid": "#e2e5e9",
    "predicted": "#c2402a",
    "target": "#8b94a1",
    "truth": "#2b6ca3",
    "highlight": "#eab32e",
}
"""Colours by role, as in PNGs; in an SVG each becomes the CSS variable of that name."""

Paint = Callable[[Axes], object]
Sizes = Sequence[tuple[str, int, int]]
"""CSS class, width and height of each drawing of one figure."""
ACROSS: Sizes = (("wide", 960, 230), ("narrow", 350, 220))
"""A figure as wide as the page: its style sheet shows the drawing that fits the screen."""

_SOFTWARE = "contentctr"
"""What our PNGs say of where they come from."""


def new_figure(width: int, height: int, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of that many pixels with a row of axes."""
    figure = Figure(figsize=(width / 72, height / 72), layout="constrained", facecolor="none")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for ax in axes:
        bare_axes(ax)
    return figure, list(axes)


def draw_curve(
    ax: Axes,
    starts: ArrayLike,
    ends: ArrayLike,
    scores: ArrayLike,
    targets: ArrayLike | None = None,
    highlights: Sequence[Highlight] = (),
    *,
    truth: ArrayLike | None = None,
    selections: Sequence[tuple[float, float]] = (),
) -> None:
    """The predicted curve of a room or video, with the true one and with highlights.

    Args:
        ax: where to draw.
        starts: shape (N,), seconds from the room's start.
        ends: shape (N,), seconds.
        scores: shape (N,), NaN where a segment has no score: the line is broken there.
        targets: shape (N,), NaN where a segment has no target. None: not known.
        highlights: best first; shaded, with their ranks.
        truth: shape (N,), the true click probability of a simulated room.
        selections: start and end of what a user selected, seconds; shaded.
    """
    first, last = np.asarray(starts, dtype=np.float64), np.asarray(ends, dtype=np.float64)
    _shade(ax, [(h.start_s, h.end_s) for h in highlights], ranked=True)
    _shade(ax, selections)
    if targets is not None:
        _line(ax, first, last, targets, "target", linewidth=1.2)
    if truth is not None:
        _line(ax, first, last, truth, "truth", linewidth=1.2, linestyle=(0, (1, 2)))
    width = 2.2 if len(first) <= 200 else 1.4  # a thick line would hide a long room's turns
    _line(ax, first, last, scores, "predicted", linewidth=width)
    if len(first):
        _time_axis(ax, float(first[0]), float(last[-1]))


def draw_against(ax: Axes, scores: Floats, targets: Floats) -> tuple[int, int]:
    """Predicted (x) against true (y) as hexagons whose strength is the logarithm of their count.

    Args:
        ax: where to draw.
        scores: shape (M,), M >= 1, in [0, 1].
        targets: shape (M,), in [0, 1].

    Returns:
        The count of the fullest hexagon, and how many samples lie outside the axes: these end at
        the 99.5 % quantile of the targets or at the highest score.
    """
    limit = max(float(np.quantile(targets, 0.995)), float(scores.max()), 1e-3)
    inside = targets <= limit
    ax.plot([0, limit], [0, limit], color=PALETTE["muted"], linewidth=1, linestyle=(0, (4, 3)))
    cells = ax.hexbin(
        scores[inside], targets[inside], gridsize=(26, 15), extent=(0, limit, 0, limit), mincnt=1
    )
    counts = np.asarray(cells.get_array(), dtype=np.float64)
    strength = 0.15 + 0.85 * np.log1p(counts) / np.log1p(counts.max())
    cells.set_array(None)
    cells.set_facecolor([to_rgba(PALETTE["predicted"], s) for s in strength])
    cells.set_edgecolor("none")
    ax.set_xlim(0, limit)
    ax.set_ylim(0, limit)
    ax.grid(True, axis="x", color=PALETTE["grid"], linewidth=1)
    _label(ax, "Predicted", "True")
    return int(counts.max()), int((~inside).sum())


def draw_calibration(ax: Axes, mean_scores: ArrayLike, mean_targets: ArrayLike) -> None:
    """Mean target (y) against mean score (x) of each calibration bin, with the diagonal."""
    x, y = np.asarray(mean_scores, dtype=np.float64), np.asarray(mean_targets, dtype=np.float64)
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    margin = 0.06 * (high - low) or 0.05
    low, high = max(0.0, low - margin), min(1.0, high + margin)
    ax.plot([low, high], [low, high], color=PALETTE["muted"], linewidth=1, linestyle=(0, (4, 3)))
    ax.plot(x, y, color=PALETTE["predicted"], linewidth=2.2, marker="o", markersize=6)
    ax.set_xlim(low, high)
    ax.set_ylim(low, high)
    ax.grid(True, axis="x", color=PALETTE["grid"], linewidth=1)
    _label(ax, "Mean predicted", "Mean true")


def draw_users(ax: Axes, values: Floats, by_chance: Floats) -> None:
    """A number of each user as a line, and what chance gives the same user as a dot under it.

    Args:
        ax: where to draw.
        values: shape (U,), U >= 1, in [0, 1], from the highest down.
        by_chance: shape (U,), in the same order.
    """
    number = np.arange(1, len(values) + 1)
    few = len(values) < 50
    ax.plot(
        number, by_chance, "o", color=PALETTE["target"], markersize=5 if few else 2.5, clip_on=False
    )
    ax.plot(
        number,
        values,
        color=PALETTE["predicted"],
        linewidth=2.2,
        marker="o" if few else "",
        markersize=5,
        clip_on=False,
    )
    ax.set_ylim(0, 1.05 * max(float(values.max()), float(by_chance.max())))
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    _label(ax, "User, by rank", "Average precision")


def draw_training(ax: Axes, train: Sequence[Series], val: Sequence[Series]) -> None:
    """One number of the training log against the step: a line for train, dots for validation.

    Args:
        ax: where to draw.
        train: steps and values of each member; over 200 of them are averaged in runs.
        val: steps and values of each one's validation rounds.
    """
    width = 1.6 if len(train) == 1 else 1.0
    for steps, values in train:
        parts = min(len(steps), 200)
        if parts:
            x = [part.mean() for part in np.array_split(steps, parts)]
            y = [part.mean() for part in np.array_split(values, parts)]
            marker = "o" if parts == 1 else ""
            ax.plot(x, y, color=PALETTE["target"], linewidth=width, marker=marker, markersize=5)
    for steps, values in val:
        color = PALETTE["predicted"]
        ax.plot(steps, values, color=color, linewidth=width, marker="o", markersize=5)
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    _label(ax, "Step", "")


def heading(ax: Axes, title: str, note: str = "") -> None:
    """A title above the axes and the ranks on them, and a note beside it: a PNG stands alone.

    Args:
        ax: where to draw.
        title: plain text; characters that no installed font has become boxes.
        note: such as "simulated".
    """
    style: dict[str, Any] = {"color": PALETTE["ink"], "parse_math": False}
    style["pad"] = 18 if ax.texts else 8
    style["fontfamily"] = families(title)
    if title:
        ax.set_title(drawable(title), loc="left", fontsize=13, **style)
    if note:
        ax.set_title(note, loc="right", fontsize=11, fontstyle="italic", **style)


def save_png(figure: Figure, path: Path) -> None:
    """Write the figure as PNG on white, two points a pixel."""
    # In inches, so that nothing touches the picture's edge.
    figure.set_layout_engine("constrained", w_pad=0.14, h_pad=0.14)
    with atomic(path) as temporary:
        figure.savefig(
            temporary,
            format="png",
            dpi=144,
            facecolor=PALETTE["paper"],
            metadata={"Software": _SOFTWARE},
        )


def drawn_by_us(path: Path) -> bool:
    """Whether a file is a PNG that `save_png` wrote."""
    try:
        with Image.open(path) as image:
            return image.info.get("Software") == _SOFTWARE
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False


def draw_svgs(
    paint: Callable[[Axes], object], sizes: Sizes, label: str, prefix: str
) -> list[Markup]:
    """A figure painted once a size; `label` and `prefix` as `to_svg` takes them."""
    drawings = []
    for css_class, width, height in sizes:
        figure, axes = new_figure(width, height)
        paint(axes[0])
        drawings.append(to_svg(figure, label, f"{prefix}{css_class}", css_class))
    return drawings


def to_svg(figure: Figure, label: str, prefix: str, css_class: str = "") -> Markup:
    """The figure as an SVG element for an HTML page.

    Args:
        figure: what to draw.
        label: plain text that stands for the picture where it cannot be seen.
        prefix: begins every id in the SVG; must differ between the figures of a page.
        css_class: of the element.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    body = text[text.index(">", text.index("<svg")) + 1 :]
    body = re.sub(r"\s*<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    # matplotlib's ids differ from run to run and repeat between figures: number them instead.
    ids = {old: f"{prefix}-{n}" for n, old in enumerate(re.findall(r'\bid="([^"]+)"', body))}
    body = re.sub(r'\bid="([^"]+)"', lambda m: f'id="{ids[m[1]]}"', body)
    body = re.sub(r'(href="|url\()#([^")]+)', lambda m: f"{m[1]}#{ids[m[2]]}", body)
    for role, color in PALETTE.items():
        body = body.replace(color, f"var(--{role})")
    width, height = (figure.get_size_inches() * 72).round(2)
    # Of others' text only the label is here: matplotlib draws letters as outlines.
    return Markup(
        '<svg class="{}" role="img" aria-label="{}" viewBox="0 0 {:g} {:g}" '
        'xmlns:xlink="http://www.w3.org/1999/xlink">{}'
    ).format(css_class, label, width, height, Markup(body))


def bare_axes(ax: Axes) -> None:
    """Axes as all figures have them: a line below, and lines across."""
    ax.set_facecolor("none")
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color(PALETTE["grid"])
    ax.grid(True, axis="y", color=PALETTE["grid"], linewidth=1)
    ax.set_axisbelow(True)
    ax.tick_params(length=0, labelsize=11, labelcolor=PALETTE["muted"], labelfontfamily=FONT)
    ax.yaxis.set_major_locator(MaxNLocator(5))


def _shade(ax: Axes, spans: Sequence[tuple[float, float]], *, ranked: bool = False) -> None:
    """Stretches of time; with their place in the sequence above them if `ranked`."""
    for rank, (start_s, end_s) in enumerate(spans, 1):
        ax.axvspan(start_s, end_s, facecolor=to_rgba(PALETTE["highlight"], 0.3), linewidth=0)
        if ranked:
            ax.annotate(
                str(rank),
                ((start_s + end_s) / 2, 1),
                xycoords=("data", "axes fraction"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=11,
                color=PALETTE["ink"],
                fontfamily=FONT,
            )


def _line(
    ax: Axes, starts: Floats, ends: Floats, values: ArrayLike, role: str, **style: Any
) -> None:
    """A line through the segments' middles, broken where a value or a stretch of time is missing.

    A segment without neighbours becomes a dot, which a line alone would not show.
    """
    x, y = (starts + ends) / 2, np.asarray(values, dtype=np.float64)
    holes = np.flatnonzero(starts[1:] - ends[:-1] > 1e-6) + 1
    x, y = np.insert(x, holes, x[holes]), np.insert(y, holes, np.nan)
    ax.plot(x, y, color=PALETTE[role], solid_joinstyle="round", **style)
    known = np.concatenate(([False], ~np.isnan(y), [False]))
    alone = known[1:-1] & ~known[:-2] & ~known[2:]
    ax.plot(x[alone], y[alone], "o", color=PALETTE[role], markersize=3.5)


def _time_axis(ax: Axes, start_s: float, end_s: float) -> None:
    width = ax.get_figure(root=True).get_size_inches()[0] * 72  # type: ignore[union-attr]
    wanted = (end_s - start_s) / max(2.0, width / 80)
    step = next((s for s in TICK_SECONDS if s >= wanted), TICK_SECONDS[-1])
    ax.xaxis.set_major_locator(MultipleLocator(step))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: clock(seconds)))
    ax.set_xlim(start_s, end_s)


def _label(ax: Axes, x: str, y: str) -> None:
    ax.set_xlabel(x, fontsize=11, color=PALETTE["muted"], fontfamily=FONT)
    ax.set_ylabel(y, fontsize=11, color=PALETTE["muted"], fontfamily=FONT)
