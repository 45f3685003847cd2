"""`contentctr daily` for simulated days, with other viewers from the middle on.

python benchmarks/daily.py OUT [--days 5] [--rooms 24]

Two days more come first, on which there is nothing to train on yet. From the middle day on, what
attracts viewers is turned around, and they click more often.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from contentctr.daily.day import run_day
from contentctr.daily.settings import DailySettings
from contentctr.simulate import tables
from contentctr.simulate.folders import write_room
from contentctr.simulate.mechanism import SimulatorConfig, draw_room

FIRST = date(2026, 5, 1)
WARM_UP = 2


def main() -> None:
    """Simulate the days, run them, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--days", type=int, default=5)
    parser.add_argument("--rooms", type=int, default=24)
    chosen = parser.parse_args()
    count = WARM_UP + chosen.days
    middle = WARM_UP + chosen.days // 2
    for number in range(count):
        write_day(chosen.out / "rooms", number, chosen.rooms, drifted=number >= middle)
    settings = DailySettings(
        rooms=str(chosen.out / "rooms" / "{date}"),
        data=str(chosen.out / "data"),
        runs=str(chosen.out / "runs"),
        recipe="small",
        settings=["model.statistics=true", "epochs=6", "learning_rate=5e-4", "align_weight=0"],
        keep_days=4,
        keep_runs=3,
        device="cpu",
        encode={"text": "embedded-en"},
    )
    rows = [
        run_day(settings, FIRST + timedelta(days=number), show_progress=False)
        for number in range(count)
    ]
    print(table(rows, middle))


def write_day(root: Path, number: int, rooms: int, *, drifted: bool) -> None:
    """The rooms of a day, moved to it.

    Without pictures, for encoding those would take most of the time; and without the chats that
    have times of the day.
    """
    config = SimulatorConfig(
        num_rooms=(number + 1) * rooms,
        num_streamers=16,
        min_segments=20,
        max_segments=30,
        rooms_without_video=1.0,
        base_logit=-1.4 if drifted else -2.2,
    )
    day = FIRST + timedelta(days=number)
    attraction = tables.ATTRACTION.copy()
    if drifted:
        tables.ATTRACTION[:] = attraction[:, ::-1]
    for index in range(number * rooms, (number + 1) * rooms):
        folder = root / day.isoformat() / f"room{index:04d}"
        if folder.is_dir():
            continue
        write_room(config, draw_room(config, index), folder, 0.0)
        head = json.loads((folder / "room.json").read_text())
        start = datetime(day.year, day.month, day.day, 23 * (index % rooms) // rooms, tzinfo=UTC)
        for path in folder.glob("comments.*"):
            if _has_clock(path):  # of the time that the room was made for
                path.unlink()
        (folder / "room.json").write_text(json.dumps({**head, "started_at": start.isoformat()}))
    tables.ATTRACTION[:] = attraction


def _has_clock(path: Path) -> bool:
    """Whether a chat's times are of the day, not from the room's start."""
    return path.suffix in (".json", ".jsonl", ".xml")


def table(rows: list[dict[str, Any]], middle: int) -> str:
    """The days as Markdown."""
    lines = [
        "| day | rooms (train, val, test) | tau before | tau today | difference (95 %) "
        "| log loss before | today | calibration: log loss before, after | outcome |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for number, row in enumerate(rows):
        day = f"{row['date']}{' (drift begins)' if number == middle else ''}"
        counts = ", ".join(str(row["rooms"][name]) for name in ("train", "val", "test"))
        cells = [day, counts, "", "", "", "", "", "", row["outcome"]]
        if "compared" in row:
            tau, loss = row["compared"]["kendall_tau"], row["compared"]["log_loss"]
            cells[2:4] = [f"{tau['old']:.3f}", f"{tau['new']:.3f}"]
            low, high = tau["interval"]
            cells[4] = f"{tau['difference']:+.3f} ({low:+.3f} to {high:+.3f})"
            low, high = loss["interval"]
            cells[5] = f"{loss['old']:.4f}"
            cells[6] = f"{loss['new']:.4f}, {loss['difference']:+.4f} ({low:+.4f} to {high:+.4f})"
        if "calibration" in row:
            found = row["calibration"]
            before, after = (found[name]["log_loss"] for name in ("before", "after"))
            cells[7] = f"{before:.4f}, {after:.4f} ({found['method']})"
        if row["outcome"] == "too few rooms":
            cells[8] += f": {row['why']}"
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
