"""What a prepared KuaiLive-M3 depends on beside its files, and what each target needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from contentctr.errors import InputError
from contentctr.prepare.klm3.files import TABLES
from contentctr.prepare.klm3.segments import OWN_SCHEMA
from contentctr.prepare.splits import check_shares
from contentctr.prepare.targets import TargetScale, check_comment_lag
from contentctr.store.rooms import COUNT_COLUMNS

BENCHMARK_ROOMS, BENCHMARK_SEGMENTS, BENCHMARK_ENTERED = 10_000, 5, 5
BENCHMARK_SHARES = (0.1, 0.2)
_NEEDS = {
    "ctr": ("shows",),
    "viewers": ("shows",),
    "exposures": ("shows",),
    "comment_rate": ("comments",),
    "comment_count": ("comments",),
    "likes": ("likes",),
    "engagement": ("likes", "comments"),
    "highlight_score": ("likes", "comments"),
    "highlight_label": ("likes", "comments"),
}
"""Tables that a target comes from, beside those that must be there."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a result depends on, beside the files."""

    target: str
    target_scale: TargetScale
    comment_lag: int
    rooms: str
    val: float
    test: float
    zone: str


def check_settings(source: Path, settings: Settings, tables: Mapping[str, Any]) -> None:
    """Refuse settings that are wrong, or a target whose tables are missing.

    Raises:
        InputError: with the rule and the value.
    """
    check_shares(settings.val, settings.test)
    check_comment_lag(settings.target, settings.comment_lag)
    if settings.rooms not in ("all", "benchmark"):
        raise InputError(f"rooms must be all or benchmark, not {settings.rooms!r}")
    try:
        pl.Series([0]).cast(pl.Datetime("ms", settings.zone))
    except pl.exceptions.PolarsError:
        raise InputError(f"zone must be a time zone's name, not {settings.zone!r}") from None
    targets = ("ctr", "comment_rate", *OWN_SCHEMA, *COUNT_COLUMNS, "viewers", "clickers")
    if settings.target not in targets:
        raise InputError(f"target must be one of {', '.join(targets)}, not {settings.target!r}")
    for name in _NEEDS.get(settings.target, ()):
        if name not in tables:
            raise InputError(
                f"{source}: {TABLES[name].stem} is missing, which the target "
                f"{settings.target!r} comes from"
            )
