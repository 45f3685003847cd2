"""Converted encoders that are kept for the next process."""

import importlib.util
import os
import pwd
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contentctr.encode.encoders import for_inference, load_text, load_visual
from contentctr.encode.engines import convert, kept
from contentctr.encode.engines.choose import EngineEncoder
from contentctr.encode.engines.runtime import TORCH
from tiny_models import make_tiny_image_models, make_tiny_text_models

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="the extra `fast` is not installed"
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return make_tiny_image_models(folder) | make_tiny_text_models(folder)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(kept.VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "openvino"


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Encoders that were traced."""
    kept_trace, found = convert._trace, list[str]()

    def noted(encoder: Any, example: Any) -> Any:
        found.append(encoder.name)
        return kept_trace(encoder, example)

    monkeypatch.setattr(convert, "_trace", noted)
    return found


def features(path: Path) -> torch.Tensor:
    """Of an encoder that is loaded anew, by OpenVINO."""
    is_image = any(name in path.name for name in ("swin", "vit", "convnext"))
    encoder: Any = load_visual(str(path)) if is_image else load_text(str(path), max_tokens=24)
    notes: list[str] = []
    found = for_inference(encoder, engine="openvino", like=TORCH, notes=notes)
    assert isinstance(found, EngineEncoder) and not notes
    rng = np.random.default_rng(1)
    with torch.inference_mode():
        if is_image:
            pictures_FHWC = rng.integers(0, 256, (3, *encoder.size, 3), np.uint8)
            return found(torch.from_numpy(pictures_FHWC))
        return found(*encoder.tokenize(["a b c", "d"], ["", "e f"]))


@pytest.mark.parametrize("name", ["swin", "bert"])
def test_what_was_kept_gives_the_same_bits(
    models: dict[str, Path], folder: Path, traced: list[str], name: str
) -> None:
    first = features(models[name])
    assert len(traced) == 1 and len(list(folder.iterdir())) == 1
    assert torch.equal(features(models[name]), first)
    assert len(traced) == 1


def test_a_damaged_program_is_converted_anew(
    models: dict[str, Path], folder: Path, traced: list[str]
) -> None:
    first = features(models["vit"])
    for spoil in ("encoder.bin", "encoder.xml", "sha256.txt"):
        [place] = folder.iterdir()
        data = bytearray((place / spoil).read_bytes())
        data[len(data) // 2] ^= 1
        (place / spoil).write_bytes(data)
        traced.clear()
        assert torch.equal(features(models["vit"]), first)
        assert len(traced) == 1
    traced.clear()
    features(models["vit"])
    assert not traced


def test_few_and_small_ones_are_kept(
    models: dict[str, Path], folder: Path, traced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "MOST", 2)
    stranger = folder / "notes"
    stranger.mkdir(parents=True)
    for name in ("swin", "vit", "swin", "convnext"):
        features(models[name])
    assert len(traced) == 3
    assert len(list(folder.iterdir())) == 3 and stranger.is_dir()
    features(models["swin"])
    assert len(traced) == 3
    features(models["vit"])
    assert len(traced) == 4
    monkeypatch.setattr(kept, "MOST_BYTES", 100)
    features(models["vit"])
    assert len(traced) == 5


def test_what_is_not_ours_is_left_alone(
    models: dict[str, Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "MOST", 0)
    name = "0123456789abcdef01234567"
    users = ["letters", ".letters", name, f".{name}.tmp", f".x.{name[:8]}.tmp"]
    for user in users:
        (folder / user).mkdir(parents=True)
        (folder / user / "sha256.txt").write_text("a user's")
        os.utime(folder / user, (0, 0))
    (folder / name / "notes.txt").write_text("a user's")
    features(models["vit"])
    assert sorted(each.name for each in folder.iterdir()) == sorted(users)


def test_what_killed_processes_left_is_removed(models: dict[str, Path], folder: Path) -> None:
    name = "0123456789abcdef01234567"
    for stamp in ("0000000a", "0000000b"):
        (folder / f".{name}.{stamp}.tmp").mkdir(parents=True)
        (folder / f".{name}.{stamp}.tmp" / "encoder.bin").write_bytes(b"half")
    os.utime(folder / f".{name}.0000000a.tmp", (0, 0))
    features(models["vit"])
    [left] = [each.name for each in folder.iterdir() if each.name.startswith(".")]
    assert left == f".{name}.0000000b.tmp"  # another process may be writing it


def test_nothing_is_kept_where_that_is_not_wanted_or_cannot_be(
    models: dict[str, Path], tmp_path: Path, traced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("a file in the folder's place")
    for given in (kept.NOTHING, str(tmp_path / "file")):
        monkeypatch.setenv(kept.VARIABLE, given)
        traced.clear()
        assert torch.equal(features(models["vit"]), features(models["vit"]))
        assert len(traced) == 2
    monkeypatch.delenv(kept.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert kept.kept_folder() == tmp_path / "caches/contentctr/openvino"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_without_a_home_nothing_is_kept(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, traced: list[str]
) -> None:
    def nobody(_: int) -> Any:
        raise KeyError("no such user")

    for name in ("HOME", "XDG_CACHE_HOME", kept.VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert kept.kept_folder() is None
    assert len(features(models["vit"])) == 3 and len(traced) == 1
    monkeypatch.setenv(kept.VARIABLE, "~no-such-user/cache")
    assert kept.kept_folder() is None


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not tell")
def test_no_process_hangs_on_the_kept_file(
    models: dict[str, Path], folder: Path, traced: list[str]
) -> None:
    for count in (1, 0):  # just converted, then read
        encoder: Any = load_visual(str(models["swin"]))
        found = for_inference(encoder, engine="openvino", like=TORCH, notes=[])
        assert len(traced) == count
        # A file that another host changes or removes would end a process that has it mapped.
        assert "encoder.bin" not in Path("/proc/self/maps").read_text()
        traced.clear()
        del found
