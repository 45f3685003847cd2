import numpy as np
import polars as pl
import pytest
import torch

from contentctr.config import DataConfig
from contentctr.errors import InputError
from contentctr.windows.loader import shuffles
from contentctr.windows.rooms import (
    WindowLoader,
    curve_windows,
    gather,
    is_sample,
    require_windows,
    sample_windows,
)
from contentctr.windows.segment_data import known_ids
from make import make_segments, make_table

FOUR = DataConfig(window_len=4, min_viewers=10)


def rows_of(windows):
    pairs = zip(windows.first_W, windows.length_W, strict=True)
    return [list(range(first, first + length)) for first, length in pairs]


def test_windows_are_consecutive_segments_of_one_room():
    data = make_segments([6, 3, 4])
    windows = sample_windows(data, FOUR, "ctr")
    assert rows_of(windows) == [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [9, 10, 11, 12]]


def test_stride_counts_from_a_rooms_start():
    data = make_segments([9])
    windows = sample_windows(data, DataConfig(window_len=4, stride=2), "ctr")
    assert [r[-1] for r in rows_of(windows)] == [3, 5, 7]


def test_a_sample_needs_viewers_and_a_target_in_its_last_segment():
    table = make_table([6]).with_columns(
        viewers=pl.Series([0, 0, 0, 9, 10, 50], dtype=pl.UInt32),
        target=pl.Series([0.1, None, 0.2, 0.3, 0.4, None]),
    )
    data = make_segments(None, table=table)
    assert np.flatnonzero(is_sample(data, FOUR, "ctr")).tolist() == [4]
    # Other targets do not come from viewers: the filter is not applied.
    assert np.flatnonzero(is_sample(data, FOUR, "comment_rate")).tolist() == [3, 4]


def test_the_filter_counts_the_predicted_segments_viewers_with_horizon_one():
    table = make_table([6]).with_columns(viewers=pl.Series([0, 0, 0, 0, 0, 50], dtype=pl.UInt32))
    data = make_segments(None, table=table, horizon=1)
    config = DataConfig(window_len=4, horizon=1)
    assert np.flatnonzero(is_sample(data, config, "ctr")).tolist() == [4]
    assert data.target_S[4].item() == pytest.approx(table["target"][5])
    assert torch.isnan(data.target_S[5])


def test_targets_do_not_leak_across_rooms_with_horizon_one():
    data = make_segments([3, 3], horizon=1)
    assert torch.isnan(data.target_S[2]) and torch.isnan(data.target_S[5])


def test_with_look_ahead_a_windows_last_segment_predicts_an_earlier_one():
    data = make_segments([6, 3], horizon=-2)
    assert torch.isnan(data.target_S[[0, 1, 6, 7]]).all()  # before the room's first
    torch.testing.assert_close(
        data.target_S[[2, 5, 8]], torch.tensor(data.table["target"].to_list())[[0, 3, 6]]
    )
    config = DataConfig(window_len=4, horizon=-2, short_windows=True)
    windows = sample_windows(data, config, "comment_rate")
    assert rows_of(windows) == [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5], [6, 7, 8]]


def test_short_rooms_are_one_padded_window_where_wanted():
    data = make_segments([2, 5])
    config = DataConfig(window_len=4, short_windows=True)
    assert rows_of(sample_windows(data, config, "ctr")) == [[0, 1], [2, 3, 4, 5], [3, 4, 5, 6]]
    batch = gather(data, sample_windows(data, config, "ctr"), np.array([0]), 4)
    assert batch.valid_BN.tolist() == [[True, True, False, False]]
    assert not batch.has_visual_BN[0, 2:].any() and torch.isnan(batch.target_BN[0, 2:]).all()


def test_gather_takes_each_windows_own_rows():
    data = make_segments([6, 4], streamers=("b",))
    windows = sample_windows(data, FOUR, "ctr")
    batch = gather(data, windows, np.array([3, 1]), 4)
    assert batch.visual_BNV[:, :, 0].tolist() == [[6, 7, 8, 9], [1, 2, 3, 4]]
    assert batch.text_BNT[:, :, 1].tolist() == [[-6, -7, -8, -9], [-1, -2, -3, -4]]
    assert torch.equal(batch.target_BN[1], data.target_S[1:5])
    assert batch.streamer_B.tolist() == [1, 0]  # room 1 is of b, room 0 of an unknown one
    assert batch.window_B.tolist() == [3, 1]


def test_curve_windows_score_every_segment_once_from_its_own_past():
    data = make_segments([6, 2, 4])
    windows, wanted = curve_windows(data, 4)
    rows = rows_of(windows)
    scored = [rows[w][n] for w, n in zip(*np.nonzero(wanted), strict=True)]
    assert scored == list(range(12))
    for w, n in zip(*np.nonzero(wanted), strict=True):
        row = rows[w][n]
        start = {0: 0, 1: 6, 2: 8}[int(data.room_S[row])]
        seen = rows[w][: n + 1]
        assert seen == list(range(max(start, row - 3), row + 1))


@pytest.mark.parametrize(("window_len", "place"), [(4, 2), (5, 2), (1, 0)])
def test_on_both_sides_each_segment_is_scored_where_it_is_nearest_the_middle(window_len, place):
    data = make_segments([9, 2, 5, window_len])
    windows, wanted = curve_windows(data, window_len, both_sides=True)
    rows = rows_of(windows)
    scored = [(rows[w][n], w, n) for w, n in zip(*np.nonzero(wanted), strict=True)]
    assert [row for row, _, _ in scored] == list(range(len(data)))
    for row, w, n in scored:
        start, end = (int(bounds[data.room_S[row]]) for bounds in data.room_bounds)
        first = max(start, min(row - place, end - window_len))
        assert rows[w] == list(range(first, min(first + window_len, end)))
        others = [abs(own.index(row) - place) for own in rows if row in own]
        assert abs(n - place) == min(others)


def test_vocabulary_is_of_training_rooms_alone():
    table = make_table([2, 2, 2], streamers=("z", "", "y"), splits=["train", "train", "test"])
    assert known_ids(table).streamers == ["z"]
    assert known_ids(table).rooms == ["room000", "room001"]


def make_loader(lengths=(9, 9, 9), **options):
    data = make_segments(list(lengths))
    windows = sample_windows(data, FOUR, "ctr")
    defaults = {
        "data": data,
        "windows": windows,
        "window_len": 4,
        "batch_size": 5,
        "num_negatives": 3,
    }
    return WindowLoader(**{**defaults, **options})


def test_an_epoch_holds_every_window_once_in_an_order_of_its_own():
    loader = make_loader()
    epochs = [
        torch.cat([p.window_B for pieces in loader.epoch(e) for p in pieces]).tolist()
        for e in (0, 1, 0)
    ]
    assert sorted(epochs[0]) == list(range(len(loader.windows)))
    assert epochs[0] == epochs[2] != epochs[1]


def test_starting_in_the_middle_gives_the_rest_of_the_epoch():
    loader = make_loader(hide_streamers=0.5)
    whole = list(loader.epoch(2))
    rest = list(loader.epoch(2, start=2))
    assert len(whole) == loader.steps and len(rest) == len(whole) - 2
    for a, b in zip(whole[2:], rest, strict=True):
        assert torch.equal(a[0].shuffles_BKN, b[0].shuffles_BKN)
        assert torch.equal(a[0].streamer_B, b[0].streamer_B)
        assert torch.equal(a[0].visual_BNV, b[0].visual_BNV)


def test_pieces_and_processes_share_out_the_same_windows_and_shuffles():
    whole = list(make_loader().epoch(0))
    parts = [list(make_loader(rank=r, world=2, micro_batch_size=2).epoch(0)) for r in (0, 1)]
    for step, (joined,) in enumerate(whole):
        pieces = [p for part in parts for p in part[step]]
        assert len(parts[0][step]) == len(parts[1][step])
        by_window = {
            int(w): p.shuffles_BKN[i]
            for p in pieces
            for i, w in enumerate(p.window_B)
            if p.has_target_BN[i].any()
        }
        assert sorted(by_window) == sorted(joined.window_B.tolist())
        for i, w in enumerate(joined.window_B.tolist()):
            assert torch.equal(by_window[w], joined.shuffles_BKN[i])


def test_fill_windows_have_neither_target_nor_modality():
    loader = make_loader()
    batch = loader.batch(np.array([0, -1]), 0)
    assert batch.has_target_BN[0].all() and not batch.has_target_BN[1].any()
    assert not (batch.has_visual_BN[1] | batch.has_text_BN[1]).any()


def test_rooms_are_hidden_apart_from_streamers():
    data = make_segments([9] * 60)
    data.known_room_S[:] = 7
    windows = sample_windows(data, FOUR, "ctr")
    loader = WindowLoader(
        data=data,
        windows=windows,
        window_len=4,
        batch_size=len(windows),
        hide_rooms=0.5,
        hide_streamers=0.5,
    )
    batch = next(loader.epoch(0))[0]
    room, streamer = batch.ids.room_B == 0, batch.streamer_B == 0
    assert abs(room.float().mean() - 0.5) < 0.1
    assert set(batch.ids.room_B.tolist()) == {0, 7}
    both = (room & streamer[: len(room)]).float().mean()
    assert not torch.equal(room, streamer) and 0.15 < both


def test_hidden_streamers_are_about_the_share_asked_for():
    data = make_segments([400] * 4, streamers=("a", "b"))
    windows = sample_windows(data, FOUR, "ctr")
    loader = WindowLoader(
        data=data, windows=windows, window_len=4, batch_size=64, hide_streamers=0.25
    )
    hidden = [
        torch.cat([p.streamer_B for pieces in loader.epoch(e) for p in pieces]) == 0 for e in (0, 1)
    ]
    for share in hidden:
        assert abs(share.float().mean().item() - 0.25) < 0.04
    assert not torch.equal(*hidden)
    loader = WindowLoader(data=data, windows=windows, window_len=4, batch_size=64)
    assert all((p.streamer_B > 0).all() for pieces in loader.epoch(0) for p in pieces)


def test_shuffles_permute_the_valid_part_and_are_uniform():
    which, length = np.arange(3000), np.full(3000, 3)
    orders = shuffles(which, length, 5, 2, 0, 0)
    assert orders.shape == (3000, 3, 5) and (orders[:, 0] == np.arange(5)).all()
    assert (np.sort(orders[:, 1:, :3], axis=2) == np.arange(3)).all()
    assert (orders[:, :, 3:] == [3, 4]).all()
    codes = orders[:, 1, :3] @ [100, 10, 1]
    counts = np.unique(codes, return_counts=True)[1]
    assert len(counts) == 6 and (abs(counts - 500) < 100).all()
    assert (orders[:, 1] != orders[:, 2]).any()
    assert (shuffles(which, length, 5, 2, 0, 1) != orders).any()
    assert (shuffles(which, length, 5, 2, 1, 0) != orders).any()


def test_no_window_says_why():
    data = make_segments([3, 2])
    windows = sample_windows(data, FOUR, "ctr")
    with pytest.raises(InputError, match="2 rooms, the longest of 3 segments.*window_len=4"):
        require_windows(windows, data, FOUR, "DATA")


def test_distinct_segments_are_the_windows_segments_each_once():
    data = make_segments([9, 6, 2], streamers=("a", "b"))
    windows, _ = curve_windows(data, 4)
    which = np.array([0, 1, 2, 6, len(windows) - 1])
    hide = (np.array([0, 1, 0, 0, 0], bool), np.array([0, 0, 0, 1, 0], bool))
    whole = gather(data, windows, which, 4, hide=hide)
    shared = gather(data, windows, which, 4, shared=True, hide=hide)
    valid = whole.valid_BN
    for name in ("valid_BN", "has_visual_BN", "has_comments_BN", "window_B", "streamer_B"):
        assert torch.equal(getattr(whole, name), getattr(shared, name)), name
    inner = shared.distinct
    place = shared.row_BN
    for name in ("visual_BNV", "text_BNT"):
        assert torch.equal(getattr(whole, name)[valid], getattr(inner, name)[:, 0][place][valid])
    assert torch.equal(
        inner.streamer_B[place][valid], whole.streamer_B[:, None].expand(-1, 4)[valid]
    )
    assert torch.equal(
        inner.ids.room_B[place][valid], whole.ids.room_B[:, None].expand(-1, 4)[valid]
    )
    assert torch.equal(inner.ids.position_BN[:, 0][place][valid], whole.ids.position_BN[valid])
    # Windows 0 to 2 have 6 segments, of which window 1, whose streamer is hidden, shares none.
    assert len(inner) == 6 + 4 + 4 + 2


def test_blocks_keep_a_rooms_windows_together_at_changing_borders():
    data = make_segments([30, 5, 23])
    windows = sample_windows(data, FOUR, "ctr")
    loader = WindowLoader(data=data, windows=windows, window_len=4, batch_size=5, block=6)
    borders = set()
    for epoch in range(20):
        order = loader.order(epoch)
        assert sorted(order.tolist()) == list(range(len(windows)))
        runs = np.split(order, np.flatnonzero(np.diff(order) != 1) + 1)
        assert np.mean([len(run) for run in runs]) > 3
        borders |= {int(run[0]) for run in runs if data.room_S[windows.first_W[run[0]]] == 0}
    assert len(borders) == 27  # any window of the first room may begin a block
    assert not np.array_equal(loader.order(0), loader.order(1))
    assert np.array_equal(loader.order(0), loader.order(0))


def test_blocks_share_segments_in_training():
    data = make_segments([40] * 3)
    windows = sample_windows(data, FOUR, "ctr")
    loader = WindowLoader(data=data, windows=windows, window_len=4, batch_size=12, block=12)
    rows = [len(p.distinct) / (len(p) * 4) for pieces in loader.epoch(0) for p in pieces]
    assert np.mean(rows) < 0.5
