"""The prepared folder of live rooms.

    DATA/manifest.json      schema version, source, target, counts, hashes
    DATA/rooms.parquet      one row a room
    DATA/segments.parquet   one row a segment, sorted by room and number
    DATA/visual/            data with vectors in place of pictures: their store (vectors.py)
    DATA/sources.parquet    room folders that were read, for `prepare rooms --append`
    DATA/truth.parquet      simulated rooms only: the true click probability
    DATA/features/          stored features (vectors.py)
    DATA/inputs/            stored encoder inputs, for training the encoders too (vectors.py)

`contentctr prepare` and `contentctr simulate features` write it; everything after reads it through
here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from contentctr.config import COUNT_COLUMNS as COUNT_COLUMNS
from contentctr.config import LATE_COMMENTS
from contentctr.errors import InputError
from contentctr.files import read_parquet
from contentctr.store.folder import SCHEMA_VERSION as SCHEMA_VERSION
from contentctr.store.folder import PreparedFolder, with_schema, write_tables

SPLITS = ("train", "val", "test")
SEGMENTS_FILE = "segments.parquet"
ROOMS_SCHEMA: dict[str, Any] = {
    "room_id": pl.String,
    "streamer_id": pl.String,
    "started_at": pl.Datetime("us", "UTC"),
    "duration_s": pl.Float64,
    "num_segments": pl.Int32,
    "split": pl.String,
    "media": pl.String,
    "media_kind": pl.String,
    "sound": pl.String,
}
SEGMENTS_SCHEMA: dict[str, Any] = {
    "room_id": pl.String,
    "streamer_id": pl.String,
    "segment": pl.Int32,
    "start_s": pl.Float64,
    "end_s": pl.Float64,
    "speech": pl.String,
    "comments": pl.String,
    "viewers": pl.UInt32,
    "clickers": pl.UInt32,
    "ctr": pl.Float64,
    **{name: pl.UInt32 for name in COUNT_COLUMNS},
    "commenters": pl.UInt32,
    **{name: pl.UInt32 for name in LATE_COMMENTS},
    "target": pl.Float64,
    "split": pl.String,
}
"""Columns that every segments.parquet has; a user's own numeric columns may follow."""
TRUTH_SCHEMA: dict[str, Any] = {
    "room_id": pl.String,
    "segment": pl.Int32,
    "click_probability": pl.Float64,
    "activity": pl.String,
}
SOURCES_SCHEMA: dict[str, Any] = {
    "room_id": pl.String,
    "folder": pl.String,
    "content": pl.String,
}
"""One row a room folder that was read: which room ("": a bad one), where, a hash of its files."""
LABEL = "label"
"""The target that a table of labels gives, and before a colon those of single classes."""
_NO_LABELS = ("ctr", "long_view_rate")
KIND = "prepared rooms"
FILES = (
    "manifest.json",
    "truth.parquet",
    "sources.parquet",
    "rooms.parquet",
    "segments.parquet",
)
"""What `prepare` puts into the folder, as outputs.py takes it."""


class PreparedRooms(PreparedFolder):
    """A prepared folder of live rooms."""

    task = "rooms"

    @property
    def visual_dir(self) -> Path:
        """Folder of the visual features that came with the data, where it has no pictures."""
        return self.root / "visual"

    def rooms(self) -> pl.DataFrame:
        """Table of ROOMS_SCHEMA, sorted by room_id."""
        return self.table("rooms", ROOMS_SCHEMA, sort="room_id")

    def segments(self, *, texts: bool = True) -> pl.DataFrame:
        """Table of SEGMENTS_SCHEMA and the user's own columns, sorted by room_id and segment.

        Args:
            texts: also read speech and comments. They take most of the memory, so a table with
                them is not kept.

        Raises:
            InputError: a column is missing or of another type, a target outside [0, 1], or the
                segments of a room do not count 0, 1, 2, ...
        """
        if texts:
            return _read_segments(self.root / SEGMENTS_FILE)
        return self.once(SEGMENTS_FILE, partial(_read_segments, without=("speech", "comments")))

    def has_label_target(self) -> bool:
        """Whether the target says yes or no of a segment: 0 or 1, or a label's share of it.

        A CTR of few viewers is 0 or 1 too, and still a share of them.
        """
        manifest = self.manifest()
        if (
            manifest.get("target_scale", "none") != "none"
            or manifest.get("target", "ctr") in _NO_LABELS
        ):
            return False
        if is_label_name(manifest["target"]):
            return True
        known = self.segments(texts=False)["target"].drop_nulls()
        return known.is_in([0.0, 1.0]).all() and known.n_unique() == 2

    def sources(self) -> pl.DataFrame | None:
        """Table of SOURCES_SCHEMA; None where the rooms are not of room folders."""
        path = self.root / "sources.parquet"
        return read_parquet(path, SOURCES_SCHEMA) if path.is_file() else None

    def content_hash(self) -> str:
        """Hash of segments.parquet; "" where its writer gave none."""
        return str(self.manifest().get("hashes", {}).get(SEGMENTS_FILE, ""))

    def truth(self) -> pl.DataFrame | None:
        """Table of TRUTH_SCHEMA of simulated rooms; None for real ones."""
        path = self.root / "truth.parquet"
        return (
            read_parquet(path, TRUTH_SCHEMA).sort("room_id", "segment") if path.is_file() else None
        )


def is_label_name(name: str) -> bool:
    """Whether a column comes from a table of labels: "label", or "label:Goal"."""
    return name == LABEL or name.startswith(f"{LABEL}:")


def _read_segments(path: Path, without: Sequence[str] = ()) -> pl.DataFrame:
    """A table of segments that keeps the rules of `PreparedRooms.segments`."""
    table = read_parquet(path, SEGMENTS_SCHEMA, without=without).sort("room_id", "segment")
    bad = table.filter(~pl.col("target").is_between(0, 1))
    if bad.height:
        row = bad.row(0, named=True)
        raise InputError(
            f"{path}: target must lie in [0, 1] or be null, not {row['target']} (room "
            f"{row['room_id']!r}, segment {row['segment']})"
        )
    expected = pl.int_range(pl.len(), dtype=pl.Int32).over("room_id")
    gap = table.filter(pl.col("segment") != expected)
    if gap.height:
        row = gap.row(0, named=True)
        raise InputError(
            f"{path}: the segments of a room must count 0, 1, 2, ... without gap or repeat; "
            f"room {row['room_id']!r} breaks at segment {row['segment']}"
        )
    return table


def write(
    root: Path,
    *,
    rooms: pl.DataFrame,
    segments: pl.DataFrame,
    manifest: Mapping[str, Any],
    truth: pl.DataFrame | None = None,
    sources: pl.DataFrame | None = None,
) -> PreparedRooms:
    """Write a prepared folder's tables, the manifest last.

    Args:
        root: the folder; features already in it stay.
        rooms: of ROOMS_SCHEMA.
        segments: of SEGMENTS_SCHEMA, with any further numeric columns after those.
        manifest: `source`, `simulated`, `segment_seconds`, `frames_per_segment`, `target`,
            `comment_lag`, and what the source wants to tell; counts and hashes are added.
        truth: of TRUTH_SCHEMA, for simulated rooms.
        sources: of SOURCES_SCHEMA, where rooms can be appended.
    """
    extra = [name for name in segments.columns if name not in SEGMENTS_SCHEMA]
    tables = {
        "rooms": with_schema(rooms, ROOMS_SCHEMA),
        "segments": with_schema(segments, SEGMENTS_SCHEMA, *extra).sort("room_id", "segment"),
    }
    if truth is not None:
        tables["truth"] = with_schema(truth, TRUTH_SCHEMA)
    if sources is not None:
        tables["sources"] = with_schema(sources, SOURCES_SCHEMA)
    by_split = dict(tables["rooms"].group_by("split").len().iter_rows())
    counts = {
        **manifest.get("counts", {}),
        "rooms": rooms.height,
        "segments": segments.height,
        "segments_with_target": segments.height - segments["target"].null_count(),
        "rooms_by_split": {split: by_split.get(split, 0) for split in SPLITS},
    }
    write_tables(root, tables, {"task": PreparedRooms.task, **manifest, "counts": counts})
    return PreparedRooms(root)


def encoder_texts(segments: pl.DataFrame, comment_lag: int) -> pl.DataFrame:
    """The texts that the encoder sees for each segment: its speech, and comments `comment_lag` ago.

    With `comment_lag` >= 1 no segment's input holds its own comments, which is what a target made
    from the comments needs (docs/decisions.md).

    Args:
        segments: with room_id, segment, speech, comments; sorted by room_id and segment.
        comment_lag: segments between the comments and the segment they are given to, >= 0.

    Returns:
        Columns `speech` and `comments`, one row a segment, "" where there is none.
    """
    lagged = pl.col("comments").shift(comment_lag).over("room_id").fill_null("")
    return segments.select(pl.col("speech").fill_null(""), lagged.alias("comments"))
