"""What computed the features of a store: said there, kept to, and never mixed by precision."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contentctr.encode import encoders
from contentctr.encode.engines.choose import EngineEncoder
from contentctr.encode.engines.runtime import TORCH, Runtime
from contentctr.encode.items import EncodeSettings
from contentctr.encode.rooms import RoomsSource, encode_rooms
from contentctr.errors import InputError
from contentctr.store.vectors import FeatureStore, data_spec
from encoded_rooms import TEXTS, make_data
from tiny_models import make_tiny_bert, make_tiny_swin

SIZES = {r: len(t[0]) for r, t in TEXTS.items()}
HALF = Runtime("openvino", "bfloat16")
needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime")),
    reason="the extra `fast` is not installed",
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "visual": str(make_tiny_swin(folder / "swin")),
        "text": str(make_tiny_bert(folder / "bert")),
    }


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., list[Any]]]:
    """Let made-up engines run the encoders; gives what was asked for, in the order of asking."""
    asked: list[Any] = []

    def choose(*runtimes: Runtime) -> list[Any]:
        """The runtimes of pictures and texts, in that order."""
        waiting = list(runtimes)

        def run(encoder: Any, *, engine: str, like: Runtime | None, notes: list[str]) -> Any:
            asked.append((engine, like))
            runtime = waiting[len(asked) - 1]
            if runtime == TORCH:
                return encoder
            notes.append(f"{runtime} it is")
            return EngineEncoder(encoder, encoder, runtime, "near enough")

        asked.clear()
        monkeypatch.setattr(encoders, "run_by_engine", run)
        return asked

    yield choose


@needs_onnx
def test_features_of_an_engine_are_torchs(tmp_path: Path, models: dict[str, str]) -> None:
    data = make_data(tmp_path)
    counts = encode_rooms(data, **models, engine="torch", show_progress=False)
    assert counts["visual_engine"] == counts["text_engine"] == "torch, float32"
    plain, spec = FeatureStore(data.features_dir).load(SIZES), data_spec(data)
    assert (spec.visual_engine, spec.text_precision) == ("torch", "float32")

    # Equal to rounding, so they may stand beside each other: nothing is encoded again.
    assert encode_rooms(data, **models, engine="onnx", show_progress=False)["rooms_encoded"] == 0
    for path in data.features_dir.glob("*.safetensors"):
        path.unlink()
    counts = encode_rooms(data, **models, engine="onnx", show_progress=False)
    assert counts["rooms_encoded"] == 3 and counts["warnings"] == []
    assert counts["visual_engine"].startswith("onnx, float32: within ")
    fast, spec = FeatureStore(data.features_dir).load(SIZES), data_spec(data)
    assert (spec.visual_engine, spec.text_engine) == ("onnx", "onnx")
    np.testing.assert_allclose(fast.visual, plain.visual, atol=2e-3)
    np.testing.assert_allclose(fast.text, plain.text, atol=2e-3)


def test_another_precision_is_encoded_again_and_then_kept(
    tmp_path: Path, models: dict[str, str], chosen: Callable[..., list[Any]]
) -> None:
    data = make_data(tmp_path)
    chosen(TORCH, HALF)
    counts = encode_rooms(data, **models, show_progress=False)
    assert counts["text_engine"] == "openvino, bfloat16: near enough"
    assert counts["visual_engine"] == "torch, float32"
    assert counts["warnings"] == ["openvino, bfloat16 it is"]
    spec = data_spec(data)
    assert (spec.text_engine, spec.text_precision) == ("openvino", "bfloat16")

    # Nothing to do: nothing is converted, and what is there is still told.
    asked = chosen()
    counts = encode_rooms(data, **models, show_progress=False)
    assert (counts["rooms_encoded"], asked) == (0, [])
    assert counts["text_engine"] == "openvino, bfloat16" and data_spec(data) == spec

    # A room more: as the others, if that can be had.
    make_data(tmp_path, TEXTS | {"video": (["one", "two", "more"], [None] * 3)})
    asked = chosen(TORCH, HALF)
    assert encode_rooms(data, **models, show_progress=False)["rooms_encoded"] == 1
    assert asked == [("auto", TORCH), ("auto", HALF)]

    # If not, all texts are encoded anew, and no pictures.
    make_data(tmp_path)
    chosen(Runtime("onnx"), TORCH)
    before = FeatureStore(data.features_dir).load(SIZES)
    counts = encode_rooms(data, **models, show_progress=False)
    assert counts["rooms_encoded"] == 3
    spec = data_spec(data)
    assert (spec.visual_engine, spec.text_precision) == ("onnx", "float32")
    np.testing.assert_array_equal(FeatureStore(data.features_dir).load(SIZES).visual, before.visual)


def test_another_engine_by_name_is_asked_though_all_is_there(
    tmp_path: Path, models: dict[str, str], chosen: Callable[..., list[Any]]
) -> None:
    data = make_data(tmp_path)
    chosen(TORCH, HALF)
    encode_rooms(data, **models, show_progress=False)
    asked = chosen(TORCH, TORCH)
    counts = encode_rooms(data, **models, engine="torch", show_progress=False)
    assert asked == [("torch", TORCH), ("torch", HALF)] and counts["rooms_encoded"] == 3


def test_other_encoders_than_those_there_have_their_own_choice(
    tmp_path: Path, models: dict[str, str], chosen: Callable[..., list[Any]]
) -> None:
    data = make_data(tmp_path)
    chosen(TORCH, HALF)
    encode_rooms(data, **models, show_progress=False)
    asked = chosen(TORCH, TORCH)
    other = str(make_tiny_bert(tmp_path / "other", seed=3))
    encode_rooms(data, visual=models["visual"], text=other, show_progress=False)
    assert asked == [("auto", TORCH), ("auto", None)]


def test_a_worker_runs_what_was_chosen_where_the_run_was_started(
    tmp_path: Path, models: dict[str, str], chosen: Callable[..., list[Any]]
) -> None:
    data = make_data(tmp_path)
    settings = EncodeSettings(
        **models,
        text_pooling=None,
        text_prefix=None,
        max_text_tokens=128,
        frames="exact",
        batch_size=4,
        inputs=False,
        device=torch.device("cpu"),
        engine="auto",
    )
    source = RoomsSource(data, settings)
    encoder = source.load(torch.device("cpu"))
    chosen(Runtime("onnx"), HALF)
    encoder.choose_engines()
    asked = chosen(Runtime("onnx"), HALF)
    assert source.worker(encoder.spec).spec == encoder.spec
    assert asked == [("onnx", Runtime("onnx")), ("openvino", HALF)]
    chosen(Runtime("onnx"), TORCH)  # its machine has no such hardware
    with pytest.raises(InputError, match="must be the same on every machine"):
        source.worker(encoder.spec)


def test_an_engine_that_there_is_none_of(tmp_path: Path, models: dict[str, str]) -> None:
    with pytest.raises(InputError, match="engine must be auto, torch, onnx, openvino, not 'fast'"):
        encode_rooms(make_data(tmp_path), **models, engine="fast")


def test_where_no_engine_is_run(
    tmp_path: Path, models: dict[str, str], chosen: Callable[..., list[Any]]
) -> None:
    data = make_data(tmp_path)
    asked = chosen()
    counts = encode_rooms(data, **models, inputs=True, show_progress=False)
    assert not asked and "visual_engine" not in counts
    with pytest.raises(InputError, match="--engine onnx: has no use here: stores what encoders"):
        encode_rooms(data, **models, inputs=True, engine="onnx")
    with pytest.raises(InputError, match="--engine onnx: has no use here: GPUs of a cluster"):
        encode_rooms(data, **models, device="cuda", ray="local", engine="onnx")
