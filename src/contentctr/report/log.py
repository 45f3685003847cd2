"""The training log of an evaluation, read and checked.

EVAL/training_log.jsonl   one line a training step or validation round; may be missing
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from contentctr.errors import InputError
from contentctr.report.checks import is_number

LOG_NUMBERS = ("total", "point", "pair", "align", "kendall_tau", "map")
"""Numbers that a line may have; which of the last two depends on what was trained on."""


def read_log(path: Path) -> pl.DataFrame | None:
    """step, split and LOG_NUMBERS, by step; None where no log was kept.

    Raises:
        InputError: a line has another form.
    """
    if not path.is_file():
        return None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: must be UTF-8 text; byte {error.start} is not") from None
    rows = [_row(f"{path}, line {n}", line) for n, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        return None
    schema = {"step": pl.Int64, "split": pl.String, **dict.fromkeys(LOG_NUMBERS, pl.Float64)}
    # A run that was resumed has done the steps after its last save twice: the later line counts.
    table = pl.DataFrame(rows, schema=schema)
    return table.unique(["split", "step"], keep="last", maintain_order=True).sort("step")


def _row(where: str, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON: {error.msg}") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: must be a JSON object, not {line!r}")
    step, split = row.get("step"), row.get("split")
    if not isinstance(step, int) or isinstance(step, bool):
        raise InputError(f"{where}: step must be a whole number, not {step!r}")
    if split not in ("train", "val"):
        raise InputError(f"{where}: split must be train or val, not {split!r}")
    for name in LOG_NUMBERS:
        if row.get(name) is not None and not is_number(row[name]):
            raise InputError(f"{where}: {name} must be a finite number, not {row[name]!r}")
    return {"step": step, "split": split} | {name: row.get(name) for name in LOG_NUMBERS}
