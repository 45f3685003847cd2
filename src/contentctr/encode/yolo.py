"""YOLOv5 as a visual encoder, from the user's own ONNX file (Section 4.3.2; extra `yolo`).

The paper takes "YOLOv5 features" and does not say which. Here a frame's feature is, one after the
other: the mean over positions of every output of the model that is a map, or every output that is
a vector (an exported backbone layer), and how many objects of each class are detected. YOLOv5's
own export has the detections alone; a layer has to be added to the graph's outputs to have its
features too (docs/decisions.md, "PHD: YOLOv5").

The file is run by ONNX Runtime, and nothing in it is executed as Python. Shape suffixes: F
frames, H, W height and width, A candidate boxes of a frame, C classes.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from contentctr.encode.engines.runtime import Runtime
from contentctr.encode.pictures import Picture, as_image
from contentctr.errors import InputError
from contentctr.extras import install_hint
from contentctr.files import digest, file_sha256

SIZE = 640
"""YOLOv5's own input size, used where the file leaves it open."""
MIN_CONFIDENCE, MAX_OVERLAP, MAX_BOXES = 0.25, 0.45, 300
"""YOLOv5's defaults for detection: confidence, IoU, boxes kept of a frame."""
_GREY = 114
"""YOLOv5 fills what the picture does not cover with it."""
_MAX_CANDIDATES = 3000


class YoloEncoder(nn.Module):
    """A VisualEncoder (encoders.py) that runs an ONNX file; not trained with the model.

    Args:
        path: the file.
        session: ONNX Runtime's session of it.

    Raises:
        InputError: its input or outputs are not of the form above.
    """

    runtime = Runtime("onnx")

    def __init__(self, path: Path, session: Any) -> None:
        super().__init__()
        self.name, self._session = str(path), session
        self._path = path
        inputs = session.get_inputs()
        shape = inputs[0].shape
        if len(inputs) != 1 or len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
            raise InputError(
                f"{path}: must have one input of pictures [N, 3, H, W], not "
                f"{[(i.name, i.shape) for i in inputs]}"
            )
        self._input = inputs[0].name
        self._half = inputs[0].type == "tensor(float16)"
        self._batch = shape[0] if isinstance(shape[0], int) else None
        height, width = (side if isinstance(side, int) else SIZE for side in shape[2:])
        self.size = (height, width)
        self._revision = digest(file_sha256(path), MIN_CONFIDENCE, MAX_OVERLAP, MAX_BOXES)
        # Where the caller's tensors go to and come from; ONNX Runtime keeps its own.
        self.place = nn.Parameter(torch.zeros(0), requires_grad=False)
        self.dim = self(torch.zeros(1, *self.size, 3, dtype=torch.uint8)).shape[1]

    @property
    def revision(self) -> str:
        """Stable hash of the file and the settings."""
        return self._revision

    def preprocess(self, image: Picture) -> NDArray[np.uint8]:
        """The picture in its own proportions, in the middle of grey, uint8 [H, W, 3]."""
        image = as_image(image).convert("RGB")
        height, width = self.size
        scale = min(height / image.height, width / image.width)
        inner = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
        if inner != image.size:
            image = image.resize(inner, Image.Resampling.BILINEAR)
        canvas = Image.new("RGB", (width, height), (_GREY,) * 3)
        canvas.paste(image, ((width - inner[0]) // 2, (height - inner[1]) // 2))
        return np.array(canvas)

    def forward(self, frames_FHWC: Tensor) -> Tensor:
        """Features [F, dim] of uint8 frames [F, H, W, 3]."""
        pixels_FCHW = (frames_FHWC.permute(0, 3, 1, 2).float() / 255).cpu().numpy()
        step = self._batch or len(pixels_FCHW)
        parts = [self._run(pixels_FCHW[i : i + step]) for i in range(0, len(pixels_FCHW), step)]
        return torch.from_numpy(np.concatenate(parts)).to(self.place.device)

    def _run(self, pixels_FCHW: NDArray[np.float32]) -> NDArray[np.float32]:
        count = len(pixels_FCHW)
        if self._batch and count < self._batch:
            pixels_FCHW = np.pad(pixels_FCHW, ((0, self._batch - count), *((0, 0),) * 3))
        given = pixels_FCHW.astype(np.float16) if self._half else pixels_FCHW
        outputs = self._session.run(None, {self._input: given})
        parts = [self._feature(output)[:count] for output in outputs]
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def _feature(self, output: NDArray[Any]) -> NDArray[np.float32]:
        """One output's part of the feature."""
        output = np.asarray(output, np.float32)
        if output.ndim == 4:
            return np.asarray(output.mean((2, 3)), np.float32)
        if output.ndim == 2:
            return output
        if output.ndim == 3 and output.shape[2] > 5:
            return np.stack([count_classes(boxes_AK) for boxes_AK in output])
        raise InputError(
            f"{self._path}: an output must be a map [N, D, H, W], a vector [N, D] or YOLOv5's "
            f"detections [N, boxes, 5 + classes], not {list(output.shape)}"
        )


def load_yolo(path: Path, *, device: str | torch.device = "cpu") -> YoloEncoder:
    """The encoder of an ONNX file that YOLOv5's export wrote.

    Args:
        path: the file, `.onnx`.
        device: cpu, or cuda where ONNX Runtime has it.

    Raises:
        InputError: it is not there, is a checkpoint instead of an ONNX file, ONNX Runtime cannot
            load it or is not installed, or its input and outputs are of another form.
    """
    if path.suffix.lower() != ".onnx":
        raise InputError(
            f"{path}: must be an ONNX file; a checkpoint holds code and is not opened. Export it "
            f"with YOLOv5's own `python export.py --weights {path.name} --include onnx --dynamic`"
        )
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError:
        raise InputError(f"ONNX Runtime is not installed: {install_hint('yolo')}") from None
    provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}.get(
        torch.device(device).type
    )
    if provider not in runtime.get_available_providers():
        raise InputError(f"{path}: this ONNX Runtime does not run on {device}; use --device cpu")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(str(path), options, providers=[provider])
    except Exception as error:  # ONNX Runtime's errors share no base of their own
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"{path}: ONNX Runtime cannot load it ({reason})") from None
    return YoloEncoder(path, session).to(device).eval()


def count_classes(boxes_AK: NDArray[np.float32]) -> NDArray[np.float32]:
    """Objects of each class in a frame, [C], after non-maximum suppression within each class.

    Args:
        boxes_AK: a frame's candidates, [A, 5 + C]: centre, width and height, confidence that
            there is an object, probability of each class.
    """
    score_AC = boxes_AK[:, 4:5] * boxes_AK[:, 5:]
    class_A = score_AC.argmax(1)
    best_A = score_AC[np.arange(len(score_AC)), class_A]
    order = np.argsort(-best_A, kind="stable")[:_MAX_CANDIDATES]
    order = order[best_A[order] >= MIN_CONFIDENCE]
    corners = np.concatenate(
        [boxes_AK[:, :2] - boxes_AK[:, 2:4] / 2, boxes_AK[:, :2] + boxes_AK[:, 2:4] / 2], axis=1
    )
    counts_C = np.zeros(score_AC.shape[1], np.float32)
    kept = 0
    while len(order) and kept < MAX_BOXES:
        first, order = order[0], order[1:]
        counts_C[class_A[first]] += 1
        kept += 1
        same = class_A[order] == class_A[first]
        overlap = _overlap(corners[first], corners[order])
        order = order[~(same & (overlap > MAX_OVERLAP))]
    return counts_C


def _overlap(box_4: NDArray[np.float32], boxes_A4: NDArray[np.float32]) -> NDArray[np.float32]:
    """Intersection over union of a box with others, [A]."""
    low = np.maximum(box_4[:2], boxes_A4[:, :2])
    high = np.minimum(box_4[2:], boxes_A4[:, 2:])
    shared_A = np.clip(high - low, 0, None).prod(1)
    areas_A = (boxes_A4[:, 2:] - boxes_A4[:, :2]).prod(1)
    union_A = (box_4[2:] - box_4[:2]).prod() + areas_A - shared_A
    return np.asarray(shared_A / np.maximum(union_A, 1e-9), np.float32)
