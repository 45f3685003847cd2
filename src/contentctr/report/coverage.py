"""A picture of what of a room is covered when: pictures, sound, speech, comments, events."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from contentctr.errors import InputError
from contentctr.report.figures import (
    PALETTE,
    bare_axes,
    drawn_by_us,
    heading,
    save_png,
)
from contentctr.report.fonts import FONT
from contentctr.report.strip import coverage_rows
from contentctr.report.ticks import moment, tick_seconds
from contentctr.rooms.inspection.coverage import time_range
from contentctr.rooms.inspection.facts import Inspection

MAX_INPUTS = 20
"""More do not go on one picture."""
_WIDTH, _ROW, _HEAD = 960, 34, 70
_CELLS = 480


def require_png(path: Path, count: int) -> None:
    """Refuse a picture that could not be written, or would overwrite a user's file.

    Raises:
        InputError: says which.
    """
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: the picture is a PNG; its name must end in .png")
    if path.exists() and not drawn_by_us(path):
        raise InputError(f"{path}: is there, and not a picture of ours: it is left alone")
    if count > MAX_INPUTS:
        raise InputError(f"{path}: at most {MAX_INPUTS} inputs go on a picture, not {count}")


def draw_coverage(inputs: Sequence[Inspection], path: Path) -> bool:
    """Draw all inputs that have times, one below the other.

    Args:
        inputs: what was inspected.
        path: PNG to write.

    Returns:
        Whether there was anything to draw.
    """
    panels = [(found, rows) for found in inputs if (rows := coverage_rows(found, _CELLS))]
    if not panels:
        return False
    heights = [_HEAD + _ROW * len(rows) for _, rows in panels]
    figure = Figure(
        figsize=(_WIDTH / 72, sum(heights) / 72), layout="constrained", facecolor="none"
    )
    grid = figure.add_gridspec(len(panels), 1, height_ratios=heights)
    for number, (found, rows) in enumerate(panels):
        ax = figure.add_subplot(grid[number])
        bare_axes(ax)
        _draw_rows(ax, found, rows)
        heading(ax, found.path.resolve().name, "simulated" if found.simulated else "")
    save_png(figure, path)
    return True


def _draw_rows(ax: Axes, found: Inspection, rows: Sequence[tuple[str, np.ndarray, str]]) -> None:
    begin_s, end_s = time_range(found)
    edges = np.linspace(begin_s, end_s, _CELLS + 1)
    for place, (name, values, scale) in enumerate(reversed(rows)):
        # What is there at all is seen.
        heights = np.where(values > 0, np.maximum(0.06, values), 0.0) * 0.8
        color = PALETTE["muted" if name == "room" else _COLORS.get(name, "target")]
        ax.stairs(place + heights, edges, baseline=place, fill=True, color=color, linewidth=0)
        ax.plot([begin_s, end_s], [place, place], color=PALETTE["grid"], linewidth=1)
        if scale:
            ax.annotate(
                scale,
                (1, place + 0.3),
                xycoords=("axes fraction", "data"),
                xytext=(6, 0),
                textcoords="offset points",
                fontsize=10,
                color=PALETTE["muted"],
                fontfamily=FONT,
            )
    ax.set_yticks(
        [place + 0.3 for place in range(len(rows))], [name for name, _, _ in reversed(rows)]
    )
    ax.grid(False)
    ax.set_ylim(-0.1, len(rows))
    ax.set_xlim(begin_s, end_s)
    if found.duration_s is not None:
        for edge in (0.0, found.duration_s):
            if begin_s < edge < end_s:
                ax.axvline(edge, color=PALETTE["muted"], linewidth=1, linestyle=(0, (4, 3)))
    ax.xaxis.set_major_locator(FixedLocator(tick_seconds(begin_s, end_s, 12)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: moment(seconds)))


_COLORS = {
    "pictures": "truth",
    "frames": "truth",
    "sound": "target",
    "speech": "highlight",
    "comments": "predicted",
    "events": "muted",
    "columns": "target",
}
