"""What the commands have in common: arguments of a kind, and how results are printed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from contentctr.errors import InputError
from contentctr.extras import require_installed
from contentctr.printing import safe, say

if TYPE_CHECKING:
    from contentctr.predict.editing import Editing
    from contentctr.predict.files import Prediction
    from contentctr.score.choose import HighlightChoice

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
Top = Annotated[int, typer.Option(help="Highlights at most.")]
MinLength = Annotated[
    float | None, typer.Option(help="Shortest highlight, in seconds. \\[default: 10]")
]
MaxLength = Annotated[
    float | None, typer.Option(help="Longest highlight, in seconds. \\[default: 90; personal 15]")
]
Length = Annotated[
    str,
    typer.Option(
        metavar="90s|10%",
        help="The best set of highlights for a reel of this length, in place of --top.",
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


Clips = Annotated[
    bool, typer.Option("--clips", help="Cut the highlights out, without encoding them again.")
]
Exact = Annotated[
    bool,
    typer.Option("--exact", help="Clips that begin and end to the frame: pictures encoded again."),
]
Vertical = Annotated[
    bool, typer.Option("--vertical", help="Exact clips, cropped to 9:16 for phones.")
]
Reel = Annotated[bool, typer.Option("--reel", help="Join the clips into one file too.")]
Pad = Annotated[
    float, typer.Option(help="Seconds more on each side of a clip or of a cut for editors.")
]
Export = Annotated[
    str | None,
    typer.Option(
        metavar="otio,edl,...",
        help="Files for other programs: otio, edl, fcpxml, chapters, vtt, csv, json.",
    ),
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


def editing_of(
    clips: bool, exact: bool, vertical: bool, reel: bool, pad: float, export: str | None
) -> Editing:
    """What the options for editing say.

    Raises:
        InputError: a setting is out of its range, or --export names an unknown format.
    """
    from contentctr.predict.editing import Editing
    from contentctr.predict.export.write import parse_formats

    editing = Editing(
        clips=clips,
        exact=exact,
        vertical=vertical,
        reel=reel,
        pad_s=pad,
        formats=() if export is None else parse_formats(export),
    )
    editing.require()
    return editing


def highlight_choice(
    top: int,
    share: float | None,
    min_length: float | None,
    max_length: float | None,
    length: str,
) -> HighlightChoice:
    """What the options of highlights say; None: as usual.

    Raises:
        InputError: a setting is out of its range.
    """
    from contentctr.score.choose import HighlightChoice

    given = {"share": share, "min_length_s": min_length, "max_length_s": max_length}
    named: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if max_length is not None and min_length is None:
        named["min_length_s"] = min(HighlightChoice.min_length_s, max_length)
    choice = HighlightChoice(top_k=top, length=length, **named)
    choice.require()
    return choice


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
        shown = f"{value:.4f}" if isinstance(value, float) else str(value)
        if value is None:
            shown = "undefined"
        table.add_row(Text(safe(key)), Text(safe(shown)))
    console = Console()
    console.print(Text(safe(title)), soft_wrap=True)
    console.print(table)


def print_prediction(found: Prediction, score: str) -> None:
    """Warnings, the highlights in their order with their reasons, and the files that were written.

    Args:
        found: of a recording or of a user's video.
        score: the word before a highlight's score.
    """
    from contentctr.score.highlights import clock

    print_warnings(found.warnings)
    if found.speech:
        say(f"speech: {found.speech}")
    label = f" ({found.label})" if found.label else ""
    for rank, h in enumerate(found.highlights, 1):
        say(
            f"{rank}. {clock(h.start_s)} - {clock(h.end_s)}  {score} {h.score:.3f}{label}",
            result=True,
        )
        if h.reasons:
            say(f"   {'; '.join(reason.text for reason in h.reasons)}", result=True)
    for path in found.files:
        say(safe(str(path)), result=True)


def print_warnings(warnings: Iterable[str]) -> None:
    """One line each, to standard error."""
    for warning in warnings:
        say(safe(f"warning: {warning}"))


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
        say(f"error: {error}")
        raise typer.Exit(1) from None
    except KeyboardInterrupt as stopped:
        say(f"interrupted: {stopped}; {again}")
        raise typer.Exit(130) from None


def require_extra() -> None:
    """Raises InputError where the extra `live` is not installed."""
    for name in ("fastapi", "httpx", "uvicorn", "redis", "prometheus_client"):
        require_installed(name, "live")
