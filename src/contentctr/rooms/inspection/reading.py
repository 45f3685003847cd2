"""Parts of a room, each read by itself: what cannot be read costs that part alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from contentctr.errors import InputError
from contentctr.rooms.folder import READERS
from contentctr.rooms.inspection.facts import Floats, Kind, PartFacts
from contentctr.rooms.lines import Part
from contentctr.rooms.media import list_images
from contentctr.rooms.moments import TimeAxis


def inspect_part(
    name: Kind, path: Path, axis: TimeAxis, names: Mapping[str, str] | None
) -> PartFacts:
    """Read one part.

    Args:
        name: which part it is taken for.
        path: its file, or folder.
        axis: when the room started, for logs with clock times.
        names: the user's own names of columns.
    """
    try:
        if name == "frames":
            return _facts(name, _images(path))
        if not path.exists():
            raise InputError(f"{path}: no such file")
        return _facts(name, READERS[name](path, axis, names))
    except InputError as error:
        return PartFacts(name=name, path=path, part=None, problem=str(error))


def _images(folder: Path) -> Part:
    warnings: list[str] = []
    times = [second for second, _ in list_images(folder, warnings)]
    table = pl.DataFrame({"t": times}, schema={"t": pl.Float64})
    return Part(path=folder, table=table, warnings=warnings, form="images named by their second")


def _facts(name: Kind, part: Part) -> PartFacts:
    table = part.table
    is_speech = name == "speech"
    return PartFacts(
        name=name,
        path=part.path,
        part=part,
        starts_s=_times(table["start" if is_speech else "t"]),
        ends_s=_times(table["end"]) if is_speech else None,
        details=_details(name, part),
    )


def _times(column: pl.Series) -> Floats:
    return column.cast(pl.Float64).fill_null(np.nan).to_numpy()


def _details(name: Kind, part: Part) -> dict[str, Any]:
    table = part.table
    if name == "comments":
        users = table.filter(pl.col("user_id") != "")["user_id"].n_unique()
        found: dict[str, Any] = {"users": users}
        if part.events is not None:
            found["events of viewers"] = _kinds(part.events)
        return found
    if name == "speech":
        return {"characters": int(table["text"].str.len_chars().sum() or 0)}
    if name == "events":
        return {"users": table["user_id"].n_unique(), "kinds": _kinds(table)}
    if name == "columns":
        return {"columns": [column for column in table.columns if column != "t"]}
    return {}


def _kinds(events: pl.DataFrame) -> dict[str, int]:
    counts = events["kind"].cast(pl.String).value_counts(sort=True)
    return dict(counts.iter_rows())
