"""What a long command shows and listens to: a progress bar on a terminal, signals to stop."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as RichProgress,
)

from contentctr.visible import visible


class Progress:
    """A running bar: `advance` it, and say beside it what is going on."""

    def __init__(self, bar: RichProgress, what: str, total: int) -> None:
        self._bar = bar
        self._task = bar.add_task(visible(what), total=total, note="")

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        """Move on by `steps`; `note` replaces the text behind the bar."""
        if note is None:
            self._bar.advance(self._task, steps)
        else:
            self._bar.update(self._task, advance=steps, note=visible(note))


@contextmanager
def progress_bar(what: str, total: int, *, show: bool = True) -> Iterator[Progress]:
    """A bar that counts to `total`; silent when not shown or not on a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    off = not show or not sys.stderr.isatty()
    with RichProgress(*columns, console=console, disable=off, transient=True) as bar:
        yield Progress(bar, what, total)


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM, so that the step in progress is finished and saved."""
    caught: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    try:
        old = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: signals are not ours
        yield caught
        return
    try:
        yield caught
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
