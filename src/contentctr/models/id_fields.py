"""From a batch to the fields of the ID baselines (Section 4.3.1): one row a segment, one table.

Shape suffixes as in batch.py, and:
  R = B * N, every segment of the batch in one row   F sparse fields
  E width of a field's vector                        C dense values
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn

from contentctr.batch import Batch, Vocabulary, take_rows
from contentctr.config import COUNT_COLUMNS, IdConfig

_MAX_OCTAVE = 20
BUCKET_STARTS: tuple[int, ...] = (
    1,
    *sorted([2**k for k in range(1, _MAX_OCTAVE + 1)] + [3 * 2**k for k in range(_MAX_OCTAVE - 1)]),
)
"""Least number of each bucket but the first, which holds 0: two buckets an octave, up to 2^20."""
_NUM_BUCKETS = len(BUCKET_STARTS) + 1
NUM_COUNTS = len(COUNT_COLUMNS)
"""A, kinds of counts."""
_HOURS = 25
"""Of the day, and the unknown one."""
_STD = 0.1
"""Of the table's rows at the start: torch's own 1 invites learning by heart."""


@dataclass(frozen=True, kw_only=True)
class FieldValues:
    """What the parts of an ID baseline take."""

    weight_RF: Tensor
    """Linear weight of the id that each field holds."""
    vector_RFE: Tensor
    """Its vector."""
    dense_RC: Tensor
    """Dense values; C may be 0."""

    @property
    def deep_RX(self) -> Tensor:
        """Vectors and dense values side by side, X = F * E + C wide: input of deep and cross."""
        vectors_RX = self.vector_RFE.flatten(1)
        return (
            torch.cat((vectors_RX, self.dense_RC), dim=1) if self.dense_RC.numel() else vectors_RX
        )


def field_sizes(vocabulary: Vocabulary, config: IdConfig) -> tuple[int, ...]:
    """Ids of each sparse field: streamer, room, hour, position and, in buckets, each count.

    The first id of streamer, room, hour and counts is the unknown or missing one.
    """
    counts = NUM_COUNTS * (1 + _NUM_BUCKETS,) if config.counts == "buckets" else ()
    return (1 + len(vocabulary.streamers), 1 + len(vocabulary.rooms), _HOURS, _NUM_BUCKETS, *counts)


def sparse_ids(batch: Batch, config: IdConfig) -> Tensor:
    """Each segment's ids, int64 [R, F], counted from 0 within each field of `field_sizes`.

    Ids never pass through a float, whose 24 bits would let ids above 2^24 collide. Position and
    counts are put into log-spaced buckets (`BUCKET_STARTS`); a NaN has a bucket of its own.
    """
    assert batch.ids is not None, "an ID baseline needs Batch.ids"
    rows = batch.ids.hour_BN.numel()
    per_window_BN2 = torch.stack((batch.streamer_B, batch.ids.room_B), dim=1)[:, None].expand(
        -1, batch.ids.hour_BN.shape[1], -1
    )
    starts = torch.tensor(BUCKET_STARTS, device=batch.streamer_B.device)
    position_R = torch.bucketize(batch.ids.position_BN.flatten(), starts, right=True)
    parts = [
        per_window_BN2.reshape(rows, 2),
        batch.ids.hour_BN.reshape(rows, 1),
        position_R[:, None],
    ]
    if config.counts == "buckets":
        counts_RA = batch.ids.counts_BNA.flatten(0, 1)
        missing_RA = counts_RA.isnan()
        whole_RA = counts_RA.masked_fill(missing_RA, 0).long()
        bucket_RA = 1 + torch.bucketize(whole_RA, starts, right=True)
        parts.append(bucket_RA.masked_fill(missing_RA, 0))
    return torch.cat(parts, dim=1)


def dense_values(batch: Batch, config: IdConfig) -> Tensor:
    """Each segment's dense values, [R, C]: none, or log(1 + count) and 1 where it is missing.

    A missing count's logarithm is 0, and its indicator tells it from a count of 0.
    """
    assert batch.ids is not None, "an ID baseline needs Batch.ids"
    counts_RA = batch.ids.counts_BNA.flatten(0, 1)
    if config.counts == "buckets":
        return counts_RA[:, :0]
    missing_RA = counts_RA.isnan()
    log_RA = counts_RA.masked_fill(missing_RA, 0).log1p()
    return torch.cat((log_RA, missing_RA.to(log_RA.dtype)), dim=1)


def dense_width(config: IdConfig) -> int:
    """C, width of `dense_values`."""
    return 0 if config.counts == "buckets" else 2 * NUM_COUNTS


class IdFields(nn.Module):
    """All fields' embeddings in one table, so that a look-up is one gather.

    A row of the table is an id's linear weight and its vector. A field's ids start at the field's
    offset. Rows start normal with a standard deviation of 0.1, as the streamers' do in ContentCTR;
    the unknown streamer and the unknown room start at zero, the mean of the others, and stay near
    it where training rarely shows them. Gradients are dense, for the fused Adam that trains every
    model.

    Args:
        config: sizes, and whether counts are sparse or dense.
        vocabulary: known streamers and rooms.
    """

    offsets_F: Tensor
    sizes_F: Tensor

    def __init__(self, config: IdConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.config = config
        self.sizes = field_sizes(vocabulary, config)
        offsets = tuple(accumulate(self.sizes[:-1], initial=0))
        self.register_buffer("offsets_F", torch.tensor(offsets), persistent=False)
        self.register_buffer("sizes_F", torch.tensor(self.sizes), persistent=False)
        self.table = nn.Embedding(sum(self.sizes), 1 + config.embedding_dim)
        nn.init.normal_(self.table.weight, std=_STD)
        with torch.no_grad():
            self.table.weight[list(offsets[:2])] = 0.0

    @property
    def dense_width(self) -> int:
        """C, width of the dense values."""
        return dense_width(self.config)

    def forward(self, batch: Batch) -> FieldValues:
        """The fields of each segment, row by row of [B, N]; finite at padding too."""
        id_RF = sparse_ids(batch, self.config)
        # An id beyond its field would silently read another field's row.
        assert bool(((id_RF >= 0) & (id_RF < self.sizes_F)).all()), "an id beyond its field's table"
        found = take_rows(self.table.weight, id_RF + self.offsets_F)
        weight_RF1, vector_RFE = torch.split(found, [1, self.config.embedding_dim], dim=2)
        dense_RC = dense_values(batch, self.config).to(found.dtype)
        return FieldValues(weight_RF=weight_RF1[..., 0], vector_RFE=vector_RFE, dense_RC=dense_RC)
