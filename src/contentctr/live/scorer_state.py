"""The state of rooms as bytes: safetensors, with what it belongs to in its header. No I/O."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_bytes
from safetensors.torch import save as save_bytes
from torch import Tensor, nn

from contentctr.batch import DataSpec, Vocabulary
from contentctr.config import Config, to_dict
from contentctr.errors import InputError
from contentctr.files import digest, parse_json
from contentctr.live.scorer_segments import MAX_INDEX

FORMAT = "contentctr-rooms-1"
ABOUT = "contentctr"
"""Key of the header's one entry."""


@dataclass(frozen=True, kw_only=True)
class RoomState:
    """What a scorer knows of R rooms."""

    revision: str
    """Of the model that computed it."""
    room_ids: Sequence[str]
    streamer_ids: Sequence[str]
    first_R: Sequence[int]
    """Number of each room's first segment."""
    last_R: Sequence[int]
    """Number of each room's last segment."""
    runs: Sequence[Sequence[str]]
    """Of each room: its run, and those that were before it."""
    tensors: Mapping[str, Tensor]
    """The last entries of each ring, oldest first."""


def revision_of(model: nn.Module, config: Config, spec: DataSpec, vocabulary: Vocabulary) -> str:
    """A hash of everything a state depends on: weights, sizes, window, encoders, streamers."""
    weights = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        weights.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        weights.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    sizes = to_dict(config.model)
    data = [config.data.window_len, config.data.horizon, to_dict(spec)]
    return digest(weights.hexdigest(), sizes, data, list(vocabulary.streamers))


def to_bytes(state: RoomState) -> bytes:
    """The state as the bytes of a safetensors file; equal states give equal bytes."""
    about = {
        "format": FORMAT,
        "revision": state.revision,
        "room_ids": list(state.room_ids),
        "streamer_ids": list(state.streamer_ids),
        "first": list(state.first_R),
        "last": list(state.last_R),
        "runs": [list(runs) for runs in state.runs],
    }
    tensors = {name: tensor.cpu().contiguous() for name, tensor in state.tensors.items()}
    data: bytes = save_bytes(tensors, {ABOUT: json.dumps(about)})  # several keys have no order
    return data


def from_bytes(data: bytes, revision: str) -> RoomState:
    """The state in what `to_bytes` made.

    Args:
        data: the bytes.
        revision: of the model that is to go on from it.

    Raises:
        InputError: the bytes are damaged, of another format, or of another model.
    """
    try:
        tensors = load_bytes(data)
        length = int.from_bytes(data[:8], "little")
        header = parse_json(data[8 : 8 + length])
        about = parse_json(header.get("__metadata__", {}).get(ABOUT, "{}"))
    except (SafetensorError, ValueError, TypeError) as error:
        raise InputError(f"state of rooms: not readable safetensors bytes ({error})") from None
    for name, wanted in (("format", FORMAT), ("revision", revision)):
        found = about.get(name) if isinstance(about, dict) else None
        if found != wanted:
            raise InputError(
                f"state of rooms: {name} must be {wanted!r}, as of this scorer, not {found!r}"
            )
    rooms = _rooms(about)
    return RoomState(
        revision=revision,
        room_ids=rooms["room_ids"],
        streamer_ids=rooms["streamer_ids"],
        first_R=rooms["first"],
        last_R=rooms["last"],
        runs=rooms["runs"],
        tensors=tensors,
    )


def _rooms(about: dict[str, Any]) -> dict[str, list[Any]]:
    """The lists of rooms, one entry a room, checked."""
    kinds = {"room_ids": str, "streamer_ids": str, "first": int, "last": int, "runs": list}
    rooms = {name: about.get(name) for name in kinds}
    good = all(
        isinstance(values, list) and all(type(entry) is kinds[name] for entry in values)
        for name, values in rooms.items()
    )
    lists = {name: values for name, values in rooms.items() if isinstance(values, list)}
    good = good and all(
        runs and all(isinstance(run, str) for run in runs) for runs in lists.get("runs", [])
    )
    good = good and len({len(values) for values in lists.values()}) == 1
    good = good and len(set(lists["room_ids"])) == len(lists["room_ids"])
    if not good or not all(
        0 <= first <= last + 1 <= MAX_INDEX + 1
        for first, last in zip(lists["first"], lists["last"], strict=True)
    ):
        raise InputError("state of rooms: its list of rooms is damaged")
    return lists
