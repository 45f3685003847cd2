"""PHD's published annotations: who selected which seconds of which video (Section 4.1.2).

One CSV a split, with the columns `youtubeId`, `start`, `duration`, `user_id`, `video_duration`
and `is_last`; a row is a selection. The rows with `is_last` are the user's target video, the
others the history (Garcia del Molino and Gygli, "PHD-GIFs", ACM MM 2018).

Every row that is not used is counted by the rule that left it out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from contentctr.rooms.tables import LINE, RawTable, read_table, reject

COLUMNS = ("youtubeId", "start", "duration", "user_id", "video_duration", "is_last")
SELECTIONS_SCHEMA: dict[str, Any] = {
    "user_id": pl.String,
    "video_id": pl.String,
    "start_s": pl.Float64,
    "end_s": pl.Float64,
    "is_target": pl.Boolean,
}
"""One row a selection, in the order of the file."""
VIDEOS_SCHEMA: dict[str, Any] = {"video_id": pl.String, "published_s": pl.Float64}
"""One row a video; null where the file does not know its length (it says -1)."""
_KEYS = ("user_id", "video_id", "start_s", "end_s", "is_target")


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """The selections of one file that can be used."""

    path: Path
    selections: pl.DataFrame
    """Of SELECTIONS_SCHEMA."""
    videos: pl.DataFrame
    """Of VIDEOS_SCHEMA, sorted by id; of every readable row."""
    counts: dict[str, int]
    """Rows and users of the file, and what was left out, by rule."""
    warnings: list[str]


def read_annotations(path: Path | str) -> Annotations:
    """Read a published CSV (or a Parquet file of the same columns).

    Left out, each counted: rows that cannot be read (`bad_rows`), repeated rows
    (`repeated_rows`), users with more than one target video (`users_with_several_targets`) or
    with none (`users_without_target`), and history selections on the target video itself, whose
    answer they would give away (`history_on_target`).

    Raises:
        InputError: a column is missing, or more than 1 % of the rows are bad.
    """
    path = Path(path)
    raw = read_table(path, COLUMNS)
    rows = _checked(raw)
    warnings = raw.bad.warnings(raw.total)
    counts = {"rows": raw.total, "bad_rows": raw.bad.count}
    counts |= {"users_in_file": rows["user_id"].n_unique()}
    counts |= {"videos_in_file": rows["video_id"].n_unique()}
    kept = rows.unique(subset=_KEYS, keep="first", maintain_order=True)
    counts["repeated_rows"] = rows.height - kept.height
    users = _users(kept)
    several = users.filter(pl.col("targets") > 1)
    without = users.filter(pl.col("targets") == 0)
    counts["users_with_several_targets"] = several.height
    counts["users_without_target"] = without.height
    users = users.filter(pl.col("targets") == 1)
    kept = kept.join(users.select("user_id", "target"), on="user_id", maintain_order="left")
    beside = kept.filter(pl.col("is_target") | (pl.col("video_id") != pl.col("target")))
    counts["history_on_target"] = kept.height - beside.height
    return Annotations(
        path=path,
        selections=beside.select(*SELECTIONS_SCHEMA),
        videos=rows.group_by("video_id")
        .agg(published_s=pl.col("published_s").filter(pl.col("published_s") > 0).max())
        .sort("video_id"),
        counts=counts,
        warnings=warnings,
    )


def describe(found: Annotations, *, max_history: int = 20) -> dict[str, Any]:
    """What a file holds: users, videos, selections, lengths, and every count of `read_annotations`.

    Args:
        found: the annotations.
        max_history: selections that count as history at most.
    """
    table = found.selections.join(found.videos, on="video_id", how="left", maintain_order="left")
    targets, history = (table.filter(pl.col("is_target") == flag) for flag in (True, False))
    lengths = table.group_by("user_id").agg((~pl.col("is_target")).sum().alias("clips"))["clips"]
    start, end, published = pl.col("start_s"), pl.col("end_s"), pl.col("published_s")
    united = [
        b - a
        for spans in targets.group_by("user_id", maintain_order=True)
        .agg(pl.struct("start_s", "end_s"))["start_s"]
        .to_list()
        for a, b in unite((s["start_s"], s["end_s"]) for s in spans)
    ]
    return {
        **found.counts,
        "users": table["user_id"].n_unique(),
        "users_without_history": int((lengths == 0).sum()),
        "users_with_longer_history": int((lengths > max_history).sum()),
        "videos": table["video_id"].n_unique(),
        "target_videos": targets["video_id"].n_unique(),
        "history_videos": history["video_id"].n_unique(),
        "videos_of_unknown_length": found.videos.join(table, on="video_id", how="semi")[
            "published_s"
        ].null_count(),
        "selections": table.height,
        "target_selections": targets.height,
        "target_highlights": len(united),
        "history_selections": history.height,
        "history_selections_used": int(lengths.clip(0, max_history).sum()),
        "selections_starting_after_the_end": table.filter(start >= published).height,
        "selections_ending_after_the_end": table.filter(
            (start < published) & (end > published)
        ).height,
        "history_length": spread(lengths),
        "history_selection_s": spread(history["end_s"] - history["start_s"]),
        "target_highlight_s": spread(pl.Series(united, dtype=pl.Float64)),
        "target_video_s": spread(targets.unique("video_id")["published_s"]),
    }


def spread(values: pl.Series) -> dict[str, float]:
    """Least, quartiles, mean and largest of numbers, nulls left out; empty if there are none."""
    values = values.drop_nulls().cast(pl.Float64)
    if values.is_empty():
        return {}
    points = {"min": 0.0, "q25": 0.25, "median": 0.5, "q75": 0.75, "max": 1.0}
    found = {name: values.quantile(q, "linear") for name, q in points.items()}
    found["mean"] = values.mean()  # type: ignore[assignment]
    return {name: round(float(value or 0.0), 4) for name, value in found.items()}


def unite(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Spans in order of time, those that overlap or touch as one.

    Args:
        spans: start and end, in seconds.
    """
    united: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if united and start <= united[-1][1]:
            united[-1] = (united[-1][0], max(end, united[-1][1]))
        else:
            united.append((start, end))
    return united


def _checked(raw: RawTable) -> pl.DataFrame:
    """Good rows of the file, by the names of SELECTIONS_SCHEMA, and `published_s`."""
    names = {"start": "start_s", "duration": "duration_s", "video_duration": "published_s"}
    table = raw.table.select(
        LINE,
        pl.col("user_id").cast(pl.String),
        pl.col("youtubeId").cast(pl.String).alias("video_id"),
        *(pl.col(old).cast(pl.Float64, strict=False).alias(new) for old, new in names.items()),
        pl.col("is_last")
        .cast(pl.String)
        .str.to_lowercase()
        .replace_strict({"true": True, "false": False}, default=None, return_dtype=pl.Boolean)
        .alias("is_target"),
    )
    reason = (
        pl.when(_missing("user_id"))
        .then(pl.lit("user_id is missing"))
        .when(~pl.col("video_id").str.contains(r"^[A-Za-z0-9_-]+$").fill_null(False))
        .then(pl.lit("youtubeId must be letters, digits, _ and -"))
        .when(~_number("start_s") | (pl.col("start_s") < 0))
        .then(pl.lit("start must be a number of seconds, at least 0"))
        .when(~_number("duration_s") | (pl.col("duration_s") <= 0))
        .then(pl.lit("duration must be a number of seconds above 0"))
        .when(~_number("published_s"))
        .then(pl.lit("video_duration must be a number of seconds, or -1 where unknown"))
        .when(pl.col("is_target").is_null())
        .then(pl.lit("is_last must be True or False"))
    )
    good = reject(raw, table, reason)
    return good.with_columns(end_s=pl.col("start_s") + pl.col("duration_s")).drop(
        LINE, "duration_s"
    )


def _missing(name: str) -> pl.Expr:
    return pl.col(name).fill_null("").str.strip_chars() == ""


def _number(name: str) -> pl.Expr:
    return pl.col(name).is_finite().fill_null(False)


def _users(rows: pl.DataFrame) -> pl.DataFrame:
    """One row a user: how many target videos, and one of them."""
    video = pl.col("video_id").filter(pl.col("is_target"))
    return rows.group_by("user_id", maintain_order=True).agg(
        targets=video.n_unique(), target=video.first()
    )
