"""Frames of spans, samples against the stored rows, and batches."""

import numpy as np
import polars as pl
import pytest

from contentctr.errors import InputError
from contentctr.store import personal as folder
from contentctr.store.personal import PreparedPersonal, count_frames, frame_labels, span_frames
from contentctr.windows.personal import (
    UserSamples,
    training_stretches,
    whole_video,
)
from make_phd import make_data, visual


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


def test_training_takes_segments_with_highlights_and_testing_all(tmp_path) -> None:  # type: ignore[no-untyped-def]
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
    with pytest.raises(InputError, match="1 of 2 videos are not encoded, such as 'h'"):
        UserSamples(data)
    videos = data.videos().with_columns(duration_s=pl.lit(9.0))
    tables = {"users": data.users(), "selections": data.selections(), "captions": data.captions()}
    folder.write(tmp_path, {**tables, "videos": videos}, {"frame_rate": 1.0})
    with pytest.raises(InputError, match="prepared anew"):
        UserSamples(data)
