"""The paper's tables and figures on the user's own data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from contentctr.cli.common import Out, Words
from contentctr.printing import say
from contentctr.reproduce.plan import ITEMS, TASKS

_ITEMS = "; ".join(
    f"of {task.data} {', '.join(key for key, item in ITEMS.items() if item.task == task)}"
    for task in TASKS.values()
)


def reproduce(
    what: Annotated[str, typer.Argument(help=f"{_ITEMS}; or all of that data.")],
    data: Annotated[Path, typer.Argument(help="Encoded folder.")],
    out: Out,
    settings: Words = None,
    recipe: Annotated[
        str | None, typer.Option(help="Recipe of every run.", show_default="the paper's")
    ] = None,
    seeds: Annotated[
        int, typer.Option(help="Runs of each row, with seeds 0, 1, ... (times members)")
    ] = 3,
    jobs: Annotated[
        int, typer.Option(help="Processes on a CPU; with CUDA devices it is one a device.")
    ] = 1,
) -> None:
    """Train and evaluate what is missing of the paper's tables and figures; write the page."""
    from contentctr.reproduce.runner import FailedRunsError
    from contentctr.reproduce.runner import reproduce as run

    try:
        page = run(what, data, out, recipe=recipe, settings=settings or [], seeds=seeds, jobs=jobs)
    except FailedRunsError as error:
        say(f"error: {error}")
        raise typer.Exit(1) from None
    except KeyboardInterrupt as stopped:
        say(f"interrupted: {stopped}; the same command goes on")
        raise typer.Exit(130) from None
    say(f"page: {page}", result=True)
