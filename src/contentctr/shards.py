"""One function over many items, rooms say: here, one after the other, or on a Ray cluster.

Every machine of the cluster must have this package, and see the same files under the same paths.
Ray carries Python objects between its machines, and runs whatever its users send: a cluster is
for one's own network alone.
"""

from __future__ import annotations

import functools
import importlib
import logging
import os
import pickle
import socket
import urllib.parse
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from contentctr.errors import InputError
from contentctr.extras import install_hint

Item = TypeVar("Item")
Result = TypeVar("Result")
_RETRIES = 3
"""So often is an item tried again whose worker died; one that kills every worker ends the run."""
_MAX_BLOCKS = 2_000
"""A worker takes a block of items at once; each block is an object that Ray keeps account of."""
_STORE_BYTES = 500 * 2**20
"""Shared memory of a Ray that is started here; what does not fit goes to disk."""


def run_over(
    items: Sequence[Item],
    make: Callable[[], Callable[[Item], Result]],
    *,
    ray: str | None = None,
    cpus: int = 1,
    gpus: int = 0,
) -> Iterator[Result]:
    """`make()(item)` of every item, in the items' order.

    On a cluster an item whose worker died is tried again, up to 3 times. So what an item writes it
    must write whole, and leave alone when it is there.

    Args:
        items: each is sent to one worker.
        make: called once a worker, to load what all items need; returns the function.
        ray: None: here, in this process. "local": a Ray that is started on this machine and ends
            with the run; "auto" or HOST:PORT: the cluster that this machine is part of. A Ray that
            this process already uses is used.
        cpus: CPUs of a worker.
        gpus: GPUs of a worker.

    Raises:
        InputError: of the first item that raised one; or there is no Ray, or no such cluster, or
            no machine in it is large enough for a worker.
        RuntimeError: an item's workers died again and again.
    """
    if ray is None:
        yield from map(make(), items)
    elif items:
        with _cluster(ray) as module:
            yield from _on_cluster(module, items, make, {"num_cpus": cpus, "num_gpus": gpus})


def _on_cluster(
    ray: Any,
    items: Sequence[Item],
    make: Callable[[], Callable[[Item], Result]],
    needs: dict[str, int],
) -> Iterator[Result]:
    dump = ray.cloudpickle.dumps
    blocks = min(len(items), _MAX_BLOCKS)
    size = min(blocks, _num_workers(ray, needs))
    with _quiet(ray.data.DataContext.get_current()), warnings.catch_warnings():
        # Ray 2.64 is to take the two last arguments away; without them it tries again for ever.
        warnings.filterwarnings("ignore", message=".*ray_remote_args")
        rows = [{"number": n, "item": dump(item)} for n, item in enumerate(items)]
        found = ray.data.from_items(rows, override_num_blocks=blocks).map(
            _Worker,
            fn_constructor_args=(dump(make), os.getcwd()),
            # One block a worker: what a dead one leaves to others is what it was working on.
            compute=ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=1),
            **needs,
            max_restarts=-1,
            max_task_retries=_RETRIES,
        )
    expected = 0
    try:
        for row in found.iter_rows():
            assert row["number"] == expected, "Ray keeps the order when asked to"
            expected += 1
            right, value = pickle.loads(row["result"])
            if not right:
                raise InputError(value)
            yield value
    except ray.exceptions.RayActorError as error:
        raise RuntimeError(
            f"a worker died {_RETRIES + 1} times with the same items; is its memory too small?"
        ) from error
    assert expected == len(items)


class _Worker:
    """What runs on the cluster: an item's result, or the message of its InputError."""

    def __init__(self, make: bytes, folder: str) -> None:
        self._make, self._folder = make, folder

    @functools.cached_property
    def _work(self) -> Callable[[Any], Any]:
        # Relative paths mean the same as where the run was started.
        try:
            os.chdir(self._folder)
        except OSError as error:
            raise InputError(
                "with --ray every machine must see the same folders as this one, and one cannot "
                f"enter {self._folder} ({error.strerror})"
            ) from None
        work: Callable[[Any], Any] = pickle.loads(self._make)()
        return work

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            result = (True, self._work(pickle.loads(row["item"])))
        except InputError as error:
            result = (False, str(error))
        return {"number": row["number"], "result": _dumps(result)}


def _dumps(value: object) -> bytes:
    found: bytes = importlib.import_module("ray").cloudpickle.dumps(value)
    return found


@contextmanager
def _cluster(address: str) -> Iterator[Any]:
    """The ray module, connected; a connection that was made here ends with the block."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to its makers
    try:
        ray = importlib.import_module("ray")
        importlib.import_module("ray.data")
    except ImportError as error:
        raise InputError(f"--ray needs Ray: {install_hint('ray')} ({error})") from None
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # the bar is ours
    if ray.is_initialized():
        yield ray
        return
    _require_reachable(address)
    options: dict[str, Any] = {
        "address": address,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
    }
    if address == "local":
        options |= {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
    try:
        ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).split("\n", 1)[0]
        raise InputError(f"--ray {address}: no Ray cluster can be reached ({reason})") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _require_reachable(address: str) -> None:
    """Fail at once where no one listens: Ray itself tries for minutes."""
    try:
        place = urllib.parse.urlsplit(address if "://" in address else f"//{address}")
        if place.port is not None:
            socket.create_connection((place.hostname, place.port), timeout=10).close()
    except (OSError, ValueError) as error:
        raise InputError(f"--ray {address}: no Ray cluster can be reached ({error})") from None


@contextmanager
def _quiet(context: Any) -> Iterator[None]:
    """What a data set made in the block takes over: the items' order, and no bars of Ray's."""
    options = context.execution_options
    before = options.preserve_order, context.enable_progress_bars
    options.preserve_order, context.enable_progress_bars = True, False
    try:
        yield
    finally:
        options.preserve_order, context.enable_progress_bars = before


def _num_workers(ray: Any, needs: dict[str, int]) -> int:
    """How many workers the cluster's machines have room for."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    wanted = {"CPU": needs["num_cpus"], "GPU": needs["num_gpus"]}
    wanted = {name: count for name, count in wanted.items() if count}
    count = sum(
        min(int(machine.get(name, 0) // n) for name, n in wanted.items()) for machine in machines
    )
    if not count:
        largest = {name: max(int(m.get(name, 0)) for m in machines) for name in wanted}
        raise InputError(
            f"a worker needs {wanted} on one machine, and the cluster's have at most {largest}; "
            "a worker has as many threads as this process, which OMP_NUM_THREADS sets"
        )
    return count
