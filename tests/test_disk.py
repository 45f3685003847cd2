"""A full disk, one that is read-only, and files that may not be written: a line, no traceback."""

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from contentctr import cli
from contentctr.files import append_text, atomic, remove_leftovers, write_json


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
@pytest.mark.parametrize("place", ["os.replace", "os.fsync", "pathlib.Path.write_text"])
def test_a_write_that_fails_names_the_file_and_leaves_nothing(tmp_path, monkeypatch, number, place):
    path = tmp_path / "folder" / "v.json"

    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(place, fail)
    with pytest.raises(OSError) as error:
        write_json(path, {})
    assert (error.value.errno, error.value.filename) == (number, str(path))
    assert list(path.parent.iterdir()) == []


def test_what_libraries_say_of_a_full_disk_names_the_file_too(tmp_path):
    path = tmp_path / "v.parquet"
    with pytest.raises(OSError, match="No space left") as error, atomic(path):
        raise pl.exceptions.ComputeError("No space left on device (os error 28): /x/.v.tmp")
    assert error.value.filename == str(path)
    with pytest.raises(ValueError, match="else"), atomic(path):
        raise ValueError("something else")
    with pytest.raises(OSError) as error:
        append_text(Path("/dev/full"), "x" * 100_000)
    assert error.value.filename == "/dev/full" and error.value.errno == errno.ENOSPC


def test_the_command_says_it_in_a_line(monkeypatch, capsys):
    def fail():
        raise OSError(errno.ENOSPC, "No space left on device", "data/v\x1b[2J.parquet")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 1
    found = capsys.readouterr().err
    assert found == "error: data/v\\x1b[2J.parquet: No space left on device\n"

    def ours():
        raise OSError(errno.EINVAL, "a fault of ours")

    monkeypatch.setattr(cli, "app", ours)
    with pytest.raises(OSError):
        cli.main()


def test_leftovers_of_one_file_alone(tmp_path):
    for name in (".a.json.0123abcd.tmp", ".b.json.0123abcd.tmp", ".a.json.tmp", "a.json"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path, "a.json")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".a.json.tmp",
        ".b.json.0123abcd.tmp",
        "a.json",
    ]


@pytest.mark.slow
def test_commands_on_a_disk_that_takes_no_more(tmp_path):
    """By the limit on a file's size, which fails a write as a full disk does."""

    def run(*words, limit=None):
        def bound():
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        command = [sys.executable, "-m", "contentctr", *map(str, words)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(
            command, capture_output=True, text=True, preexec_fn=bound, env=environment, timeout=200
        )

    data = tmp_path / "data"
    steps = [
        (("simulate", "features", data, "--rooms", 12), 2000),
        (("train", "small", "--data", data, "--out", tmp_path / "run", "epochs=1"), 3000),
    ]
    for words, limit in steps:
        failed = run(*words, limit=limit)
        assert failed.returncode == 1, failed.stderr
        last = failed.stderr.strip().splitlines()[-1]
        assert last.startswith("error: ") and str(tmp_path) in last and "too large" in last, last
        assert "Traceback" not in failed.stderr
        again = [*words, "--resume"] if (tmp_path / "run" / "config.json").is_file() else words
        assert run(*again).returncode == 0
    assert not list(tmp_path.rglob("*.tmp"))
    assert json.loads((tmp_path / "run" / "config.json").read_text())
