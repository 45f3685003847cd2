"""What figures are drawn on: SVG in several sizes for a page, and a PNG that stands alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from contentctr.report import blocks
from contentctr.report.figures import (
    PALETTE,
    Paint,
    Sizes,
    draw_svgs,
    heading,
    new_figure,
    save_png,
)
from contentctr.report.fonts import FONT, missing_fonts

Lines = Sequence[tuple[str, str]]
"""Of a legend, as blocks.Legend has them."""


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """Where the figures of a page go as PNG, and what stands on each."""

    folder: Path
    note: str
    """ "simulated", or nothing."""
    titles: list[str] = field(default_factory=list)
    """Of the PNGs that were saved."""

    def draw(
        self,
        key: str,
        title: str,
        alt: str,
        paint: Paint,
        sizes: Sizes,
        *,
        legend: Lines = (),
        caption: str = "",
    ) -> blocks.Figure:
        """Paint an SVG of each size, and the first size as `folder`/`key`.png."""
        alt = self.describe(alt)
        drawings = draw_svgs(paint, sizes, alt, key)
        path = self.save(key, title, paint, sizes[0][1:], legend)
        png = f"{self.folder.name}/{path.name}"
        return blocks.Figure(drawings=drawings, caption=caption, png=png, alt=alt)

    def save(
        self, key: str, title: str, paint: Paint, size: tuple[int, int], legend: Lines = ()
    ) -> Path:
        """Paint a PNG that stands alone: with title, label of simulated data and legend."""
        width, height = size
        figure, axes = new_figure(width, height + 40 * bool(legend))
        paint(axes[0])
        heading(axes[0], title, self.note)
        self.titles.append(title)
        if legend:
            _name_lines(figure, legend)
        path = self.folder / f"{key}.png"
        save_png(figure, path)
        return path

    def lost(self) -> str:
        """What to install for characters that are boxes in the titles; "" if there are none."""
        return missing_fonts(" ".join(self.titles))

    def describe(self, alt: str) -> str:
        """A picture's alternative text, with the label of simulated data."""
        return f"{self.note.capitalize()}. {alt}" if self.note else alt


def _name_lines(figure: Figure, legend: Lines) -> None:
    """A legend beneath the axes, as the page's style sheet draws it."""
    handles: list[Line2D | Patch] = []
    for kind, name in legend:
        role, *shape = kind.split()
        color = PALETTE[role]
        if shape == ["box"]:
            handles.append(Patch(facecolor=to_rgba(color, 0.3), label=name))
        elif shape == ["dot"]:
            handles.append(Line2D([], [], color=color, marker="o", linestyle="", label=name))
        else:
            dashes = (1, 2) if shape == ["dotted"] else (1, 0)
            handles.append(Line2D([], [], color=color, linestyle=(0, dashes), label=name))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=4,
        frameon=False,
        prop={"family": FONT, "size": 11},
        labelcolor=PALETTE["ink"],
    )
