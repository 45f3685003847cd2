"""A table of labels as columns of the segments: `label`, and `label:CLASS` of each class.

Moments: 1 where one falls into the segment. Spans: the share of the segment that they cover, where
they overlap each second once. A segment that no row touches has 0, also in a room that the table
does not name: whoever lists labels lists all of them (docs/decisions.md, "Labels").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contentctr.counting import counted
from contentctr.errors import InputError
from contentctr.rooms.labels import Labels
from contentctr.store.rooms import LABEL, is_label_name

MOST_CLASSES = 64
"""Of a table of more classes only those that the target names have a column."""
_SHOWN = 3

Floats = NDArray[np.float64]


def add_labels(
    segments: pl.DataFrame,
    labels: Labels,
    target: str,
    counts: Counter[str],
    known: Collection[str] = (),
) -> tuple[pl.DataFrame, list[str]]:
    """`segments` with a column of all labels, one of each class, and one of the target's classes.

    Args:
        segments: room_id, segment, start_s, end_s; sorted by room and segment.
        labels: their table.
        target: perhaps "label:CLASS,CLASS", which is 1 where one of them is; case does not count.
        counts: rows that belong to no segment, and rooms without any row, are added.
        known: rooms that were counted by an earlier call, and are not counted again.

    Returns:
        The table, and warnings.

    Raises:
        InputError: no row is of a room here, the target's class is not in the table, or a column
            of the user's has a label's name.
    """
    taken = [name for name in segments.columns if is_label_name(name)]
    if taken:
        raise InputError(
            f"{labels.path}: gives the column {taken[0]!r}, which a room's columns have too; "
            "rename that one"
        )
    rows, warnings = _known_rows(segments, labels, counts, known)
    classes = labels.classes
    wanted = {LABEL: classes}
    if len(classes) <= MOST_CLASSES:
        wanted |= {f"{LABEL}:{name}": [name] for name in classes}
    else:
        warnings.append(
            f"{labels.path}: has {len(classes)} classes, and over {MOST_CLASSES} have no column "
            "each"
        )
    if is_label_name(target) and target != LABEL:
        wanted[target] = _chosen(target, labels)
    columns = [
        _share(segments, rows if name == LABEL else _of(rows, some), labels.are_spans).alias(name)
        for name, some in wanted.items()
    ]
    return segments.with_columns(columns), warnings


def _known_rows(
    segments: pl.DataFrame, labels: Labels, counts: Counter[str], counted_before: Collection[str]
) -> tuple[pl.DataFrame, list[str]]:
    """Rows that touch a segment; the others are counted."""
    lasts = segments.group_by("room_id").agg(stop=pl.col("end_s").max())
    known = labels.table.join(lasts, on="room_id")
    unknown = labels.table.join(lasts, on="room_id", how="anti")
    where = "rooms that are not here, such as " + ", ".join(
        map(repr, unknown["room_id"].unique(maintain_order=True).head(_SHOWN))
    )
    if not known.height:
        raise InputError(f"{labels.path}: every row is of {where}")
    warnings = []
    if unknown.height:
        warnings.append(
            f"{labels.path}: left out {unknown.height} of {counted(labels.table.height, 'row')}, "
            f"of {where}"
        )
    ends = pl.col("end_s") > 0 if labels.are_spans else pl.col("end_s") >= 0
    inside = known.filter(ends & (pl.col("start_s") < pl.col("stop")))
    if inside.height < known.height:
        warnings.append(
            f"{labels.path}: left out {counted(known.height - inside.height, 'row')} outside "
            "their room's segments"
        )
    without = lasts.join(known, on="room_id", how="anti").height
    if without:
        warnings.append(
            f"{labels.path}: {without} of {lasts.height} rooms have no row; their segments have "
            "label 0"
        )
    new = ~pl.col("room_id").is_in(list(counted_before))
    counts["labels"] += inside.filter(new).height
    counts["labels_bad_lines"] += labels.bad_lines
    counts["labels_of_unknown_rooms"] += unknown.height
    counts["labels_outside"] += known.filter(new).height - inside.filter(new).height
    counts["rooms_without_labels"] += without
    return inside.drop("stop"), warnings


def _chosen(target: str, labels: Labels) -> list[str]:
    """The classes that a target names."""
    asked = target.removeprefix(f"{LABEL}:")
    by_name = {name.casefold(): name for name in labels.classes}
    # A class may have a comma in its name.
    names = [asked] if asked.strip().casefold() in by_name else asked.split(",")
    found = []
    for name in names:
        if name.strip().casefold() not in by_name:
            there = ", ".join(map(repr, labels.classes)) or "none: it has no column of them"
            raise InputError(f"{labels.path}: has no label {name.strip()!r}; there is {there}")
        found.append(by_name[name.strip().casefold()])
    return found


def _of(rows: pl.DataFrame, classes: Sequence[str]) -> pl.DataFrame:
    return rows.filter(pl.col("label").is_in(list(classes)))


def _share(segments: pl.DataFrame, rows: pl.DataFrame, are_spans: bool) -> pl.Series:
    """How much of each segment is labelled: Float64 in [0, 1]."""
    place = {
        room: (first, size)
        for room, first, size in segments.with_row_index()
        .group_by("room_id")
        .agg(pl.col("index").min(), pl.len())
        .iter_rows()
    }
    starts, ends = segments["start_s"].to_numpy(), segments["end_s"].to_numpy()
    share = np.zeros(segments.height)
    for (room,), own in rows.group_by("room_id"):
        first, size = place[str(room)]
        part = slice(first, first + size)
        begin, stop = own["start_s"].to_numpy(), own["end_s"].to_numpy()
        if are_spans:
            share[part] = _covered(starts[part], ends[part], begin, stop)
        else:
            share[first + np.searchsorted(starts[part], begin, side="right") - 1] = 1.0
    return pl.Series(share)


def _covered(start_N: Floats, end_N: Floats, begin_K: Floats, stop_K: Floats) -> Floats:
    """The share of each of N segments that K spans cover, each second once."""
    order = np.argsort(begin_K)
    begin_K = begin_K[order]
    reach_K = np.maximum.accumulate(stop_K[order])
    # A span adds what lies beyond all earlier ones: so the pieces do not overlap.
    begin_K = np.maximum(begin_K, np.append(-np.inf, reach_K[:-1]))
    length_K1 = np.append(0, np.cumsum(np.maximum(reach_K - begin_K, 0)))

    def before(t_N: Floats) -> Floats:
        k_N = np.searchsorted(begin_K, t_N, side="right")
        last_N = np.maximum(k_N - 1, 0)
        over_N = np.clip(reach_K[last_N] - t_N, 0, None)
        return np.where(k_N > 0, length_K1[k_N] - over_N, 0)

    share_N = (before(end_N) - before(start_N)) / (end_N - start_N)
    # Borders are decimal numbers in floats: a segment that is covered whole is 1, not nearly.
    return np.clip(np.round(share_N, 9), 0, 1)
