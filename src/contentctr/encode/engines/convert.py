"""An encoder of torch as a program of OpenVINO or ONNX Runtime.

Either gets a row at a time, a picture or a text without padding, on one thread: so a feature
depends on nothing but its row, neither on the batch that it is in nor on the number of threads.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contentctr import __version__
from contentctr.encode.engines import kept
from contentctr.encode.engines.runtime import openvino
from contentctr.files import digest

Row = Sequence[NDArray[Any]]
"""Arrays of a row, each [1, ...]."""
RunRow = Callable[[Row], NDArray[np.float32]]
"""Its feature, [D]."""
_HINTS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVino:
    """An encoder as a program of OpenVINO.

    Args:
        encoder: a module of torch, in evaluation mode.
        example: arguments of one row.
    """

    def __init__(self, encoder: Any, example: Sequence[Tensor]) -> None:
        self._name = _kept_name(encoder, example)
        self._model = self._name and kept.read_kept(openvino(), self._name)
        if not self._model:
            self._model = _converted(encoder, example)
            if self._name:
                self._model = kept.keep(openvino(), self._name, self._model)
        self._places = _places(encoder, [port.get_names() for port in self._model.inputs])
        shapes = [_shape(example[place]) for place in self._places]
        self._model.reshape(dict(zip(self._model.inputs, shapes, strict=True)))

    def forget(self) -> None:
        """It does not compute what it should: keep it for no other process."""
        if self._name:
            kept.forget(self._name)

    def compile(self, precision: str) -> RunRow:
        """What runs a row; may be called by as many threads as torch has."""
        threads = torch.get_num_threads()
        options = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
            # Else processes beside this one would be pinned to the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        program = openvino().Core().compile_model(self._model, "CPU", options)
        local = threading.local()

        def run(row: Row) -> NDArray[np.float32]:
            if not hasattr(local, "request"):
                local.request = program.create_infer_request()
            found = local.request.infer([row[place] for place in self._places])
            # A copy: the request writes its next result into the same memory.
            feature: NDArray[np.float32] = found[0][0].copy()
            return feature

        return run


class Onnx:
    """An encoder as a program of ONNX Runtime; arguments as OpenVino's."""

    def __init__(self, encoder: Any, example: Sequence[Tensor]) -> None:
        runtime = importlib.import_module("onnxruntime")
        names = _names(encoder)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        with tempfile.TemporaryDirectory() as folder, _quiet():
            path = Path(folder) / "encoder.onnx"
            # By the older exporter: the newer one cannot convert Swin, takes ten times as long,
            # and needs a package more (torch 2.13).
            torch.onnx.export(
                _trace(encoder, example),
                tuple(example),
                str(path),
                dynamo=False,
                input_names=names,
                dynamic_axes={
                    name: {1: "L"} for name, x in zip(names, example, strict=True) if x.ndim == 2
                },
            )
            self._session = runtime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        inputs = [each.name for each in self._session.get_inputs()]
        self._inputs = dict(zip(inputs, _places(encoder, [{name} for name in inputs]), strict=True))

    def compile(self, precision: str) -> RunRow:
        """What runs a row, in float32; may be called by several threads."""
        assert precision == "float32"

        def run(row: Row) -> NDArray[np.float32]:
            given = {name: row[place] for name, place in self._inputs.items()}
            feature: NDArray[np.float32] = self._session.run(None, given)[0][0]
            return feature

        return run


CONVERTERS: dict[str, type[OpenVino] | type[Onnx]] = {"openvino": OpenVino, "onnx": Onnx}


def _converted(encoder: Any, example: Sequence[Tensor]) -> Any:
    with _quiet():
        # Traced here, not by OpenVINO, which takes four times as long over it.
        return openvino().convert_model(_trace(encoder, example), example_input=tuple(example))


def _kept_name(encoder: Any, example: Sequence[Tensor]) -> str:
    """A hash of all that the program depends on; "" of an encoder whose program is not kept."""
    if sum(each.numel() * each.element_size() for each in encoder.parameters()) > kept.MOST_BYTES:
        return ""
    return digest(
        *(__version__, torch.__version__, openvino().__version__, type(encoder).__qualname__),
        encoder.revision,
        [str(x.dtype) for x in example],
        [_shape(x) for x in example],
    )


def _trace(encoder: Any, example: Sequence[Tensor]) -> Any:
    with torch.no_grad():
        return torch.jit.trace(encoder, tuple(example), check_trace=False)  # type: ignore[no-untyped-call]


def _names(encoder: Any) -> list[str]:
    return list(inspect.signature(encoder.forward).parameters)


def _places(encoder: Any, inputs: Sequence[set[str]]) -> list[int]:
    """Which argument each input is; one that the model does not use has no input."""
    names = _names(encoder)
    return [next(i for i, name in enumerate(names) if name in port) for port in inputs]


def _shape(argument: Tensor) -> list[int]:
    """Of a picture its own; of a text's tokens any number."""
    return [1, -1] if argument.ndim == 2 else list(argument.shape)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what tracing warns of: whether it went well is tried afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Not imported for this: it takes half a second.
        library: Any = sys.modules.get("transformers")
        if library is None:
            yield
            return
        logging = library.utils.logging
        before = logging.get_verbosity()
        logging.set_verbosity_error()
        try:
            yield
        finally:
            logging.set_verbosity(before)
