"""Which inference engine runs an encoder, and in which precision."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from contentctr.batch import DataSpec
from contentctr.errors import InputError
from contentctr.extras import install_hint

Engine = Literal["auto", "torch", "onnx", "openvino"]
_FIRST_LOOK = threading.Lock()
_PACKAGES = {"torch": (), "onnx": ("onnx", "onnxruntime"), "openvino": ("openvino",)}


@dataclass(frozen=True)
class Runtime:
    """An inference engine, and the precision that it computes in."""

    engine: str = "torch"
    """torch, onnx or openvino."""
    precision: str = "float32"
    """float32 or bfloat16. Features of one precision are equal to rounding, whatever the engine."""

    def __str__(self) -> str:
        return f"{self.engine}, {self.precision}"


TORCH = Runtime()


def runtime_in(spec: DataSpec, part: str) -> Runtime:
    """What computed the features of a `visual` or `text` encoder, as a DataSpec says."""
    return Runtime(getattr(spec, f"{part}_engine"), getattr(spec, f"{part}_precision"))


def candidates(engine: str, device: torch.device, like: Runtime | None = None) -> list[Runtime]:
    """Runtimes to try, the one most wanted first; TORCH is always among them.

    Args:
        engine: the one the user wants, which comes first, or auto: the fastest comes first.
        device: where the encoder is.
        like: what the features at hand were made by: its precision is kept where it can be, and
            its engine where that is not plain torch.

    Raises:
        InputError: the engine is unknown, is not installed, or does not run on the device.
    """
    _require_usable(engine, device)
    # The order is that of benchmarks/engines.py, the fastest first.
    found: list[Runtime] = []
    if device.type == "cuda":
        found.append(Runtime("torch", "bfloat16"))
    elif device.type == "cpu":
        if _is_installed("openvino"):
            # Without hardware for it bfloat16 is many times slower.
            precisions = ["bfloat16"] if _has_bfloat16() else []
            found += [Runtime("openvino", each) for each in (*precisions, "float32")]
        if _is_installed("onnx"):
            found.append(Runtime("onnx"))
    found.append(TORCH)

    def misses(each: Runtime) -> tuple[bool, bool, bool]:
        return (
            engine not in ("auto", each.engine),
            like is not None and each.precision != like.precision,
            like is not None and like.engine not in ("torch", each.engine),
        )

    return sorted(found, key=misses)


def _require_usable(engine: str, device: torch.device) -> None:
    if engine == "auto":
        return
    if engine not in _PACKAGES:
        raise InputError(f"engine must be auto, {', '.join(_PACKAGES)}, not {engine!r}")
    if not _is_installed(engine):
        raise InputError(
            f"--engine {engine}: {' or '.join(_PACKAGES[engine])} is not installed: "
            f"{install_hint('fast')}"
        )
    if engine != "torch" and device.type != "cpu":
        raise InputError(f"--engine {engine}: runs on the CPU alone, not on {device}")


def _is_installed(engine: str) -> bool:
    return all(importlib.util.find_spec(name) is not None for name in _PACKAGES[engine])


def _has_bfloat16() -> bool:
    return "BF16" in openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def openvino() -> Any:
    """The package, which tells nobody that it is used."""
    # By itself it tells Google Analytics of every import and conversion. It goes without the
    # package that does so, which must not be there when it looks for it.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    module = importlib.import_module("openvino")
    # Its table of types is made when a tensor's data are first looked at: two threads that do so at
    # once wait for each other for ever (2026.4.1), so it is made here, by one after the other.
    with _FIRST_LOOK:
        _ = module.Tensor(np.zeros(1, np.uint8)).data
    return module
