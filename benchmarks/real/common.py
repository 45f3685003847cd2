"""What the scripts of real rooms share: stages that are kept, folds, ensembles of seeds.

    study = Study.of(arguments)             # FOLDER -o OUT, --text, --text-prefix, --seeds
    data = study.prepare("rate", target="comment_rate", target_scale="odds")
    folds = by_time(data, test=0.26)        # or by_room(data, 5), one_out(data)
    table = study.scores(data, folds, Row("all", ("statistics=true",)))
    floors = study.floors(data, folds)

`prepare` gives a prepared and encoded folder OUT/rate. `scores` trains the row's settings once a
fold, as an ensemble of the seeds (`train.members`), each in a folder of its own whose name holds a
hash of all that it depends on, and returns a row a segment of the rooms that were kept out: KEYS,
start_s, end_s, target, fold, `score`, of the ensemble, and seed_0, seed_1, ..., of each member
alone. `floors` has KEYS and a column for each rule of thumb, fitted fold by fold. Nothing that is
there is made again: a run that was killed goes on where it was, and a row that is new costs its own
time only.

A row may start from another's weights (`first`): that one is trained on the same fold, perhaps of
other data with other settings, so nothing of a kept-out room is in either.

tables.py beside this file has the intervals and the page. Shape suffixes: S segments, G rooms.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import torch

from contentctr.config import Config, override, to_dict
from contentctr.encode.rooms import encode_rooms
from contentctr.evaluate.floors import Measured, floor_scores
from contentctr.files import atomic, read_json, write_json
from contentctr.models.ensemble import members_of
from contentctr.prepare.rooms import prepare_rooms
from contentctr.prepare.targets import set_target
from contentctr.recipes import recipe
from contentctr.score.checkpoint import load_for
from contentctr.score.rooms import score_segments, segments_for
from contentctr.store.rooms import PreparedRooms, write
from contentctr.train.loop import train_model

KEYS = ("room_id", "segment")


@dataclass(frozen=True)
class Row:
    """One line of a table: settings that are trained and measured."""

    name: str
    words: tuple[str, ...] = ()
    """Settings, as the command line takes them, over the study's recipe."""
    recipe: str = ""
    """Another recipe than the study's."""
    first: Row | None = None
    """What is trained first, whose weights this one starts from (`train --init-from`)."""
    first_data: str = ""
    """The prepared folder that `first` is trained on; "": the same."""
    note: str = ""
    """A word beside its numbers."""


@dataclass(frozen=True)
class Fold:
    """Rooms to learn from, and rooms that are kept out of it."""

    name: str
    train: tuple[str, ...]
    test: tuple[str, ...]


def by_time(data: PreparedRooms, *, test: float) -> list[Fold]:
    """One fold: the latest share of the rooms is kept out."""
    rooms = data.rooms().sort("started_at", "room_id")["room_id"].to_list()
    kept = max(1, round(test * len(rooms)))
    return [Fold("late", tuple(rooms[:-kept]), tuple(rooms[-kept:]))]


def by_room(data: PreparedRooms, number: int, *, among: Sequence[str] = ()) -> list[Fold]:
    """Cross-validation: each room is kept out once.

    Args:
        data: the rooms, taken in the order of their ids.
        number: of folds.
        among: only these rooms, for choosing settings without a look at the others.
    """
    rooms = sorted(among) or data.rooms()["room_id"].to_list()
    parts = [rooms[k::number] for k in range(min(number, len(rooms)))]
    return [
        Fold(f"fold{k}", tuple(r for r in rooms if r not in part), tuple(part))
        for k, part in enumerate(parts)
    ]


def one_out(data: PreparedRooms) -> list[Fold]:
    """As many folds as rooms."""
    return by_room(data, data.rooms().height)


@dataclass
class Study:
    """A folder of rooms, and a folder for all that is made of it."""

    folder: Path
    out: Path
    recipe: str = "live"
    text: str = "embedded"
    text_prefix: str | None = None
    seeds: int = 3
    seconds: dict[str, float] = field(default_factory=dict)
    """What each stage took in this call, by its name."""

    @classmethod
    def of(cls, given: argparse.Namespace) -> Study:
        """Of `parser`'s arguments."""
        names = ("folder", "out", "recipe", "text", "text_prefix", "seeds")
        study = cls(**{name: getattr(given, name) for name in names})
        study.out.mkdir(parents=True, exist_ok=True)
        mark = study.out / "study.json"
        if not mark.is_file() and any(study.out.iterdir()):
            raise SystemExit(f"{study.out}: holds other files; choose a new or empty folder")
        write_json(mark, {"about": "Results of a script of benchmarks/real; its README.md too."})
        return study

    def prepare(self, name: str, **settings: Any) -> PreparedRooms:
        """The rooms prepared with `prepare_rooms`' settings and encoded: OUT/NAME."""
        text = _short(self.text) if "/" in self.text else self.text  # one folder, not several
        encoder = "" if text == "embedded" else f"-{text}"
        prefix = "" if self.text_prefix is None else f"-prefix{_short(self.text_prefix)}"
        root = self.out / f"{name}{encoder}{prefix}"
        told = {"rooms": _listed(self.folder), "settings": settings}
        if not is_told(root / "given.json", told):
            with self._timed(f"prepare {name}"):
                prepare_rooms(self.folder, root, val=0, test=0, show_progress=False, **settings)
            with self._timed(f"encode {name}"):
                encode_rooms(
                    root, text=self.text, text_prefix=self.text_prefix, show_progress=False
                )
            write_json(root / "given.json", told)
        return PreparedRooms(root)

    def scores(self, data: PreparedRooms, folds: Sequence[Fold], row: Row) -> pl.DataFrame:
        """A row a segment of the rooms that are kept out; all seeds, and their ensemble."""
        with self._timed(row.name):
            return pl.concat([self._of_fold(data, fold, row) for fold in folds])

    def floors(self, data: PreparedRooms, folds: Sequence[Fold]) -> pl.DataFrame:
        """KEYS, and what each rule of thumb says of the rooms that are kept out."""
        return pl.concat([_floors(self.fold_data(data, fold)) for fold in folds])

    def config(self, row: Row) -> Config:
        """All settings of a row."""
        words = [*row.words, "seed=0", f"members={self.seeds}"]
        return override(recipe(row.recipe or self.recipe), words)

    def fold_data(self, data: PreparedRooms, fold: Fold) -> PreparedRooms:
        """The data with a fold's rooms as splits `train` and `test`; the same features."""
        root = data.root / "folds" / _short([fold.train, fold.test])
        told = {"data": data.content_hash(), "train": fold.train, "test": fold.test}
        if not is_told(root / "given.json", told):
            _write_fold(data, fold, root)
            write_json(root / "given.json", told)
        return PreparedRooms(root)

    def _of_fold(self, data: PreparedRooms, fold: Fold, row: Row) -> pl.DataFrame:
        """Scores of a run, which is trained where it is not there."""
        own = self.fold_data(data, fold)
        path = self._run(own, fold, row) / "scores.parquet"
        if not path.is_file():
            table = score_run(path.parent, own)
            with atomic(path) as temporary:
                table.write_parquet(temporary)
        return pl.read_parquet(path).with_columns(fold=pl.lit(fold.name))

    def _run(self, own: PreparedRooms, fold: Fold, row: Row) -> Path:
        """The folder of a trained run; one that was stopped is trained to its end."""
        config, first = self.config(row), None
        if row.first is not None:
            other = PreparedRooms(own.root.parents[1].parent / row.first_data)
            before = self.fold_data(other, fold) if row.first_data else own
            first = self._run(before, fold, row.first)
        key = _short([to_dict(config), own.content_hash(), str(first)])
        run = own.root / "runs" / f"{_plain(row.name)}-{key}"
        if not (run / "finished").is_file():
            begun = (run / "config.json").is_file()
            train_model(
                config,
                own,
                run,
                resume=begun,
                init_from=None if begun else first,
                show_progress=False,
            )
            (run / "finished").touch()
        return run

    def _timed(self, name: str) -> _Timed:
        return _Timed(self.seconds, name)


@dataclass
class _Timed:
    """Notes how long its block took, and says so."""

    seconds: dict[str, float]
    name: str
    start: float = 0.0

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        took = time.perf_counter() - self.start
        self.seconds[self.name] = self.seconds.get(self.name, 0.0) + took
        print(f"{self.name}: {took:.0f} s", flush=True)


def parser(doc: str | None, *, recipe: str = "live") -> argparse.ArgumentParser:
    """The command line of a script: FOLDER -o OUT and what all of them take."""
    found = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("folder", type=Path, help="folder of room folders")
    found.add_argument("-o", "--out", type=Path, required=True, help="folder to write; resumable")
    found.add_argument("--text", default="embedded", help="text encoder, as `encode --text`")
    found.add_argument("--text-prefix", help="put before every text, as `encode --text-prefix`")
    found.add_argument("--recipe", default=recipe, help=f"recipe of every row ({recipe})")
    found.add_argument("--seeds", type=int, default=3, help="trainings a row (3)")
    found.add_argument("--no-ablations", action="store_true", help="the main rows alone")
    return found


def score_run(run: Path, own: PreparedRooms) -> pl.DataFrame:
    """Scores of the split `test`: KEYS, start_s, end_s, target, score, and seed_K of each member.

    Null where there is none.
    """
    checkpoint = load_for(run, "rooms")
    config = checkpoint.config
    segments = segments_for(checkpoint, own, "test")
    model = checkpoint.load_model("cpu")
    members = {f"seed_{k}": member for k, member in enumerate(members_of(model))}
    table = segments.table.select(*KEYS, "start_s", "end_s", "target")
    for name, scorer in {"score": model, **members}.items():
        scores_S = score_segments(
            scorer,
            segments,
            window_len=config.data.window_len,
            horizon=config.data.horizon,
        )
        table = table.with_columns(pl.Series(name, scores_S).fill_nan(None))
    return table


def _floors(own: PreparedRooms) -> pl.DataFrame:
    manifest, segments = own.manifest(), own.segments(texts=False)
    what = Measured(
        target=manifest["target"],
        scale=manifest["target_scale"],
        is_label=own.has_label_target(),
        min_viewers=10,
    )
    test = segments.filter(pl.col("split") == "test")
    found = test.select(KEYS)
    for name, table in floor_scores(segments, what, test["room_id"]).items():
        found = found.join(table.rename({"floor": name}), on=KEYS, maintain_order="left")
    return found


def _write_fold(data: PreparedRooms, fold: Fold, root: Path) -> None:
    splits = {**dict.fromkeys(fold.train, "train"), **dict.fromkeys(fold.test, "test")}
    split = pl.col("room_id").replace_strict(splits, default=None, return_dtype=pl.String)
    rooms, segments = (
        table.with_columns(split=split).filter(pl.col("split").is_not_null())
        for table in (data.rooms(), data.segments())
    )
    manifest = data.manifest()
    # A scale that is learned from the rooms is learned from those to learn from alone.
    segments = set_target(segments, manifest["target"], manifest["target_scale"])
    write_like(data, root, rooms, segments)


def write_like(
    data: PreparedRooms, root: Path, rooms: pl.DataFrame, segments: pl.DataFrame, **changed: Any
) -> None:
    """Write a prepared folder with another's features, and other splits or targets.

    Args:
        data: the other folder, whose texts and pictures were encoded.
        root: where; what is there goes, as it is half of an earlier call's.
        rooms: its rooms.
        segments: its segments.
        changed: entries of its manifest.
    """
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    left_out = ("hashes", "schema_version", "counts", "task")
    told = {name: value for name, value in data.manifest().items() if name not in left_out}
    found = write(root, rooms=rooms, segments=segments, manifest=told | changed)
    found.features_dir.mkdir()
    for path in data.features_dir.glob("*"):
        if path.name != "manifest.json":
            os.link(path, found.features_dir / path.name)
    spec = read_json(data.features_dir / "manifest.json")
    spec["segments_hash"] = found.content_hash()
    write_json(found.features_dir / "manifest.json", spec)


def _listed(folder: Path) -> list[list[Any]]:
    """Files of a folder with their sizes: enough to tell that other rooms were put in."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [[str(path.relative_to(folder)), path.stat().st_size] for path in files]


def is_told(path: Path, told: dict[str, Any]) -> bool:
    """Whether a file says that what lies beside it was made of just this."""
    return path.is_file() and read_json(path) == json.loads(json.dumps(told))


def _short(value: object) -> str:
    return hashlib.sha256(json.dumps(value, default=dataclasses.asdict).encode()).hexdigest()[:10]


def _plain(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)


torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
