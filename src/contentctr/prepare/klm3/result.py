"""The prepared folder of KuaiLive-M3, put together from the parts; each step may be done again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from contentctr.batch import DataSpec
from contentctr.counting import counted
from contentctr.files import atomic, file_sha256, write_json
from contentctr.prepare.klm3.files import NUM_SHARDS, TABLES, VISUAL_DIM
from contentctr.prepare.klm3.segments import CLICK
from contentctr.prepare.klm3.settings import Settings
from contentctr.store import rooms as prepared
from contentctr.store.rooms import ROOMS_SCHEMA, SPLITS
from contentctr.store.vectors import write_manifest

VECTORS = "klm3"
"""Name of the visual encoder whose features are stored."""
_ROW_GROUP = 100_000


@dataclass(frozen=True, kw_only=True)
class Result:
    """What is to be written."""

    source: Path
    out: Path
    settings: Settings
    num_files: Mapping[str, int]
    """Files of each table that is there."""
    rooms: pl.DataFrame
    """Chosen rooms: `room_stats`, started_at, split."""
    counts: Mapping[str, int]
    simulated: bool

    def write(self, parts: Sequence[Path], work: Path) -> None:
        """Move the result into its place, the manifest last.

        Args:
            parts: the segments of each bucket.
            work: the folder whose `visual` holds the shards that are not in their place yet.
        """
        for name in ("manifest.json", "truth.parquet"):
            (self.out / name).unlink(missing_ok=True)
        self._move_vectors(work)
        with atomic(self.out / "rooms.parquet") as temporary:
            _room_table(self.rooms).write_parquet(temporary)
        with atomic(self.out / "segments.parquet") as temporary:
            pl.scan_parquet(list(parts), glob=False).sink_parquet(
                temporary, row_group_size=_ROW_GROUP, maintain_order=True
            )
        write_json(self.out / "manifest.json", self._manifest())

    def _move_vectors(self, work: Path) -> None:
        """Shards that were moved before a kill are in their place already."""
        visual = self.out / "visual"
        visual.mkdir(exist_ok=True)
        (visual / "manifest.json").unlink(missing_ok=True)
        moved = work / "moved.json"
        if not moved.is_file():  # what an older result left here
            for path in visual.glob("bucket-*.safetensors"):
                path.unlink()
            write_json(moved, {})
        for path in sorted((work / "visual").glob("*.safetensors")):
            path.replace(visual / path.name)

    def _manifest(self) -> dict[str, Any]:
        rooms, counts = self.rooms, self.counts
        settings = asdict(self.settings)
        seconds = round(int(rooms["segments_ms"].sum()) / counts["segments"] / 1000, 3)
        spec = DataSpec(
            segment_seconds=seconds,
            frames_per_segment=1,
            comment_lag=self.settings.comment_lag,
            visual_encoder=VECTORS,
            visual_revision=f"{VECTORS}-{VISUAL_DIM}",
            visual_dim=VISUAL_DIM,
        )
        stored = {"rooms": rooms.height, "segments": counts["segments"]}
        write_manifest(self.out / "visual", spec, counts=stored)
        by_split = dict(rooms.group_by("split").len().iter_rows())
        return {
            "schema_version": prepared.SCHEMA_VERSION,
            "task": "rooms",
            "source": "klm3",
            "source_path": str(self.source.resolve()),
            "segment_seconds": seconds,
            "segments_vary_in_length": True,
            "stored_visual": True,
            "frames_per_segment": 1,
            "target": settings.pop("target"),
            "target_scale": settings.pop("target_scale"),
            "comment_lag": settings.pop("comment_lag"),
            "klm3": settings,
            "simulated": self.simulated,
            "counts": {
                **counts,
                "rooms": rooms.height,
                "segments_with_target": counts.get("segments_with_target", 0),
                "rooms_by_split": {split: by_split.get(split, 0) for split in SPLITS},
            },
            "warnings": self._warnings(),
            "hashes": {
                name: file_sha256(self.out / name) for name in ("rooms.parquet", "segments.parquet")
            },
        }

    def _warnings(self) -> list[str]:
        rooms, counts = self.rooms, self.counts
        lost = {
            "shows": "viewers, exposures and CTR",
            "likes": "likes, engagement and the highlight score",
            "comments": "comments, engagement and the highlight score",
        }
        found = [
            f"{TABLES[name].stem} is missing: {what} are left out"
            for name, what in lost.items()
            if name not in self.num_files
        ]
        shards = self.num_files["vectors"]
        if 1 < shards < NUM_SHARDS:
            found.append(f"live_emb_128_ts has {shards} of the {NUM_SHARDS} published shards")
        if not counts.get("clicks"):
            found.append(f"no session has the enter_live_action {CLICK!r}: every CTR is 0 or null")
        sessions, overlapping = int(rooms["sessions"].sum()), int(rooms["overlapping"].sum())
        if overlapping * 2 < sessions:
            found.append(
                f"{overlapping} of {sessions} sessions share a moment with a segment of their "
                "room; are the units and the time zone right?"
            )
        if not counts.get("segments_with_target"):
            found.append(f"no segment has the target {self.settings.target!r}")
        for split, share in (("val", self.settings.val), ("test", self.settings.test)):
            if share > 0 and split not in rooms["split"]:
                found.append(
                    f"there is no {split} room: {counted(rooms.height, 'room')} cannot be split so"
                )
        return found


def _room_table(rooms: pl.DataFrame) -> pl.DataFrame:
    table = rooms.select(
        room_id=pl.col("live_id").cast(pl.String),
        streamer_id=pl.col("author_id").cast(pl.String),
        started_at="started_at",
        duration_s=(pl.col("end") - pl.col("start")) / 1000,
        num_segments="segments",
        split="split",
        media=pl.lit(None),
        media_kind=pl.lit(None),
        sound=pl.lit(None),
    )
    return table.select(pl.col(k).cast(v) for k, v in ROOMS_SCHEMA.items()).sort("room_id")
