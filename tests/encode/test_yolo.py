"""YOLOv5 through ONNX Runtime: classes counted, maps pooled, and files that are refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from contentctr.encode import yolo
from contentctr.encode.yolo import count_classes, load_yolo
from contentctr.errors import InputError
from tiny_onnx import write_onnx
from tiny_yolo import BOXES, CLASSES, MIX, PLACES, SIDE, TO_BOXES, tiny_yolo


def frames(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, SIDE, SIDE, 3), generator=generator, dtype=torch.uint8)


def expected(frames_FHWC: torch.Tensor) -> np.ndarray:
    pixels = frames_FHWC.numpy().transpose(0, 3, 1, 2).astype(np.float64) / 255
    boxes = pixels.reshape(len(pixels), -1) @ TO_BOXES + PLACES
    counted = [naive_counts(b) for b in boxes.reshape(len(pixels), BOXES, 5 + CLASSES)]
    pooled = np.einsum("fchw,dc->fd", pixels, MIX[..., 0, 0]) / SIDE**2
    return np.concatenate([np.array(counted), pooled], axis=1)


def naive_counts(boxes: np.ndarray) -> np.ndarray:
    """Greedy suppression, box by box."""
    found = []
    for x, y, w, h, confidence, *classes in boxes.tolist():
        best = int(np.argmax(classes))
        if confidence * classes[best] >= 0.25:
            corners = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
            found.append((confidence * classes[best], best, corners))
    kept: list = []
    for _, label, box in sorted(found, key=lambda f: -f[0]):
        if all(other != label or iou(box, place) <= 0.45 for other, place in kept):
            kept.append((label, box))
    return np.bincount([label for label, _ in kept], minlength=boxes.shape[1] - 5)


def iou(a, b):  # type: ignore[no-untyped-def]
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def test_classes_are_counted_after_suppression_by_hand() -> None:
    boxes = np.array(
        [
            [10, 10, 4, 4, 0.9, 0.1, 0.9],
            [10, 11, 4, 4, 0.8, 0.1, 0.9],  # overlaps the first by 12 / 20: suppressed
            [10, 12, 4, 4, 0.7, 0.1, 0.9],  # by 8 / 24 the first, and the second is gone: kept
            [10, 10, 4, 4, 0.9, 0.9, 0.1],  # another class: kept
            [90, 90, 4, 4, 0.3, 0.8, 0.1],  # 0.24 is too little
        ],
        np.float32,
    )
    assert count_classes(boxes).tolist() == [1, 2]
    assert count_classes(boxes[:0]).tolist() == [0, 0]


@pytest.mark.parametrize("seed", range(20))
def test_classes_are_counted_as_a_naive_loop_does(seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = rng.uniform(0, 1, size=(60, 5 + 4)).astype(np.float32)
    boxes[:, 2:4] *= 0.5
    assert count_classes(boxes).tolist() == naive_counts(boxes).tolist()
    assert count_classes(boxes).sum() > 5


def test_no_more_boxes_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = np.tile(np.array([0, 0, 1, 1, 1, 1], np.float32), (40, 1))
    boxes[:, 0] = np.arange(40) * 5
    assert count_classes(boxes).tolist() == [40]
    monkeypatch.setattr(yolo, "MAX_BOXES", 7)
    assert count_classes(boxes).tolist() == [7]


def test_a_checkpoint_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"python export.py --weights yolov5s.pt"):
        load_yolo(tmp_path / "yolov5s.pt")
    with pytest.raises(InputError, match="no such file"):
        load_yolo(tmp_path / "yolov5s.onnx")


def test_without_onnx_runtime_the_way_to_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(yolo.importlib, "import_module", missing)
    with pytest.raises(InputError, match=r"\[yolo\]"):
        load_yolo(tiny_yolo(tmp_path / "a.onnx"))


class TestWithRuntime:
    """What needs ONNX Runtime (extra `yolo`)."""

    @pytest.fixture(autouse=True)
    def runtime(self) -> None:
        pytest.importorskip("onnxruntime")

    @pytest.mark.parametrize("batch", ["n", 1, 4])
    def test_features_are_counts_and_pooled_maps(self, tmp_path: Path, batch: int | str) -> None:
        encoder = load_yolo(tiny_yolo(tmp_path / "a.onnx", batch=batch))
        assert (encoder.dim, encoder.size) == (CLASSES + 2, (SIDE, SIDE))
        pictures = frames(6)
        found = encoder(pictures)
        assert found.dtype == torch.float32
        np.testing.assert_allclose(found.numpy(), expected(pictures), atol=1e-5)
        assert len({tuple(row) for row in found[:, :CLASSES].tolist()}) > 1

    def test_one_output_alone_and_a_half_precision_file(self, tmp_path: Path) -> None:
        pictures = frames(3)
        pooled = load_yolo(tiny_yolo(tmp_path / "a.onnx", outputs=("map",)))
        np.testing.assert_allclose(pooled(pictures), expected(pictures)[:, CLASSES:], atol=1e-5)
        half = load_yolo(tiny_yolo(tmp_path / "b.onnx", outputs=("map",), dtype=np.float16))
        np.testing.assert_allclose(half(pictures), expected(pictures)[:, CLASSES:], atol=1e-2)
        vectors = load_yolo(tiny_yolo(tmp_path / "c.onnx", outputs=("moved",)))
        assert vectors.dim == BOXES * (5 + CLASSES)

    def test_the_picture_keeps_its_proportions_on_grey(self, tmp_path: Path) -> None:
        encoder = load_yolo(tiny_yolo(tmp_path / "a.onnx"))
        canvas = encoder.preprocess(Image.new("RGB", (32, 16), (255, 0, 0)))
        assert canvas.shape == (SIDE, SIDE, 3) and canvas.dtype == np.uint8
        assert (canvas[2:6] == (255, 0, 0)).all()
        assert (canvas[:2] == 114).all() and (canvas[6:] == 114).all()
        tall = encoder.preprocess(Image.new("L", (2, SIDE), 7))
        assert (tall[:, 3:5] == 7).all() and (tall[:, :3] == 114).all()

    def test_the_revision_is_the_files(self, tmp_path: Path) -> None:
        first = load_yolo(tiny_yolo(tmp_path / "a.onnx"))
        again = load_yolo(tiny_yolo(tmp_path / "b.onnx"))
        other = load_yolo(tiny_yolo(tmp_path / "c.onnx", outputs=("map",)))
        assert first.revision == again.revision != other.revision

    def test_files_of_another_form_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "a.onnx"
        path.write_bytes(b"nothing")
        with pytest.raises(InputError, match="ONNX Runtime cannot load it"):
            load_yolo(path)
        write_onnx(
            path,
            inputs={"x": ["n", 5]},
            outputs=["y"],
            nodes=[("Relu", ["x"], "y", {})],
            constants={},
        )
        with pytest.raises(InputError, match=r"one input of pictures \[N, 3, H, W\]"):
            load_yolo(path)
        write_onnx(
            path,
            inputs={"x": ["n", 3, 8, 8]},
            outputs=["y"],
            nodes=[
                ("Squeeze", ["x", "axis"], "z", {}),
                ("Flatten", ["x"], "y", {"axis": 0}),
                ("Reshape", ["x", "shape"], "w", {}),
            ],
            constants={"axis": np.array([9]), "shape": np.array([-1, 8, 4])},
        )
        with pytest.raises(InputError, match="ONNX Runtime cannot load it"):
            load_yolo(path)
        write_onnx(
            path,
            inputs={"x": ["n", 3, 8, 8]},
            outputs=["w"],
            nodes=[("Reshape", ["x", "shape"], "w", {})],
            constants={"shape": np.array([-1, 8, 4])},
        )
        with pytest.raises(InputError, match="an output must be a map"):
            load_yolo(path)
        if not torch.cuda.is_available():
            with pytest.raises(InputError, match="does not run on cuda"):
                load_yolo(tiny_yolo(path), device="cuda")
