"""What is understood of rooms and files, before anything is made of them: inspect."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from contentctr.cli.common import Columns, StartedAt, column_names, start_time
from contentctr.errors import InputError
from contentctr.printing import say

_LABELS = 26
"""Characters of a line that the strip of coverage leaves to what stands beside it."""


def inspect(
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="ROOM|FILE...", help="Room folders, or files of any kind."),
    ],
    comments: Annotated[Path | None, typer.Option(help="Chat log of the video.")] = None,
    speech: Annotated[Path | None, typer.Option(help="Subtitles of the video.")] = None,
    events: Annotated[Path | None, typer.Option(help="Event log of the video.")] = None,
    started_at: StartedAt = None,
    columns: Columns = None,
    as_kind: Annotated[
        Literal["comments", "speech", "events", "columns"] | None,
        typer.Option("--as", help="Take each file for this, whatever its content says."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="PNG to draw what is covered when.")
    ] = None,
) -> None:
    """What is understood of recordings, chats and logs: clock, parts, what is left out, shift."""
    from contentctr.report.inspection import describe
    from contentctr.rooms.inspection.facts import as_json as facts
    from contentctr.rooms.inspection.inspect import Given, find_inputs
    from contentctr.rooms.inspection.inspect import inspect as run

    beside = {"comments": comments, "speech": speech, "events": events}
    given = Given(
        kind=as_kind,
        beside={name: path for name, path in beside.items() if path is not None},
        started_at=start_time(started_at),
        names=column_names(columns),
        show_progress=True,
    )
    paths = find_inputs(inputs)
    _check(paths, given.beside, out)
    found, lines = [], []
    cells = _cells()
    for path in paths:
        one = run(path, given)
        found.append(one)
        if not as_json:
            lines = describe(one, cells, unicode=_is_unicode())
            say("\n".join([*lines, ""]), result=True)
    if as_json:
        print(json.dumps({"inputs": [facts(one) for one in found]}, indent=2, allow_nan=False))
    if out is not None:
        from contentctr.report.coverage import draw_coverage

        drawn = draw_coverage(found, out)
        note = str(out) if drawn else "nothing has a time: no picture was drawn"
        say(note, result=not as_json)
    if not any(one.is_read for one in found):
        raise typer.Exit(2)


def _check(paths: list[Path], beside: dict[str, Path] | object, out: Path | None) -> None:
    if beside and len(paths) > 1:
        raise InputError(
            f"--comments, --speech and --events are of one video, and there are {len(paths)} inputs"
        )
    if out is not None:
        from contentctr.report.coverage import require_png

        require_png(out, len(paths))


def _cells() -> int:
    from contentctr.report.strip import MAX_CELLS, MIN_CELLS

    return max(MIN_CELLS, min(MAX_CELLS, shutil.get_terminal_size().columns - _LABELS))


def _is_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
