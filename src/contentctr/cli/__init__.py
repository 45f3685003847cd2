"""The command `contentctr`: arguments alone, the work is elsewhere."""

from __future__ import annotations

import os
import sys
import threading
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from contentctr import __version__
from contentctr.cli import (
    abtest,
    daily,
    experiments,
    highlights,
    ingest,
    live,
    models,
    pretrain,
    rollout,
    rooms,
    settings,
    share,
    simulate,
    tuning,
    watch,
    worker,
)
from contentctr.cli import inspect as inspections
from contentctr.errors import InputError
from contentctr.files import SYSTEM_FAULTS
from contentctr.printing import safe, say

WAY = (
    *(
        "simulate",
        "inspect",
        "transcribe",
        "prepare",
        "encode",
        "pretrain",
        "settings",
        "train",
        "tune",
        "runs",
        "evaluate",
        "report",
        "export",
        "predict",
    ),
    *(
        "highlights",
        "serve",
        "worker",
        "ingest",
        "rejected",
        "rollout",
        "watch",
        "abtest",
        "abtest-replay",
        "reproduce",
        "daily",
        "demo",
    ),
)
"""The commands in the order of the data's way, as --help lists them."""


class _Commands(TyperGroup):
    """All commands; Typer by itself would list groups after everything else."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=WAY.index)


class _RoomFolders(TyperGroup):
    """Sources of rooms; without the name of one, the words are those of `rooms`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        # A folder may well be called rooms: `prepare rooms data` has no third word.
        alone = args[:1] == ["rooms"] and len(args) > 1 and (args[2:] or ["-"])[0].startswith("-")
        bare = bool(args) and args[0] not in (*self.commands, "-h", "--help")
        if bare or (alone and not args[1].startswith("-")):
            args = ["rooms", *args]
        return super().parse_args(ctx, args)


_SETTINGS: dict[str, Any] = {
    "no_args_is_help": True,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
app = typer.Typer(
    **_SETTINGS,
    cls=_Commands,
    help="Predict, for every 30 seconds of every live room, the click-through rate of what is on "
    "screen.",
)
_simulate = typer.Typer(
    **_SETTINGS, help="Write simulated rooms, watch logs or users, with a known truth."
)
_prepare = typer.Typer(
    **_SETTINGS,
    cls=_RoomFolders,
    help="Cut raw rooms into segments with texts, counts, CTR and a split.",
)
_pretrain = typer.Typer(**_SETTINGS, help="Pre-train what the model starts from.")
_rollout = typer.Typer(**_SETTINGS, help="Another model in place of the one that workers serve.")
_rejected = typer.Typer(**_SETTINGS, help="Segments that stream workers put aside.")
app.add_typer(_simulate, name="simulate")
app.add_typer(_prepare, name="prepare")
app.add_typer(_pretrain, name="pretrain")
app.add_typer(_rejected, name="rejected")
app.add_typer(_rollout, name="rollout")

_simulate.command("rooms")(simulate.simulate_rooms)
_simulate.command("features")(simulate.simulate_features)
_simulate.command("logs")(simulate.simulate_logs)
_simulate.command("personal")(simulate.simulate_personal)
_prepare.command("rooms")(rooms.prepare_rooms)
_prepare.command("klm3")(rooms.prepare_klm3)
_prepare.command("phd")(highlights.prepare_phd)
app.command()(inspections.inspect)
app.command()(rooms.transcribe)
app.command()(rooms.encode)
_pretrain.command()(pretrain.streamer)
_pretrain.command()(pretrain.text)
_pretrain.command()(pretrain.vision)
app.command()(settings.settings)
app.command(cls=settings.WithSettings)(models.train)
app.command()(tuning.tune)
app.command()(tuning.runs)
app.command()(models.evaluate)
app.command()(models.report)
app.command()(share.export)
app.command()(models.predict)
app.command()(highlights.highlights)
app.command()(live.serve)
app.command()(worker.worker)
app.command()(ingest.ingest)
_rejected.command("list")(worker.list_rejected)
_rejected.command("replay")(worker.replay_rejected)
_rollout.command()(rollout.status)
_rollout.command()(rollout.promote)
_rollout.command()(rollout.back)
_rollout.command()(rollout.drop)
app.command()(watch.watch)
app.command()(abtest.abtest)
app.command("abtest-replay")(abtest.abtest_replay)
app.command()(experiments.reproduce)
app.command()(daily.daily)
app.command()(models.demo)


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Say the version.")] = False,
) -> None:
    if version:
        say(f"contentctr {__version__}", result=True)
        raise typer.Exit


def _thread_failed(found: threading.ExceptHookArgs) -> None:
    """A library's writer in a thread of its own: what it met is raised here too, and told there."""
    if not (isinstance(found.exc_value, OSError) and found.exc_value.errno in SYSTEM_FAULTS):
        threading.__excepthook__(found)


def main() -> None:
    """Run the command: exit code 2 for wrong input, 130 for an interrupt, 1 for a failure."""
    threading.excepthook = _thread_failed
    try:
        app()
    except InputError as error:
        say(safe(f"error: {error}"))
        sys.exit(2)
    except OSError as error:
        if error.errno not in SYSTEM_FAULTS:
            raise
        place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        say(safe(f"error: {place}{error.strerror or os.strerror(error.errno)}"))
        sys.exit(1)
