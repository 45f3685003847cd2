"""Which parts of films their viewers cut out, told from the comments that they left.

    python benchmarks/real/danmaku.py FOLDER -o OUT [--scores FILE ...] [--no-ablations]

FOLDER holds room folders with comments, and beside them highlights.csv (room_id, start_s, end_s).
Every film is kept out once; the others are learned from, one segment of look-ahead allowed. Scored
as published (scenes.py): scenes of 15 s, as many as the film has labels. FILE is a table (Parquet
or CSV) of room_id, start_s, end_s, score: another scorer's, measured as a row of its name.
OUT/README.md is the page.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from common import Row, Study, one_out, parser
from contentctr.rooms.folder import read_room
from contentctr.rule.curve import score_chat
from contentctr.rule.usual import STEP_S
from contentctr.store.rooms import PreparedRooms
from scenes import NEAR_S, SCENE_S, Found, apart_scenes, score_films, score_scenes, uniform_scenes
from tables import Page, over_rooms

LABELS = "highlights.csv"
BY_RULE = "the rule of highlights (no training)"
WORDS = (
    "kind=without_visual",
    "horizon=-1",
    "prior=0",
    "window_len=4",
    "stride=3",
    "batch_size=32",
    "epochs=8",
    "learning_rate=1e-3",
    "weight_decay=0.1",
    "feature_dropout=0.8",
    "standardise=true",
)
"""A few films: short windows, few steps, and most of the features left out at a time."""
ALONE = (*WORDS, "statistics=false", "wide=false")
RATE = Row("comment rate", ("kind=without_visual", *WORDS[3:], "statistics=false", "wide=false"))
MAIN = (Row("comments, one segment of look-ahead", ALONE),)
ABLATIONS = (
    Row("trained on the comment rate first", ALONE, first=RATE, first_data="rate"),
    Row("features under a layer norm", (*ALONE, "standardise=false")),
    Row("with statistics", (*WORDS, "wide=false")),
    Row("with words", (*ALONE, "words=true")),
    Row("without look-ahead", (*ALONE, "horizon=0")),
    Row("without the causal mask", (*ALONE, "kind=without_mask", "horizon=0")),
    Row("positive_weight=0", (*ALONE, "positive_weight=0")),
    Row("pairwise loss", (*ALONE, "pair=L1")),
)


TEXTS = ("room_id", "text", "user_id")
"""Columns that may look like numbers."""


def read_table(path: Path) -> pl.DataFrame:
    """A table of CSV or Parquet."""
    if path.suffix == ".parquet":
        return pl.read_parquet(path)
    return pl.read_csv(path, schema_overrides=dict.fromkeys(TEXTS, pl.String))


def fullest_scenes(times_C: np.ndarray, duration_s: float, number: int) -> np.ndarray:
    """The fullest scenes that do not overlap, from any whole second on, [K, 2]."""
    start_S = np.arange(0, max(duration_s - SCENE_S, 0) + 1e-9)
    times_C = np.sort(times_C)
    count_S = np.searchsorted(times_C, start_S + SCENE_S) - np.searchsorted(times_C, start_S)
    return apart_scenes(start_S, count_S.astype(np.float64), number)


def rule_scenes(folder: Path, number: int) -> np.ndarray:
    """The scenes that the rule without training scores highest, [K, 2]."""
    room = read_room(folder)
    assert room.comments is not None
    start_S = np.arange(0, max(room.duration_s - SCENE_S, 0) + 1e-9, STEP_S)
    scores_S = score_chat(room.comments, room.duration_s, start_S, start_S + SCENE_S)
    return apart_scenes(start_S, scores_S, number)


def rules(study: Study, data: PreparedRooms, labels: pl.DataFrame) -> dict[str, dict[str, Found]]:
    """By row, what needs no training."""
    rows: dict[str, dict[str, Found]] = {"Uniform": {}, "the fullest 15 s": {}, BY_RULE: {}}
    for room_id, duration_s in data.rooms().select("room_id", "duration_s").iter_rows():
        own = labels.filter(pl.col("room_id") == room_id).select("start_s", "end_s").to_numpy()
        times = _comment_times(study.folder / room_id)
        scenes = {
            "Uniform": uniform_scenes(len(own), duration_s),
            "the fullest 15 s": fullest_scenes(times, duration_s, len(own)),
            BY_RULE: rule_scenes(study.folder / room_id, len(own)),
        }
        for name, spans in scenes.items():
            rows[name][room_id] = score_scenes(spans, own)
    segments = data.segments(texts=False)
    rows["the fullest segments of 15 s"] = score_films(segments, labels, "comment_count")
    return rows


def _comment_times(folder: Path) -> np.ndarray:
    return read_table(folder / "comments.csv")["t"].cast(pl.Float64).to_numpy()


def line(name: str, films: dict[str, Found], others: str = "") -> list[object]:
    """A row of the page."""
    found = [films[film] for film in sorted(films)]
    precision, recall = (np.mean([getattr(f, n) for f in found]) for n in ("precision", "recall"))
    f1 = over_rooms([f.f1 for f in found])
    by_film = " ".join(f"{f.f1:.2f}" for f in found)
    return [name, f"{precision:.3f}", f"{recall:.3f}", f1, by_film, others]


def main() -> None:
    """Run the study."""
    arguments = parser(__doc__)
    arguments.add_argument("--set", nargs="*", help="measure these settings alone, to choose by")
    arguments.add_argument("--scores", type=Path, nargs="*", default=[], help="others' scores")
    given: argparse.Namespace = arguments.parse_args()
    study = Study.of(given)
    labels = read_table(study.folder / LABELS)
    # A scene beside a label is right too, so that is what is learned.
    near = study.out / "near.csv"
    labels.with_columns(
        start_s=(pl.col("start_s") - NEAR_S).clip(lower_bound=0), end_s=pl.col("end_s") + NEAR_S
    ).write_csv(near)
    data = study.prepare(
        "near", target="label", labels=str(near), segment_seconds=SCENE_S, comment_lag=0
    )
    lines = [line(name, films) for name, films in rules(study, data, labels).items()]
    for path in given.scores:
        lines.append(
            line(f"{path.stem} (no training)", score_films(read_table(path), labels, "score"))
        )
    rows = MAIN if given.no_ablations else (*MAIN, *ABLATIONS)
    if given.set is not None:
        rows = (Row(" ".join(given.set), tuple(given.set)),)
    write_page(study, data, labels, lines, rows)


def write_page(
    study: Study,
    data: PreparedRooms,
    labels: pl.DataFrame,
    lines: list[list[object]],
    rows: Sequence[Row],
) -> None:
    """Train, measure and write; the page grows row by row."""
    folds = one_out(data)
    for row in rows:
        if row.first is not None:
            settings = {"target": "comment_rate", "target_scale": "odds"}
            study.prepare(row.first_data, segment_seconds=SCENE_S, **settings)
        table = study.scores(data, folds, row)
        alone = [score_films(table, labels, f"seed_{n}") for n in range(study.seeds)]
        seeds = " ".join(f"{np.mean([f.f1 for f in films.values()]):.3f}" for films in alone)
        lines.append(line(row.name, score_films(table, labels, "score"), seeds))
        print(*lines[-1], sep=" | ", flush=True)
        page = Page(study.out / "README.md", "Parts of films that viewers cut out")
        page.add(
            f"{len(folds)} films, each kept out once. Scenes of 15 s, as many as labels, within "
            "5 s; F1 is the mean over films ± standard error (95 % interval, films drawn). "
            f"Recipe `{study.recipe}`, text encoder `{study.text}`; the first trained row's "
            f"settings: `{' '.join(rows[0].words)}`. Each trained row: {study.seeds} trainings, "
            "their log-odds averaged; F1 of each alone stands last."
        )
        page.table(["", "precision", "recall", "F1", "by film", "seeds alone"], lines)
        seconds = [[name, f"{took:.0f}"] for name, took in study.seconds.items()]
        page.table(["stage of this call", "seconds"], seconds)


if __name__ == "__main__":
    main()
