"""Personalized highlights: from the published annotations and a folder of videos on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from contentctr.cli.common import (
    Device,
    Engine,
    Out,
    device_name,
    print_prediction,
    print_table,
    print_warnings,
)


def prepare_phd(
    csv: Annotated[Path, typer.Argument(help="The published CSV.")],
    videos: Annotated[Path, typer.Argument(help="Folder of videos and captions, named by id.")],
    out: Annotated[Path, typer.Argument(help="Prepared folder to write.")],
    test_csv: Annotated[
        Path | None, typer.Option(help="The published CSV of the test users, if CSV is training.")
    ] = None,
    frame_rate: Annotated[float, typer.Option(help="Frames a second.")] = 1.0,
    max_history: Annotated[int, typer.Option(help="Earlier selections of a user, at most.")] = 20,
    min_history: Annotated[
        int, typer.Option(help="Users with fewer are left out; 0 keeps users without history.")
    ] = 1,
    captions: Annotated[str, typer.Option(help="Language of the captions.")] = "en",
    val: Annotated[float, typer.Option(help="Share of users for validation.")] = 0.1,
    test: Annotated[
        float | None,
        typer.Option(
            help="Share of users for testing. \\[default: 0.1; with --test-csv: its users]"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the split.")] = 0,
) -> None:
    """Prepare PHD, personalized highlights, as it is published; missing videos are counted."""
    from contentctr.prepare.personal import Settings
    from contentctr.prepare.personal import prepare_phd as run
    from contentctr.prepare.phd.annotations import describe, read_annotations

    settings = Settings(
        frame_rate=frame_rate,
        max_history=max_history,
        min_history=min_history,
        val=val,
        test=test,
        seed=seed,
        language=captions,
    )
    for path in (csv, test_csv):
        if path is not None:
            found = describe(read_annotations(path), max_history=max_history)
            print_table(f"Annotations in {path}", found)
    data = run(csv, videos, out, test_csv=test_csv, settings=settings)
    manifest = data.manifest()
    print_warnings(manifest["warnings"])
    print_table(f"Prepared in {out}", manifest["counts"])


def pick(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint or run folder.")],
    video: Annotated[Path, typer.Argument(help="Video file.")],
    out: Out,
    more: Annotated[
        list[str] | None, typer.Argument(metavar="CLIPS", help="More of --history.")
    ] = None,
    history: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLIPS...",
            help="The user's earlier picks; of more than 20 the first 20 count, so name the newest "
            "first. Each a video file, which is one pick from start to end; "
            "FILE@START-END,START-END, parts of a file in seconds or m:ss; or a folder of video "
            "files, taken by name. Several may follow.",
        ),
    ] = None,
    captions: Annotated[
        Path | None, typer.Option(help="Captions of the video (.srt, .vtt, .json3, ...).")
    ] = None,
    top: Annotated[int, typer.Option(help="Parts at most.")] = 5,
    share: Annotated[float, typer.Option(help="Share of the video marked at most.")] = 0.2,
    max_length: Annotated[float, typer.Option(help="Longest part, in seconds.")] = 15.0,
    clips: Annotated[bool, typer.Option("--clips", help="Cut the parts out.")] = False,
    device: Device = "auto",
    engine: Engine = "auto",
) -> None:
    """The parts of a video that a user would pick, told from what the user picked before."""
    from contentctr.predict.personal import pick_highlights as run

    found = run(
        checkpoint,
        video,
        out,
        history=[*(history or []), *(more or [])],
        captions=captions,
        top_k=top,
        share=share,
        max_length_s=max_length,
        clips=clips,
        device=device_name(device),
        engine=engine,
    )
    print_prediction(found, "score")
