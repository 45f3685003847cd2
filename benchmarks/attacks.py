"""Attacks on a real service, each bounded in time: does it hold?

    OMP_NUM_THREADS=1 python -u benchmarks/attacks.py [--only NAME ...] [--list]

Every attack starts the commands it needs (`contentctr serve` with a tiny model, a Redis of its own)
from the package that is imported, so that PYTHONPATH chooses the version that is attacked. Prints a
row of a table for each: whether it held, and what was seen. Needs a checkout: the tiny models, the
Redis and the browser are those of tests/support.

To add one: a function of a `Stage` in a file of `attacking/` that returns whether it held and a
sentence, with `@attack("what is done", seconds)`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT / "benchmarks")]

from attacking import service  # noqa: E402, F401
from attacking.stage import ATTACKS, Stage, run_attack  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", help="names of attacks")
    parser.add_argument("--list", action="store_true", help="list the attacks")
    options = parser.parse_args()
    chosen = [one for one in ATTACKS if not options.only or one.name in options.only]
    if options.list:
        for one in chosen:
            print(f"{one.name}: {one.title} (at most {one.seconds:g} s)")
        return
    print("| attack | held | what was seen |\n|---|---|---|", flush=True)
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for one in chosen:
            held, seen = run_attack(one, Stage(Path(folder) / one.name))
            failed += not held
            print(f"| {one.title} | {'yes' if held else 'NO'} | {seen} |", flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
