"""The command `contentctr`: arguments alone, the work is elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from contentctr import __version__
from contentctr.config import RECIPES, Config, DataSpec, override, recipe
from contentctr.errors import InputError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Predict, for every 30 seconds of every live room, the click-through rate of what is on "
    "screen.",
)

Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, or auto.")]
Target = Annotated[
    str, typer.Option(help="ctr, comment_rate, or a numeric column of your own (columns.csv).")
]


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Say the version.")] = False,
) -> None:
    if version:
        print(f"contentctr {__version__}")
        raise typer.Exit


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="Folder to write to.")],
    rooms: Annotated[int, typer.Option(help="Rooms.")] = 40,
    streamers: Annotated[int, typer.Option(help="Streamers.")] = 12,
    min_segments: Annotated[int, typer.Option(help="Segments of the shortest room.")] = 40,
    max_segments: Annotated[int, typer.Option(help="Segments of the longest room.")] = 100,
    seed: Annotated[int, typer.Option(help="Same seed, same rooms.")] = 0,
    features: Annotated[
        bool,
        typer.Option("--features", help="Features alone, already prepared and encoded; no frames."),
    ] = False,
) -> None:
    """Write simulated live rooms, with a known truth."""
    from contentctr.rooms.simulated.mechanism import SimulatorConfig
    from contentctr.simulate import write_features, write_room_folders

    config = SimulatorConfig(
        num_rooms=rooms, num_streamers=streamers, seed=seed, min_segments=min_segments,
        max_segments=max_segments,
    )  # fmt: skip
    (write_features if features else write_room_folders)(config, out)
    print(f"{rooms} simulated rooms in {out}")


@app.command()
def prepare(
    rooms: Annotated[Path, typer.Argument(help="Folder of room folders.")],
    out: Annotated[Path, typer.Argument(help="Prepared folder to write.")],
    target: Target = "ctr",
    comment_lag: Annotated[
        int | None,
        typer.Option(
            help="Give a segment the comments of so many segments before it. [default: 1 "
            "for targets made from comments, else 0]"
        ),
    ] = None,  # fmt: skip
    segment_seconds: Annotated[float, typer.Option(help="Length of a segment.")] = 30.0,
    frames_per_segment: Annotated[int, typer.Option(help="Frames of a segment.")] = 3,
    val: Annotated[float, typer.Option(help="Share of rooms for validation.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of rooms for testing, the latest.")] = 0.1,
    skip_bad_rooms: Annotated[
        bool, typer.Option("--skip-bad-rooms", help="Leave out rooms that cannot be read.")
    ] = False,
) -> None:
    """Cut raw rooms into segments with texts, counts, CTR and a split."""
    from contentctr.prepare import prepare_rooms as run

    data = run(
        rooms, out, target=target, comment_lag=comment_lag, segment_seconds=segment_seconds,
        frames_per_segment=frames_per_segment, val=val, test=test, skip_bad_rooms=skip_bad_rooms,
    )  # fmt: skip
    manifest = data.manifest()
    for warning in manifest.get("warnings", []):
        print(f"warning: {warning}", file=sys.stderr)
    _table(f"Prepared in {out}", manifest["counts"])


@app.command()
def encode(
    data: Annotated[Path, typer.Argument(help="Prepared folder.")],
    visual: Annotated[
        str, typer.Option(help="Image model: a hub name, a local folder, or embedded.")
    ] = "embedded",
    text: Annotated[
        str, typer.Option(help="Text model: a hub name, a local folder, or embedded.")
    ] = "embedded",
    text_pooling: Annotated[
        str | None, typer.Option(help="cls or mean. [default: the model's own]")
    ] = None,
    max_text_tokens: Annotated[int, typer.Option(help="Longer texts are cut.")] = 128,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Pictures or texts encoded at once. [default: 4 on a CPU, else 64]"),
    ] = None,
    inputs: Annotated[
        bool,
        typer.Option("--inputs", help="Store the encoders' inputs, to train the encoders too."),
    ] = False,
    device: Device = "auto",
) -> None:
    """Encode each segment's frames and texts once; what is already there is kept."""
    from contentctr.encode import encode_rooms as run

    counts = run(
        data, visual=visual, text=text, text_pooling=text_pooling,
        max_text_tokens=max_text_tokens, batch_size=batch_size, inputs=inputs,
        device=_device(device),
    )  # fmt: skip
    for warning in counts.pop("warnings", []):
        print(f"warning: {warning}", file=sys.stderr)
    _table(f"Encoded in {data}", counts)


@app.command()
def train(
    recipe_name: Annotated[
        str, typer.Argument(metavar="RECIPE", help=f"One of {', '.join(sorted(RECIPES))}.")
    ],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings to change.")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", "-d", help="Encoded folder.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The run's folder.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last save.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how big it is; no more.")] = False,
) -> None:
    """Train a recipe. On several devices: accelerate launch -m contentctr train ..."""
    config = override(recipe(recipe_name), settings or [])
    if dry_run:
        _dry_run(recipe_name, config, data)
        return
    if data is None or out is None:
        raise InputError("train needs --data FOLDER and --out FOLDER (or --dry-run)")
    from contentctr.train import NonFiniteLossError
    from contentctr.train import train_model as run

    try:
        best = run(config, data, out, resume=resume)
    except NonFiniteLossError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
    except KeyboardInterrupt as stopped:
        print(f"interrupted: {stopped}; go on with --resume", file=sys.stderr)
        raise typer.Exit(130) from None
    print(f"best checkpoint: {best}")


def _dry_run(name: str, config: Config, data: Path | None) -> None:
    from contentctr.models.registry import model_type
    from contentctr.prepared import Prepared
    from contentctr.segment_data import known_ids, load_segments
    from contentctr.size import model_size
    from contentctr.vocabulary import Vocabulary
    from contentctr.windows import sample_windows

    spec, vocabulary = DataSpec(), Vocabulary(streamers=["one"], rooms=["one"])
    rows: dict[str, object] = {}
    if data is not None:
        from contentctr.features import data_spec

        prepared = Prepared(data)
        spec = data_spec(prepared, inputs=config.train.finetune_encoders)
        vocabulary = known_ids(prepared.segments())
        segments = load_segments(
            prepared, vocabulary, split="train", horizon=config.data.horizon,
            inputs=config.train.finetune_encoders,
            content=model_type(config.model.kind).reads_content,
        )  # fmt: skip
        rows["training windows"] = len(sample_windows(segments, config.data, spec.target))
    size = model_size(config, spec, vocabulary)
    for key, value in size.items():
        unit = (1e9, "G") if "flops" in key else (1e6, "M")
        rows[key] = f"{value / unit[0]:.2f} {unit[1]}"
    _table(
        f"Recipe {name}, features of width {spec.visual_dim} and {spec.text_dim}, "
        f"{len(vocabulary.streamers)} streamers; flops are for one sample",
        rows,
    )


@app.command()
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint or run folder.")],
    data: Annotated[Path, typer.Argument(help="Encoded folder.")],
    out: Out,
    split: Annotated[str, typer.Option(help="train, val, test or all.")] = "test",
    batch_size: Annotated[int, typer.Option(help="Windows scored at once.")] = 64,
    device: Device = "auto",
) -> None:
    """Measure a model on held-out rooms: predictions, metrics, and a report page."""
    from contentctr.evaluate import evaluate_model as run
    from contentctr.report import write_report

    metrics = run(checkpoint, data, out, split=split, batch_size=batch_size, device=_device(device))
    page = write_report(out)
    label = " (simulated rooms)" if metrics["simulated"] else ""
    if metrics["trained_on_simulated"] and not metrics["simulated"]:
        label = " (by a model of simulated rooms)"
    rows: dict[str, object] = {"kendall_tau": metrics["metrics"]["kendall_tau"]}
    for name, reference in metrics["references"].items():
        rows[f"kendall_tau of {name}"] = reference["kendall_tau"]
    _table(f"{metrics['counts']['samples']} samples of {split}{label}", rows)
    print(f"report: {page}")


@app.command()
def report(
    evaluation: Annotated[Path, typer.Argument(help="Folder that evaluate wrote.")],
    max_rooms: Annotated[int, typer.Option(help="Rooms whose curves are shown.")] = 12,
) -> None:
    """Write the report page again, from the saved files of an evaluation."""
    from contentctr.report import write_report

    print(f"report: {write_report(evaluation, max_rooms=max_rooms)}")


@app.command()
def predict(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint or run folder.")],
    source: Annotated[Path, typer.Argument(help="Room folder or video file.")],
    out: Out,
    comments: Annotated[Path | None, typer.Option(help="Chat log of the video.")] = None,
    speech: Annotated[Path | None, typer.Option(help="Subtitles of the video.")] = None,
    events: Annotated[Path | None, typer.Option(help="Event log of the video.")] = None,
    streamer: Annotated[str, typer.Option(help="Who streams.")] = "",
    top: Annotated[int, typer.Option(help="Highlights at most.")] = 5,
    clips: Annotated[bool, typer.Option("--clips", help="Cut the highlights out.")] = False,
    device: Device = "auto",
) -> None:
    """From a recording to its CTR curve and highlights."""
    from contentctr.predict import predict_recording as run

    found = run(
        checkpoint, source, out, comments=comments, speech=speech, events=events,
        streamer_id=streamer, top_k=top, clips=clips, device=_device(device),
    )  # fmt: skip
    for warning in found.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    from contentctr.highlights import clock

    label = f" ({found.label})" if found.label else ""
    for rank, h in enumerate(found.highlights, 1):
        print(f"{rank}. {clock(h.start_s)} - {clock(h.end_s)}  predicted {h.score:.3f}{label}")
    print("\n".join(str(path) for path in found.files))


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(help="New folder for everything.")] = Path("demo-out"),
) -> None:
    """The main job end to end, offline, on simulated rooms and a real recording."""
    from contentctr.demo import demo as run

    if not run(out)["as_promised"]:
        raise typer.Exit(1)


def _device(name: str) -> str:
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _table(title: str, rows: Mapping[str, object]) -> None:
    table = Table("", "", show_header=False)
    for key, value in rows.items():
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
        table.add_row(key, f"{value:.4f}" if isinstance(value, float) else str(value))
    console = Console()
    console.print(title, highlight=False, soft_wrap=True)
    console.print(table)


def main() -> None:
    """Run the command: exit code 2 for wrong input, 130 for an interrupt, 1 for a failure."""
    try:
        app()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
