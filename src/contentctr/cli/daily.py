"""A model a day."""

from __future__ import annotations

from datetime import date as Date
from pathlib import Path
from typing import Annotated, Any

import typer

from contentctr.cli.common import print_table, training_exits
from contentctr.errors import InputError
from contentctr.printing import say

NOT_REGISTERED = 3
"""Exit code of a day whose model is not registered."""


def daily(
    config: Annotated[Path, typer.Argument(help="Settings: a .toml or .json file.")],
    date: Annotated[
        str | None, typer.Option(metavar="DAY", help="As 2026-05-31. \\[default: yesterday, UTC]")
    ] = None,
) -> None:
    """Take in a day's rooms, train on from yesterday's run, compare, and register the candidate.

    Exit code 0: registered; 3: not, being worse or measured on too few rooms.
    """
    from contentctr.daily.day import REGISTERED, rollout_hint, run_day
    from contentctr.daily.settings import read_settings

    settings = read_settings(config)
    with training_exits(again="the same command goes on"):
        row = run_day(settings, _day(date))
    rows: dict[str, Any] = {"outcome": row["outcome"], "why": row["why"], **row["rooms"]}
    if "calibration" in row:
        rows["model"] = row["model_id"]
        found = row["calibration"]
        rows["calibration"] = found["method"]
        rows["log_loss, before and after"] = ", ".join(
            f"{found[name]['log_loss']:.4f}" for name in ("before", "after")
        )
    for name, of in row.get("compared", {}).get("shown", {}).items():
        rows[f"{name}, old and new"] = ", ".join(map(_number, (of["old"], of["new"])))
    print_table(f"Day {row['date']}", rows)
    if row["outcome"] != REGISTERED:
        raise typer.Exit(NOT_REGISTERED)
    if hint := rollout_hint(settings):
        say(hint, result=True)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _day(text: str | None) -> Date | None:
    try:
        return None if text is None else Date.fromisoformat(text)
    except ValueError:
        raise InputError(f"--date must be a day as 2026-05-31, not {text!r}") from None
