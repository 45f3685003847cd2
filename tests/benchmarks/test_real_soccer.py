"""The study of football speech: minutes and their labels, what is heard, and the reference."""

import json

import numpy as np
import polars as pl
import pytest

import soccer
from keywords import count_words, heard
from lags import LAGS_S, Lagged
from soccer import with_labels
from tiny_models import make_tiny_bert

EVENTS = pl.DataFrame(
    {"room_id": ["a", "a", "b"], "t": [59.9, 60.0, 15.0], "label": ["goal", "card", "goal"]}
)


def test_a_moment_falls_into_its_own_minute():
    minutes = pl.DataFrame({"room_id": ["a", "a", "b"], "minute": [0, 1, 0]})
    found = with_labels(minutes, EVENTS)
    assert found["goal"].to_list() == [1, 0, 1]
    assert found["card"].to_list() == [0, 1, 0]
    assert found["substitution"].to_list() == [0, 0, 0]


def test_words_are_counted_in_the_minute_and_where_wanted_in_the_next():
    rooms = pl.DataFrame({"room_id": ["a", "a"], "minute": [0, 1]})
    texts = {"a": ["Goal! What a goal", "Gol, 2-1"]}
    assert count_words(texts, rooms, "goal", later=False).tolist() == [2, 2]
    assert count_words(texts, rooms, "goal", later=True).tolist() == [4, 2]


def test_silence_and_loops_are_told_apart_from_words():
    speech = ["", "", *["Da ist er. Da ist er. Da ist er. Da ist er."] * 20, "One. Two. Tor. Four."]
    segments = pl.DataFrame(
        {
            "room_id": "a",
            "start_s": [10.0 * k - 200 * (k == 0) for k in range(23)],
            "speech": speech,
        }
    )
    events = pl.DataFrame({"room_id": "a", "t": [-150.0, 110.0, 226.0], "label": "goal"})
    found = heard(segments, events).row(0, named=True)
    assert (found["class"], found["moments"]) == ("goal", 3)
    assert (found["silent"], found["loop"]) == (1 / 3, 1 / 3)
    assert found["words"] == 1.0


def test_the_reference_never_learns_from_a_group_that_it_tells_of():
    rng = np.random.default_rng(0)
    rooms, count = [f"r{k}" for k in range(10)], 30
    table = pl.DataFrame(
        {
            "room_id": np.repeat(rooms, count),
            "start_s": np.tile(10.0 * np.arange(count), 10),
            "end_s": np.tile(10.0 * np.arange(count) + 10, 10),
            "group": np.repeat(np.arange(10), count),
        }
    )
    text = rng.normal(size=(300, 3)).astype(np.float32)
    words = ["goal", "corner", "card", "free kick", "goalkeeper saves"]
    said = [" ".join(rng.choice(words, 3)) for _ in range(300)]
    minutes = pl.DataFrame({"room_id": np.repeat(rooms, 5), "minute": np.tile(range(5), 10)})
    events = pl.DataFrame({"room_id": rooms, "t": [75.0] * 10, "label": "goal"})
    moved = events.with_columns(t=pl.Series([75.0] * 9 + [200.0]))
    before, after = (
        Lagged(text, said, table, given).around(range(9), minutes, later=True)
        for given in (events, moved)
    )
    assert before.shape == (50, 1 + 9 * 2 * 2 * len(LAGS_S))  # by features and by words
    np.testing.assert_array_equal(before, after)  # group 9 is no part of what is learned
    own = events.with_columns(t=pl.Series([200.0] + [75.0] * 9))
    changed = Lagged(text, said, table, own).around(range(9), minutes, later=True)
    np.testing.assert_array_equal(changed[:5], before[:5])  # nor group 0 of what tells of it
    assert not np.array_equal(changed[5:], before[5:], equal_nan=True)


@pytest.mark.slow
def test_the_whole_study_of_tiny_halves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_tiny_bert(tmp_path / "bert")
    for folder, name, count in (("given", "g", 8), ("kept", "k", 3)):
        write_halves(tmp_path / folder, name, count)
    common = ["--text", "bert", "--seeds", "1", "--no-ablations"]
    monkeypatch.setattr("sys.argv", ["soccer.py", "given", "-o", "out", "--folds", "2", *common])
    soccer.main()
    page = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "8 halves, 32 minutes" in page and page.count("recipe moments") == 2
    before = page
    soccer.main()  # all of it is there
    assert (tmp_path / "out" / "README.md").read_text(encoding="utf-8") == before
    monkeypatch.setattr("sys.argv", ["soccer.py", "given", "-o", "o2", "--test", "kept", *common])
    soccer.main()
    assert "3 halves, 12 minutes" in (tmp_path / "o2" / "README.md").read_text(encoding="utf-8")


def write_halves(root, name, count):
    """Halves of 4 minutes, in which one word tells of a goal, and one of each other class."""
    rng, rows = np.random.default_rng(count), ["room_id,t,label"]
    words = {"Goal": "gift", "Yellow card": "price", "Substitution": "link", "Foul": "song"}
    for number in range(count):
        folder = root / f"{name}{number:03d}"
        folder.mkdir(parents=True)
        about = {"room_id": folder.name, "streamer_id": "s", "duration_s": 240.0}
        about["started_at"] = "2026-01-01T00:00:00+00:00"
        (folder / "room.json").write_text(json.dumps(about))
        said = ["hello this is great"] * 24
        for label, word in words.items():
            t = int(rng.integers(0, 239))
            said[t // 10] = f"{word} look {word}"
            rows.append(f"{folder.name},{t},{label}")
        lines = [{"start": 10 * k, "end": 10 * k + 9, "text": text} for k, text in enumerate(said)]
        (folder / "speech.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
