"""Where speech is from, and what a user of a model is told of it."""

import pytest

from contentctr.transcribe import recogniser
from contentctr.transcribe.recogniser import Choice, choice_for
from contentctr.transcribe.source import difference, join_sources, recogniser_name, split_sources


def test_sources_as_one_text():
    assert join_sources(["b@1", "files", "b@1"]) == "b@1 | files"
    assert join_sources([]) == "none" and split_sources("none") == split_sources("") == []
    assert split_sources("b@1 | files") == ["b@1", "files"]
    assert recogniser_name("/a/b@c@1 | files") == "/a/b@c" and recogniser_name("files") is None
    assert recogniser_name("a@1 | b@2") is None


@pytest.mark.parametrize(
    ("trained", "given", "told"),
    [
        ("", "a@1", ""),
        ("a@1", "none", ""),
        ("a@1", "other name@1", ""),
        ("a@1 | files", "files", ""),
        ("a@1", "files", "speech is from files; the model was trained on speech from a@1"),
        ("none", "a@1", "speech is from a@1; the model was trained without speech"),
        ("files", "a@2 | files", "speech is from a@2; the model was trained on speech from files"),
    ],
)
def test_what_is_told_of_another_source(trained, given, told):
    assert difference(trained, given) == told


def test_a_model_is_given_what_heard_its_rooms(tmp_path, monkeypatch):
    monkeypatch.setattr(recogniser, "lacking", lambda: "")
    default = Choice()
    assert choice_for("", default) == choice_for("embedded@1", default) == default
    assert choice_for("files", default) == default and not default.lacks
    assert choice_for("none", default).lacks == "--asr none"
    assert choice_for(f"{tmp_path}@1 | files", default).asr == str(tmp_path)
    # From a hub nothing is fetched that nobody asked for.
    assert choice_for("small@1", default) == default
    own = Choice(asr="small", language="de")
    assert choice_for("none", own) is own
