"""The next batches are gathered and moved while the model works on this one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from contentctr.ahead import made_ahead

AHEAD = 2
"""Steps that are ready or under way: one hides an even wait, a second an uneven one."""


@contextmanager
def prefetched(
    steps: Iterator[list[Any]], device: torch.device | str, *, ahead: int = AHEAD
) -> Iterator[Iterator[list[Any]]]:
    """The same steps in the same order, on `device`, made by one thread in the background.

    It is for slow disks and GPUs; beside files that are in the page cache it changes nothing.

    On leaving, the thread has ended, whether all steps were taken or not. An exception of `steps`
    is raised where its step would have been given.

    Args:
        steps: gives lists of dataclasses of tensors; only the thread touches it.
        device: where the tensors are wanted. Toward a CUDA device they go through pinned memory,
            without waiting for the copy.
        ahead: steps made in advance; 0: none, and no thread.

    Yields:
        The iterator.
    """
    device = torch.device(device)
    if ahead and device.type == "cuda":
        steps = ([_pinned(p) for p in pieces] for pieces in steps)
    with made_ahead(steps, ahead) as made:
        yield ([moved(p, device) for p in pieces] for pieces in made)


def moved(batch: Any, device: torch.device) -> Any:
    """A dataclass of tensors on `device`."""
    return _each_tensor(batch, lambda x: x.to(device, non_blocking=True))


def _pinned(batch: Any) -> Any:
    return _each_tensor(batch, Tensor.pin_memory)


def _each_tensor(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A dataclass with its tensors changed, and those of the dataclasses in it."""
    if isinstance(value, Tensor):
        return change(value)
    if is_dataclass(value) and not isinstance(value, type):
        inner = {f.name: _each_tensor(getattr(value, f.name), change) for f in fields(value)}
        return replace(value, **inner)
    return value
