"""A run's folder belongs to one process at a time."""

import signal
import subprocess
import sys
import textwrap

import pytest
from accelerate import Accelerator

from contentctr.errors import InputError
from contentctr.outputs import LOCK
from contentctr.train.run_folder import begin_run, check_run

DESCRIBED = {"what": "test", "sizes": [1, 2]}


def holding(out):
    """A process that is at work in the folder until it is killed."""
    script = f"""
    import time
    from pathlib import Path
    from accelerate import Accelerator
    from contentctr.train.run_folder import begin_run, check_run
    out = Path({str(out)!r})
    last = check_run(out, {DESCRIBED!r}, resume=False)
    with begin_run(out, {DESCRIBED!r}, Accelerator(), last):
        print("begun", flush=True)
        time.sleep(600)
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begun\n"
    return process


def begin(out, *, resume):
    last = check_run(out, DESCRIBED, resume=resume)
    with begin_run(out, DESCRIBED, Accelerator(), last):
        return sorted(path.name for path in out.iterdir())


@pytest.mark.slow
def test_a_running_run_is_not_resumed_and_a_killed_one_is(tmp_path):
    out = tmp_path / "run"
    process = holding(out)
    try:
        with pytest.raises(InputError, match="another process is at work on this run"):
            begin(out, resume=True)
        with pytest.raises(InputError, match="run: holds config.json"):
            begin(out, resume=False)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert "config.json" in begin(out, resume=True)


def test_of_two_that_begin_at_once_one_is_refused(tmp_path):
    out = tmp_path / "run"
    assert check_run(out, DESCRIBED, resume=False) is None
    other = check_run(out, DESCRIBED, resume=False)
    with begin_run(out, DESCRIBED, Accelerator(), None):
        with pytest.raises(InputError, match="another process is at work"):
            with begin_run(out, DESCRIBED, Accelerator(), other):
                pass
    # It has ended meanwhile: the folder is not new any more.
    (out / "checkpoints" / "step-1").mkdir(parents=True)
    (out / "last").symlink_to("checkpoints/step-1")
    with pytest.raises(InputError, match="another run has worked there meanwhile"):
        with begin_run(out, DESCRIBED, Accelerator(), other):
            pass
    assert begin(out, resume=True)


def test_the_lock_of_a_run_that_never_began_keeps_nobody_out(tmp_path):
    (tmp_path / LOCK).touch()
    assert "config.json" in begin(tmp_path, resume=False)
