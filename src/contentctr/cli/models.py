"""From encoded rooms to models, and from models to scores: train, evaluate, report, predict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from contentctr.cli.common import (
    Asr,
    Clips,
    Columns,
    Device,
    Engine,
    Exact,
    Export,
    Language,
    Length,
    MaxLength,
    MinLength,
    Out,
    Pad,
    Ray,
    Reel,
    Resume,
    StartedAt,
    Top,
    Vertical,
    Words,
    column_names,
    device_name,
    editing_of,
    highlight_choice,
    print_prediction,
    print_table,
    print_warnings,
    start_time,
    training_exits,
)
from contentctr.config import Config, override
from contentctr.counting import counted
from contentctr.errors import InputError
from contentctr.printing import say
from contentctr.recipes import RECIPES, recipe


def train(
    recipe_name: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help=f"One of {', '.join(sorted(RECIPES))}; or a .json of settings: what tune found, a "
            "run's config.",
        ),
    ],
    settings: Words = None,
    data: Annotated[Path | None, typer.Option("--data", "-d", help="Encoded folder.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The run's folder.")] = None,
    resume: Resume = False,
    init_from: Annotated[
        Path | None,
        typer.Option(
            "--init-from", metavar="RUN", help="Start from another run's weights, where they fit."
        ),
    ] = None,
    new_head: Annotated[
        bool | None,
        typer.Option(
            "--new-head/--keep-head",
            help="With --init-from: a new output layer, or the run's. \\[default: new for another "
            "target]",
        ),
    ] = None,
    track: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TRACKER",
            help="Send settings, losses and metrics to mlflow, wandb, ... too, if it is installed. "
            "Can be given again.",
        ),
    ] = None,
    device: Device = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how big it is; no more.")] = False,
) -> None:
    """Train a recipe. On several devices: accelerate launch -m contentctr train ..."""
    config = override(recipe(recipe_name), settings or [])
    if dry_run:
        _dry_run(recipe_name, config, data)
        return
    if data is None or out is None:
        raise InputError("train needs --data FOLDER and --out FOLDER (or --dry-run)")
    if new_head is not None and init_from is None:
        raise InputError("--new-head and --keep-head go with --init-from RUN")
    from contentctr.score.checkpoint import load
    from contentctr.train.loop import train_model as run

    with training_exits():
        best = run(
            config,
            data,
            out,
            resume=resume,
            init_from=init_from,
            new_head=new_head,
            track=track or (),
            device=device,
        )
    parameters = sum(p.numel() for p in load(best).load_model().parameters())
    say(f"{config.model.kind}: {parameters / 1e6:.2f} M parameters, encoders aside", result=True)
    say(f"best checkpoint: {best}", result=True)


def _dry_run(name: str, config: Config, data: Path | None) -> None:
    from contentctr.batch import DataSpec, Vocabulary
    from contentctr.models.registry import require_task
    from contentctr.models.size import model_size

    spec, vocabulary = DataSpec(), Vocabulary(streamers=["one"], rooms=["one"])
    rows: dict[str, object] = {}
    if data is not None:
        from contentctr.train.opened import open_task
        from contentctr.train.task import Process

        task = open_task(data)
        require_task(config.model.kind, task.name)
        spec = task.spec(config)
        config, vocabulary = task.vocabulary(config)
        rows["training windows"] = len(task.load(config, vocabulary, Process())[0])
    size = model_size(config, spec, vocabulary)
    for key, value in size.items():
        unit = (1e9, "G") if "flops" in key else (1e6, "M")
        rows[key] = f"{value / unit[0]:.2f} {unit[1]}"
    known = len(vocabulary.streamers)
    print_table(
        f"Recipe {name}, features of width {spec.visual_dim} and {spec.text_dim}, "
        f"{counted(known, 'streamer') + '; ' if known else ''}flops are for one sample",
        rows,
    )


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint or run folder.")],
    data: Annotated[Path, typer.Argument(help="Encoded folder.")],
    out: Out,
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "test",
    batch_size: Annotated[
        int | None,
        typer.Option(help="Windows scored at once. \\[default: 64; of users' videos 8]"),
    ] = None,
    device: Device = "auto",
    ray: Ray = None,
) -> None:
    """Measure a model on held-out data: predictions, metrics, and a report page."""
    from contentctr.evaluate.evaluate import evaluate_model as run
    from contentctr.evaluate.evaluate import headline, verdict
    from contentctr.report import write_report

    metrics = run(
        checkpoint,
        data,
        out,
        split=split,
        batch_size=batch_size,
        device=device_name(device, ray),
        ray=ray,
    )
    notes = list(metrics.get("warnings", []))
    page = write_report(out, warnings=notes)
    print_warnings(notes)
    print_table(*headline(metrics))
    if verdict(metrics):
        say(verdict(metrics), result=True)
    say(f"report: {page}", result=True)


def report(
    evaluation: Annotated[Path, typer.Argument(help="Folder that evaluate wrote.")],
    max_rooms: Annotated[int, typer.Option(help="Rooms, or users, whose curves are shown.")] = 12,
) -> None:
    """Write the report page again, from the saved files of an evaluation."""
    from contentctr.report import write_report

    notes: list[str] = []
    page = write_report(evaluation, max_rooms=max_rooms, warnings=notes)
    print_warnings(notes)
    say(f"report: {page}", result=True)


def predict(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="[RUN] RECORDING",
            help="Checkpoint or run folder, and room folder or video file; without a run the rule "
            "of `highlights` scores.",
        ),
    ],
    out: Out,
    comments: Annotated[Path | None, typer.Option(help="Chat log of the video.")] = None,
    speech: Annotated[Path | None, typer.Option(help="Subtitles of the video.")] = None,
    events: Annotated[Path | None, typer.Option(help="Event log of the video.")] = None,
    streamer: Annotated[str, typer.Option(help="Who streams.")] = "",
    asr: Asr = None,
    language: Language = None,
    started_at: StartedAt = None,
    columns: Columns = None,
    top: Top = 5,
    min_length: MinLength = None,
    max_length: MaxLength = None,
    length: Length = "",
    clips: Clips = False,
    exact: Exact = False,
    vertical: Vertical = False,
    reel: Reel = False,
    pad: Pad = 0.0,
    export: Export = None,
    reasons: Annotated[
        Literal["logs", "all"],
        typer.Option(
            help="What is read to say why of a run's highlights: chat and speech alone; or all, "
            "sound and pictures once more too."
        ),
    ] = "logs",
    device: Device = "auto",
    engine: Engine = "auto",
) -> None:
    """From a recording to its curve, of predicted CTR or by the rule, and highlights."""
    if len(inputs) > 2:
        raise InputError(f"predict takes a run and a recording, not {len(inputs)} paths")
    shared: dict[str, Any] = {
        "comments": comments,
        "speech": speech,
        "events": events,
        "streamer_id": streamer,
        "started_at": start_time(started_at),
        "names": column_names(columns),
        "choice": highlight_choice(top, None, min_length, max_length, length),
        "editing": editing_of(clips, exact, vertical, reel, pad, export),
    }
    if len(inputs) == 1:
        if asr is not None or language is not None:
            raise InputError("--asr and --language go with a run")
        from contentctr.predict.by_rule import highlight_recording

        print_prediction(highlight_recording(inputs[0], out, **shared), "score")
        return
    from contentctr.predict.rooms import predict_recording as run

    checkpoint, recording = inputs
    found = run(
        checkpoint,
        recording,
        out,
        **shared,
        asr=asr,
        language=language,
        device=device_name(device),
        engine=engine,
        reasons=reasons,
    )
    print_prediction(found, "predicted")


def demo(
    out: Annotated[
        Path | None,
        typer.Argument(help="New folder. \\[default: demo-out; with --live demo-live, kept]"),
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Simulated rooms go live, with a page to watch.")
    ] = False,
    rooms: Annotated[int, typer.Option(min=1, help="--live: rooms at once.")] = 12,
    speed: Annotated[float, typer.Option(help="--live: 1 is real time.")] = 30.0,
    checkpoint: Annotated[
        Path | None, typer.Option(help="--live: a model of simulated features.")
    ] = None,
    url: Annotated[str | None, typer.Option(help="--live: a service that runs already.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="--live: 0: a free one.")] = 8000,
) -> None:
    """The main job end to end, offline; or with --live, simulated rooms going live."""
    if live:
        import os

        from contentctr.cli.common import require_extra
        from contentctr.cli.live import KEY_VARIABLE

        require_extra()
        from contentctr.demo.live import demo_live

        demo_live(
            out or "demo-live",
            rooms=rooms,
            speed=speed,
            checkpoint=checkpoint,
            url=url,
            port=port,
            api_key=os.environ.get(KEY_VARIABLE),
        )
        return
    from contentctr.demo.recorded import demo as run

    if not run(out or Path("demo-out"))["as_promised"]:
        raise typer.Exit(1)
