"""Highlights of a recording, by the rule or by a run; and PHD, what personal ones learn from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
    Reel,
    StartedAt,
    Top,
    Vertical,
    column_names,
    device_name,
    editing_of,
    highlight_choice,
    print_prediction,
    print_table,
    print_warnings,
    start_time,
)
from contentctr.errors import InputError


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


def highlights(
    recording: Annotated[Path, typer.Argument(help="Room folder, video file or sound file.")],
    out: Out,
    more: Annotated[
        list[str] | None, typer.Argument(metavar="CLIPS", help="More of --history.")
    ] = None,
    comments: Annotated[Path | None, typer.Option(help="Chat log of the file.")] = None,
    speech: Annotated[
        Path | None, typer.Option("--speech", "--captions", help="Subtitles of the file.")
    ] = None,
    events: Annotated[Path | None, typer.Option(help="Event log of the file.")] = None,
    streamer: Annotated[str, typer.Option(help="Who streams.")] = "",
    started_at: StartedAt = None,
    columns: Columns = None,
    run: Annotated[
        Path | None,
        typer.Option(help="Run or checkpoint whose model scores. \\[default: the rule]"),
    ] = None,
    history: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLIPS...",
            help="With a --run of personalized highlights, the user's earlier picks; of more than "
            "20 the first 20 count, so name the newest first. Each a video file, which is one pick "
            "from start to end; FILE@START-END,START-END, parts of a file in seconds or m:ss; or a "
            "folder of video files, taken by name. Several may follow.",
        ),
    ] = None,
    top: Top = 5,
    share: Annotated[float, typer.Option(help="Share of the recording covered at most.")] = 0.2,
    min_length: MinLength = None,
    max_length: MaxLength = None,
    length: Length = "",
    clips: Clips = False,
    exact: Exact = False,
    vertical: Vertical = False,
    reel: Reel = False,
    pad: Pad = 0.0,
    export: Export = None,
    asr: Asr = None,
    language: Language = None,
    device: Device = "auto",
    engine: Engine = "auto",
) -> None:
    """The highlights of a recording, without training: a rule over chat, sound, pictures, speech.

    With --run, a model's: of rooms, or the parts that a user would pick, told from earlier picks.
    """
    choice = highlight_choice(top, share, min_length, max_length, length)
    picks = [*(history or []), *(more or [])]
    logs: dict[str, Any] = {"comments": comments, "speech": speech, "events": events}
    shared: dict[str, Any] = {
        "streamer_id": streamer,
        "started_at": start_time(started_at),
        "names": column_names(columns),
        "editing": editing_of(clips, exact, vertical, reel, pad, export),
    }
    if run is None:
        if picks or asr is not None or language is not None:
            raise InputError("--history, --asr and --language go with a --run")
        from contentctr.predict.by_rule import highlight_recording

        found = highlight_recording(recording, out, **logs, **shared, choice=choice)
        print_prediction(found, "score")
        return
    from contentctr.score.checkpoint import load

    checkpoint = load(run)
    computed: dict[str, Any] = {"device": device_name(device), "engine": engine}
    if checkpoint.task == "rooms":
        if picks:
            raise InputError(f"--history goes with a run of personalized highlights, not {run}")
        from contentctr.predict.rooms import predict_recording

        given = {**logs, **shared, **computed, "asr": asr, "language": language}
        # Who asks for highlights alone asks why they are ones.
        found = predict_recording(checkpoint, recording, out, **given, choice=choice, reasons="all")
        print_prediction(found, "predicted")
        return
    others: dict[str, Any] = {
        **logs,
        "streamer": streamer,
        "started-at": started_at,
        "columns": columns,
    }
    others |= {"asr": asr, "language": language, "length": length, "min-length": min_length}
    unread = [name for name, value in others.items() if value and name != "speech"]
    if unread:
        raise InputError(f"--{unread[0]} is nothing for a run of personalized highlights")
    from contentctr.predict.personal import MAX_LENGTH_S, pick_highlights

    found = pick_highlights(
        checkpoint,
        recording,
        out,
        history=picks,
        captions=speech,
        top_k=top,
        share=share,
        max_length_s=MAX_LENGTH_S if max_length is None else max_length,
        editing=shared["editing"],
        **computed,
    )
    print_prediction(found, "score")
