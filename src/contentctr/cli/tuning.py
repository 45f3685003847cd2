"""Settings tried out, and runs beside each other."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from contentctr.cli.common import Device, Words, print_table, training_exits
from contentctr.config import override
from contentctr.errors import InputError
from contentctr.extras import require_installed
from contentctr.printing import safe, say
from contentctr.recipes import RECIPES, recipe

if TYPE_CHECKING:
    import polars as pl


def tune(
    recipe_name: Annotated[
        str, typer.Argument(metavar="RECIPE", help=f"One of {', '.join(sorted(RECIPES))}.")
    ],
    words: Words = None,
    data: Annotated[Path | None, typer.Option("--data", "-d", help="Encoded folder.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write to.")] = None,
    search: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=SPACE...",
            help="What is tried: model.dropout=0:0.5, train.learning_rate=1e-5:1e-3:log, "
            "train.batch_size=16:64:16, loss.pair=L1,L3. Several may follow. \\[default: learning "
            "rate, weight decay and dropout]",
        ),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="In all, those of earlier calls too.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the settings that are drawn.")] = 0,
    device: Device = "auto",
) -> None:
    """Train a recipe over and over to find its best settings; the same command goes on.

    Trials are chosen by Optuna, and stopped early where the validation lags behind others.
    """
    if data is None or out is None:
        raise InputError("tune needs --data FOLDER and --out FOLDER")
    require_installed("optuna", "tune")
    from contentctr.train.tuning import BEST, tune_model

    # Words with a space of values belong to --search, where the shell leaves them loose.
    loose = [word for word in words or [] if search and ":" in word.partition("=")[2]]
    fixed = [word for word in words or [] if word not in loose]
    with training_exits(again="the same command goes on"):
        found = tune_model(
            override(recipe(recipe_name), fixed),
            data,
            out,
            search=[*(search or []), *loose],
            trials=trials,
            seed=seed,
            device=device,
        )
    rows = {"trials": found["trials"], found["metric"]: found["score"]}
    pairs = (word.partition("=") for word in found["settings"])
    rows |= {name: _short(value) for name, _, value in pairs}
    print_table(f"Best of {recipe_name}: trial {found['trial']}", rows)
    say(f"its run: {out / found['run']}", result=True)
    say(
        f"train with these settings: contentctr train {out / BEST} --data {data} --out RUN",
        result=True,
    )


def runs(
    folder: Annotated[Path, typer.Argument(help="Folder of runs and evaluations.")],
    as_json: Annotated[bool, typer.Option("--json", help="All of it as JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="All of it as CSV.")] = False,
) -> None:
    """A table of runs: settings that differ, best validation score, and evaluations."""
    if as_json and as_csv:
        raise InputError("--json and --csv: choose one")
    from contentctr.report.runs import FACTS, compare_runs

    table = compare_runs(folder)
    if as_json:
        print(json.dumps(table.to_dicts(), indent=2))
    elif as_csv:
        print(table.write_csv(), end="")
    else:
        _print_runs(table, [name for name in table.columns if name not in FACTS])


def _print_runs(table: pl.DataFrame, settings: list[str]) -> None:
    """What fits a terminal: a row a run, its settings that differ on a line of their own."""
    found = Table("run", "epochs", "best validation", "evaluation", "of its split")
    for row in table.iter_rows(named=True):
        name = row["run"] or "(its run is not here)"
        lines = [name, *(f"  {key}={_short(row[key])}" for key in settings)]
        best, value = row["best_validation"], row["value"]
        found.add_row(
            Text("\n".join(map(safe, lines))),
            "" if row["epochs"] is None else str(row["epochs"]),
            "" if best is None else f"{row['metric']} {best:.4f} ({_epoch(row)})",
            Text(safe(row["evaluation"] or "")),
            "" if row["split"] is None else _result(row, value),
        )
    Console(width=None if sys.stdout.isatty() else 140).print(found)


def _epoch(row: dict[str, Any]) -> str:
    return "all members" if row["best_epoch"] is None else f"epoch {row['best_epoch']}"


def _result(row: dict[str, Any], value: float | None) -> str:
    shown = "undefined" if value is None else f"{value:.4f}"
    if row["low"] is not None:
        shown += f" ({row['low']:.4f} to {row['high']:.4f})"
    mark = "simulated " * bool(row["simulated"])
    return f"{mark}{row['split']}: {row['metric']} {shown}"


def _short(value: str | None) -> str:
    """A drawn number with four digits."""
    try:
        return f"{float(value or ''):.4g}"
    except ValueError:
        return str(value)
