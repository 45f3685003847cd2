"""Writes ONNX files: the protocol buffers of a small graph, by hand, without the onnx package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

_TYPES = {np.dtype(np.float32): 1, np.dtype(np.int64): 7, np.dtype(np.float16): 10}


def write_onnx(
    path: Path,
    *,
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Sequence[str],
    nodes: Sequence[tuple[str, Sequence[str], str, dict[str, int]]],
    constants: Mapping[str, np.ndarray],
    dtype: type = np.float32,
) -> Path:
    """Write a graph.

    Args:
        path: the file.
        inputs: shape of each input; a word is a length left open.
        outputs: tensors that the graph returns.
        nodes: operator, inputs, output, attributes (whole numbers).
        constants: tensors in the file.
        dtype: of inputs and outputs.
    """
    kind = _TYPES[np.dtype(dtype)]
    graph = [_field(1, _node(*node)) for node in nodes]
    graph += [_field(2, b"tiny")]
    graph += [_field(5, _tensor(name, value)) for name, value in constants.items()]
    graph += [_field(11, _value(name, kind, shape)) for name, shape in inputs.items()]
    graph += [_field(12, _value(name, kind, None)) for name in outputs]
    opset = _field(8, _field(1, b"") + _field(2, 13))
    path.write_bytes(_field(1, 8) + opset + _field(7, b"".join(graph)))
    return path


def _node(op: str, inputs: Sequence[str], output: str, attributes: dict[str, int]) -> bytes:
    given = [
        _field(5, _field(1, name.encode()) + _field(3, value) + _field(20, 2))
        for name, value in attributes.items()
    ]
    parts = [_field(1, name.encode()) for name in inputs] + [_field(2, output.encode())]
    return b"".join([*parts, _field(4, op.encode()), *given])


def _tensor(name: str, value: np.ndarray) -> bytes:
    dims = b"".join(_field(1, side) for side in value.shape)
    kind = _field(2, _TYPES[value.dtype])
    return dims + kind + _field(8, name.encode()) + _field(9, value.tobytes())


def _value(name: str, kind: int, shape: Sequence[int | str] | None) -> bytes:
    tensor = _field(1, kind)
    if shape is not None:
        dims = [_field(1, s) if isinstance(s, int) else _field(2, s.encode()) for s in shape]
        tensor += _field(2, b"".join(_field(1, dim) for dim in dims))
    return _field(1, name.encode()) + _field(2, _field(1, tensor))


def _field(number: int, value: int | bytes) -> bytes:
    """A field of a message: a whole number, or bytes with their length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
