"""The one queue of posts whose pictures are to be read: bounded before any of them is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from contentctr.live.scorer_segments import RawSegment
from contentctr.live.service.batching import BusyError
from contentctr.live.service.budget import Budget
from contentctr.live.service.decode import MAX_POST_PIXELS, read_frames, to_raw
from contentctr.live.service.schemas import SegmentIn

_THREADS = 2
"""That read pictures: each may hold a large one."""
PIXELS = 2 * MAX_POST_PIXELS
"""That wait to be read; one client may have half of them: a second or two of work."""


class Decoding:
    """Reads posted pictures. For one event loop.

    Args:
        posts: that wait to be encoded at most, from when their pictures are read on; one client
            may have half of them.
        pixels: that wait to be read at most.
        max_wait_s: a post that has waited longer for its turn is refused.
    """

    def __init__(self, posts: int = 64, pixels: int = PIXELS, max_wait_s: float = 10.0) -> None:
        self.posts, self.pixels = Budget(posts), Budget(pixels)
        self._limit, self._max_wait_s = posts, max_wait_s
        # Sizes are read by a thread of their own: they must be known before a post may wait.
        self._sizes = ThreadPoolExecutor(1, thread_name_prefix="sizes")
        self._decoders = ThreadPoolExecutor(_THREADS, thread_name_prefix="decoder")

    @property
    def full(self) -> bool:
        """Whether one more post would be refused."""
        return self.posts.held >= self._limit

    @contextmanager
    def place(self, client: str) -> Iterator[None]:
        """A place for one post, until it has its score.

        Raises:
            BusyError: there is none, for this client.
        """
        with self.posts.hold(client) as there:
            if not there:
                raise BusyError("as many segments wait to be encoded as may wait")
            yield

    async def read(
        self,
        post: SegmentIn,
        preprocess: Callable[[Image.Image], NDArray[np.uint8]],
        client: str,
    ) -> RawSegment:
        """The segment of a post, its pictures as the encoder takes them.

        Raises:
            BusyError: too many pixels wait already, or these have waited too long.
            InputError: as `read_frames` and `to_raw`.
        """
        start, loop = time.monotonic(), asyncio.get_running_loop()
        frames = await loop.run_in_executor(self._sizes, read_frames, post)

        def work() -> RawSegment:
            if time.monotonic() - start > self._max_wait_s:
                raise BusyError(f"it has waited for {self._max_wait_s:g} s in vain")
            return to_raw(post, frames, preprocess)

        with self.pixels.hold(client, frames.pixels) as there:
            if not there:
                raise BusyError("as many pixels wait to be read as may wait")
            return await loop.run_in_executor(self._decoders, work)

    def close(self) -> None:
        """End the threads."""
        self._sizes.shutdown()
        self._decoders.shutdown()
