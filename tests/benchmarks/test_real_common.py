"""Studies of real rooms: an ensemble a row and a fold, and each of its seeds alone."""

import json

import numpy as np
import pytest

from common import Row, Study, by_room
from contentctr.config import override
from contentctr.recipes import recipe
from contentctr.score.checkpoint import load
from contentctr.train.loop import train_model
from tiny_models import make_tiny_bert

WORDS = ("d_model=8", "num_heads=2", "ff_mult=1", "window_len=4", "epochs=1", "align_weight=0")


def write_rooms(root, count=4):
    rng = np.random.default_rng(0)
    for number in range(count):
        folder = root / f"room{number}"
        folder.mkdir(parents=True)
        about = {"room_id": folder.name, "streamer_id": "s", "duration_s": 240.0}
        about["started_at"] = f"2026-01-0{1 + number}T00:00:00+00:00"
        (folder / "room.json").write_text(json.dumps(about))
        times = np.sort(rng.uniform(0, 240, 60))
        lines = [f"{t:.1f},u{rng.integers(9)},hello this is great" for t in times]
        (folder / "comments.csv").write_text("\n".join(["t,user_id,text", *lines]) + "\n")


@pytest.mark.slow
def test_a_row_is_the_products_ensemble_and_its_seeds_alone(tmp_path, monkeypatch):
    write_rooms(tmp_path / "rooms")
    (tmp_path / "out").mkdir()
    make_tiny_bert(tmp_path / "bert")
    monkeypatch.chdir(tmp_path)
    study = Study(tmp_path / "rooms", tmp_path / "out", text="bert", seeds=2)
    data = study.prepare("rate", target="comment_rate", target_scale="odds")
    [fold, _] = folds = by_room(data, 2)
    first = Row("first", WORDS)
    found = study.scores(data, folds, Row("then", WORDS, first=first))
    assert found.columns[-4:] == ["score", "seed_0", "seed_1", "fold"]
    assert set(found["room_id"]) == {f"room{k}" for k in range(4)}
    odds = sum(np.log(found[s] / (1 - found[s])) for s in ("seed_0", "seed_1")) / 2
    np.testing.assert_allclose(found["score"], 1 / (1 + np.exp(-odds)), atol=1e-6)

    own = study.fold_data(data, fold)
    config = override(recipe("live"), [*WORDS, "seed=1"])
    before = train_model(config, own, tmp_path / "first", show_progress=False)
    alone = train_model(config, own, tmp_path / "then", init_from=before, show_progress=False)
    mine = load(alone).load_model().state_dict()
    run = next(path for path in (own.root / "runs").glob("then-*"))
    theirs = load(run / "members" / "1").load_model().state_dict()
    assert all(np.array_equal(mine[name], theirs[name]) for name in mine)
    again = study.scores(data, folds, Row("then", WORDS, first=first))
    assert again.equals(found)
