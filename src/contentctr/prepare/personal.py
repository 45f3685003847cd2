"""PHD's annotations and a folder of videos into a prepared folder (Section 4.1.2).

Nothing is guessed: a selection whose video is missing is left out and counted, and so is a user
of whom no target or too little history is left. The order of the rules is the order below.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from contentctr.counting import counted
from contentctr.errors import InputError
from contentctr.files import digest, read_json
from contentctr.outputs import alone, check_output, output_folder
from contentctr.prepare.personal_truth import read_truth
from contentctr.prepare.phd.annotations import (
    Annotations,
    describe,
    read_annotations,
    spread,
    unite,
)
from contentctr.prepare.phd.downloads import Downloads, find_downloads, probe_all
from contentctr.rooms.speech import read_speech
from contentctr.store import personal as folder
from contentctr.store.personal import (
    LABEL_FILE,
    LABEL_KIND,
    MAX_HISTORY,
    PreparedPersonal,
    count_frames,
)

_LENGTH_TOLERANCE_S = 2.0
"""A file this much longer or shorter than published is another cut of the video."""
_MAX_WARNINGS = 500
"""The manifest keeps so many; the counts are complete."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a prepared folder depends on, beside its files.

    Raises:
        InputError: one is out of its range.
    """

    frame_rate: float = 1.0
    """Frames a second; the paper does not say its own."""
    max_history: int = MAX_HISTORY
    min_history: int = 1
    """Users with fewer clips are left out; 0 keeps users without history."""
    val: float = 0.1
    test: float | None = None
    """Shares of users; None: 0.1, or 0 where the test users have a file of their own."""
    seed: int = 0
    """Of the split."""
    language: str = "en"
    """Of the captions."""

    def __post_init__(self) -> None:
        test = self.test or 0.0
        if not 0 < self.frame_rate <= 120:
            raise InputError(f"frame_rate must be above 0 and at most 120, not {self.frame_rate}")
        if not 0 <= self.min_history <= self.max_history:
            raise InputError(
                f"min_history must be from 0 to max_history ({self.max_history}), not "
                f"{self.min_history}"
            )
        if not (self.val >= 0 and test >= 0 and self.val + test <= 1):
            raise InputError(
                f"val and test must be at least 0 and sum to at most 1, not {self.val} and {test}"
            )


@dataclass(kw_only=True)
class _Collected:
    """Users kept so far, and what was left out."""

    users: list[tuple[str, str, str, int]] = field(default_factory=list)
    selections: list[tuple[str, str, float, float, bool]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)


def prepare_phd(
    csv: Path | str,
    videos: Path | str,
    out: Path | str,
    *,
    test_csv: Path | str | None = None,
    settings: Settings | None = None,
    show_progress: bool = True,
) -> PreparedPersonal:
    """Write the prepared folder `out`; a killed run does not open again what it opened.

    The split is by target video: users who share one are in one split, so that no training label
    is a test label. With `test_csv` its users are the test users, as published.

    Args:
        csv: the published file.
        videos: folder of downloaded videos and captions; see `find_downloads`.
        out: the prepared folder: new or empty, or one of an earlier `prepare phd`; stored features
            already in it stay.
        test_csv: a second published file, of the test users.
        settings: None: the defaults.
        show_progress: show bars on a terminal.

    Raises:
        InputError: a file or a setting is wrong, no user is left, `out` holds files of somebody
            else, or another process is at work there.
    """
    settings = settings or Settings()
    if test_csv is not None and settings.test is not None:
        raise InputError(f"test must not be given beside a test file ({test_csv})")
    files = [read_annotations(path) for path in (csv, test_csv) if path is not None]
    _require_disjoint(files)
    wanted = pl.concat([found.videos for found in files]).unique("video_id", maintain_order=True)
    downloads = _find_videos(Path(videos), wanted["video_id"], settings.language, csv)
    out = Path(out)
    check_output(out, folder.KIND, folder.FILES)
    with alone(out, "on the videos here"):
        with output_folder(out, folder.KIND, folder.FILES, keep=True):
            lengths, warnings = probe_all(
                downloads.videos, out / "lengths.jsonl", show_progress=show_progress
            )
        collected = _Collected(
            warnings=[*(w for found in files for w in found.warnings), *warnings]
        )
        for found, fixed in zip(files, ("", "test"), strict=False):
            _collect(found, lengths, settings, fixed, collected)
        if not collected.users:
            raise InputError(
                f"{csv}: no user is left: {dict(collected.counts)}; {len(lengths)} of "
                f"{wanted.height} videos are there"
            )
        _count_shared_targets(collected)
        tables = _tables(collected, lengths, downloads, settings, test_file=test_csv is not None)
        counts = _count_videos(wanted, downloads, lengths, collected)
        labelled = _simulated(
            *(found.path.parent for found in files), Path(videos), Path(videos).parent
        )
        manifest = {
            "source": "phd",
            "source_path": str(Path(csv).resolve()),
            "videos_path": str(Path(videos).resolve()),
            "frame_rate": settings.frame_rate,
            "max_history": settings.max_history,
            "min_history": settings.min_history,
            "captions_language": settings.language,
            "simulated": bool(labelled),
            "annotations": [
                {"path": str(found.path), **describe(found, max_history=settings.max_history)}
                for found in files
            ],
            "counts": {**counts, **collected.counts, **_count_kept(tables)},
            "warnings": collected.warnings[:_MAX_WARNINGS],
        }
        truth = read_truth(labelled, tables["users"], tables["videos"], settings.frame_rate)
        with output_folder(out, folder.KIND, folder.FILES, keep=True):
            return folder.write(out, tables, manifest, truth)


def _find_videos(videos: Path, wanted: pl.Series, language: str, csv: Path | str) -> Downloads:
    """What is there of the wanted videos; at least one."""
    downloads = find_downloads(videos, wanted, language=language)
    if not downloads.videos:
        raise InputError(
            f"{videos}: holds none of the {counted(len(wanted), 'video')} of {csv}, such as "
            f"{wanted[0]}.mp4"
        )
    return downloads


def _simulated(*places: Path) -> list[Path]:
    """Which of the folders are labelled as simulated ones of this kind."""
    found = []
    for place in dict.fromkeys(places):
        if (place / LABEL_FILE).is_file():
            label = read_json(place / LABEL_FILE)
            if label.get("simulated") and label.get("kind") == LABEL_KIND:
                found.append(place)
    return found


def split_by_target(users: pl.DataFrame, *, val: float, test: float, seed: int = 0) -> pl.DataFrame:
    """`users` with `split`, by target video: test first, then val, the others train.

    Videos are drawn in an order that depends on the seed and their ids alone, until a split has
    at least its share of users; one video's users are never parted.

    Args:
        users: with `video_id`, the target's.
        val: share of validation users.
        test: share of test users.
        seed: of the order.
    """
    drawn = (
        users.group_by("video_id")
        .len()
        .with_columns(order=pl.col("video_id").map_elements(_drawer(seed), pl.String))
        .sort("order", "video_id")
        .with_columns(before=pl.col("len").cum_sum() - pl.col("len"))
    )
    split = (
        pl.when(pl.col("before") < round(test * users.height))
        .then(pl.lit("test"))
        .when(pl.col("before") < round((test + val) * users.height))
        .then(pl.lit("val"))
        .otherwise(pl.lit("train"))
    )
    chosen = drawn.select("video_id", split=split)
    return users.drop("split", strict=False).join(chosen, on="video_id", maintain_order="left")


def _drawer(seed: int) -> Any:
    return lambda video_id: digest(seed, video_id)


def _require_disjoint(files: list[Annotations]) -> None:
    if len(files) == 2:
        users = [set(found.selections["user_id"]) for found in files]
        both = sorted(users[0] & users[1])
        if both:
            raise InputError(
                f"{files[1].path}: {len(both)} of its users are in {files[0].path} too, such as "
                f"{both[0]!r}"
            )


def _count_shared_targets(collected: _Collected) -> None:
    """Say where users of the test file and of the other one share a target video."""
    targets = {
        split: {row[1] for row in collected.users if row[2] == split} for split in ("", "test")
    }
    both = len(targets[""] & targets["test"])
    collected.counts["target_videos_in_both_files"] += both
    if both:
        collected.warnings.append(
            f"{both} target videos are in both files: other users' labels of them are trained on"
        )


def _collect(
    found: Annotations,
    lengths: Mapping[str, float],
    settings: Settings,
    split: str,
    into: _Collected,
) -> None:
    """Apply the rules to each user of a file."""
    for rows in found.selections.partition_by("user_id", maintain_order=True):
        user_id = rows["user_id"][0]
        spans = [(row[1], row[2], row[3], row[4]) for row in rows.iter_rows()]
        targets = [span[:3] for span in spans if span[3]]
        video_id = targets[0][0]
        if video_id not in lengths:
            into.counts["users_without_target_video"] += 1
            continue
        united = unite((a, b) for _, a, b in _inside(targets, lengths, "target", into.counts))
        if not united:
            into.counts["users_without_target_selection"] += 1
            continue
        clips = _inside([s[:3] for s in spans if not s[3]], lengths, "history", into.counts)
        into.counts["history_beyond_max"] += max(len(clips) - settings.max_history, 0)
        clips = clips[: settings.max_history]
        if len(clips) < settings.min_history:
            into.counts["users_without_history"] += 1
            continue
        into.users.append((user_id, video_id, split, len(clips)))
        into.selections += [(user_id, video_id, a, b, True) for a, b in united]
        into.selections += [(user_id, *clip, False) for clip in clips]


def _inside(
    spans: list[tuple[str, float, float]],
    lengths: Mapping[str, float],
    what: str,
    counts: Counter[str],
) -> list[tuple[str, float, float]]:
    """Spans of videos that are there, cut at the video's end; those beyond it are left out."""
    kept = []
    for video_id, start_s, end_s in spans:
        length = lengths.get(video_id)
        if length is None:
            counts[f"{what}_selections_of_missing_videos"] += 1
        elif start_s >= length:
            counts[f"{what}_selections_beyond_the_end"] += 1
        else:
            counts[f"{what}_selections_cut_at_the_end"] += end_s > length
            kept.append((video_id, start_s, min(end_s, length)))
    return kept


def _tables(
    collected: _Collected,
    lengths: Mapping[str, float],
    downloads: Downloads,
    settings: Settings,
    *,
    test_file: bool,
) -> dict[str, pl.DataFrame]:
    users = pl.DataFrame(collected.users, folder.USERS_SCHEMA, orient="row")
    mine = users.filter(pl.col("split") == "")
    default = 0.0 if test_file else 0.1
    test = default if settings.test is None else settings.test
    users = pl.concat(
        [
            split_by_target(mine, val=settings.val, test=test, seed=settings.seed).select(
                *folder.USERS_SCHEMA
            ),
            users.filter(pl.col("split") != ""),
        ]
    )
    selections = pl.DataFrame(collected.selections, folder.SELECTIONS_SCHEMA, orient="row")
    targets = set(users["video_id"])
    captions = _captions(targets, downloads, collected)
    with_captions = set(captions["video_id"])
    rows = [
        {
            "video_id": video_id,
            "media": str(downloads.videos[video_id].resolve()),
            "media_kind": "video",
            "duration_s": lengths[video_id],
            "num_frames": count_frames(lengths[video_id], settings.frame_rate),
            "is_target": video_id in targets,
            "has_captions": video_id in with_captions,
        }
        for video_id in sorted(set(selections["video_id"]))
    ]
    videos = pl.DataFrame(rows, folder.VIDEOS_SCHEMA)
    return {"users": users, "selections": selections, "videos": videos, "captions": captions}


def _captions(targets: set[str], downloads: Downloads, collected: _Collected) -> pl.DataFrame:
    """Captions of the target videos; a file that cannot be read is counted and left out."""
    parts = [pl.DataFrame(schema=folder.CAPTIONS_SCHEMA)]
    for video_id in sorted(targets & set(downloads.captions)):
        try:
            part = read_speech(downloads.captions[video_id])
        except InputError as error:
            collected.counts["captions_unreadable"] += 1
            collected.warnings.append(f"{error} (left out)")
            continue
        collected.warnings += part.warnings
        table = part.table.with_columns(pl.lit(video_id).alias("video_id"))
        parts.append(table.select(*folder.CAPTIONS_SCHEMA))
    return pl.concat(parts)


def _count_videos(
    wanted: pl.DataFrame,
    downloads: Downloads,
    lengths: Mapping[str, float],
    collected: _Collected,
) -> dict[str, Any]:
    """Videos of the annotations: there, missing, unreadable, of another length than published."""
    other = 0
    for video_id, published in wanted.iter_rows():
        length = lengths.get(video_id)
        if length is not None and published is not None:
            other += abs(length - published) > _LENGTH_TOLERANCE_S
    if other:
        collected.warnings.append(
            f"{counted(other, 'video')} more than {_LENGTH_TOLERANCE_S:g} s from the published "
            "length: selections may lie elsewhere there"
        )
    return {
        "videos_wanted": wanted.height,
        "videos_missing": wanted.height - len(downloads.videos),
        "videos_unreadable": len(downloads.videos) - len(lengths),
        "videos_of_other_length": other,
        "captions_in_other_languages": downloads.other_captions,
    }


def _count_kept(tables: Mapping[str, pl.DataFrame]) -> dict[str, Any]:
    """What the folder holds."""
    users, videos, selections = tables["users"], tables["videos"], tables["selections"]
    split = (
        users.join(selections.select("user_id", pl.col("video_id").alias("seen")), on="user_id")
        .group_by("split")
        .agg(pl.col("seen").unique())
    )
    seen = {name: set(ids) for name, ids in split.iter_rows()}
    return {
        "users": users.height,
        "users_by_split": {s: users.filter(pl.col("split") == s).height for s in folder.SPLITS},
        "videos": videos.height,
        "target_videos": int(videos["is_target"].sum()),
        "target_videos_with_captions": videos.filter("is_target", "has_captions").height,
        "target_highlights": selections.filter("is_target").height,
        "history_selections": selections.filter(~pl.col("is_target")).height,
        "history_length": spread(users["history"]),
        "test_videos_seen_in_training": len(seen.get("test", set()) & seen.get("train", set())),
    }
