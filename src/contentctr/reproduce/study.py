"""Where a reproduction's runs lie, and with which settings each is made.

OUT/data.json                                     which data OUT was begun with
OUT/runs/NAME-DIGEST/seed-K/run/                  a training run (train/run_folder.py)
OUT/runs/NAME-DIGEST/seed-K/evaluation/           its evaluation on the test split; with its
                                                  metrics.json there, the run is finished
OUT/reproduction.html, .md, reproduction/*.png    the page

The digest covers the data and every setting that is not at its default, the seed aside. So runs of
other recipes and settings may lie side by side, and a setting that a later version adds does not
make them all anew; a default that a later version changes is found by `require_same_defaults`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contentctr.batch import DataSpec
from contentctr.config import Config, override, to_dict
from contentctr.errors import InputError
from contentctr.files import digest, file_sha256, read_json, write_json
from contentctr.models.registry import model_type
from contentctr.outputs import require_new
from contentctr.recipes import RECIPES, recipe
from contentctr.reproduce.plan import ITEMS, TASKS, choose
from contentctr.reproduce.rows import Picture, Reference, Run, Table, TaskPlan
from contentctr.store.personal import PreparedPersonal
from contentctr.store.rooms import PreparedRooms
from contentctr.store.statistics import known_target
from contentctr.train.opened import open_task


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run with one seed; all that a worker process needs."""

    label: str
    config: Config
    data: Path
    folder: Path

    @property
    def evaluation(self) -> Path:
        """Folder of its evaluation."""
        return self.folder / "evaluation"

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do; metrics.json is written last."""
        return (self.evaluation / "metrics.json").is_file()


@dataclass(frozen=True, kw_only=True)
class Study:
    """A reproduction: the items asked for, the data, the settings and the seeds."""

    items: tuple[Table | Picture, ...]
    known: tuple[Table | Picture, ...]
    """All items of the task, in the page's order, without rows that the data cannot have."""
    data: PreparedRooms | PreparedPersonal
    out: Path
    recipe: str
    settings: tuple[str, ...]
    seeds: tuple[int, ...]
    data_key: str
    """Hash of the prepared tables and of what the encoders were."""

    @property
    def task(self) -> TaskPlan:
        """Of the data, and so of every item."""
        return self.items[0].task

    def config(self, run: Run) -> Config:
        """The run's settings, at seed 0."""
        # Table 4 is of the models' own scores.
        words = ["train.calibrate=false", *self.settings, *run.settings]
        return override(recipe(self.recipe), words)

    def job(self, run: Run, seed: int) -> Job:
        """The run with a seed, and where it lies."""
        config = self.config(run)
        train = dataclasses.replace(config.train, seed=seed)
        table = config.model.streamer_table
        key = [_changed(config), self.data_key, *([file_sha256(Path(table))] if table else [])]
        name = f"{run.name}-{digest(*key)[:10]}"
        return Job(
            label=f"{run.name} seed {seed}",
            config=dataclasses.replace(config, train=train),
            data=self.data.root,
            folder=self.out / "runs" / name / f"seed-{seed}",
        )

    def jobs(self) -> list[Job]:
        """Every run of the items, each once, the first seed of all of them first."""
        jobs = [
            self.job(run, seed) for seed in self.seeds for item in self.items for run in item.runs
        ]
        return list({job.folder: job for job in jobs}.values())

    def manifest(self) -> dict[str, Any]:
        """Of the prepared data."""
        return self.data.manifest()


def _changed(config: Config) -> dict[str, Any]:
    """Settings that differ from their defaults."""
    default = to_dict(Config())
    return {
        f"{part}.{name}": value
        for part, block in to_dict(config).items()
        for name, value in block.items()
        if value != default[part][name]
    }


def require_same_defaults(job: Job) -> None:
    """Stop where a finished run was made with another value of a setting than it would be now.

    Raises:
        InputError: names the run, the setting and both values.
    """
    path = job.evaluation / "metrics.json"
    was, now = read_json(path).get("config", {}), to_dict(job.config)
    for part, block in now.items():
        for name, value in block.items():
            old = was.get(part, {}).get(name, value)
            if old != value and not (name == "streamer_dim" and job.config.model.streamer_table):
                raise InputError(
                    f"{path}: was made with {part}.{name}={old}, whose default is now {value}; "
                    f"give {part}.{name}={old}, or choose another folder"
                )


def open_study(
    what: str,
    data: Path | str,
    out: Path | str,
    *,
    recipe_name: str | None,
    settings: Sequence[str],
    seeds: int,
) -> Study:
    """Check everything that was asked for, and begin OUT or find it begun with the same data.

    Args:
        what: an item of the data's task, or "all" of them.
        data: a prepared and encoded folder.
        out: folder of the reproduction.
        recipe_name: None: the paper's of that task.
        settings: `key=value` words on top of it.
        seeds: how many.

    Raises:
        InputError: an unknown item, recipe or setting; an item or a recipe of another task; a
            setting that the plan decides; data that is not encoded; an OUT that was begun with
            other data.
    """
    if seeds < 1:
        raise InputError(f"seeds must be at least 1, not {seeds}")
    found, out = open_task(data), Path(out)
    found.data.manifest()
    task = TASKS[found.name]
    items, recipe_name = choose(what, task), recipe_name or task.recipe
    common = override(recipe(recipe_name), settings)
    _require_recipe(recipe_name, task)
    _require_undecided(recipe(recipe_name), common, task)
    spec, tables = found.spec(common), found.data_hash()
    _begin(out, found.root, tables)
    return Study(
        items=tuple(fitting(item, spec) for item in items),
        known=tuple(fitting(item, spec) for item in ITEMS.values() if item.task == task),
        data=found.data,
        out=out,
        recipe=recipe_name,
        settings=tuple(settings),
        # Members have seeds one after the other: runs that shared some would hide part of the
        # spread over seeds.
        seeds=tuple(range(0, seeds * common.train.members, common.train.members)),
        data_key=digest(tables, to_dict(spec)),
    )


def fitting(item: Table | Picture, spec: DataSpec) -> Table | Picture:
    """The item without rows that need what the data has not."""
    if isinstance(item, Picture) or not any(row.needs for row in item.trained):
        return item
    has = {
        "": True,
        "sound": spec.sound_dim > 0,
        "words": spec.words_dim > 0,
        "known target": known_target(spec.target),
    }
    rows = [row for row in item.rows if isinstance(row, Reference) or has[row.needs]]
    return dataclasses.replace(item, rows=tuple(rows))


def _require_recipe(name: str, task: TaskPlan) -> None:
    fitting = [key for key in RECIPES if model_type(recipe(key).model.kind).task == task.key]
    if name not in fitting:
        raise InputError(
            f"recipe must be one of {', '.join(fitting)}, as the data is of {task.data}; "
            f"{name} makes {recipe(name).model.kind}"
        )


def _require_undecided(before: Config, after: Config, task: TaskPlan) -> None:
    was, now = to_dict(before), to_dict(after)
    for key in task.decided:
        part, name = key.split(".")
        if was[part][name] != now[part][name]:
            raise InputError(
                f"{key} is set by each row of the paper's tables and must be left out, not "
                f"{now[part][name]!r}"
            )


def _begin(out: Path, data: Path, tables: str) -> None:
    note = out / "data.json"
    if note.is_file():
        begun = read_json(note)
        if begun.get("tables_hash") != tables:
            raise InputError(
                f"{out}: was begun with other data ({begun.get('data')}), which does not hold "
                f"what {data} holds. Choose another folder"
            )
        return
    require_new(out, "a reproduction")
    write_json(note, {"data": str(data), "tables_hash": tables})
