"""A prediction as a notebook shows it: one picture and one table, with nothing to fetch or run."""

from __future__ import annotations

import math

import numpy as np
from markupsafe import Markup, escape

from contentctr.predict.found import Found
from contentctr.score.highlights import Highlight, clock

WIDTH, HEIGHT, TOP = 800, 120, 8
MOST_POINTS = 800
"""Of a longer curve each point is the highest of its stretch, so that no peak is lost."""


def curve_html(found: Found) -> str:
    """HTML with the curve as SVG, its highlights and their reasons.

    All text is escaped; there is no script, no style of the page's and no address in it.

    Args:
        found: what a model or the rule found.
    """
    name = found.recording.name or str(found.recording)
    label = Markup(" <i>({})</i>").format(found.label) if found.label else Markup()
    rows = Markup().join(_row(rank, h) for rank, h in enumerate(found.highlights, 1))
    table = Markup("<table><tr><th></th><th>time</th><th>score</th><th>why</th></tr>{}</table>")
    said = found.verdict or ("" if found.highlights else "no highlights")
    return str(
        Markup("<div><p><b>{}</b>, {}{}</p>{}{}{}</div>").format(
            found.title,
            name,
            label,
            _svg(found),
            table.format(rows) if found.highlights else Markup(),
            Markup("<p>{}</p>").format(said) if said else Markup(),
        )
    )


def _row(rank: int, highlight: Highlight) -> Markup:
    reasons = "; ".join(reason.text for reason in highlight.reasons)
    span = f"{clock(highlight.start_s)} - {clock(highlight.end_s)}"
    cells = (str(rank), span, f"{highlight.score:.3f}", reasons)
    return Markup("<tr>{}</tr>").format(
        Markup().join(Markup("<td>{}</td>").format(cell) for cell in cells)
    )


def _svg(found: Found) -> Markup:
    """The curve from 0 to its highest, with the highlights behind it."""
    ends = found.curve["end_s"].to_numpy()
    length_s = float(ends[-1]) if len(ends) else 1.0
    scores_S = np.asarray(found.line_S, np.float64)
    known = scores_S[~np.isnan(scores_S)]
    top = float(known.max()) if len(known) and known.max() > 0 else 1.0

    def x(seconds: float) -> float:
        return round(WIDTH * seconds / length_s, 1)

    box = Markup('<rect x="{}" y="0" width="{}" height="{}" fill="#e8a33d" fill-opacity="0.4"/>')
    boxes = Markup().join(
        box.format(x(h.start_s), round(max(x(h.end_s) - x(h.start_s), 1.0), 1), HEIGHT)
        for h in found.highlights
    )
    middles = ((found.curve["start_s"] + found.curve["end_s"]) / 2).to_numpy()
    each = max(1, math.ceil(len(scores_S) / MOST_POINTS))
    lines: list[list[str]] = []
    points: list[str] = []
    for start in range(0, len(scores_S), each):
        part = scores_S[start : start + each]
        if np.isnan(part).all():  # a gap in the scores is one in the line
            lines, points = [*lines, points], []
            continue
        best = start + int(np.nanargmax(part))
        y = round(HEIGHT - (HEIGHT - TOP) * max(float(scores_S[best]), 0.0) / top, 1)
        points.append(f"{x(float(middles[best]))},{y}")
    line = Markup().join(
        Markup('<polyline points="{}" fill="none" stroke="#3b6fb6" stroke-width="1.5"/>').format(
            " ".join(p)
        )
        for p in [*lines, points]
        if p
    )
    return Markup(
        '<svg role="img" aria-label="{}" viewBox="0 0 {} {}" width="100%" '
        'style="max-width:{}px" preserveAspectRatio="none">{}{}</svg>'
        '<div style="max-width:{}px;text-align:right"><small>0:00 to {}; highest {}</small></div>'
    ).format(
        escape(found.title), WIDTH, HEIGHT, WIDTH, boxes, line, WIDTH, clock(length_s), f"{top:.3f}"
    )
