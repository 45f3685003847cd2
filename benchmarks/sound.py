"""What features of sound cost: with and without shares of speech, singing and music.

    python benchmarks/sound.py [--seconds 30] [--repeats 5]

Least milliseconds of one thread a second of sound (noise; no number here depends on what is heard).
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from contentctr.encode.sound import SoundEncoder
from contentctr.rooms.sound import RATE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    samples = (0.05 * rng.normal(size=round(options.seconds * RATE))).astype(np.float32)
    least = {}
    for name, shares in (("levels and bands", False), ("and shares", True)):
        encoder = SoundEncoder(shares=shares)
        encoder(samples)
        times = []
        for _ in range(options.repeats):
            start = time.perf_counter()
            encoder(samples)
            times.append(time.perf_counter() - start)
        least[name] = min(times)
        print(f"{name:20} {1000 * least[name] / options.seconds:6.2f} ms a second of sound")
    first, second = least.values()
    print(f"{'ratio':20} {second / first:6.1f}")


if __name__ == "__main__":
    main()
