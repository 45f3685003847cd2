"""From raw rooms to encoded ones: prepare, encode."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from contentctr.cli.common import (
    Asr,
    Columns,
    Device,
    Engine,
    Frames,
    Language,
    Ray,
    column_names,
    device_name,
    print_table,
    print_warnings,
)
from contentctr.errors import InputError
from contentctr.printing import say

Target = Annotated[
    str,
    typer.Option(
        help="ctr, comment_rate, long_view_rate, a numeric column of your own (columns.csv), or of "
        "a table of labels: label, label:CLASS, label:CLASS,CLASS."
    ),
]

Scale = Annotated[
    Literal["none", "rank", "minmax", "odds"] | None,
    typer.Option(
        help="Bring the target to \\[0, 1]: inside each room by rank or by minmax, for all rooms "
        "alike as odds (counts and rates), or not at all. "
        "\\[default: none for what lies there, else rank]"
    ),
]

CommentLag = Annotated[
    int | None,
    typer.Option(
        help="Give a segment the comments of so many segments before it. \\[default: 1 "
        "for targets made from comments, else 0]"
    ),
]


def prepare_rooms(
    rooms: Annotated[Path, typer.Argument(help="Folder of room folders.")],
    out: Annotated[Path, typer.Argument(help="Prepared folder to write.")],
    append: Annotated[
        bool,
        typer.Option(
            "--append", help="Keep the rooms that are there; read those that are new or changed."
        ),
    ] = False,
    keep_from: Annotated[
        str | None,
        typer.Option(
            metavar="DATE",
            help="Leave out rooms that started before, also of those that are there.",
        ),
    ] = None,
    target: Target = "ctr",
    target_scale: Scale = None,
    comment_lag: CommentLag = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Table of labels: room_id and t, or start_s and end_s, and perhaps label. "
            "\\[default: labels.csv or .parquet beside the room folders, if there]"
        ),
    ] = None,
    long_view_seconds: Annotated[
        float, typer.Option(help="How long a long view lasts at least.")
    ] = 60.0,
    segment_seconds: Annotated[float, typer.Option(help="Length of a segment.")] = 30.0,
    frames_per_segment: Annotated[int, typer.Option(help="Frames of a segment.")] = 3,
    val: Annotated[
        float | None, typer.Option(help="Share of rooms for validation. \\[default: 0.1]")
    ] = None,
    test: Annotated[
        float | None,
        typer.Option(help="Share of rooms for testing, the latest. \\[default: 0.1]"),
    ] = None,
    val_from: Annotated[
        str | None,
        typer.Option(
            metavar="DATE",
            help="Rooms that start from then on (UTC, if it says no zone) are for validation, in "
            "place of a share: such a split stays when rooms are added.",
        ),
    ] = None,
    test_from: Annotated[
        str | None, typer.Option(metavar="DATE", help="And from then on for testing.")
    ] = None,
    skip_bad_rooms: Annotated[
        bool, typer.Option("--skip-bad-rooms", help="Leave out rooms that cannot be read.")
    ] = False,
    columns: Columns = None,
    asr: Asr = None,
    language: Language = None,
    device: Annotated[str, typer.Option(help="Where speech is recognised: cpu, cuda.")] = "auto",
    ray: Ray = None,
) -> None:
    """Cut raw rooms into segments with texts, counts, CTR and a split."""
    from contentctr.prepare.rooms import prepare_rooms as run
    from contentctr.prepare.splits import parse_date

    data = run(
        rooms,
        out,
        append=append,
        keep_from=None if keep_from is None else parse_date(keep_from, "--keep-from"),
        target=target,
        target_scale=target_scale,
        comment_lag=comment_lag,
        labels=labels,
        long_view_seconds=long_view_seconds,
        segment_seconds=segment_seconds,
        frames_per_segment=frames_per_segment,
        val=val,
        test=test,
        val_from=None if val_from is None else parse_date(val_from, "--val-from"),
        test_from=None if test_from is None else parse_date(test_from, "--test-from"),
        skip_bad_rooms=skip_bad_rooms,
        names=column_names(columns),
        asr=asr,
        language=language,
        device=device,
        ray=ray,
    )
    manifest = data.manifest()
    print_warnings(manifest.get("warnings", []))
    say(f"speech: {manifest['speech_source']}", result=True)
    if "appended" in manifest:
        print_table("Rooms appended", manifest["appended"])
    print_table(f"Prepared in {out}", manifest["counts"])


def transcribe(
    rooms: Annotated[Path, typer.Argument(help="Folder of room folders, or one of them.")],
    asr: Asr = None,
    language: Language = None,
    segment_seconds: Annotated[float, typer.Option(help="Length of a segment.")] = 30.0,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto.")] = "auto",
    ray: Ray = None,
) -> None:
    """Write speech.jsonl into rooms that have sound and no transcript, to look at and to mend."""
    from contentctr.transcribe.recogniser import EMBEDDED
    from contentctr.transcribe.rooms import transcribe_rooms as run

    found = run(
        rooms,
        asr=asr or EMBEDDED,
        language=language,
        segment_seconds=segment_seconds,
        device=device,
        ray=ray,
    )
    print_warnings(found.pop("warnings"))
    print_table(f"Transcribed in {rooms}", found)


def prepare_klm3(
    source: Annotated[Path, typer.Argument(help="Folder of the published files.")],
    out: Annotated[Path, typer.Argument(help="Prepared folder to write.")],
    target: Annotated[
        str,
        typer.Option(
            help="ctr, comment_rate, highlight_score or highlight_label (the data set's own "
            "task), retention, engagement, or a count."
        ),
    ] = "ctr",
    target_scale: Scale = None,
    comment_lag: CommentLag = None,
    rooms: Annotated[
        Literal["all", "benchmark"],
        typer.Option(
            help="all, or benchmark: of the 10,000 with most sessions those with 5 segments and "
            "5 sessions begun by the last one."
        ),
    ] = "all",
    val: Annotated[
        float | None, typer.Option(help="Share of rooms for validation. \\[default: 0.1]")
    ] = None,
    test: Annotated[
        float | None,
        typer.Option(
            help="Share of rooms for testing, the latest. \\[default: 0.1; benchmark: 0.2]"
        ),
    ] = None,
    zone: Annotated[str, typer.Option(help="Time zone of datetimes that name none.")] = "UTC",
    ray: Ray = None,
) -> None:
    """Prepare KuaiLive-M3 as it is published; a killed run goes on where it was."""
    from contentctr.prepare.klm3.prepare import prepare_klm3 as run

    data = run(
        source,
        out,
        target=target,
        target_scale=target_scale,
        comment_lag=comment_lag,
        rooms=rooms,
        val=val,
        test=test,
        zone=zone,
        ray=ray,
    )
    manifest = data.manifest()
    print_warnings(manifest["warnings"])
    print_table(f"Prepared in {out}", manifest["counts"])


def encode(
    data: Annotated[Path, typer.Argument(help="Prepared folder.")],
    visual: Annotated[
        str,
        typer.Option(
            help="Image model: a hub name, a local folder, or embedded; for users' videos also "
            "YOLOv5 as an .onnx file."
        ),
    ] = "embedded",
    text: Annotated[
        str,
        typer.Option(
            help="Text model: a hub name, a local folder, embedded (any language), or "
            "embedded-en (English, half the time)."
        ),
    ] = "embedded",
    text_pooling: Annotated[
        str | None, typer.Option(help="cls or mean. \\[default: the model's own]")
    ] = None,
    text_prefix: Annotated[
        str | None,
        typer.Option(help="Put before every text, for models that want it. \\[default: its own]"),
    ] = None,
    max_text_tokens: Annotated[int, typer.Option(help="Longer texts are cut.")] = 128,
    frames: Annotated[
        Frames, typer.Option(help="keyframe: the keyframe before a time, for less decoding.")
    ] = Frames.exact,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Pictures or texts encoded at once. \\[default: 4 on a CPU, else 128]"),
    ] = None,
    inputs: Annotated[
        bool,
        typer.Option("--inputs", help="Store the encoders' inputs, to train the encoders too."),
    ] = False,
    sound: Annotated[
        bool,
        typer.Option("--sound", help="Store features of the rooms' sound too, for model.sound."),
    ] = False,
    device: Device = "auto",
    engine: Engine = "auto",
    ray: Ray = None,
) -> None:
    """Encode each segment's frames and texts, or each video's, once; what is there is kept."""
    from contentctr.store.opened import open_data
    from contentctr.store.personal import PreparedPersonal

    settings: dict[str, Any] = {
        "visual": visual,
        "text": text,
        "text_pooling": text_pooling,
        "text_prefix": text_prefix,
        "max_text_tokens": max_text_tokens,
        "frames": frames.value,
        "batch_size": batch_size,
        "inputs": inputs,
        "device": device_name(device, ray),
        "engine": engine,
        "ray": ray,
    }
    found = open_data(data)
    if isinstance(found, PreparedPersonal):
        from contentctr.encode.personal import encode_personal

        if sound:
            raise InputError("encode --sound is for live rooms, not for users' videos")
        counts = encode_personal(found, **settings)
    else:
        from contentctr.encode.rooms import encode_rooms

        counts = encode_rooms(found, sound=sound, **settings)
    print_warnings(counts.pop("warnings", []))
    print_table(f"Encoded in {data}", counts)
