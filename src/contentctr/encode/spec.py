"""What a DataSpec says of the encoders of its features."""

from __future__ import annotations

from typing import Protocol, TypedDict

from contentctr.encode.encoders import Pooling, TextEncoder
from contentctr.encode.engines.runtime import TORCH, Runtime


class EncoderFields(TypedDict):
    """What a DataSpec says of the encoders."""

    visual_encoder: str
    visual_revision: str
    visual_dim: int
    visual_engine: str
    visual_precision: str
    text_encoder: str
    text_revision: str
    text_dim: int
    text_engine: str
    text_precision: str
    text_pooling: Pooling
    text_prefix: str
    max_text_tokens: int


class _Source(Protocol):
    """Where visual features come from: an encoder, or vectors that came with the data."""

    @property
    def name(self) -> str: ...
    @property
    def revision(self) -> str: ...
    @property
    def dim(self) -> int: ...


def encoder_fields(visual: _Source, text: TextEncoder) -> EncoderFields:
    """The fields of a DataSpec that name the encoders of its features."""
    visual_runtime = runtime_of(visual)
    return {
        "visual_encoder": visual.name,
        "visual_revision": visual.revision,
        "visual_dim": visual.dim,
        "visual_engine": visual_runtime.engine,
        "visual_precision": visual_runtime.precision,
        "text_encoder": text.name,
        "text_revision": text.revision,
        "text_dim": text.dim,
        "text_engine": text.runtime.engine,
        "text_precision": text.runtime.precision,
        "text_pooling": text.pooling,
        "text_prefix": text.prefix,
        "max_text_tokens": text.max_tokens,
    }


def runtime_of(source: _Source) -> Runtime:
    """What computes an encoder's features; of vectors that came with the data it is not known."""
    found: Runtime = getattr(source, "runtime", TORCH)
    return found
