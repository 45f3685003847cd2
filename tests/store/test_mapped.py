"""Mapped rows are those of the files, in any order, and nothing of them stays in memory."""

import dataclasses
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from contentctr.batch import Vocabulary
from contentctr.errors import InputError
from contentctr.store import mapped
from contentctr.store.mapped import FileRows, MappedRows, matrix_offsets
from contentctr.windows.rooms import WindowLoader, curve_windows
from contentctr.windows.segment_data import SegmentData, load_segments
from make import write_data

WIDTH = 5


def write(path: Path, rows: int, seed: int) -> np.ndarray:
    """A file whose matrix is not its first tensor."""
    values = np.random.default_rng(seed).standard_normal((rows, WIDTH)).astype(np.float16)
    tensors = {"has": np.ones(rows, np.uint8), "text": np.ones((rows, 3), np.float16)}
    save_file({**tensors, "visual": values}, path, {"rooms": "[]"})
    return values


def part(path: Path, start: int, stop: int) -> FileRows:
    return FileRows(path, matrix_offsets(path, {"visual": WIDTH}, stop)["visual"], start, stop)


@pytest.fixture
def store(tmp_path: Path) -> tuple[MappedRows, np.ndarray]:
    """Parts of four files in an order of their own, one part empty, and the same in memory."""
    values = [write(tmp_path / f"{i}.safetensors", 6 + i, i) for i in range(4)]
    parts = [(2, 1, 4), (0, 0, 6), (2, 6, 8), (1, 3, 3), (3, 2, 9), (0, 0, 2)]
    rows = MappedRows(
        "visual", [part(tmp_path / f"{i}.safetensors", a, b) for i, a, b in parts], WIDTH
    )
    return rows, np.concatenate([values[i][a:b] for i, a, b in parts])


@pytest.mark.parametrize("open_files", [1, 2, 128])
def test_rows_in_any_order(store, open_files, monkeypatch):
    monkeypatch.setattr(mapped, "_OPEN_FILES", open_files)
    rows, expected = store
    assert (len(rows), rows.shape, rows.dtype) == (20, expected.shape, torch.float16)
    rng = np.random.default_rng(0)
    orders = [np.arange(20), np.arange(20)[::-1], rng.integers(0, 20, 60), np.array([19])]
    for order in orders:
        assert np.array_equal(rows[torch.from_numpy(order.copy())].numpy(), expected[order])
    order = rng.integers(0, 20, (4, 3))
    assert np.array_equal(rows[torch.from_numpy(order)].numpy(), expected[order])
    assert rows[torch.empty(0, 7, dtype=torch.int64)].shape == (0, 7, WIDTH)
    for wrong in (-1, 20):
        with pytest.raises(AssertionError):
            rows[torch.tensor([wrong])]


def test_what_is_gathered_can_be_changed_without_changing_the_file(store):
    rows, expected = store
    rows[torch.arange(20)].zero_()
    assert np.array_equal(rows[torch.arange(20)].numpy(), expected)


@pytest.mark.parametrize("damage", ["longer", "shorter", "empty", "gone", "another"])
def test_a_file_that_changed_is_named(store, tmp_path, damage):
    rows, _ = store
    path = tmp_path / "3.safetensors"
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "another":
        path.with_suffix(".new").write_bytes(whole)
        os.utime(path.with_suffix(".new"), (1, 1))
        path.with_suffix(".new").replace(path)
    else:
        path.write_bytes({"longer": whole + b"x", "shorter": whole[:-9], "empty": b""}[damage])
    assert rows[torch.arange(10)].shape == (10, WIDTH)  # those of other files
    with pytest.raises(InputError, match=r"3\.safetensors: (was changed|cannot be read)"):
        rows[torch.arange(20)]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite_are_found_when_they_are_read(tmp_path, bad):
    path = tmp_path / "0.safetensors"
    values = write(path, 6, 0)
    values[4, 2], values[3, 0] = bad, 65504
    save_file({"visual": values}, path)
    rows = MappedRows("visual", [part(path, 0, 6)], WIDTH)
    assert rows[torch.tensor([3, 5])][0, 0] == 65504
    with pytest.raises(InputError, match=r"0\.safetensors: visual holds numbers that are not fin"):
        rows[torch.tensor([1, 4])]


def test_a_matrix_that_does_not_fit_is_refused(tmp_path):
    path = tmp_path / "0.safetensors"
    write(path, 6, 0)
    with pytest.raises(InputError, match="holds no audio"):
        matrix_offsets(path, {"audio": 5}, 6)
    with pytest.raises(InputError, match="must be float16 of width 6.*not F16 of"):
        matrix_offsets(path, {"visual": 6}, 6)
    with pytest.raises(InputError, match="must be float16 of width 1.*not U8"):
        matrix_offsets(path, {"has": 1}, 6)
    with pytest.raises(InputError, match="has 6 rows, not 7"):
        matrix_offsets(path, {"visual": 5}, 7)


def own_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_what_was_read(tmp_path):
    path, count, width = tmp_path / "0.safetensors", 16_384, 2_048
    save_file({"visual": np.ones((count, width), np.float16)}, path)
    offset = matrix_offsets(path, {"visual": width}, count)["visual"]
    rows = MappedRows("visual", [FileRows(path, offset, 0, count)], width)
    rows[torch.arange(256)]
    before = own_bytes()
    for start in range(0, count, 256):
        assert rows[torch.arange(start, start + 256)].shape == (256, width)
    assert own_bytes() - before < 2 * count * width / 8


def in_memory(data: SegmentData) -> SegmentData:
    every = torch.arange(len(data))
    return dataclasses.replace(data, visual_SV=data.visual_SV[every], text_ST=data.text_ST[every])


@pytest.mark.parametrize("block", [1, 3])
def test_batches_are_those_of_features_in_memory(tmp_path, block):
    data = write_data(tmp_path / "data", rooms=8, length=7)
    stored = load_segments(data, Vocabulary(streamers=["a"]), split="train", horizon=0)
    assert isinstance(stored.visual_SV, MappedRows) and isinstance(stored.text_ST, MappedRows)
    windows, _ = curve_windows(stored, 4)
    loaders = [
        WindowLoader(
            data=d,
            windows=windows,
            window_len=4,
            batch_size=5,
            block=block,
            num_negatives=2,
            hide_streamers=0.3,
        )
        for d in (stored, in_memory(stored))
    ]
    for one, two in zip(*(loader.epoch(1) for loader in loaders), strict=True):
        for a, b in zip(one, two, strict=True):
            for inner in (lambda x: x, lambda x: x.distinct):
                left, right = vars(inner(a) or a), vars(inner(b) or b)
                for name, value in left.items():
                    if isinstance(value, torch.Tensor):
                        assert torch.equal(value.nan_to_num(), right[name].nan_to_num()), name


def test_what_is_held_of_a_segment_is_what_the_docstring_says(tmp_path):
    data = write_data(tmp_path / "data", rooms=8, length=50)
    stored = load_segments(data, Vocabulary(streamers=["a"]), split="all", horizon=0)
    assert not {"speech", "comments"} & set(stored.table.columns)
    held = sum(
        value.nbytes
        for value in vars(stored).values()
        if isinstance(value, torch.Tensor | np.ndarray)
    )
    held += stored.table.estimated_size()
    assert f"is some {round(held / len(stored), -1):.0f} bytes a segment" in SegmentData.__doc__
