"""Labels of many rooms in one table: moments (room_id, t, label) or spans (start_s, end_s)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from contentctr.errors import InputError
from contentctr.rooms.cells import as_ids, as_text, no_reasons
from contentctr.rooms.events import NAMES as EVENT_NAMES
from contentctr.rooms.moment_columns import column_seconds
from contentctr.rooms.moments import NO_START, TimeAxis
from contentctr.rooms.tables import LINE, SUFFIXES, RawTable, read_table, reject

LABELS_SCHEMA: dict[str, Any] = {
    "room_id": pl.String,
    "start_s": pl.Float64,
    "end_s": pl.Float64,
    "label": pl.String,
}
"""One row a label, seconds from its room's start; a moment ends where it starts."""
_ROOM = {"room_id": ("room", "roomid", "live_id", "live_stream_id", "video_id", "video")}
_OTHERS = {
    "t": EVENT_NAMES["t"],
    "start_s": ("start", "begin", "start_time", "begin_s", "from"),
    "end_s": ("end", "stop", "end_time", "stop_s", "to"),
    "label": ("class", "category", "tag", "kind", "event", "event_type", "type", "name"),
}


@dataclass(frozen=True, kw_only=True)
class Labels:
    """A table of labels as it was read."""

    path: Path
    table: pl.DataFrame
    """Of LABELS_SCHEMA, by room and start."""
    are_spans: bool
    form: str
    """What the file is, in words."""
    bad_lines: int = 0
    warnings: list[str] = field(default_factory=list)
    known: Collection[str] = ()
    """Labels of tables that were read before, which this one need not have."""

    @property
    def classes(self) -> list[str]:
        """The distinct labels, sorted; none where the table has no column of them."""
        return sorted({*self.known, *self.table["label"].drop_nulls()})


def find_labels(root: Path) -> Path | None:
    """The table of labels beside the room folders in `root`: labels.csv, .tsv, .parquet, ....

    Raises:
        InputError: there are two.
    """
    names = {f"labels{suffix}" for suffix in SUFFIXES}
    found = sorted(p for p in root.iterdir() if p.name.lower() in names) if root.is_dir() else []
    if len(found) > 1:
        raise InputError(f"{root}: {found[0].name} and {found[1].name} are both labels; keep one")
    return found[0] if found else None


def read_labels(path: Path, names: Mapping[str, str] | None = None) -> Labels:
    """Read a table of labels.

    Args:
        path: a table as `read_table` reads it, with `room_id` and either `start_s` and `end_s`
            (spans, which count where both are there) or `t` (moments), and perhaps `label`; or
            under their usual names. Times are seconds from the room's start, or as h:mm:ss.
        names: the user's own names of columns.

    Raises:
        InputError: the file is unreadable, a column is missing, or too many of its lines are bad
            (`BadLines.warnings`).
    """
    if not path.exists():
        raise InputError(f"{path}: no such file")
    raw = read_table(path, _ROOM, optional=_OTHERS, names=names)
    are_spans = {"start_s", "end_s"} <= raw.named.keys()
    if not are_spans and "t" not in raw.named:
        raise InputError(
            f"{path}: must have the columns start_s and end_s, or t, beside {raw.named['room_id']}"
        )
    table = _checked(raw, are_spans)
    rows = reject(raw, table, pl.coalesce("^why:.*$"))
    warnings = raw.warnings + raw.bad.warnings(raw.total)
    if not rows.height:
        raise InputError(f"{path}: holds no label")
    what = "spans" if are_spans else "moments"
    return Labels(
        path=path,
        table=rows.select(list(LABELS_SCHEMA)).sort("room_id", "start_s", maintain_order=True),
        are_spans=are_spans,
        form=f"labels, {what}: {raw.form}",
        bad_lines=raw.bad.count,
        warnings=warnings,
    )


def join_labels(tables: Sequence[Labels]) -> Labels:
    """Several tables as one.

    Args:
        tables: one or more.

    Raises:
        InputError: some are of moments, some of spans.
    """
    first = tables[0]
    for other in tables[1:]:
        if other.are_spans != first.are_spans:
            raise InputError(
                f"{other.path}: must be of {'spans' if first.are_spans else 'moments'}, as "
                f"{first.path} is"
            )
    return replace(
        first,
        table=pl.concat([each.table for each in tables]).sort(
            "room_id", "start_s", maintain_order=True
        ),
        bad_lines=sum(each.bad_lines for each in tables),
        warnings=[warning for each in tables for warning in each.warnings],
    )


def _checked(raw: RawTable, are_spans: bool) -> pl.DataFrame:
    """LABELS_SCHEMA, LINE, and why a row is bad."""
    room = as_ids(raw.table["room_id"], raw.named["room_id"])
    columns = [raw.table[LINE], room.values.alias("room_id"), room.reasons.alias("why:room_id")]
    for name in ("start_s", "end_s") if are_spans else ("t",):
        called = raw.named[name]
        times = column_seconds(TimeAxis(), raw.table[name], called, raw.delimiter)
        # One table has rooms of many starts, so a clock time has none to be counted from.
        reasons = times.reasons.str.replace(
            NO_START, "labels have seconds from their room's start", literal=True
        )
        columns += [times.seconds.alias(name), reasons.alias(f"why:{name}")]
    label = no_reasons(raw.table[LINE])
    if "label" in raw.named:
        label = as_text(raw.table["label"])
        missing = pl.select(
            pl.when(label.is_null()).then(pl.lit(f"{raw.named['label']} is missing"))
        ).to_series()
        columns.append(missing.alias("why:label"))
    table = pl.DataFrame(columns).with_columns(label.alias("label"))
    if not are_spans:
        return table.rename({"t": "start_s"}).with_columns(end_s="start_s")
    ends = pl.format(
        "{} must be after {}, {}, not {}",
        pl.lit(raw.named["end_s"]),
        pl.lit(raw.named["start_s"]),
        "start_s",
        "end_s",
    )
    return table.with_columns(
        pl.when(pl.col("end_s") <= pl.col("start_s")).then(ends).alias("why:span")
    )
