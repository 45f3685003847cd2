"""Writes the report page of an evaluation, whatever it is of, from its saved files alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from contentctr.errors import InputError
from contentctr.files import write_text
from contentctr.report.checks import HIGHLIGHTS, ROOMS, task_of
from contentctr.report.page import Page, page_html
from contentctr.report.personal import personal_contents
from contentctr.report.rooms import rooms_contents
from contentctr.report.saved_personal import read_personal
from contentctr.report.saved_rooms import read_evaluation

_TASKS: dict[str, tuple[Callable[[Path], Any], Callable[[Any, Path, int], Page]]] = {
    ROOMS: (read_evaluation, rooms_contents),
    HIGHLIGHTS: (read_personal, personal_contents),
}
"""By the task of metrics.json: what reads its folder, and what makes the page of what was read."""
_OURS = re.compile(r"(curve-(best|median|worst|\d+)|against|calibration|users|training)\.png")


def write_report(eval_dir: Path | str, out: Path | str | None = None, max_rooms: int = 12) -> Path:
    """Write the report page of an evaluation, of live rooms or of personalized highlights.

    Args:
        eval_dir: folder with predictions.parquet, metrics.json, perhaps training_log.jsonl, and
            users.parquet where it is of personalized highlights.
        out: the HTML file; None: report.html in `eval_dir`. PNGs go into the folder beside it that
            has its name without the suffix; those of an earlier report there are replaced.
        max_rooms: rooms, or users, whose curve is shown, at least 1: the best, median and worst
            by Kendall's tau inside the room, or by the user's average precision, first, then
            others spread over the ranks.

    Returns:
        The HTML file.

    Raises:
        InputError: a file is missing or has another form, or `max_rooms` is below 1.
    """
    eval_dir = Path(eval_dir)
    page = eval_dir / "report.html" if out is None else Path(out)
    if max_rooms < 1:
        raise InputError(f"max_rooms must be at least 1, not {max_rooms}")
    if not page.suffix:
        raise InputError(f"{page}: the report must be an HTML file, such as {page}.html")
    task = task_of(eval_dir)
    if task not in _TASKS:
        raise InputError(
            f"{eval_dir / 'metrics.json'}: task must be one of {', '.join(_TASKS)}, not {task!r}"
        )
    read, make = _TASKS[task]
    found = read(eval_dir)
    pictures = page.with_suffix("")
    for old in pictures.glob("*.png"):
        if _OURS.fullmatch(old.name):
            old.unlink()
    contents = make(found, pictures, max_rooms)
    footer = (
        "Made from the files in ",
        eval_dir.resolve().name,
        ". The same figures as PNG are in ",
        f"{pictures.name}/",
        ".",
    )
    write_text(page, page_html(replace(contents, footer=footer)))
    return page
