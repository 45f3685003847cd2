import dataclasses
import math

import pytest
import torch

from contentctr.batch import Batch, IdFeatures, Vocabulary
from contentctr.config import IdConfig
from contentctr.models.id_fields import (
    BUCKET_STARTS,
    NUM_COUNTS,
    IdFields,
    dense_values,
    field_sizes,
    sparse_ids,
)
from make import make_batch

VOCABULARY = Vocabulary(streamers=["a", "b"], rooms=["r", "s", "t"])
BUCKETS, DENSE = IdConfig(embedding_dim=3), IdConfig(embedding_dim=3, counts="dense")


def id_batch() -> Batch:
    """Windows without content; some counts are missing, and a streamer and a room are unknown."""
    batch = make_batch(v=0, t=0)
    position_BN = batch.ids.position_BN + 7 * torch.arange(len(batch))[:, None]
    return Batch(**{**vars(batch), "ids": dataclasses.replace(batch.ids, position_BN=position_BN)})


def one_row(**values) -> Batch:
    """A batch of one window of one segment."""
    zero = torch.tensor([[0]])
    ids = {
        "room_B": zero[0],
        "hour_BN": zero,
        "position_BN": zero,
        "counts_BNA": torch.zeros(1, 1, NUM_COUNTS),
    }
    streamer = values.pop("streamer_B", torch.tensor([0]))
    batch = make_batch(1, 1, v=0, t=0, missing=False)
    ids = IdFeatures(**{**ids, **values})
    return Batch(**{**vars(batch), "streamer_B": streamer, "ids": ids})


def count_ids(*counts):
    """The ids of the first kinds of counts of one segment."""
    values = torch.zeros(1, 1, NUM_COUNTS)
    values[0, 0, : len(counts)] = torch.tensor(counts)
    return sparse_ids(one_row(counts_BNA=values), BUCKETS)[0, 4 : 4 + len(counts)].tolist()


def test_buckets_are_two_an_octave_and_missing_is_not_zero():
    assert list(BUCKET_STARTS[:9]) == [1, 2, 3, 4, 6, 8, 12, 16, 24]
    assert list(BUCKET_STARTS) == sorted(set(BUCKET_STARTS))
    assert count_ids(math.nan, 0, 1, 2, 3, 4, 5, 6) == [0, 1, 2, 3, 4, 5, 5, 6]
    assert count_ids(7, 8, 11, 12, 2.0**20 - 1, 2.0**20, 1e9) == [6, 7, 7, 8, 40, 41, 41]


def test_every_bucket_has_a_row_of_its_own():
    starts = torch.tensor([0, *BUCKET_STARTS])
    found = [count_ids(float(start))[0] for start in starts]
    assert found == list(range(1, len(BUCKET_STARTS) + 2))
    assert found[-1] == field_sizes(VOCABULARY, BUCKETS)[4] - 1
    last = one_row(position_BN=starts[-1].reshape(1, 1))
    assert sparse_ids(last, BUCKETS)[0, 3] == field_sizes(VOCABULARY, BUCKETS)[3] - 1


def test_rows_are_segments_in_order_and_windows_lend_streamer_and_room():
    batch = id_batch()
    id_RF = sparse_ids(batch, BUCKETS)
    assert id_RF.shape == (15, 12)
    for b in range(3):
        for n in range(5):
            row = id_RF[5 * b + n]
            assert row[:3].tolist() == [
                batch.streamer_B[b],
                batch.ids.room_B[b],
                batch.ids.hour_BN[b, n],
            ]
    assert id_RF[:5, 3].tolist() == [0, 1, 2, 3, 4]  # positions 0 to 4
    assert id_RF[5:10, 3].tolist() == [5, 6, 6, 6, 6]  # positions 7 to 11
    assert (id_RF[::5, 4:] == 0).all() and (id_RF[1::5, 4:] > 0).all()


def test_dense_values_are_logarithms_beside_indicators_of_what_is_missing():
    values = torch.zeros(1, 1, NUM_COUNTS)
    values[0, 0, :3] = torch.tensor([math.nan, 0, 9])
    batch = one_row(counts_BNA=values)
    dense = dense_values(batch, DENSE)[0]
    assert dense[:3].tolist() == pytest.approx([0, 0, math.log(10)])
    assert dense[NUM_COUNTS : NUM_COUNTS + 3].tolist() == [1, 0, 0]
    assert dense_values(batch, BUCKETS).shape == (1, 0)
    assert sparse_ids(batch, DENSE).shape == (1, 4)


@pytest.mark.parametrize("config", [BUCKETS, DENSE])
def test_one_gather_gives_each_field_its_own_rows(config):
    torch.manual_seed(0)
    fields, batch = IdFields(config, VOCABULARY), id_batch()
    values = fields(batch)
    tables = fields.table.weight.split(list(field_sizes(VOCABULARY, config)))
    ids = sparse_ids(batch, config)
    for f, table in enumerate(tables):
        assert torch.equal(values.weight_RF[:, f], table[ids[:, f], 0])
        assert torch.equal(values.vector_RFE[:, f], table[ids[:, f], 1:])
    assert torch.equal(values.dense_RC, dense_values(batch, config))
    wide = torch.cat((values.vector_RFE.flatten(1), values.dense_RC), 1)
    assert torch.equal(values.deep_RX, wide) and wide.shape[1] == 3 * len(tables) + (
        16 if config is DENSE else 0
    )


def test_unknown_streamer_and_room_start_at_zero_and_no_other_row_does():
    torch.manual_seed(0)
    fields = IdFields(BUCKETS, VOCABULARY)
    zero = (fields.table.weight == 0).all(1).nonzero().flatten().tolist()
    assert zero == [0, 3]  # streamers: 0, a, b; then rooms
    values = fields(one_row())
    assert (values.vector_RFE[0, :2] == 0).all() and (values.vector_RFE[0, 2:] != 0).all()


def test_ids_above_two_to_the_24_stay_distinct():
    big = 2**24
    assert torch.tensor(big + 1).float() == torch.tensor(big).float()  # the fault to avoid
    rows = [
        sparse_ids(one_row(streamer_B=torch.tensor([i]), room_B=torch.tensor([i + 2])), BUCKETS)
        for i in (big, big + 1)
    ]
    assert [row[0, :2].tolist() for row in rows] == [[big, big + 2], [big + 1, big + 3]]
    # and with the offset of the rooms, in a table that need not be there
    with torch.device("meta"):
        fields = IdFields(IdConfig(embedding_dim=1), Vocabulary(streamers=range(big), rooms="ab"))
    assert fields.table.num_embeddings == sum(fields.sizes) > big


@pytest.mark.parametrize("streamer", [3, -1])
def test_an_id_beyond_its_table_never_reads_another_fields_row(streamer):
    fields = IdFields(BUCKETS, VOCABULARY)
    with pytest.raises(AssertionError, match="beyond"):
        fields(one_row(streamer_B=torch.tensor([streamer])))


def test_a_batch_without_ids_is_refused():
    batch = Batch(**{**vars(id_batch()), "ids": None})
    with pytest.raises(AssertionError, match=r"Batch\.ids"):
        IdFields(BUCKETS, VOCABULARY)(batch)
