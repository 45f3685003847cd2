"""Frames of spans; samples and batches against the stored rows; the loader's order and shares."""

import dataclasses

import numpy as np
import polars as pl
import pytest
import torch

from contentctr.errors import InputError
from contentctr.models.losses import loss_counts
from contentctr.simulate.personal import PersonalSimulation, write_personal_features
from contentctr.store import personal as folder
from contentctr.store.personal import PreparedPersonal, count_frames, frame_labels, span_frames
from contentctr.windows.personal import (
    Stretch,
    StretchLoader,
    UserSamples,
    make_batch,
    training_stretches,
    whole_video,
)
from make_phd import make_data, visual

STRETCHES = [
    Stretch(user=1, start=4, stop=8),
    Stretch(user=0, start=8, stop=10),
    Stretch(user=2, start=0, stop=4),
]


def test_frames_of_a_span_are_those_whose_middle_lies_in_it() -> None:
    for rate in (0.5, 1.0, 2.0, 3.0):
        count = count_frames(20.0, rate)
        middles = (np.arange(count) + 0.5) / rate
        assert (middles < 20.0).all() and (count + 0.5) / rate >= 20.0
        for start, end in ((0, 1), (2.5, 7.5), (0.4, 0.6), (19, 20), (3, 3.01), (0, 20)):
            inside = np.flatnonzero((middles >= start) & (middles < end)).tolist()
            found = list(span_frames(start, end, rate, count))
            assert found == (inside or [min(int((start + end) / 2 * rate), count - 1)])
    assert list(span_frames(10.6, 10.9, 1.0, 10)) == [9]
    assert count_frames(0.1, 1.0) == 1
    assert count_frames(10.4, 1.0) == 10 and count_frames(10.6, 1.0) == 11


def test_labels_are_the_union_of_the_spans() -> None:
    assert frame_labels([(1, 3), (2, 4), (6.6, 6.7)], 1.0, 8).astype(int).tolist() == [
        0,
        1,
        1,
        1,
        0,
        0,
        1,
        0,
    ]
    assert not frame_labels([], 1.0, 3).any()


def test_samples_are_the_stored_rows(tmp_path) -> None:  # type: ignore[no-untyped-def]
    samples = UserSamples(make_data(tmp_path))
    ann, bob, cat = (samples[i] for i in range(3))
    assert [s.user_id for s in (ann, bob, cat)] == ["ann", "bob", "cat"]
    np.testing.assert_array_equal(ann.visual_TV, visual(1, np.arange(10)))
    assert np.flatnonzero(ann.label_T).tolist() == [2, 3, 8]
    assert np.flatnonzero(bob.label_T).tolist() == [5]
    assert ann.has_text_T.tolist() == [False, True] * 5
    # Means over frames 1 and 2, over frame 6, and over frames 2, 3 and 4 of `h`.
    np.testing.assert_allclose(ann.history_KV, [[0, 1.5, 2.5], [0, 6, 36]])
    np.testing.assert_allclose(bob.history_KV, [[0, 3, 29 / 3]], rtol=1e-6)
    assert samples.history(0) is samples.history(0)  # kept, not read again
    assert cat.history_KV.shape == (0, 3) and len(cat) == 8
    assert [s.user_id for s in UserSamples(PreparedPersonal(tmp_path), "test")] == ["bob"]
    with pytest.raises(IndexError):
        samples[3]


def test_a_frame_without_picture_is_not_in_the_mean_and_a_clip_of_such_is_left_out(
    tmp_path,
) -> None:  # type: ignore[no-untyped-def]
    samples = UserSamples(make_data(tmp_path, missing=(2, 6)))
    np.testing.assert_allclose(samples[0].history_KV, [[0, 1, 1]])
    assert np.flatnonzero(~samples[0].has_visual_T).tolist() == [2, 6]


def test_training_takes_stretches_with_highlights_and_testing_all(tmp_path) -> None:  # type: ignore[no-untyped-def]
    samples = UserSamples(make_data(tmp_path))
    cut = [(s.user, s.start, s.stop) for s in training_stretches(samples, 4)]
    assert cut == [(0, 0, 4), (0, 8, 10), (1, 4, 8), (2, 0, 4)]
    whole = [(s.start, s.stop) for s in whole_video(samples, 0, 4)]
    assert whole == [(0, 4), (4, 8), (8, 10)]
    assert [(s.start, s.stop) for s in whole_video(samples, 0)] == [(0, 10)]


def test_a_store_of_another_preparation_is_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    data = make_data(tmp_path)
    with pytest.raises(InputError, match="split must be one of"):
        UserSamples(data, "tests")
    (data.features_dir / "h.safetensors").unlink()
    with pytest.raises(InputError, match="not encoded: 1 of 2 videos, such as 'h'"):
        UserSamples(data)
    videos = data.videos().with_columns(duration_s=pl.lit(9.0))
    tables = {"users": data.users(), "selections": data.selections(), "captions": data.captions()}
    folder.write(tmp_path, {**tables, "videos": videos}, {"frame_rate": 1.0})
    with pytest.raises(InputError, match="prepared anew"):
        UserSamples(data)


def test_a_batch_is_its_stretches_padded(tmp_path):
    samples = UserSamples(make_data(tmp_path, missing=(6,)))
    batch = make_batch(samples, STRETCHES, [7, 8, 9])
    assert (len(batch), tuple(batch.visual_BNV.shape)) == (3, (3, 4, 3))
    assert batch.valid_BN.tolist() == [[True] * 4, [True, True, False, False], [True] * 4]
    nan = np.nan
    np.testing.assert_array_equal(
        batch.target_BN.numpy(), [[0, 1, 0, 0], [1, 0, nan, nan], [1, 0, 0, 0]]
    )
    assert batch.visual_BNV[0, :, 1].tolist() == [4, 5, 0, 7]
    assert batch.has_visual_BN[0].tolist() == [True, True, False, True]
    assert batch.visual_BNV[1, 2:].abs().max() == 0 and not batch.has_visual_BN[1, 2:].any()
    assert batch.has_speech_BN[1].tolist() == [False, True, False, False]
    assert not batch.has_comments_BN.any() and torch.equal(batch.has_text_BN, batch.has_speech_BN)
    assert batch.history.valid_BK.tolist() == [[True], [True], [False]]
    np.testing.assert_allclose(batch.history.clip_BKV[0, 0], samples.history(1)[0])
    assert batch.history.clip_BKV[2].abs().max() == 0
    assert batch.window_B.tolist() == [7, 8, 9]
    floats = (batch.visual_BNV, batch.text_BNT, batch.target_BN, batch.history.clip_BKV)
    assert {t.dtype for t in floats} == {torch.float32}


def make_loader(root, **options):
    config = PersonalSimulation(num_users=20, max_video_s=120.0, visual_dim=4, text_dim=3)
    path = root / "data"
    if not path.exists():
        write_personal_features(config, path, show_progress=False)
    users = UserSamples(path, "train")
    values = {"window_len": 40, "batch_size": 5, "num_negatives": 2, **options}
    return StretchLoader(videos=users, stretches=training_stretches(users, 40), **values)


def rows(loader, epoch=0, start=0):
    return [[piece.window_B.tolist() for piece in step] for step in loader.epoch(epoch, start)]


def test_every_stretch_once_an_epoch_in_an_order_of_its_own(tmp_path):
    loader = make_loader(tmp_path)
    first, second = rows(loader), rows(loader, epoch=1)
    for found in (first, second):
        assert sorted(sum(sum(found, []), [])) == list(range(len(loader)))
        assert len(found) == loader.steps
    assert first != second
    assert rows(loader, start=2) == first[2:]
    assert rows(make_loader(tmp_path, seed=1)) != first


def test_processes_and_pieces_share_a_step(tmp_path):
    whole = make_loader(tmp_path)
    shares = [make_loader(tmp_path, rank=rank, world=2, micro_batch_size=2) for rank in (0, 1)]
    for alone, *steps in zip(*(loader.epoch(0) for loader in (whole, *shares)), strict=True):
        taken = [piece for step in steps for piece in step]
        assert len(steps[0]) == len(steps[1])
        numbers = torch.cat([piece.window_B for piece in taken])
        assert sorted(numbers[numbers >= 0].tolist()) == sorted(alone[0].window_B.tolist())
        counts = torch.stack([loss_counts(piece) for piece in taken]).sum(0)
        assert torch.equal(counts, loss_counts(alone[0]))  # blanks count for nothing
        by_number = dict(zip(alone[0].window_B.tolist(), alone[0].shuffles_BKN, strict=True))
        for piece in taken:
            for number, shuffle_KN in zip(piece.window_B.tolist(), piece.shuffles_BKN, strict=True):
                if number >= 0:  # a stretch's shuffles do not depend on its batch
                    length = int(piece.valid_BN[piece.window_B == number].sum())
                    assert torch.equal(shuffle_KN[:, :length], by_number[number][:, :length])


def test_shuffles_are_orders_of_the_real_frames(tmp_path):
    loader = make_loader(tmp_path)
    for pieces in loader.epoch(0):
        (batch,) = pieces
        width = batch.valid_BN.shape[1]
        assert batch.shuffles_BKN.shape == (len(batch), 3, width)
        order = torch.arange(width)
        assert torch.equal(batch.shuffles_BKN.sort(-1).values, order.expand(len(batch), 3, width))
        assert torch.equal(batch.shuffles_BKN[:, 0], order.expand(len(batch), width))
        for row, length in enumerate(batch.valid_BN.sum(1).tolist()):
            assert torch.equal(batch.shuffles_BKN[row, 1, length:], order[length:])
            assert set(batch.shuffles_BKN[row, 1, :length].tolist()) == set(range(length))
    without = dataclasses.replace(loader, num_negatives=0)
    assert next(without.epoch(0))[0].shuffles_BKN is None


def test_only_the_wanted_frames_are_read(tmp_path, monkeypatch):
    samples = UserSamples(make_data(tmp_path))
    read = []
    real = samples.frames

    def frames(stretch):
        found = real(stretch)
        read.append(len(found.visual_TV))
        return found

    monkeypatch.setattr(samples, "frames", frames)
    batch = make_batch(samples, STRETCHES)
    assert read == [4, 2, 4]
    assert batch.visual_BNV[1, :2, 1].tolist() == [8, 9]
