"""A service as a process: python live_server.py; it says its URL. Started by `serving_process`."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
from pathlib import Path


@contextlib.contextmanager
def serving_process(log, *, descriptors=None, state=None, sizes=None, **settings):
    """A service with a tiny model in a process of its own: (process, URL).

    Args:
        log: file for its standard error.
        descriptors: hard and soft limit of its open files.
        state: folder in which the rooms are kept.
        sizes: of the model.
        settings: of ServiceSettings.
    """

    def limit():
        if descriptors is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

    with open(log, "wb") as file:
        process = subprocess.Popen(
            [sys.executable, __file__, json.dumps([settings, sizes, state and str(state)])],
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            preexec_fn=limit,
        )
        try:
            line = process.stdout.readline()
            assert line.startswith("http://"), Path(log).read_text()
            yield process, line.strip()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def main():
    import torch

    from contentctr.live.service.app import create_app
    from contentctr.live.service.backend import LocalBackend
    from contentctr.live.service.keeping import Keeper
    from contentctr.live.service.server import make_server
    from contentctr.live.service.settings import ServiceSettings
    from live_service import make_engine

    torch.set_num_threads(1)
    settings, sizes, state = json.loads(sys.argv[1])
    engine = make_engine(max_rooms=4096, batch_size=64, sizes=sizes)
    keeper = None
    if state is not None:
        keeper = Keeper(
            Path(state), forget_after_s=600.0, report=lambda text: print(text, file=sys.stderr)
        )
    backend = LocalBackend(engine, keeper=keeper)
    app = create_app(backend, engine, ServiceSettings(**settings))
    make_server(app, backend, port=0, report=lambda url: print(url, flush=True)).run()


if __name__ == "__main__":
    main()
