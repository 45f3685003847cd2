"""A trained model for others: ONNX, and folders of the Hugging Face hub."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from contentctr.cli.common import Out, print_warnings
from contentctr.errors import InputError
from contentctr.printing import say


class Format(StrEnum):
    """What is written."""

    onnx = "onnx"
    hub = "hub"


def export(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint, or a run's folder.")],
    out: Out,
    format: Annotated[
        Format,
        typer.Option(
            "--format",
            help="onnx: the scoring model, for ONNX Runtime. hub: the checkpoint and its card, "
            "as the Hugging Face hub has models.",
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(help="onnx: an encoded folder, whose windows are compared too."),
    ] = None,
    evaluation: Annotated[
        Path | None, typer.Option(help="hub: a folder of evaluate, for the card's numbers.")
    ] = None,
    push_to_hub: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="hub: put it there.")
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="With --push-to-hub: not for others to see.")
    ] = False,
) -> None:
    """Write a trained model as ONNX, or as a folder that the Hugging Face hub takes."""
    from contentctr.share.hub import export_hub, push, require_name
    from contentctr.share.onnx import export_onnx
    from contentctr.store.rooms import PreparedRooms

    of_hub = {"--evaluation": evaluation, "--push-to-hub": push_to_hub, "--private": private}
    of_onnx = {"--data": data}
    others = of_hub if format is Format.onnx else of_onnx
    if given := [name for name, value in others.items() if value]:
        raise InputError(f"{given[0]}: must not be given with --format {format}")
    if format is Format.onnx:
        worst = export_onnx(checkpoint, out, data=None if data is None else PreparedRooms(data))
        say(f"{out / 'model.onnx'}: scores within {worst:.1g} of torch's", result=True)
        return
    if private and push_to_hub is None:
        raise InputError("--private: needs --push-to-hub")
    name = None if push_to_hub is None else require_name(push_to_hub)
    exported = export_hub(checkpoint, out, evaluation=evaluation, name=name)
    print_warnings(exported.notes)
    say(f"{out}: {len(exported.files)} files", result=True)
    if name is not None:
        say(push(exported, name, private=private), result=True)
