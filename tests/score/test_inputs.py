"""What training segments were like: measured, kept, read again, and refused where it is damaged."""

import json
from pathlib import Path

import numpy as np
import pytest

from contentctr.batch import DataSpec
from contentctr.errors import InputError
from contentctr.score.inputs import (
    SHARES,
    InputFacts,
    measure_features,
    measure_inputs,
    read_inputs,
    write_inputs,
)
from contentctr.store.rooms import PreparedRooms
from contentctr.train.loop import train_model
from contentctr.windows.segment_data import known_ids, load_segments
from make import write_data
from training import with_train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PreparedRooms]:
    folder = tmp_path_factory.mktemp("inputs")
    data = write_data(folder / "data")
    best = train_model(with_train(epochs=1), data, folder / "run", show_progress=False)
    return best, data


def test_a_checkpoint_tells_of_the_training_rooms_alone(run: tuple[Path, PreparedRooms]) -> None:
    best, data = run
    vocabulary = known_ids(data.segments())
    train = load_segments(data, vocabulary, split="train", horizon=0)
    found = read_inputs(best)
    assert found is not None and found.segments == len(train)
    assert found.missing["visual"] == float((~train.has_visual_S).double().mean())
    rows = np.flatnonzero(train.has_visual_S.numpy())
    values = train.visual_SV[train.has_visual_S.nonzero()[:, 0]].double().numpy()
    assert len(rows) >= SHARES
    np.testing.assert_allclose(found.features["visual"].mean_V, values.mean(0), rtol=1e-4)
    again = measure_inputs(train)
    np.testing.assert_array_equal(again.features["text"].edges, found.features["text"].edges)


def test_each_share_of_distances_has_as_many() -> None:
    values = np.random.default_rng(0).normal(size=(1000, 5))
    values[:, 4] = 3.0  # never moves: no division by nothing
    facts = measure_features(values)
    counts = np.bincount(np.searchsorted(facts.edges, facts.distances(values)), minlength=SHARES)
    assert np.abs(counts - 100).max() <= 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"segments": "many"}, "'segments' must be a whole number"),
        ({"missing": [1]}, "'missing' must be an object"),
        ({"missing": {"visual": 2}}, "'missing.visual' must be a share"),
        ({"features": {"visual": {"mean": [0], "std": [0], "edges": []}}}, "above 0"),
        ({"features": {"visual": {"mean": ["x"], "std": [1], "edges": []}}}, "must hold mean"),
        ({"features": {"visual": {"mean": [0], "std": [1], "edges": [1, 0]}}}, "rising"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, change: dict[str, object], words: str) -> None:
    whole = {"segments": 5, "missing": {"visual": 0.5}, "features": {}}
    (tmp_path / "inputs.json").write_text(json.dumps({**whole, **change}))
    with pytest.raises(InputError, match=words):
        read_inputs(tmp_path)


def test_one_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert read_inputs(tmp_path) is None


def test_one_of_another_width_is_refused(tmp_path: Path) -> None:
    facts = measure_features(np.random.default_rng(0).normal(size=(20, 5)))
    write_inputs(tmp_path, InputFacts(segments=20, missing={}, features={"visual": facts}))
    read_inputs(tmp_path, DataSpec(visual_dim=5))
    with pytest.raises(InputError, match="'features.visual.mean' must be 6 numbers.* not 5"):
        read_inputs(tmp_path, DataSpec(visual_dim=6))
