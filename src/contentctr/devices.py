"""Where to compute, by the names that users know it by."""

from __future__ import annotations

import torch

from contentctr.errors import InputError


def find_device(device: torch.device | str, *, elsewhere: bool = False) -> torch.device:
    """The device of a name.

    Args:
        device: cpu, cuda, cuda:1, mps, ...; auto: the GPU where there is one (CUDA), else the CPU.
        elsewhere: it is another machine's, as a cluster's.

    Raises:
        InputError: there is no such device, or not on this machine.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError:
        raise InputError(
            f"device must be cpu, cuda, cuda:1, mps, or auto, not {str(device)!r}"
        ) from None
    if elsewhere:
        return found
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {str(found)!r}: this machine has {torch.cuda.device_count()}")
    if found.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("device 'mps': this machine has none")
    return found
