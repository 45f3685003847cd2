"""Which engine is taken: the fastest that computes the same, and never another silently."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from contentctr.encode.encoders import for_inference, load_text, load_visual
from contentctr.encode.engines import choose, runtime
from contentctr.encode.engines.choose import closeness
from contentctr.encode.engines.examples import examples
from contentctr.encode.engines.runtime import TORCH, Runtime, candidates
from contentctr.errors import InputError
from tiny_models import make_tiny_bert, make_tiny_swin

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
FAST, FAST_EXACT, ONNX = Runtime("openvino", "bfloat16"), Runtime("openvino"), Runtime("onnx")


@pytest.fixture
def bert(tmp_path: Path) -> Any:
    return load_text(str(make_tiny_bert(tmp_path / "bert")))


@pytest.fixture
def all_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_is_installed", lambda engine: True)
    monkeypatch.setattr(runtime, "_has_bfloat16", lambda: True)
    monkeypatch.setattr(choose, "_SMALL", 0)


class Converted:
    """A made-up engine, off by what is said for the precision."""

    off: dict[str, float] = {}

    def __init__(self, encoder: Any, example: Sequence[Tensor]) -> None:
        if not self.off:
            raise RuntimeError("no such operation: Erf\n and more")
        self.encoder = encoder

    def compile(self, precision: str) -> Callable[..., Any]:
        def run(row: Sequence[Any]) -> Any:
            with torch.inference_mode():
                found = self.encoder(*map(torch.from_numpy, row))[0].numpy()
            found[0] += self.off[precision] * np.abs(found).max()
            return found

        return run


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch, all_installed: None) -> Callable[..., None]:
    """Replace engines by made-up ones: how far off each is by precision; {}: cannot convert."""

    def replace(**off: dict[str, float]) -> None:
        for name, values in off.items():
            made_up = type("Made", (Converted,), {"off": values})
            monkeypatch.setitem(choose.CONVERTERS, name, made_up)
        monkeypatch.setattr(choose._Trial, "slowness", lambda self, found: 0.5)

    return replace


def test_order_of_what_is_tried(all_installed: None) -> None:
    assert candidates("auto", CPU) == [FAST, FAST_EXACT, ONNX, TORCH]
    assert candidates("onnx", CPU) == [ONNX, FAST, FAST_EXACT, TORCH]
    assert candidates("torch", CPU)[0] == TORCH
    assert candidates("auto", CUDA) == [Runtime("torch", "bfloat16"), TORCH]
    assert candidates("auto", torch.device("mps")) == [TORCH]
    # The precision of features that are there comes first, then their engine.
    assert candidates("auto", CPU, TORCH) == [FAST_EXACT, ONNX, TORCH, FAST]
    assert candidates("auto", CPU, ONNX) == [ONNX, FAST_EXACT, TORCH, FAST]
    assert candidates("auto", CPU, FAST)[0] == FAST
    assert candidates("onnx", CPU, FAST)[:2] == [ONNX, FAST]
    assert candidates("openvino", CPU, ONNX)[:2] == [FAST_EXACT, FAST]


def test_without_hardware_for_it_bfloat16_is_not_tried(
    all_installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "_has_bfloat16", lambda: False)
    assert candidates("auto", CPU) == [FAST_EXACT, ONNX, TORCH]


def test_what_is_not_installed_or_does_not_run_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnxruntime", "openvino"):
        monkeypatch.setitem(sys.modules, name, None)
    assert candidates("auto", CPU) == [TORCH]
    for name in ("onnx", "openvino"):
        with pytest.raises(InputError, match=rf"--engine {name}: .*\[fast\]"):
            candidates(name, CPU)
    with pytest.raises(InputError, match="auto, torch, onnx, openvino, not 'tensorrt'"):
        candidates("tensorrt", CPU)
    monkeypatch.setattr(runtime, "_is_installed", lambda engine: True)
    with pytest.raises(InputError, match="--engine onnx: runs on the CPU alone, not on cuda"):
        candidates("onnx", CUDA)


def test_the_fastest_that_is_equal(bert: Any, engines: Callable[..., None]) -> None:
    engines(openvino={"bfloat16": 0.005, "float32": 1e-6})
    found = for_inference(bert, engine="auto", notes=(notes := []))
    assert found.runtime == FAST and found.agreement.startswith("cosine to float32 0.9999")
    assert notes == []
    found = for_inference(bert, engine="auto", like=TORCH, notes=notes)
    assert found.runtime == FAST_EXACT and found.agreement == "within 1e-06 of torch"
    assert notes == []


def test_a_precision_that_is_too_low_is_left(bert: Any, engines: Callable[..., None]) -> None:
    engines(openvino={"bfloat16": 0.1, "float32": 1e-6})
    found = for_inference(bert, engine="auto", notes=(notes := []))
    assert (found.runtime, notes) == (FAST_EXACT, [])
    # Features of that precision are there: what is made here is not as near to them as rounding.
    found = for_inference(bert, engine="auto", like=FAST, notes=notes)
    assert found.runtime == FAST_EXACT
    assert len(notes) == 1 and "made in bfloat16 (openvino, bfloat16), and here" in notes[0]


def test_an_engine_that_computes_something_else_is_refused(
    bert: Any, engines: Callable[..., None]
) -> None:
    engines(openvino={"bfloat16": 0.1, "float32": 3e-4}, onnx={"float32": np.nan})
    found = for_inference(bert, engine="auto", notes=(notes := []))
    assert found is bert
    assert "openvino computes something else (3e-04 off)" in notes[0]
    assert "onnx computes something else (nan off)" in notes[1] and len(notes) == 2


def test_what_an_engine_cannot_convert_another_runs(
    bert: Any, engines: Callable[..., None]
) -> None:
    engines(openvino={}, onnx={"float32": 0.0})
    for engine in ("auto", "openvino"):
        found = for_inference(bert, engine=engine, notes=(notes := []))
        assert found.runtime == ONNX
        assert len(notes) == 1
        assert notes[0].endswith("bert': openvino cannot run it (no such operation: Erf)")
    engines(onnx={})
    assert for_inference(bert, engine="onnx", notes=(notes := [])) is bert
    assert [note.split(": ")[1].split()[0] for note in notes] == ["onnx", "openvino"]


def test_a_slow_engine_is_taken_only_where_it_is_wanted(
    bert: Any, engines: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    engines(openvino={"bfloat16": 0.0, "float32": 0.0}, onnx={"float32": 0.0})
    monkeypatch.setattr(choose._Trial, "slowness", lambda self, found: 1.5)
    assert for_inference(bert, engine="auto") is bert
    assert for_inference(bert, engine="onnx").runtime == ONNX
    # What is there was made by it.
    assert for_inference(bert, engine="auto", like=ONNX).runtime == ONNX


@pytest.mark.parametrize(
    ("engine_s", "torch_s", "runs", "expected"),
    [
        ([0.1], [0.2], 2, 0.5),
        ([0.2, 0.2, 0.1], [0.2, 0.1, 0.3], 6, 1.0),
        ([0.9, 0.06], [0.1, 0.2], 4, 0.6),
    ],
)
def test_it_is_timed_until_the_faster_one_is_clear(
    bert: Any,
    monkeypatch: pytest.MonkeyPatch,
    engine_s: list[float],
    torch_s: list[float],
    runs: int,
    expected: float,
) -> None:
    trial, timed = choose._Trial(bert), []

    def seconds(self: choose._Trial, run: Any) -> float:
        timed.append(run)
        return (torch_s if run is bert else engine_s)[(len(timed) - 1) // 2]

    monkeypatch.setattr(choose._Trial, "_seconds", seconds)
    found = choose.EngineEncoder(bert, bert, ONNX, "")
    assert trial.slowness(found) == pytest.approx(expected) and len(timed) == runs


def test_slowness_is_its_time_over_torchs(bert: Any, all_installed: None) -> None:
    trial = choose._Trial(bert)

    def slow(*arguments: Tensor) -> Tensor:
        for _ in range(60):
            bert(*arguments)
        return bert(*arguments)

    assert trial.slowness(choose.EngineEncoder(bert, slow, ONNX, "")) > 5


def test_auto_leaves_small_encoders_to_torch(bert: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choose, "_Trial", None)
    assert for_inference(bert, engine="auto") is bert
    assert for_inference(bert, engine="torch") is bert


def test_mixed_precision_of_torch_as_on_a_gpu(
    bert: Any, all_installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way of a GPU, on the CPU: bfloat16 where it is near enough."""
    half = Runtime("torch", "bfloat16")
    monkeypatch.setattr(choose, "candidates", lambda *_: [half, TORCH])
    monkeypatch.setattr(choose._Trial, "slowness", lambda self, found: 0.5)
    found = for_inference(bert, engine="auto")
    tokens = bert.tokenize(["hello this song"], ["wow"])
    with torch.inference_mode():
        got, expected = found(*tokens), bert(*tokens)
    assert found.runtime == half and got.dtype == torch.float32
    assert not torch.equal(got, expected)
    assert torch.cosine_similarity(got, expected).item() > choose.LEAST_COSINE
    monkeypatch.setattr(choose, "LEAST_COSINE", 1.0)
    assert for_inference(bert, engine="auto") is bert


def test_closeness() -> None:
    expected = np.array([[3.0, 4.0], [0.0, 2.0]])
    cosine, difference = closeness(np.array([[4.0, 3.0], [0.0, 2.0]]), expected)
    assert cosine == pytest.approx(24 / 25) and difference == pytest.approx(1 / 4)
    assert all(np.isnan(closeness(np.array([[np.nan, 4.0], [0.0, 2.0]]), expected)))


def test_examples_differ_in_length_and_are_the_same_each_time(bert: Any, tmp_path: Path) -> None:
    together, alone = examples(bert)
    lengths = together[2].sum(1).tolist()
    assert lengths == [17, 5, 27, 27] and together[0].shape[1] == max(lengths)
    assert alone[0].shape == (1, bert.max_tokens)
    assert all(torch.equal(a, b) for a, b in zip(together, examples(bert)[0], strict=True))
    visual = load_visual(str(make_tiny_swin(tmp_path / "swin")))
    (frames,), (one,) = examples(visual)
    assert frames.shape == (3, 32, 32, 3) and torch.equal(one, frames[:1])
