"""What every training loader does alike: order, shares of processes, shuffles, blanks.

Everything a window's randomness needs (its shuffles, what of it is hidden) is a hash of seed,
epoch and window number. So it does not depend on the batch, the process or on whether a run was
interrupted, and there is no generator state to keep.

Shape suffixes as in batch.py, and: W windows.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from contentctr.batch import Batch

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class EpochLoader(ABC):
    """Training batches of one process: every epoch all windows once, in an order of its own.

    Each step takes the next `batch_size` windows of the epoch's order, over all processes
    together; process `rank` of `world` takes its share of them, filled up with windows without
    target or modality so that all processes take the same number of pieces.
    """

    window_len: int
    """N, at most."""
    batch_size: int
    micro_batch_size: int = 0
    """Windows in a piece of this process's share; 0: the whole share is one piece."""
    seed: int = 0
    num_negatives: int = 0
    """Shuffles per window for the alignment loss; 0: none."""
    rank: int = 0
    world: int = 1

    @abstractmethod
    def __len__(self) -> int:
        """Windows."""

    @abstractmethod
    def batch(self, which: IntArray, epoch: int) -> Batch:
        """The windows numbered `which` (-1: one without target or modality), for training."""

    @property
    def steps(self) -> int:
        """Steps in an epoch; the last one may hold fewer windows."""
        return -(-len(self) // self.batch_size)

    def order(self, epoch: int) -> IntArray:
        """The epoch's order of windows, [W]: a random one."""
        return np.random.default_rng((self.seed, epoch)).permutation(len(self))

    def epoch(self, epoch: int, start: int = 0) -> Iterator[list[Batch]]:
        """Pieces of each step's batch, from step `start` of the epoch on."""
        order = self.order(epoch)
        for step in range(start, self.steps):
            batch = order[step * self.batch_size : (step + 1) * self.batch_size]
            share = -(-len(batch) // self.world)
            mine = batch[self.rank * share : (self.rank + 1) * share]  # blocks stay together
            mine = np.concatenate((mine, np.full(share - len(mine), -1)))
            piece = self.micro_batch_size or share
            # Gathered here and not by worker processes: a batch of 48 windows takes about a
            # hundredth of a training step.
            yield [self.batch(mine[i : i + piece], epoch) for i in range(0, share, piece)]

    def finished(self, batch: Batch, which: IntArray, length_B: IntArray, epoch: int) -> Batch:
        """The batch with its shuffles, and without target and modalities where it is blank.

        Args:
            batch: of the windows `which`; anything where that is -1.
            which: int64 [B].
            length_B: real positions of each window.
            epoch: its number.
        """
        if self.num_negatives:
            # Of the full length, so that a window's shuffles do not depend on its batch.
            shuffled_BKN = shuffles(
                which, length_B, self.window_len, self.num_negatives, self.seed, epoch
            )[..., : batch.valid_BN.shape[1]]
            shuffles_BKN = torch.from_numpy(np.ascontiguousarray(shuffled_BKN))
            batch = dataclasses.replace(batch, shuffles_BKN=shuffles_BKN)
        if (which >= 0).all():
            return batch
        keep_B1 = torch.from_numpy(which >= 0)[:, None]
        return dataclasses.replace(
            batch,
            has_visual_BN=batch.has_visual_BN & keep_B1,
            has_speech_BN=batch.has_speech_BN & keep_B1,
            has_comments_BN=batch.has_comments_BN & keep_B1,
            target_BN=torch.where(keep_B1, batch.target_BN, torch.nan),
        )


def shuffles(
    which_B: IntArray,
    length_B: IntArray,
    window_len: int,
    num_negatives: int,
    seed: int,
    epoch: int,
) -> IntArray:
    """Column orders for the alignment loss: int64 [B, 1 + num_negatives, N].

    Row 0 is the identity; every other row shuffles the first `length_B` positions and leaves the
    padding where it is.
    """
    position_N = np.arange(window_len)
    counter = np.arange(num_negatives * window_len) + (which_B[:, None] << 20)
    key_BKN = uniform(seed, epoch, 2, counter).reshape(-1, num_negatives, window_len)
    key_BKN = np.where(position_N < length_B[:, None, None], key_BKN, 1.0 + position_N)
    shuffled_BKN = np.argsort(key_BKN, axis=2, kind="stable")
    identity = np.broadcast_to(position_N, (len(which_B), 1, window_len))
    return np.concatenate((identity, shuffled_BKN), axis=1).astype(np.int64)


def uniform(seed: int, epoch: int, purpose: int, counter: IntArray) -> npt.NDArray[np.float64]:
    """Uniform numbers in [0, 1), a hash of their arguments (SplitMix64's finaliser, twice).

    Args:
        seed: of the run.
        epoch: its number.
        purpose: another number for each use: 1 hidden streamers, 2 shuffles, 3 hidden rooms.
        counter: int64, any shape, that of the result.
    """
    word = np.random.SeedSequence((seed, epoch, purpose)).generate_state(1, np.uint64)[0]
    x = counter.astype(np.uint64)
    with np.errstate(over="ignore"):
        for _ in range(2):
            x = (x ^ word) + np.uint64(0x9E3779B97F4A7C15)
            x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            x = x ^ (x >> np.uint64(31))
    return np.asarray((x >> np.uint64(11)).astype(np.float64) * 2.0**-53)
