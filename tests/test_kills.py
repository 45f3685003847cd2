"""Killed at random moments and started again: the result is an undisturbed run's, bit for bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from contentctr.train.run_folder import read_log
from encoded_rooms import make_data
from make import write_data
from tiny_models import make_tiny_bert, make_tiny_swin

KILLS = 10
ROOMS = 150
EARLY = 3
"""Of the kills, those while the program starts; the others come after the work has begun."""
pytestmark = pytest.mark.slow


def start(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "contentctr", *arguments],
            stdout=out,
            stderr=out,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


def changed(path: Path, before: tuple[int, int]) -> bool:
    return state(path) != before


def state(path: Path) -> tuple[int, int]:
    """Of a file that every run writes anew when its work begins."""
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.exists() else (0, 0)


def undisturbed(arguments: list[str], begun: Path, log: Path) -> float:
    """Run to the end; returns the seconds until the work begins."""
    first, before = time.monotonic(), state(begun)
    process = start(arguments, log)
    while not changed(begun, before) and process.poll() is None:
        time.sleep(0.002)
    seconds = time.monotonic() - first
    assert process.wait() == 0, log.read_text()
    return seconds


def kill_and_finish(
    arguments: Callable[[], list[str]],
    begun: Path,
    log: Path,
    *,
    early_s: float,
    progress: Callable[[], int],
    total: int,
) -> int:
    """Kill ten runs, then let one end; returns how many had made progress when they were killed.

    The moments are counted in work done, for the time of a start says little on a busy machine.
    """
    rng, fruitful = random.Random(0), 0
    for number in range(KILLS):
        before = state(begun)
        process = start(arguments(), log)
        if number < EARLY:
            until = time.monotonic() + rng.uniform(0, early_s)
            while time.monotonic() < until and not changed(begun, before):
                time.sleep(0.002)
        else:
            while not changed(begun, before) and process.poll() is None:
                time.sleep(0.002)
            had, wanted = progress(), rng.randint(0, 2 * total // KILLS)
            while progress() < had + wanted and process.poll() is None:
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.02))
            fruitful += process.poll() is None and progress() > had
        process.send_signal(signal.SIGKILL)
        assert process.wait() in (0, -signal.SIGKILL), log.read_text()
    process = start(arguments(), log)
    assert process.wait() == 0, log.read_text()
    return fruitful


def files(folder: Path) -> dict[str, bytes]:
    """Every file but those that a kill left half-written under a temporary name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".tmp")
    }


def test_encode(tmp_path):
    texts = {
        f"room{number:02d}": (
            ["hello this song", f"dance {number}", "two"],
            [None, "love you", f"wow {number}"],
        )
        for number in range(ROOMS)
    }
    models = [
        "--visual",
        str(make_tiny_swin(tmp_path / "swin")),
        "--text",
        str(make_tiny_bert(tmp_path / "bert")),
        "--batch-size",
        "1",
        "--device",
        "cpu",
    ]
    whole, killed = (
        make_data(tmp_path / name, {"frames": texts["room00"], "video": texts["room01"], **texts})
        for name in ("whole", "killed")
    )
    log = tmp_path / "log.txt"
    (tmp_path / "killed" / "pictures").rename(tmp_path / "gone")
    (tmp_path / "killed" / "v.mp4").unlink()
    for name in ("rooms.parquet", "segments.parquet", "manifest.json"):  # one source of pictures
        (killed.root / name).write_bytes((whole.root / name).read_bytes())
    manifests = [data.features_dir / "manifest.json" for data in (whole, killed)]
    early_s = undisturbed(["encode", str(whole.root), *models], manifests[0], log)
    fruitful = kill_and_finish(
        lambda: ["encode", str(killed.root), *models],
        manifests[1],
        log,
        early_s=early_s,
        progress=lambda: len(list(killed.features_dir.glob("*.safetensors"))),
        total=ROOMS + 2,
    )
    assert fruitful >= KILLS // 2
    found, expected = (
        {**files(manifest.parent), "manifest.json": lasting(manifest)} for manifest in manifests
    )
    assert len(expected) == ROOMS + 3
    assert not [n for n in found.keys() | expected if found.get(n) != expected.get(n)]


def lasting(manifest: Path) -> dict[str, object]:
    """A store's manifest without the counts of what its last run had to do."""
    value = json.loads(manifest.read_text())
    for name in ("rooms_encoded", "rooms_kept", "rooms_removed", "segments_encoded"):
        del value["counts"][name]
    return value


def test_train(tmp_path):
    data = write_data(tmp_path / "data", rooms=40, length=16)
    settings = [
        "small",
        "epochs=3",
        "window_len=8",
        "d_model=32",
        "batch_size=8",
        "min_viewers=1",
        "save_every=3",
        "--data",
        str(data.root),
    ]
    whole, killed, log = tmp_path / "whole", tmp_path / "killed", tmp_path / "log.txt"
    train = ["train", *settings, "--out"]
    early_s = undisturbed([*train, str(whole)], whole / "config.json", log)

    def arguments() -> list[str]:
        """A run that was killed before it wrote a checkpoint has nothing to lose."""
        if (killed / "last").exists():
            return [*train, str(killed), "--resume"]
        if killed.exists():
            killed.rename(tmp_path / f"too-early-{time.monotonic_ns()}")
        return [*train, str(killed)]

    def steps() -> int:
        log = killed / "log.jsonl"
        return log.read_bytes().count(b"\n") if log.exists() else 0

    total = len(read_log(whole / "log.jsonl"))
    assert total > 100
    fruitful = kill_and_finish(
        arguments, killed / "config.json", log, early_s=early_s, progress=steps, total=total
    )
    assert fruitful >= KILLS // 2
    assert read_log(killed / "log.jsonl") == read_log(whole / "log.jsonl")
    for name in ("best", "last"):
        found, expected = files((killed / name).resolve()), files((whole / name).resolve())
        assert found == expected and "model.safetensors" in found
