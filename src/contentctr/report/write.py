"""Writes the report page of an evaluation, whatever it is of, from its saved files alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from contentctr.errors import InputError
from contentctr.files import write_text
from contentctr.report.page import Page, page_html
from contentctr.report.personal import personal_contents
from contentctr.report.rooms import rooms_contents
from contentctr.score.evaluation import Evaluation, read_evaluation

_PAGES: dict[str, Callable[[Evaluation, Path, int], Page]] = {
    "rooms": rooms_contents,
    "personal": personal_contents,
}
"""By a task's name, what stands on its page."""
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
    found = read_evaluation(eval_dir)
    pictures = page.with_suffix("")
    for old in pictures.glob("*.png"):
        if _OURS.fullmatch(old.name):
            old.unlink()
    contents = _PAGES[found.metrics["task"]](found, pictures, max_rooms)
    footer = (
        "Made from the files in ",
        eval_dir.resolve().name,
        ". The same figures as PNG are in ",
        f"{pictures.name}/",
        ".",
    )
    write_text(page, page_html(replace(contents, footer=footer)))
    return page
