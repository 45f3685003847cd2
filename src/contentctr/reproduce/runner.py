"""Runs what is missing of the paper's tables and figures, and writes the page."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

from contentctr.counting import counted
from contentctr.errors import InputError
from contentctr.progress import Progress, progress_bar
from contentctr.reproduce.study import Job, open_study, require_same_defaults
from contentctr.reproduce.worker import DONE, STOPPED, work


class FailedRunsError(RuntimeError):
    """Some runs failed; the others are finished, and the page is written."""


def reproduce(
    what: str,
    data: Path | str,
    out: Path | str,
    *,
    recipe: str | None = None,
    settings: Sequence[str] = (),
    seeds: int = 1,
    jobs: int = 1,
    show_progress: bool = True,
) -> Path:
    """Train and evaluate what is missing for a table or figure, and write its page.

    A finished run is never repeated; one that was stopped or killed goes on where it was.

    Args:
        what: of live rooms table1, table3, table4, beyond, fig4, fig5 or fig6, of personalized
            highlights table2 or table5, or all of them.
        data: a prepared and encoded folder of either, with training and test data.
        out: folder of the runs and the page; may have been begun with the same data.
        recipe: name of a recipe, the same for all rows; None: the paper's for this data.
        settings: `key=value` words on top of it; a row's own settings (plan.py) win over them.
        seeds: each run is made with the seeds 0, ..., seeds - 1 times `train.members`.
        jobs: processes on a CPU; with CUDA devices there is one process a device.
        show_progress: show a bar.

    Returns:
        The HTML page; the same as Markdown lies beside it.

    Raises:
        InputError: see `open_study` and `require_same_defaults`.
        FailedRunsError: some runs failed. The page is there, without their numbers.
        KeyboardInterrupt: the user or the system asked to stop; all runs have been saved.
    """
    if jobs < 1:
        raise InputError(f"jobs must be at least 1, not {jobs}")
    study = open_study(what, data, out, recipe_name=recipe, settings=settings, seeds=seeds)
    missing = []
    for job in study.jobs():
        if job.finished:
            require_same_defaults(job)
        else:
            missing.append(job)
    with progress_bar("reproduce", len(missing), show=show_progress) as bar:
        failures = run_all(missing, jobs, bar) if missing else {}
    from contentctr.reproduce.page import write_page

    page = write_page(study, failures)
    if failures:
        lines = [f"{folder}: {why}" for folder, why in failures.items()]
        raise FailedRunsError(
            f"{len(failures)} of {counted(len(missing), 'run')} failed; {page} is without them\n"
            + "\n".join(lines)
        )
    return page


@dataclass
class _Worker:
    """A process, the parent's end of its pipe, and what it works on."""

    process: SpawnProcess
    pipe: connection.Connection
    device: str | None
    threads: int
    job: Job | None = None


def run_all(missing: Sequence[Job], jobs: int, bar: Progress) -> dict[Path, str]:
    """Run the jobs over the devices, or over `jobs` processes on a CPU.

    Returns:
        Why each failed job failed, by its folder.

    Raises:
        KeyboardInterrupt: after every process has saved and ended.
    """
    devices = _cuda_devices()
    places = [*devices] if devices else [None] * jobs
    places = places[: len(missing)]
    threads = max(1, _num_cores() // len(places))
    waiting, failures = list(reversed(missing)), dict[Path, str]()
    workers = [_start(place, threads) for place in places]
    with _terminate_interrupts():
        try:
            for worker in workers:
                _give(worker, waiting)
            while any(worker.job for worker in workers):
                _note(bar, workers)
                _collect(workers, waiting, failures, bar)
        except KeyboardInterrupt:
            _interrupt(workers)
            raise KeyboardInterrupt("stopped; all runs are saved") from None
        finally:
            for worker in workers:
                worker.pipe.close()
                worker.process.join()
    return failures


def _collect(
    workers: list[_Worker], waiting: list[Job], failures: dict[Path, str], bar: Progress
) -> None:
    """Wait for answers, and hand out the next jobs."""
    ready = connection.wait([worker.pipe for worker in workers if worker.job])
    for number, worker in enumerate(workers):
        if worker.job is None or worker.pipe not in ready:
            continue
        job, worker.job = worker.job, None
        try:
            answer = str(worker.pipe.recv())
        except EOFError:  # the process is gone: out of memory, or killed
            worker.process.join()
            answer = f"its process ended with exit code {worker.process.exitcode}"
            worker = workers[number] = _start(worker.device, worker.threads)
        if answer == STOPPED:  # somebody stopped the worker itself
            raise KeyboardInterrupt
        if answer != DONE:
            failures[job.folder] = answer
        bar.advance(1)
        _give(worker, waiting)


def _start(device: str | None, threads: int) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, device, threads))
    process.start()
    theirs.close()
    return _Worker(process=process, pipe=ours, device=device, threads=threads)


def _give(worker: _Worker, waiting: list[Job]) -> None:
    if waiting:
        worker.job = waiting.pop()
        worker.pipe.send(worker.job)


def _note(bar: Progress, workers: Sequence[_Worker]) -> None:
    bar.advance(0, note=", ".join(worker.job.label for worker in workers if worker.job))


def _interrupt(workers: Sequence[_Worker]) -> None:
    """Ask every process once to save and stop; a second interrupt does not wait for that."""
    for worker in workers:
        if worker.process.is_alive() and worker.process.pid is not None:
            os.kill(worker.process.pid, signal.SIGINT)
    try:
        for worker in workers:
            worker.pipe.close()
            worker.process.join()
    except KeyboardInterrupt:
        for worker in workers:
            worker.process.kill()


@contextlib.contextmanager
def _terminate_interrupts() -> Iterator[None]:
    """SIGTERM stops as Ctrl-C does."""
    try:
        old = signal.signal(signal.SIGTERM, signal.default_int_handler)
    except ValueError:  # not in the main thread: signals are not ours
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


def _cuda_devices() -> list[str]:
    """Names of the CUDA devices, as CUDA_VISIBLE_DEVICES takes them."""
    import torch

    count = torch.cuda.device_count()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible.split(",")[:count] if visible and count else [str(i) for i in range(count)]


def _num_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
