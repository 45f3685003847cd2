"""Writes the report page of an evaluation, whatever it is of, from its saved files alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from contentctr.errors import InputError
from contentctr.files import write_text
from contentctr.outputs import alone, check_output, output_folder
from contentctr.report.page import Page, page_html
from contentctr.report.personal import personal_contents
from contentctr.report.rooms import rooms_contents
from contentctr.score.evaluation import Evaluation, read_evaluation

_PAGES: dict[str, Callable[[Evaluation, Path, int], Page]] = {
    "rooms": rooms_contents,
    "personal": personal_contents,
}
"""By a task's name, what stands on its page."""


def write_report(
    eval_dir: Path | str,
    out: Path | str | None = None,
    max_rooms: int = 12,
    *,
    warnings: list[str] | None = None,
) -> Path:
    """Write the report page of an evaluation, of live rooms or of personalized highlights.

    Args:
        eval_dir: folder with predictions.parquet, metrics.json, perhaps training_log.jsonl, and
            users.parquet where it is of personalized highlights.
        out: the HTML file; None: report.html in `eval_dir`. PNGs go into the folder beside it that
            has its name without the suffix. Both are new, or an earlier report's.
        max_rooms: rooms, or users, whose curve is shown, at least 1: the best, median and worst
            by Kendall's tau inside the room, or by the user's average precision, first, then
            others spread over the ranks.
        warnings: what the pictures lack is added to it.

    Returns:
        The HTML file.

    Raises:
        InputError: a file is missing or has another form, `max_rooms` is below 1, the page or the
            folder beside it is somebody else's, or another process evaluates into `eval_dir`.
    """
    eval_dir = Path(eval_dir)
    page = eval_dir / "report.html" if out is None else Path(out)
    if max_rooms < 1:
        raise InputError(f"max_rooms must be at least 1, not {max_rooms}")
    if not page.suffix:
        raise InputError(f"{page}: the report must be an HTML file, such as {page}.html")
    # A page of another place may be of an evaluation that may only be read.
    held = alone(eval_dir, "on an evaluation here") if out is None else nullcontext()
    with held:
        return _write(eval_dir, page, max_rooms, warnings)


def _write(eval_dir: Path, page: Path, max_rooms: int, warnings: list[str] | None) -> Path:
    pictures, kind = page.with_suffix(""), f"the pictures of {page.name}"
    # The folder tells whose the page is: it is there, as ours, before the page is written.
    if not check_output(pictures, kind) and os.path.lexists(page):
        raise InputError(
            f"{page}: is there already, without the pictures of an earlier report in "
            f"{pictures.name}/; move it, or choose another name"
        )
    found = read_evaluation(eval_dir)
    with output_folder(pictures, kind, _picture_names(max_rooms)):
        contents = _PAGES[found.metrics["task"]](found, pictures, max_rooms)
        footer = (
            "Made from the files in ",
            eval_dir.resolve().name,
            ". The same figures as PNG are in ",
            f"{pictures.name}/",
            f"; {contents.warning}." if contents.warning else ".",
        )
        if contents.warning and warnings is not None:
            warnings.append(contents.warning)
        write_text(page, page_html(replace(contents, footer=footer)))
    return page


def _picture_names(max_rooms: int) -> list[str]:
    """Every picture that a report may have."""
    curves = ["best", "median", "worst", *(f"{number:02d}" for number in range(1, max_rooms + 1))]
    names = [*(f"curve-{name}" for name in curves), "against", "calibration", "users", "training"]
    return [f"{name}.png" for name in names]
