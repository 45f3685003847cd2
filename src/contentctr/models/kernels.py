"""Compiling numba kernels wherever the package lies, a read-only folder included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])


def kernel(signature: str | None = None, **options: bool) -> Callable[[F], F]:
    """Compile with `numba.njit`, and keep the result wherever a cache can be written.

    Args:
        signature: compile at once for these types; None: on first use.
        options: of `numba.njit`, such as nogil or parallel.
    """

    def compile_(function: F) -> F:
        njit: Any = numba.njit
        arguments = () if signature is None else (signature,)
        try:
            compiled = njit(*arguments, cache=True, **options)(function)
        except RuntimeError:
            # Neither this folder nor the user's cache can be written: compile in every process.
            compiled = njit(*arguments, **options)(function)
        return compiled  # type: ignore[no-any-return]

    return compile_
