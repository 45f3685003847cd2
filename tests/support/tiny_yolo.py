"""What several tests share, taken out of test_yolo."""

from pathlib import Path

import numpy as np

from tiny_onnx import write_onnx

SIDE, BOXES, CLASSES = 8, 4, 3


RNG = np.random.default_rng(0)


MIX = RNG.normal(size=(2, 3, 1, 1)).astype(np.float32)


TO_BOXES = RNG.normal(0, 0.05, size=(3 * SIDE * SIDE, BOXES * (5 + CLASSES))).astype(np.float32)


PLACES = RNG.uniform(0.5, 1.5, BOXES * (5 + CLASSES)).astype(np.float32)


def tiny_yolo(path: Path, *, batch: int | str = "n", outputs=("boxes", "map"), dtype=np.float32):  # type: ignore[no-untyped-def]
    """A map of 2 channels, and 4 boxes of 3 classes whose numbers depend on the picture."""
    shapes = {"flat": [-1, 3 * SIDE * SIDE], "boxes": [-1, BOXES, 5 + CLASSES]}
    constants = {f"{name}_shape": np.array(shape) for name, shape in shapes.items()}
    weights = {"mix": MIX, "to_boxes": TO_BOXES, "places": PLACES}
    return write_onnx(
        path,
        inputs={"images": [batch, 3, SIDE, SIDE]},
        outputs=outputs,
        nodes=[
            ("Conv", ["images", "mix"], "map", {}),
            ("Reshape", ["images", "flat_shape"], "flat", {}),
            ("MatMul", ["flat", "to_boxes"], "numbers", {}),
            ("Add", ["numbers", "places"], "moved", {}),
            ("Reshape", ["moved", "boxes_shape"], "boxes", {}),
        ],
        constants=constants | {name: value.astype(dtype) for name, value in weights.items()},
        dtype=dtype,
    )
