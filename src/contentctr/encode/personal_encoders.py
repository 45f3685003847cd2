"""The visual encoder of a video's frames, by its name: YOLOv5's file, or what encoders.py loads."""

from __future__ import annotations

from pathlib import Path

import torch

from contentctr.encode import encoders
from contentctr.encode.encoders import VisualEncoder
from contentctr.encode.yolo import load_yolo


def load_frame_encoder(name: str, *, device: str | torch.device = "cpu") -> VisualEncoder:
    """The encoder called `name`, as frames are encoded with it.

    Args:
        name: a file `.onnx` of YOLOv5 (`load_yolo`), or what `load_visual` takes.
        device: where it is put.

    Raises:
        InputError: it cannot be had.
    """
    if name.lower().endswith((".onnx", ".pt")):
        return load_yolo(Path(name), device=device)
    return encoders.for_inference(encoders.load_visual(name, device=device))
