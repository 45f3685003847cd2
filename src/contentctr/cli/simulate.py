"""What can be simulated, with a known truth: rooms, features, watch logs, users' highlights."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from contentctr.counting import counted
from contentctr.errors import InputError
from contentctr.printing import say

Out = Annotated[Path, typer.Argument(help="Folder to write to.")]
Rooms = Annotated[int, typer.Option(help="Rooms.")]
Streamers = Annotated[int, typer.Option(help="Streamers.")]
MinSegments = Annotated[int, typer.Option(help="Segments of the shortest room.")]
MaxSegments = Annotated[int, typer.Option(help="Segments of the longest room.")]
Seed = Annotated[int, typer.Option(help="Same seed, same bytes.")]


def simulate_rooms(
    out: Out,
    rooms: Rooms = 40,
    streamers: Streamers = 12,
    min_segments: MinSegments = 40,
    max_segments: MaxSegments = 100,
    seed: Seed = 0,
) -> None:
    """Room folders with pictures, speech, chat and events, for `prepare rooms`."""
    from contentctr.simulate.mechanism import SimulatorConfig
    from contentctr.simulate.rooms import write_room_folders

    config = SimulatorConfig(
        num_rooms=rooms,
        num_streamers=streamers,
        min_segments=min_segments,
        max_segments=max_segments,
        seed=seed,
    )
    write_room_folders(config, out)
    say(
        f"{rooms} simulated rooms in {out}; next: contentctr prepare rooms {out} PREPARED",
        result=True,
    )


def simulate_features(
    out: Out,
    rooms: Rooms = 40,
    streamers: Streamers = 12,
    min_segments: MinSegments = 40,
    max_segments: MaxSegments = 100,
    test: Annotated[float, typer.Option(help="Share of test rooms, the latest.")] = 0.1,
    seed: Seed = 0,
) -> None:
    """Rooms already prepared and encoded, ready to train on: features, no pictures."""
    from contentctr.simulate.mechanism import SimulatorConfig
    from contentctr.simulate.rooms import write_features

    config = SimulatorConfig(
        num_rooms=rooms,
        num_streamers=streamers,
        min_segments=min_segments,
        max_segments=max_segments,
        seed=seed,
    )
    write_features(config, out, test=test)
    say(f"{rooms} simulated rooms in {out}, prepared and encoded", result=True)


def simulate_logs(
    out: Out,
    users: Annotated[int, typer.Option(help="Users.")] = 2000,
    streamers: Streamers = 12,
    seed: Seed = 0,
) -> None:
    """Who watched whom, for `pretrain streamer`: the streamers of the rooms of that seed."""
    from contentctr.simulate.watch_logs import WatchConfig, write_watch_logs

    write_watch_logs(WatchConfig(num_users=users, num_streamers=streamers, seed=seed), out)
    say(f"simulated watch logs of {counted(users, 'user')} in {out}", result=True)


def simulate_personal(
    out: Out,
    users: Annotated[
        int | None, typer.Option(help="Users. \\[default: 24; with --features 200]")
    ] = None,
    features: Annotated[
        bool,
        typer.Option("--features", help="Already prepared and encoded: features, no videos."),
    ] = False,
    test: Annotated[
        float | None,
        typer.Option(help="With --features: share of test users. \\[default: 0.2]"),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Users' highlights of videos: small videos, captions and a CSV, for `prepare phd`."""
    if features:
        from contentctr.simulate.personal import PersonalSimulation, write_personal_features

        simulation = PersonalSimulation(
            num_users=200 if users is None else users,
            test=0.2 if test is None else test,
            seed=seed,
        )
        write_personal_features(simulation, out)
        say(f"{simulation.num_users} simulated users in {out}, prepared and encoded", result=True)
        return
    if test is not None:
        raise InputError("simulate personal: --test goes with --features; videos have no split yet")
    from contentctr.simulate.videos import DEFAULTS, VIDEOS_DIR, write_videos

    count = DEFAULTS.num_users if users is None else users
    csv = write_videos(dataclasses.replace(DEFAULTS, num_users=count, seed=seed), out)
    say(
        f"{count} simulated users in {out}; next: contentctr prepare phd {csv} "
        f"{out / VIDEOS_DIR} PREPARED",
        result=True,
    )
