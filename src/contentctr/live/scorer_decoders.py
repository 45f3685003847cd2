"""The causal decoder, one segment at a time, with what it must keep of the past. No I/O.

`WindowDecoder` runs the paper's decoder: its deeper layers see the window from its first segment
on, and that segment changes with every new one, so only what does not depend on the window is kept
and the deeper layers are computed anew. `LookbackDecoder` runs a decoder whose layers look back a
fixed number of segments: nothing it has computed ever changes, so every layer computes one new
segment. Both are the function of the full window (docs/decisions.md, "Live scoring").

Shape suffixes as in batch.py, and: R rooms of a step, S slots (a room's place), H heads, E width
of a head; N is the segments that are looked at, oldest first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor

from contentctr.models.contentctr import ContentCTR, DecoderLayer
from contentctr.models.layers import causal_mask


class Ring:
    """The last `length` entries of every slot; entry number i stands at place i % length.

    Args:
        slots: S.
        length: entries kept of a slot.
        shape: of one entry.
        dtype: of the entries; they start as zeros.
        device: where they are.
    """

    def __init__(
        self,
        slots: int,
        length: int,
        shape: tuple[int, ...] = (),
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.length = length
        # The system hands out NumPy's zeros page by page, as slots come into use.
        name = str(dtype).removeprefix("torch.")
        zeros = np.zeros((slots * length, *shape), np.dtype(name))
        self.entries = torch.from_numpy(zeros).to(device)

    def write(self, slot_R: Tensor, index_R: Tensor, value_R: Tensor) -> None:
        """Keep `value_R` as the entries numbered `index_R`, over the oldest ones."""
        self.entries[slot_R * self.length + index_R % self.length] = value_R

    def read(self, slot_R: Tensor, last_R: Tensor, count: int) -> Tensor:
        """The `count` entries up to number `last_R`, oldest first: [R, count, ...]."""
        index_RN = last_R[:, None] + torch.arange(1 - count, 1, device=last_R.device)
        row_RN = slot_R[:, None] * self.length + index_RN % self.length
        found = self.entries.index_select(0, row_RN.flatten())
        return found.view(*row_RN.shape, *self.entries.shape[1:])

    def seen_shape(self, first_R: Tensor, last_R: Tensor) -> tuple[int, ...]:
        """Shape of what `read_seen` returns: no more entries than the oldest of the rooms has."""
        most = int((last_R - first_R).max()) + 1 if len(first_R) else 1
        return len(first_R), min(self.length, max(1, most)), *self.entries.shape[1:]

    def read_seen(
        self, slot_R: Tensor, first_R: Tensor, last_R: Tensor, most: int | None = None
    ) -> Tensor:
        """The last entries of some rooms, oldest first, on the CPU; 0 before a room's first.

        Args:
            slot_R: the rooms' slots.
            first_R: number of each room's first entry.
            last_R: number of its last one.
            most: entries of a room that are wanted; None: all that there are.
        """
        count = self.seen_shape(first_R, last_R)[1]
        count = count if most is None else min(count, most)
        device = self.entries.device
        entry_RN = self.read(slot_R.to(device), last_R.to(device), count).cpu()
        age_N = torch.arange(count - 1, -1, -1)
        entry_RN[age_N > (last_R - first_R)[:, None]] = 0  # an earlier room's
        return entry_RN

    def write_all(self, slot_R: Tensor, last_R: Tensor, entry_RN: Tensor) -> None:
        """Put back what `read_seen` returned."""
        device = self.entries.device
        for age, entry_R in enumerate(entry_RN.to(device).flip(1).unbind(1)):
            self.write(slot_R.to(device), (last_R - age).to(device), entry_R)


@dataclass(frozen=True, kw_only=True)
class Step:
    """The next segment of R rooms, no room twice."""

    slot_R: Tensor
    """int64 slots of the rooms."""
    index_R: Tensor
    """int64 numbers of the segments in their rooms."""
    count_R: Tensor
    """int64 segments that the room has had, this one among them."""
    wanted_R: Tensor
    """bool, whether the segment's score is wanted."""

    def wanted(self) -> Step:
        """The rooms whose score is wanted."""
        keep = self.wanted_R
        return Step(
            slot_R=self.slot_R[keep],
            index_R=self.index_R[keep],
            count_R=self.count_R[keep],
            wanted_R=keep[keep],
        )

    def seen_RN(self, most: int) -> Tensor:
        """Bool [R, N], which of the last N segments there are; N is `most`, or fewer if all."""
        count = min(most, int(self.count_R.max()))
        age_N = torch.arange(count - 1, -1, -1, device=self.count_R.device)
        return age_N < self.count_R[:, None]


def _layers(model: ContentCTR) -> list[DecoderLayer]:
    return [cast(DecoderLayer, layer) for layer in model.decoder]


class LiveDecoder(Protocol):
    """A decoder that takes rooms' segments one at a time."""

    rings: Mapping[str, Ring]
    """What it keeps; this is all of its state."""

    def step(self, step: Step, x_RD: Tensor) -> Tensor:
        """Take the Perceiver's outputs of the next segments; logits of the wanted ones."""
        ...


class WindowDecoder:
    """The paper's decoder on a sliding window, with the Perceiver's outputs and first layer kept.

    The first layer's keys and values are functions of the segment alone. Its attention and the
    layers above are computed over the window, the last one for the last position only.

    Args:
        model: with lookbacks of 0.
        window_len: n.
        slots: S.
        device: where the model is.
    """

    def __init__(
        self, model: ContentCTR, window_len: int, slots: int, device: torch.device | str
    ) -> None:
        self.model = model
        self.layers = _layers(model)
        self.window_len = window_len
        heads, width = self.layers[0].attention.head_shape
        shapes = {"x": (heads * width,), "key": (heads, width), "value": (heads, width)}
        self.rings: Mapping[str, Ring] = {
            name: Ring(slots, window_len, shape, device=device) for name, shape in shapes.items()
        }

    def step(self, step: Step, x_RD: Tensor) -> Tensor:
        """Keep what is new; decode the windows of the wanted rooms."""
        key_R1HE, value_R1HE = self.layers[0].keys_values(x_RD[:, None])
        new = {"x": x_RD, "key": key_R1HE[:, 0], "value": value_R1HE[:, 0]}
        for name, entry_R in new.items():
            self.rings[name].write(step.slot_R, step.index_R, entry_R)
        step = step.wanted()
        if not len(step.slot_R):
            return x_RD.new_empty(0)
        return self._decode(step)

    def _decode(self, step: Step) -> Tensor:
        seen_RN = step.seen_RN(self.window_len)
        count = seen_RN.shape[1]
        x_RND, key_RNHE, value_RNHE = (
            ring.read(step.slot_R, step.index_R, count) for ring in self.rings.values()
        )
        # What stands before a room's start sees something too: a softmax of nothing is NaN.
        mask_R1NN = causal_mask(count, x_RND.device) & seen_RN[:, None, None]
        mask_R1NN |= torch.eye(count, dtype=torch.bool, device=x_RND.device)
        last = len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            if number:
                key_RNHE, value_RNHE = layer.keys_values(x_RND)
            if number == last:
                x_RND, mask_R1NN = x_RND[:, -1:], mask_R1NN[:, :, -1:]
            x_RND = layer.step(x_RND, key_RNHE, value_RNHE, mask_R1NN)
        return self.model.logits(x_RND)[:, 0]


class LookbackDecoder:
    """A decoder whose layers look back a fixed number of segments: one new position a layer.

    Args:
        model: with lookbacks above 0.
        slots: S.
        device: where the model is.
    """

    def __init__(self, model: ContentCTR, slots: int, device: torch.device | str) -> None:
        self.model = model
        self.layers = _layers(model)
        shape = self.layers[0].attention.head_shape
        self.rings: Mapping[str, Ring] = {
            f"{name}{number}": Ring(slots, lookback, shape, device=device)
            for number, lookback in enumerate(model.lookbacks)
            for name in ("key", "value")
        }

    def step(self, step: Step, x_RD: Tensor) -> Tensor:
        """Keys and values of every layer for the new segments; logits of the wanted ones."""
        x_R1D = x_RD[:, None]
        for number, (layer, lookback) in enumerate(
            zip(self.layers, self.model.lookbacks, strict=True)
        ):
            seen_RN = step.seen_RN(lookback)
            key_R1HE, value_R1HE = layer.keys_values(x_R1D)
            key_RNHE = self._keep(f"key{number}", step, key_R1HE, seen_RN.shape[1])
            value_RNHE = self._keep(f"value{number}", step, value_R1HE, seen_RN.shape[1])
            x_R1D = layer.step(x_R1D, key_RNHE, value_RNHE, seen_RN[:, None, None])
        return self.model.logits(x_R1D[step.wanted_R])[:, 0]

    def _keep(self, name: str, step: Step, new_R1HE: Tensor, count: int) -> Tensor:
        """Keep the new entries; they and those before them, [R, count, H, E]."""
        ring = self.rings[name]
        ring.write(step.slot_R, step.index_R, new_R1HE[:, 0])
        return ring.read(step.slot_R, step.index_R, count)


def live_decoder(
    model: ContentCTR, window_len: int, slots: int, device: torch.device | str
) -> LiveDecoder:
    """The one that is the model's function at the least cost."""
    if all(model.lookbacks):
        return LookbackDecoder(model, slots, device)
    return WindowDecoder(model, window_len, slots, device)
