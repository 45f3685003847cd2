"""What a plan is made of: tasks, runs, metrics, tables with their rows, and figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Need = Literal["", "sound", "words", "known target"]
"""Stored features of sound; stored words; a target that is known when its segment has ended."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One model to train, once a seed."""

    name: str
    """Begins the name of its folder."""
    settings: tuple[str, ...] = ()
    """`key=value` words on top of the recipe and the user's own settings."""


@dataclass(frozen=True, kw_only=True)
class TaskPlan:
    """What all tables of a task share."""

    key: str
    """The task's name (ModelType.task)."""
    data: str
    """What it needs, in words."""
    ours: Run
    """The paper's own model."""
    name: str
    """Its name in the paper."""
    recipe: str
    """Of every run, where the user names none."""
    decided: tuple[str, ...]
    """Settings that the plan decides, and the user may not."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number of metrics.json, and how it is shown."""

    key: str
    """Its name under "metrics", or at the top (`parameters`)."""
    heading: str
    scale: float = 1.0
    """Shown is the number times this."""
    digits: int = 4
    """Digits after the point."""
    fixed: bool = False
    """Whether it is of the model and not of its scores: the same at every seed and on any data."""

    def show(self, value: float | None, sign: str = "") -> str:
        """The number as text; `sign` "+" also marks positive ones."""
        if value is None:
            return "–"
        return f"{value * self.scale:{sign}.{self.digits}f}".replace("-", "−")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table: a model that is trained."""

    label: str
    run: Run
    paper: Mapping[str, float] = field(default_factory=dict, hash=False)
    """The paper's numbers by a metric's key, in the units of metrics.json; empty where the paper
    has no such row."""
    group: str = ""
    """Heading that the row stands under."""
    needs: Need = ""
    """What the data must have; the row is left out where it has not."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A row of a table that needs no training: a scorer that every evaluation measures too.

    It stands on the page once a finished run of the table has it.
    """

    label: str
    name: str
    """Under "references" of metrics.json."""
    group: str = ""
    paper: Mapping[str, float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the paper."""

    key: str
    title: str
    task: TaskPlan
    metrics: tuple[Metric, ...]
    """Differences and orders are of the first; of every one, higher is not always better."""
    rows: tuple[Row | Reference, ...]
    """The task's own model is among them: differences are taken to it."""
    floors: tuple[str, ...] = ()
    """Labels of rows that a model must beat for its number to say something."""
    about: str = ""

    @property
    def main(self) -> Metric:
        """The metric that differences and orders are of; higher is better."""
        return self.metrics[0]

    @property
    def trained(self) -> tuple[Row, ...]:
        """Rows that are models."""
        return tuple(row for row in self.rows if isinstance(row, Row))

    @property
    def runs(self) -> tuple[Run, ...]:
        """What must be trained."""
        return tuple(row.run for row in self.trained)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure of the paper."""

    key: str
    title: str
    task: TaskPlan
    runs: tuple[Run, ...]
