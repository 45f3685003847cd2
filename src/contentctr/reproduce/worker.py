"""A process that trains and evaluates one job after another.

Nothing heavy is imported before `work` has set the process's device and threads.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import traceback
from multiprocessing import connection, parent_process
from typing import TYPE_CHECKING

from contentctr.errors import InputError
from contentctr.outputs import alone

if TYPE_CHECKING:
    from contentctr.reproduce.study import Job

DONE, STOPPED = "", "stopped"
"""What a worker answers; anything else is why a job failed."""


def work(pipe: connection.Connection, device: str | None, threads: int) -> None:
    """Take jobs from `pipe` until it closes, and answer each with DONE, STOPPED or an error.

    Args:
        pipe: jobs come in, texts go out.
        device: what CUDA may see, None for a CPU.
        threads: of torch and numba.
    """
    os.setsid()  # an interrupt of the terminal goes to the parent, which passes it on once
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background jobs ignore SIGINT
        signal.signal(number, signal.default_int_handler)
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, str(threads))
    threading.Thread(target=_follow_parent, daemon=True).start()
    _use_threads()
    with contextlib.suppress(EOFError, KeyboardInterrupt, BrokenPipeError):
        while True:
            pipe.send(_answer(pipe.recv()))


def _use_threads() -> None:
    """Hold torch to the threads asked for, also where the parent's script imported it before."""
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


def _answer(job: Job) -> str:
    try:
        run_job(job)
    except KeyboardInterrupt:
        return STOPPED
    except InputError as error:
        return str(error)
    except Exception as error:
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"
    return DONE


def run_job(job: Job) -> None:
    """Train what is missing and evaluate it on the test split.

    Raises:
        InputError: the data or the settings do not fit, or another process works on the job.
    """
    import torch

    from contentctr.evaluate.evaluate import evaluate_model
    from contentctr.train.loop import train_model

    run = job.folder / "run"
    with alone(job.folder):
        if job.finished:
            return
        begun = (run / "config.json").is_file()
        train_model(job.config, job.data, run, resume=begun, show_progress=False)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        evaluate_model(run, job.data, job.evaluation, device=device, show_progress=False)


def _follow_parent() -> None:
    """Stop, with the state saved, when the parent has died."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGINT)
