"""Packets of a fragmented MP4 in the order of their time, where it can only be read on and on.

FFmpeg then gives them as they lie in the file: of each fragment all pictures, then all sound. A
clock that saw seconds of pictures alone would let the room begin with them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from av.packet import Packet

_LEAD_S = 12.0
"""A stream without packets is not waited for any longer: fragments are shorter."""


def interleaved(
    packets: Iterator[Packet[Any]], bases: Mapping[int, float]
) -> Iterator[Packet[Any]]:
    """The same packets, by their decoding times.

    Args:
        packets: of an MP4.
        bases: seconds of a stamp, of each stream whose packets matter.
    """
    waiting: dict[int, deque[tuple[float, Packet[Any]]]] = {index: deque() for index in bases}

    def first() -> deque[tuple[float, Packet[Any]]]:
        return min((queue for queue in waiting.values() if queue), key=lambda queue: queue[0][0])

    for packet in packets:
        queue = waiting.get(packet.stream_index)
        stamp = packet.pts if packet.dts is None else packet.dts
        if queue is None or stamp is None:
            yield packet
            continue
        now_s = stamp * bases[packet.stream_index]
        queue.append((now_s, packet))
        while all(waiting.values()) or (any(waiting.values()) and first()[0][0] < now_s - _LEAD_S):
            yield first().popleft()[1]
    while any(waiting.values()):
        yield first().popleft()[1]
