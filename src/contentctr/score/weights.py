"""Weights and an optimiser's state as safetensors files, read with checks; no pickle anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from contentctr.errors import InputError
from contentctr.files import atomic, read_json, write_json


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a model's weights as safetensors, whole or not at all."""
    with atomic(path) as temporary:
        save_file(_tensors(model.state_dict()), temporary)


def load_weights(model: nn.Module, path: Path) -> None:
    """Read safetensors weights into `model`; names and shapes must all fit.

    Raises:
        InputError: the file is missing, damaged, or of another model.
    """
    tensors = load_tensors(path)
    require_shapes(path, shapes_of(model.state_dict()), shapes_of(tensors))
    for name in sorted(tensors):
        if not torch.isfinite(tensors[name]).all():
            raise InputError(f"{path}: weight {name!r} must be finite, and is not")
    model.load_state_dict(tensors)


@contextmanager
def without_memory() -> Iterator[None]:
    """Modules made in here have shapes and no numbers, whatever sizes the settings claim."""
    with torch.device("meta"), _ShapesAlone():
        yield


class _ShapesAlone(TorchFunctionMode):
    """Draws and scales nothing: on tensors without numbers torch loads its compiler for that."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = kwargs or {}
        scales = func is Tensor.mul and not isinstance(args[1], Tensor)
        if scales or func in _DRAWING or getattr(func, "__module__", "") == nn.init.__name__:
            return args[0] if args else given["tensor"]
        return (torch.empty if func is torch.randn else func)(*args, **given)


_DRAWING: tuple[Callable[..., Any], ...] = (Tensor.normal_, Tensor.uniform_)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, on the CPU.

    Raises:
        InputError: the file is missing or damaged.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})") from None
    return tensors


def save_optimizer(optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Write an optimiser's state as tensors and JSON."""
    state = optimizer.state_dict()
    tensors, scalars = {}, {}
    for index, entry in state["state"].items():
        for name, value in entry.items():
            key = f"{index}.{name}"
            if isinstance(value, Tensor):
                tensors[key] = value
            else:
                scalars[key] = value
    folder.mkdir(parents=True)
    save_file(_tensors(tensors), folder / "optimizer.safetensors")
    write_json(
        folder / "optimizer.json", {"param_groups": state["param_groups"], "scalars": scalars}
    )


def load_optimizer(optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Read what `save_optimizer` wrote.

    Raises:
        InputError: a file is missing or damaged.
    """
    saved = read_json(folder / "optimizer.json")
    entries: dict[int, dict[str, Any]] = {}
    values = {**load_tensors(folder / "optimizer.safetensors"), **saved.get("scalars", {})}
    for key, value in values.items():
        index, _, name = key.partition(".")
        entries.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": entries, "param_groups": saved["param_groups"]})


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Shape of each tensor, by name."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def stored_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of a safetensors file's tensors, by its header alone.

    Raises:
        InputError: the file is missing or damaged.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with safe_open(path, "pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable safetensors file ({error})") from None


def require_shapes(
    path: Path, own: Mapping[str, tuple[int, ...]], stored: Mapping[str, tuple[int, ...]]
) -> None:
    """Stop where a file's tensors are not those of a model.

    Raises:
        InputError: names the file, the tensor and both shapes.
    """
    for name in sorted(own.keys() | stored.keys()):
        found, wanted = stored.get(name, "none"), own.get(name, "none")
        if found != wanted:
            raise InputError(f"{path}: weight {name!r} must have shape {wanted}, not {found}")


def _tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
