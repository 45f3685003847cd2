"""Goals, cards and substitutions, told by the minute from the speech of live football commentary.

    python benchmarks/real/soccer.py FOLDER -o OUT [--test FOLDER] [--seeds 3] [--no-ablations]

FOLDER holds room folders of a half each, with a transcript, and labels.csv (room_id, t, label).
Rooms are taken in pairs, in the order of their ids: two halves of a match are never parted. Without
--test each match is kept out once (--folds); with it, all of FOLDER is learned from, and all of the
other folder is kept out. OUT/README.md is the page.

How it is done. Segments are 10 s long, since a remark is, and a minute's 150 words have no vector
that still says "goal". A moment is labelled as the span of 60 s that follows it: so at the end of a
minute the label is 1 where a moment fell into that minute, and in between the model learns from
five further minutes that begin elsewhere. One minute of look-ahead is `data.horizon=-6`. Of a
half's last minute, which has none, the causal model's score is taken. Without the causal mask a
segment sees three minutes on either side, so that row knows more than a minute of what comes after.
Measured is average precision over all minutes, with intervals over matches.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
import torch

from common import Fold, Row, Study, is_told, parser, write_like
from contentctr.batch import Vocabulary
from contentctr.evaluate.floors import Floats
from contentctr.files import atomic, read_json, write_json
from contentctr.metrics.average_precision import average_precision
from contentctr.prepare.targets import set_target
from contentctr.store.rooms import PreparedRooms
from contentctr.windows.segment_data import load_segments
from keywords import count_words, heard
from lags import Lagged, fit_trees
from tables import Page

CLASSES = {
    "goal": ("Goal",),
    "card": ("Yellow card", "Red card", "Yellow->red card"),
    "substitution": ("Substitution",),
}
SEGMENT_S, MINUTE_S = 10, 60
PER_MINUTE = MINUTE_S // SEGMENT_S
HALVES = 2
DRAWS = 300
CAUSAL, LATER = "horizon=0", f"horizon={-PER_MINUTE}"
MAIN = Row("recipe moments")
ABLATIONS = (
    Row("a decoder of two layers", ("decoder_layers=2", "decoder_lookback=12,12")),
    Row("look-back of 1 minute before the look-ahead", ("decoder_lookback=12",)),
    Row("features under a layer norm", ("standardise=false",)),
    Row("without words", ("words=false",)),
    Row("without how far on the half is", ("statistics=false",)),
    Row("weighted positives", ("positive_weight=0",)),
    Row("pairwise loss", ("pair=L1",)),
    Row("without the causal mask", ("kind=without_mask", "decoder_lookback=", CAUSAL)),
)
TREES = "reference: least squares by lag on features and words, then trees"
TWO = "the same and the causal training, log-odds averaged"
SHARE = 0.3
"""Of the model in its mean with the reference; of 0.2, 0.35 and 0.5 the first two were alike."""
BOTH = f"reference and model, log-odds averaged ({1 - SHARE:.1f} and {SHARE})"
KEYWORDS = "floor: how often the class's words stand there"


@dataclass
class Halves:
    """The rooms, their minutes and what fell into them."""

    data: PreparedRooms
    events: pl.DataFrame
    """room_id, t, label: a class."""
    folds: Sequence[Fold]
    group: Mapping[str, int]
    """Number of each room's match."""

    @cached_property
    def minutes(self) -> pl.DataFrame:
        """Kept-out minutes: room_id, minute, segment (its last one), group, a column a class."""
        kept = {room for fold in self.folds for room in fold.test}
        rows = [
            (room, minute, min(PER_MINUTE * (minute + 1), count) - 1, self.group[room])
            for room, count in self.data.rooms().select("room_id", "num_segments").iter_rows()
            if room in kept
            for minute in range(-(-count // PER_MINUTE))
        ]
        table = pl.DataFrame(rows, schema=["room_id", "minute", "segment", "group"], orient="row")
        return with_labels(table, self.events)

    @cached_property
    def texts(self) -> dict[str, list[str]]:
        """Each room's speech by minute; what the recogniser says again and again is there once."""
        found: dict[str, list[str]] = {}
        for (room,), own in self.data.segments().group_by("room_id"):
            speech = own.sort("segment")["speech"].fill_null("").to_list()
            found[str(room)] = [
                " ".join(dict.fromkeys(speech[k : k + PER_MINUTE]))
                for k in range(0, len(speech), PER_MINUTE)
            ]
        return found

    @cached_property
    def lagged(self) -> Lagged:
        """The reference's view of all segments."""
        table = self.data.segments().select("room_id", "segment", "start_s", "end_s", "speech")
        table = table.with_columns(group=pl.col("room_id").replace_strict(self.group))
        stored = load_segments(self.data, Vocabulary(streamers=[]), split="all", horizon=0)
        assert stored.table["room_id"].equals(table["room_id"])
        text_ST = stored.text_ST[torch.arange(len(stored))].float().numpy()
        return Lagged(text_ST, table["speech"].fill_null("").to_list(), table, self.events)

    def of_class(self, name: str) -> PreparedRooms:
        """The same rooms and features, with a class as the target."""
        data, root = self.data, self.data.root / "classes" / name
        told = {"data": data.content_hash(), "class": name}
        if not is_told(root / "given.json", told):
            target = f"label:{name}"
            segments = set_target(data.segments(), target, "none")
            write_like(data, root, data.rooms(), segments, target=target, target_scale="none")
            write_json(root / "given.json", told)
        return PreparedRooms(root)


def with_labels(minutes: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Minutes with a column a class: 1.0 where such a moment fell into it."""
    for name in CLASSES:
        own = events.filter(pl.col("label") == name)
        own = own.select("room_id", minute=(pl.col("t") // MINUTE_S).cast(pl.Int64)).unique()
        own = own.with_columns(pl.lit(1.0).alias(name))
        minutes = minutes.join(own, on=["room_id", "minute"], how="left", maintain_order="left")
    return minutes.with_columns(pl.col(name).fill_null(0.0) for name in CLASSES)


def read_events(folder: Path) -> pl.DataFrame:
    """The table labels.csv as classes; rows of other kinds are left out."""
    class_of = {label: name for name, labels in CLASSES.items() for label in labels}
    table = pl.read_csv(folder / "labels.csv", schema_overrides={"room_id": pl.String}).filter(
        pl.col("label").is_in(list(class_of))
    )
    return table.select("room_id", "t", pl.col("label").replace_strict(class_of))


def gathered(given: argparse.Namespace) -> tuple[Path, pl.DataFrame, set[str]]:
    """The folder to prepare, its events, and the rooms of --test."""
    if given.test is None:
        return given.folder, read_events(given.folder), set()
    root, ids = given.out / "rooms", list[set[str]]()
    root.mkdir(exist_ok=True)
    for part, folder in (("given", given.folder), ("test", given.test)):
        ids.append(set())
        for room in sorted(path.parent for path in folder.glob("*/room.json")):
            ids[-1].add(read_json(room / "room.json")["room_id"])
            copy = root / f"{part}-{room.name}"  # the two folders may use the same names
            if not copy.exists():
                with atomic(copy) as temporary:
                    shutil.copytree(room, temporary)
    if both := ids[0] & ids[1]:
        raise SystemExit(f"{given.test}: room {min(both)} is in {given.folder} too")
    return root, pl.concat([read_events(given.folder), read_events(given.test)]), ids[1]


def opened(study: Study, given: argparse.Namespace) -> Halves:
    """The halves, prepared and encoded."""
    study.folder, events, kept = gathered(given)
    spans = study.out / "spans.csv"
    span = events.select("room_id", start_s="t", end_s=pl.col("t") + MINUTE_S, label="label")
    span.write_csv(spans)
    data = study.prepare(
        "halves", target="label:goal", labels=str(spans), segment_seconds=float(SEGMENT_S)
    )
    rooms = sorted(data.rooms()["room_id"])
    # Pairs are of one folder: an odd one out must not shift those of the other.
    parts = ([r for r in rooms if r not in kept], [r for r in rooms if r in kept])
    group = {r: 2 * (n // HALVES) + part for part in (0, 1) for n, r in enumerate(parts[part])}
    if kept:
        folds = [Fold("kept back", tuple(parts[0]), tuple(parts[1]))]
    else:
        fold_of = {r: group[r] // 2 % given.folds for r in rooms}
        folds = [
            Fold(
                f"fold{k}",
                tuple(r for r in rooms if fold_of[r] != k),
                tuple(r for r in rooms if fold_of[r] == k),
            )
            for k in range(given.folds)
        ]
    return Halves(data, events.filter(pl.col("room_id").is_in(rooms)), folds, group)


def by_minute(study: Study, halves: Halves, name: str, row: Row) -> tuple[Floats, list[Floats]]:
    """A row's scores of the kept-out minutes as log-odds: the ensemble's, and each seed's."""
    table = study.scores(halves.of_class(name), halves.folds, row)
    names = ["score", *(f"seed_{n}" for n in range(study.seeds))]
    joined = halves.minutes.join(
        table.select("room_id", "segment", *names),
        on=["room_id", "segment"],
        how="left",
        maintain_order="left",
    )
    found = [joined[n].cast(pl.Float64).fill_null(np.nan).to_numpy() for n in names]
    odds = [np.log(s) - np.log1p(-s) for s in found]
    return odds[0], odds[1:]


def model_scores(
    study: Study, halves: Halves, row: Row, *, later: bool
) -> dict[str, tuple[Floats, list[Floats]]]:
    """Of each class; with look-ahead, a half's last minute has the causal model's score."""
    found = {}
    for name in CLASSES:
        horizon = LATER if later else CAUSAL
        words = (horizon, *row.words)  # a row's own horizon stands
        tried = Row(f"{row.name} {name} {horizon}", words, row.recipe)
        ensemble, seeds = by_minute(study, halves, name, tried)
        if later:
            plain = Row(f"{MAIN.name} {name} {CAUSAL}", (CAUSAL,))
            causal, causals = by_minute(study, halves, name, plain)
            ensemble = np.where(np.isnan(ensemble), causal, ensemble)
            seeds = [np.where(np.isnan(s), c, s) for s, c in zip(seeds, causals, strict=True)]
        found[name] = ensemble, seeds
    return found


def tree_scores(halves: Halves, *, later: bool, seeds: int) -> dict[str, Floats]:
    """The reference's log-odds of the kept-out minutes."""
    everything = halves_minutes(halves)
    found = {name: np.full(halves.minutes.height, np.nan) for name in CLASSES}
    for fold in halves.folds:
        train = sorted({halves.group[room] for room in fold.train})
        x_MF = halves.lagged.around(train, everything, later=later)
        train_M = everything["room_id"].is_in(list(fold.train)).to_numpy()
        rows_M = halves.minutes["room_id"].is_in(list(fold.test)).to_numpy()
        test_M = everything["room_id"].is_in(list(fold.test)).to_numpy()
        for name in CLASSES:
            y_M = everything[name].to_numpy()
            trees = [fit_trees(x_MF[train_M], y_M[train_M], seed) for seed in range(seeds)]
            found[name][rows_M] = np.mean([t.decision_function(x_MF[test_M]) for t in trees], 0)
    return found


def halves_minutes(halves: Halves) -> pl.DataFrame:
    """Minutes of all rooms, also of those that no fold keeps out."""
    rooms = tuple(halves.data.rooms()["room_id"])
    return Halves(halves.data, halves.events, [Fold("all", (), rooms)], halves.group).minutes


def shown(halves: Halves, scores: Mapping[str, Floats]) -> list[str]:
    """Average precision of each class and their mean, each with an interval over matches."""
    group_M = halves.minutes["group"].to_numpy()
    groups = np.unique(group_M)
    rows = {group: np.flatnonzero(group_M == group) for group in groups}
    y = {name: halves.minutes[name].to_numpy() > 0 for name in CLASSES}

    def measured(which: Floats | slice) -> list[float]:
        found = [average_precision(y[name][which], scores[name][which]) for name in CLASSES]
        return [*found, float(np.mean(found))]

    generator = np.random.default_rng(0)
    drawn = [
        measured(np.concatenate([rows[g] for g in generator.choice(groups, len(groups))]))
        for _ in range(DRAWS)
    ]
    low, high = np.nanquantile(drawn, (0.025, 0.975), axis=0)
    return [
        f"{mean:.3f} ({a:.3f} to {b:.3f})"
        for mean, a, b in zip(measured(slice(None)), low, high, strict=True)
    ]


def single(halves: Halves, found: Mapping[str, tuple[Floats, list[Floats]]]) -> str:
    """The mean average precision of one training alone, over the seeds."""
    y = {name: halves.minutes[name].to_numpy() > 0 for name in CLASSES}
    seeds = range(len(found["goal"][1]))
    means = [np.mean([average_precision(y[n], found[n][1][s]) for n in CLASSES]) for s in seeds]
    return f"{np.mean(means):.3f}"


def table(study: Study, halves: Halves, page: Page, more: Sequence[Row], *, later: bool) -> None:
    """One table, with look-ahead or without: rule of thumb, reference, recipe, further rows."""
    words = {name: count_words(halves.texts, halves.minutes, name, later=later) for name in CLASSES}
    trees = tree_scores(halves, later=later, seeds=study.seeds)
    lines = [[KEYWORDS, *shown(halves, words), ""], [TREES, *shown(halves, trees), ""]]
    print(*lines, sep="\n", flush=True)
    for row in (MAIN, *more):
        found = model_scores(study, halves, row, later=later)
        scores = {name: ensemble for name, (ensemble, _) in found.items()}
        lines.append([row.name, *shown(halves, scores), single(halves, found)])
        if row is MAIN:
            if later:
                causal = model_scores(study, halves, row, later=False)
                scores = {name: (scores[name] + causal[name][0]) / 2 for name in CLASSES}
                lines.append([TWO, *shown(halves, scores), ""])
            joined = {n: (1 - SHARE) * trees[n] + SHARE * scores[n] for n in CLASSES}
            lines.append([BOTH, *shown(halves, joined), ""])
        print(lines[-1], flush=True)
    page.add(f"## {'One minute of look-ahead' if later else 'Causal'}")
    page.table(["", *CLASSES, "mean", "mean of one training"], lines)


def main() -> None:
    """Run the study."""
    arguments = parser(__doc__, recipe="moments")
    arguments.add_argument("--test", type=Path, help="folder of rooms that are kept out")
    arguments.add_argument("--folds", type=int, default=5, help="parts of cross-validation (5)")
    arguments.add_argument("--set", nargs="*", default=[], help="one more row, of these settings")
    given: argparse.Namespace = arguments.parse_args()
    study = Study.of(given)
    halves = opened(study, given)
    page = Page(study.out / "README.md", "Goals, cards and substitutions from football speech")
    base = {name: float(halves.minutes[name].to_numpy().mean()) for name in CLASSES}
    page.add(
        f"{halves.minutes['room_id'].n_unique()} halves, {halves.minutes.height} minutes; share "
        f"with {', '.join(f'a {name} {share:.3f}' for name, share in base.items())}. Average "
        f"precision by the minute, 95 % intervals over matches; text encoder {study.text}, "
        f"{study.seeds} seeds, {len(halves.folds)} fold(s)."
    )
    more = (Row(" ".join(given.set), tuple(given.set)),) if given.set else ()
    ablations = () if given.no_ablations else ABLATIONS
    table(study, halves, page, (*more, *ablations), later=True)
    table(study, halves, page, more, later=False)
    page.add("## What can be heard")
    audible = heard(halves.data.segments(), halves.events)
    page.table(
        [
            "class",
            "moments",
            "nobody speaks",
            "recogniser loops",
            "words, where heard",
            "elsewhere",
        ],
        [
            [name, count, *(f"{share:.2f}" for share in shares)]
            for name, count, *shares in audible.iter_rows()
        ],
    )


if __name__ == "__main__":
    main()
