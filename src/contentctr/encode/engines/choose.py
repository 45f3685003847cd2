"""The inference engine of a frozen encoder: the fastest one that computes what torch does.

Shape suffixes: R rows, which are pictures or texts, D width of a feature.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from contentctr.encode.engines.convert import CONVERTERS, Onnx, OpenVino, RunRow
from contentctr.encode.engines.examples import examples, rows
from contentctr.encode.engines.runtime import TORCH, Runtime, candidates

LEAST_COSINE = 0.9999
"""To torch's feature of float32, of one in bfloat16."""
MOST_DIFFERENCE = 1e-4
"""From torch's feature, of another engine's in float32, in shares of the largest number in it."""
_SMALL = 1_000_000
"""Of encoders with fewer weights, converting takes longer than it could save."""
_SLOWER = 1.2
"""An engine that takes so many times torch's time is not worth it."""
_CLEARLY_FASTER = 0.7
"""One that takes so little in one round need not be timed again."""


class EngineEncoder(nn.Module):
    """A frozen encoder that an inference engine runs; it cannot be trained.

    Args:
        encoder: whose features it gives; all but its `forward` is used.
        run: `forward` of this one.
        runtime: what that runs on.
        agreement: how near its features are to torch's, in words.
    """

    def __init__(
        self, encoder: Any, run: Callable[..., Tensor], runtime: Runtime, agreement: str
    ) -> None:
        super().__init__()
        self.encoder, self._run = encoder, run
        self.runtime, self.agreement = runtime, agreement

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("encoder"), name)

    @cached_property
    def revision(self) -> str:
        """The encoder's, whose weights do not change any more."""
        return str(self.encoder.revision)

    def forward(self, *arguments: Tensor) -> Tensor:
        """Features [R, D]."""
        return self._run(*arguments)

    def for_inference(self) -> EngineEncoder:
        """Itself."""
        return self


def run_by_engine(
    encoder: Any, *, engine: str, like: Runtime | None, notes: list[str] | None
) -> Any:
    """The encoder as the wanted engine runs it, if that gives the same features, or as another.

    Args:
        encoder: in evaluation mode, with a `runtime` of TORCH.
        engine: auto or a name of `Engine`.
        like: what the features at hand were made by.
        notes: what the user should know is added to it.

    Raises:
        InputError: as `candidates`.
    """
    device = next(iter(encoder.parameters())).device
    options = candidates(engine, device, like)
    if engine == "auto" and sum(each.numel() for each in encoder.parameters()) < _SMALL:
        options = [TORCH]
    notes = [] if notes is None else notes
    found = _first_equal(encoder, options, notes, may_be_slow=engine != "auto", like=like)
    if like is not None and found.runtime.precision != like.precision:
        notes.append(
            f"encoder {encoder.name!r}: the features at hand were made in {like.precision} "
            f"({like}), and here it runs in {found.runtime.precision} ({found.runtime}): they are "
            f"alike to a cosine of {LEAST_COSINE}"
        )
    return found


def _first_equal(
    encoder: Any,
    options: Sequence[Runtime],
    notes: list[str],
    *,
    may_be_slow: bool,
    like: Runtime | None,
) -> Any:
    trial: _Trial | None = None
    for runtime in options:
        if runtime == TORCH:
            return encoder
        if trial is None:
            trial = _Trial(encoder)
        result = trial.attempt(runtime)
        if result.problem:
            note = f"encoder {encoder.name!r}: {runtime.engine} {result.problem}"
            if note not in notes:
                notes.append(note)
        elif result.encoder is not None:
            if may_be_slow or runtime == like or trial.slowness(result.encoder) < _SLOWER:
                return result.encoder
    raise AssertionError("torch is always among the options")


@dataclass(frozen=True)
class _Result:
    """What came of trying a runtime; without a problem and an encoder, its precision is too low."""

    encoder: EngineEncoder | None = None
    problem: str = ""


class _Trial:
    """An encoder's features of some examples by torch, to hold others against."""

    def __init__(self, encoder: Any) -> None:
        self.encoder, self._device = encoder, next(iter(encoder.parameters())).device
        self.examples = [[x.to(self._device) for x in each] for each in examples(encoder)]
        self.expected_RD = self._features(encoder)
        self._converted: dict[str, OpenVino | Onnx] = {}

    def attempt(self, runtime: Runtime) -> _Result:
        """Convert the encoder and compare."""
        result = self._compared(runtime)
        converted = self._converted.get(runtime.engine)
        if result.problem and isinstance(converted, OpenVino):
            converted.forget()
        return result

    def _compared(self, runtime: Runtime) -> _Result:
        try:
            run = self._runner(runtime)
            found_RD = self._features(run)
        except Exception as error:  # the engines' errors share no base of their own
            reason = (str(error).strip() or type(error).__name__).split("\n")[0]
            return _Result(problem=f"cannot run it ({reason})")
        cosine, difference = closeness(found_RD, self.expected_RD)
        if runtime.precision == "bfloat16":
            agreement = f"cosine to float32 {cosine:.6f}"
            if not cosine > LEAST_COSINE:
                return _Result()
        else:
            agreement = f"within {difference:.0e} of torch"
            if not difference <= MOST_DIFFERENCE:
                return _Result(problem=f"computes something else ({difference:.0e} off)")
        return _Result(EngineEncoder(self.encoder, run, runtime, agreement).eval())

    def slowness(self, found: EngineEncoder) -> float:
        """An engine's time in shares of torch's; the least of each in up to three rounds."""
        engine_s = torch_s = math.inf
        for _ in range(3):
            engine_s = min(engine_s, self._seconds(found))
            torch_s = min(torch_s, self._seconds(self.encoder))
            # Beside other work torch's threads wait busily: rounds that tell nothing cost seconds.
            if engine_s < _CLEARLY_FASTER * torch_s:
                break
        return engine_s / torch_s

    def _runner(self, runtime: Runtime) -> Callable[..., Tensor]:
        if runtime.engine == "torch":
            return _autocast(self.encoder)
        if runtime.engine not in self._converted:
            example = [torch.from_numpy(x) for x in rows(*self.examples[0])[0]]
            self._converted[runtime.engine] = CONVERTERS[runtime.engine](self.encoder, example)
        return RowByRow(self._converted[runtime.engine].compile(runtime.precision))

    def _features(self, run: Callable[..., Tensor]) -> NDArray[np.float64]:
        with torch.inference_mode():
            parts = [run(*arguments).double().cpu() for arguments in self.examples]
        return torch.cat(parts).numpy()

    def _seconds(self, run: Callable[..., Tensor]) -> float:
        """Of equal rows, two for each thread; one has run before."""
        count = 2 * torch.get_num_threads()
        many = [x.repeat(count, *[1] * (x.ndim - 1)) for x in self.examples[-1]]
        began = time.perf_counter()
        with torch.inference_mode():
            run(*many).cpu()
        return time.perf_counter() - began


def closeness(
    found_RD: NDArray[np.float64], expected_RD: NDArray[np.float64]
) -> tuple[float, float]:
    """The least cosine of a row to its own, and the largest difference over the row's largest.

    Returns:
        Both; NaN where a number is.
    """
    assert found_RD.shape == expected_RD.shape
    lengths_R = np.linalg.norm(found_RD, axis=1) * np.linalg.norm(expected_RD, axis=1)
    cosine_R = (found_RD * expected_RD).sum(1) / np.maximum(lengths_R, 1e-30)
    largest_R = np.maximum(np.abs(expected_RD).max(1), 1e-30)
    difference_R = np.abs(found_RD - expected_RD).max(1) / largest_R
    return float(cosine_R.min()), float(difference_R.max())


class RowByRow:
    """Runs each row of a batch by itself, as many at once as torch has threads."""

    def __init__(self, run_row: RunRow) -> None:
        self._run_row = run_row
        threads = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(threads, "engine") if threads > 1 else None

    def __call__(self, *arguments: Tensor) -> Tensor:
        """Features [R, D] of arguments [R, ...], of which there is at least one row."""
        each = self._pool.map if self._pool is not None else map
        return torch.from_numpy(np.stack(list(each(self._run_row, rows(*arguments)))))


def _autocast(encoder: Any) -> Callable[..., Tensor]:
    def run(*arguments: Tensor) -> Tensor:
        with torch.autocast(arguments[0].device.type, torch.bfloat16):
            found: Tensor = encoder(*arguments)
        return found.float()

    return run
