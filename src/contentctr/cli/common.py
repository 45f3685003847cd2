"""What the commands have in common: arguments of a kind, and how results are printed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from contentctr.errors import InputError

if TYPE_CHECKING:
    from contentctr.predict.files import Prediction

EngineName = Literal["auto", "torch", "onnx", "openvino"]

LOG_FIELDS = ("t", "text", "user_id", "kind", "id")
"""Fields of logs whose columns a user can name."""

Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, or auto.")]
Engine = Annotated[
    EngineName,
    typer.Option(
        help="What runs the encoders. auto: the fastest that is installed (extra fast) and gives "
        "the features that torch gives."
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Share the work out over a Ray cluster: auto, HOST:PORT, or local (one started here). "
        "All its machines must see the same files.",
    ),
]
Columns = Annotated[
    str | None,
    typer.Option(
        metavar="FIELD=NAME,...",
        help="Names of columns in the logs: t=offset,text=message,user_id=author (also kind, id).",
    ),
]
StartedAt = Annotated[
    str | None,
    typer.Option(
        metavar="ISO", help="When the video started, with a zone, for clock times in its logs."
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last save.")]
Asr = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL|FOLDER|embedded|none",
        help="What recognises speech where there is sound and no transcript: a Whisper model of "
        "the hub by name, one in a folder, embedded, or none. \\[default: embedded, if the extra "
        "`speech` is installed]",
    ),
]
Language = Annotated[
    str | None, typer.Option(help="What is spoken, as en or zh. \\[default: detected, once a room]")
]
Words = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings to change.")
]


class Frames(StrEnum):
    """Which picture of a video stands for a time (config.FrameChoice)."""

    exact = "exact"
    keyframe = "keyframe"


def column_names(text: str | None) -> dict[str, str]:
    """What --columns says: the log's name of each field.

    Raises:
        InputError: it is not FIELD=NAME,...
    """
    names: dict[str, str] = {}
    for pair in (text or "").split(","):
        field, mark, name = (word.strip() for word in pair.partition("="))
        if not pair.strip():
            continue
        if field not in LOG_FIELDS or not mark or not name or field in names:
            raise InputError(
                f"--columns must be FIELD=NAME,... with each of {', '.join(LOG_FIELDS)} once at "
                f"most, not {text!r}"
            )
        names[field] = name
    return names


def start_time(text: str | None) -> datetime | None:
    """What --started-at says.

    Raises:
        InputError: it is not a date and time with a zone.
    """
    from contentctr.rooms.lines import BadLine
    from contentctr.rooms.moments import parse_started_at

    try:
        return None if text is None else parse_started_at(text, "--started-at")
    except BadLine as reason:
        raise InputError(str(reason)) from None


def device_name(name: str, ray: str | None = None) -> str:
    """The device that `auto` stands for, or the name itself.

    Raises:
        InputError: there is no such device here.
    """
    if name == "cpu":  # without a look for others, which takes torch
        return name
    from contentctr.devices import find_device

    return str(find_device(name, elsewhere=ray is not None))


def print_table(title: str, rows: Mapping[str, object]) -> None:
    """A table of names and values under a title."""
    table = Table("", "", show_header=False)
    for key, value in rows.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        table.add_row(key, f"{value:.4f}" if isinstance(value, float) else str(value))
    console = Console()
    console.print(title, highlight=False, soft_wrap=True)
    console.print(table)


def print_prediction(found: Prediction, score: str) -> None:
    """Warnings, the highlights in their order, and the files that were written.

    Args:
        found: of a recording or of a user's video.
        score: the word before a highlight's score.
    """
    from contentctr.score.highlights import clock

    print_warnings(found.warnings)
    if found.speech:
        print(f"speech: {found.speech}", file=sys.stderr)
    label = f" ({found.label})" if found.label else ""
    for rank, h in enumerate(found.highlights, 1):
        print(f"{rank}. {clock(h.start_s)} - {clock(h.end_s)}  {score} {h.score:.3f}{label}")
    print("\n".join(str(path) for path in found.files))


def print_warnings(warnings: Iterable[str]) -> None:
    """One line each, to standard error."""
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)


@contextmanager
def training_exits(again: str = "go on with --resume") -> Iterator[None]:
    """Exit code 1 where a loss is not finite, 130 where the user stopped it.

    Args:
        again: how to go on then.
    """
    from contentctr.errors import NonFiniteLossError

    try:
        yield
    except NonFiniteLossError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt as stopped:
        print(f"interrupted: {stopped}; {again}", file=sys.stderr)
        raise typer.Exit(130) from None
