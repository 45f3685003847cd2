"""Batches of users' videos against the stored rows; the loader's order, shares and shuffles."""

import dataclasses

import numpy as np
import torch

from contentctr.models.losses import loss_counts
from contentctr.simulate.personal import PersonalSimulation, write_personal_features
from contentctr.windows.personal import Stretch, UserSamples, training_stretches
from contentctr.windows.personal_batches import StretchLoader, make_batch
from make_phd import make_data

SEGMENTS = [
    Stretch(user=1, start=4, stop=8),
    Stretch(user=0, start=8, stop=10),
    Stretch(user=2, start=0, stop=4),
]


def test_a_batch_is_its_segments_padded(tmp_path):
    samples = UserSamples(make_data(tmp_path, missing=(6,)))
    batch = make_batch(samples, SEGMENTS, [7, 8, 9])
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
    return StretchLoader(videos=users, segments=training_stretches(users, 40), **values)


def rows(loader, epoch=0, start=0):
    return [[piece.window_B.tolist() for piece in step] for step in loader.epoch(epoch, start)]


def test_every_segment_once_an_epoch_in_an_order_of_its_own(tmp_path):
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
                if number >= 0:  # a segment's shuffles do not depend on its batch
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

    def frames(segment):
        found = real(segment)
        read.append(len(found.visual_TV))
        return found

    monkeypatch.setattr(samples, "frames", frames)
    batch = make_batch(samples, SEGMENTS)
    assert read == [4, 2, 4]
    assert batch.visual_BNV[1, :2, 1].tolist() == [8, 9]
