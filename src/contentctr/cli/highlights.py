"""Personalized highlights: from the published annotations and a folder of videos on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from contentctr.cli.common import print_table, print_warnings


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
        typer.Option(help="Share of users for testing. [default: 0.1; with --test-csv: its users]"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the split.")] = 0,
) -> None:
    """Prepare PHD, personalized highlights, as it is published; missing videos are counted."""
    from contentctr.phd.annotations import describe, read_annotations
    from contentctr.phd.prepare import Settings
    from contentctr.phd.prepare import prepare_phd as run

    settings = Settings(
        frame_rate=frame_rate, max_history=max_history, min_history=min_history, val=val,
        test=test, seed=seed, language=captions,
    )  # fmt: skip
    for path in (csv, test_csv):
        if path is not None:
            found = describe(read_annotations(path), max_history=max_history)
            print_table(f"Annotations in {path}", found)
    data = run(csv, videos, out, test_csv=test_csv, settings=settings)
    manifest = data.manifest()
    print_warnings(manifest["warnings"])
    print_table(f"Prepared in {out}", manifest["counts"])
