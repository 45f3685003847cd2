"""From raw rooms to encoded ones: simulate, prepare, encode."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from contentctr.cli.common import Device, Ray, device_name, print_table, print_warnings
from contentctr.errors import InputError

Target = Annotated[
    str, typer.Option(help="ctr, comment_rate, or a numeric column of your own (columns.csv).")
]

CommentLag = Annotated[
    int | None,
    typer.Option(
        help="Give a segment the comments of so many segments before it. \\[default: 1 "
        "for targets made from comments, else 0]"
    ),
]


_SIMULATED = {
    "rooms": ("rooms", "streamers", "min_segments", "max_segments", "seed"),
    "rooms --features": (
        "rooms",
        "streamers",
        "min_segments",
        "max_segments",
        "seed",
        "features",
        "test",
    ),
    "--watch-logs": ("watch_logs", "users", "streamers", "seed"),
    "--phd": ("phd", "users", "seed"),
    "--phd --features": ("phd", "users", "seed", "features", "test"),
}
"""The options of each thing that is simulated."""


def simulate(
    ctx: typer.Context,
    out: Annotated[Path, typer.Argument(help="Folder to write to.")],
    rooms: Annotated[int, typer.Option(help="Rooms.")] = 40,
    streamers: Annotated[int, typer.Option(help="Streamers.")] = 12,
    min_segments: Annotated[int, typer.Option(help="Segments of the shortest room.")] = 40,
    max_segments: Annotated[int, typer.Option(help="Segments of the longest room.")] = 100,
    seed: Annotated[int, typer.Option(help="Same seed, same rooms, users and videos.")] = 0,
    features: Annotated[
        bool,
        typer.Option("--features", help="Features alone, already prepared and encoded; no frames."),
    ] = False,
    test: Annotated[
        float | None,
        typer.Option(
            help="With --features: share of test rooms or users. \\[default: 0.1; users 0.2]"
        ),
    ] = None,
    watch_logs: Annotated[
        bool,
        typer.Option("--watch-logs", help="Who watched whom, for `pretrain streamer`; no rooms."),
    ] = False,
    phd: Annotated[
        bool,
        typer.Option(
            "--phd", help="Users' highlights of videos, for `prepare phd`; with captions, no rooms."
        ),
    ] = False,
    users: Annotated[
        int | None,
        typer.Option(
            help="With --watch-logs or --phd: users. \\[default: 2000; with --phd 24, with --phd "
            "--features 200]"
        ),
    ] = None,
) -> None:
    """Write simulated live rooms, watch logs or users' highlights, with a known truth."""
    _require_options(ctx, watch_logs=watch_logs, phd=phd, features=features)
    if watch_logs:
        from contentctr.simulate.watch_logs import WatchConfig, write_watch_logs

        users = 2000 if users is None else users
        watched = WatchConfig(num_users=users, num_streamers=streamers, seed=seed)
        print(f"simulated watch logs of {users} users in {write_watch_logs(watched, out)}")
        return
    if phd:
        _simulate_phd(out, users=users, seed=seed, features=features, test=test)
        return
    from contentctr.simulate.mechanism import SimulatorConfig
    from contentctr.simulate.rooms import write_features, write_room_folders

    config = SimulatorConfig(
        num_rooms=rooms,
        num_streamers=streamers,
        seed=seed,
        min_segments=min_segments,
        max_segments=max_segments,
    )
    if features:
        write_features(config, out, test=0.1 if test is None else test)
    else:
        write_room_folders(config, out)
    print(f"{rooms} simulated rooms in {out}")


def _require_options(ctx: typer.Context, *, watch_logs: bool, phd: bool, features: bool) -> None:
    """No option may be given that what is simulated does not have."""
    base = "--watch-logs" if watch_logs else "--phd" if phd else "rooms"
    what = f"{base} --features" if features and not watch_logs else base
    for name in ctx.params:
        source = ctx.get_parameter_source(name)
        given = source is not None and source.name != "DEFAULT"
        if given and name != "out" and name not in _SIMULATED[what]:
            raise InputError(
                f"simulate: --{name.replace('_', '-')} does not go with {what}; it goes with "
                + ", ".join(key for key, names in _SIMULATED.items() if name in names)
            )


def _simulate_phd(
    out: Path, *, users: int | None, seed: int, features: bool, test: float | None
) -> None:
    import dataclasses

    if features:
        from contentctr.simulate.personal import PersonalSimulation, write_simulated

        config = PersonalSimulation(
            seed=seed, num_users=200 if users is None else users, test=0.2 if test is None else test
        )
        write_simulated(config, out)
        print(f"{config.num_users} simulated users in {out}, prepared and encoded")
        return
    from contentctr.simulate.videos import DEFAULTS, VIDEOS_DIR, write_videos

    count = DEFAULTS.num_users if users is None else users
    csv = write_videos(dataclasses.replace(DEFAULTS, num_users=count, seed=seed), out)
    print(
        f"{count} simulated users in {out}; next: contentctr prepare phd {csv} "
        f"{out / VIDEOS_DIR} PREPARED"
    )


def prepare_rooms(
    rooms: Annotated[Path, typer.Argument(help="Folder of room folders.")],
    out: Annotated[Path, typer.Argument(help="Prepared folder to write.")],
    target: Target = "ctr",
    comment_lag: CommentLag = None,
    segment_seconds: Annotated[float, typer.Option(help="Length of a segment.")] = 30.0,
    frames_per_segment: Annotated[int, typer.Option(help="Frames of a segment.")] = 3,
    val: Annotated[float, typer.Option(help="Share of rooms for validation.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of rooms for testing, the latest.")] = 0.1,
    skip_bad_rooms: Annotated[
        bool, typer.Option("--skip-bad-rooms", help="Leave out rooms that cannot be read.")
    ] = False,
    ray: Ray = None,
) -> None:
    """Cut raw rooms into segments with texts, counts, CTR and a split."""
    from contentctr.prepare.rooms import prepare_rooms as run

    data = run(
        rooms,
        out,
        target=target,
        comment_lag=comment_lag,
        segment_seconds=segment_seconds,
        frames_per_segment=frames_per_segment,
        val=val,
        test=test,
        skip_bad_rooms=skip_bad_rooms,
        ray=ray,
    )
    manifest = data.manifest()
    print_warnings(manifest.get("warnings", []))
    print_table(f"Prepared in {out}", manifest["counts"])


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
    comment_lag: CommentLag = None,
    rooms: Annotated[
        Literal["all", "benchmark"],
        typer.Option(
            help="all, or benchmark: the 10,000 with most sessions, of those with 5 segments and "
            "5 viewers at once."
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
        str, typer.Option(help="Text model: a hub name, a local folder, or embedded.")
    ] = "embedded",
    text_pooling: Annotated[
        str | None, typer.Option(help="cls or mean. \\[default: the model's own]")
    ] = None,
    max_text_tokens: Annotated[int, typer.Option(help="Longer texts are cut.")] = 128,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Pictures or texts encoded at once. \\[default: 4 on a CPU, else 64]"),
    ] = None,
    inputs: Annotated[
        bool,
        typer.Option("--inputs", help="Store the encoders' inputs, to train the encoders too."),
    ] = False,
    device: Device = "auto",
    ray: Ray = None,
) -> None:
    """Encode each segment's frames and texts, or each video's, once; what is there is kept."""
    from contentctr.store.opened import open_data
    from contentctr.store.personal import PreparedPersonal

    settings: dict[str, Any] = {
        "visual": visual,
        "text": text,
        "text_pooling": text_pooling,
        "max_text_tokens": max_text_tokens,
        "batch_size": batch_size,
        "inputs": inputs,
        "device": device_name(device),
        "ray": ray,
    }
    found = open_data(data)
    if isinstance(found, PreparedPersonal):
        from contentctr.encode.personal import encode_personal

        counts = encode_personal(found, **settings)
    else:
        from contentctr.encode.rooms import encode_rooms

        counts = encode_rooms(found, **settings)
    print_warnings(counts.pop("warnings", []))
    print_table(f"Encoded in {data}", counts)
