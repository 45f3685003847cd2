import json
import os

import pytest

from contentctr.errors import InputError
from contentctr.files import atomic, digest, read_json, remove_leftovers, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_folders_and_links_are_put_in_place_whole(tmp_path):
    with atomic(tmp_path / "folder") as temporary:
        temporary.mkdir()
        (temporary / "x").write_text("1")
    assert (tmp_path / "folder" / "x").read_text() == "1"
    for target in ("folder", "other"):
        with atomic(tmp_path / "link") as temporary:
            temporary.symlink_to(target)
    assert (tmp_path / "link").readlink().name == "other"


def test_json_errors_name_file_and_line(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(InputError, match="a.json: no such file"):
        read_json(path)
    path.write_text('{"a": 1,\n "b": }')
    with pytest.raises(InputError, match="a.json, line 2: not JSON"):
        read_json(path)
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(InputError, match="must be UTF-8 text; byte 7 is not"):
        read_json(path)
    path.write_text("[1]")
    with pytest.raises(InputError, match="must hold a JSON object, not list"):
        read_json(path)


def test_json_holds_no_nan(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_digest_is_stable_and_sensitive():
    assert digest("a", 1) == digest("a", 1) != digest("a", 2)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ('{"a":' * 50_000 + "1" + "}" * 50_000, "nested too deeply"),
        ('{"a": ' + "9" * 5_000 + "}", "a number of more than 4300 digits"),
        ("{", ", line 1: not JSON"),
    ],
)
def test_json_that_is_too_deep_or_too_long_names_its_file(tmp_path, text, reason):
    path = tmp_path / "v.json"
    path.write_text(text)
    with pytest.raises(InputError, match=reason) as error:
        read_json(path)
    assert str(path) in str(error.value)


def test_a_json_file_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("contentctr.files._JSON_BYTES", 1 << 20)
    path = tmp_path / "v.json"
    path.write_text(json.dumps({"a": "x" * (1 << 20)}))
    with pytest.raises(InputError, match="at most 1 MB"):
        read_json(path)


def test_json_is_not_read_from_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "room.json")
    with pytest.raises(InputError, match="must be a file"):
        read_json(tmp_path / "room.json")


def test_only_what_was_to_become_the_named_file_is_removed(tmp_path):
    long = "n" * 300
    ours = [f".speech.{'0' * 8}.tmp", f".{'n' * 200}.{'1' * 8}.tmp"]
    others = [f".speech.jsonl.{'0' * 8}.tmp", ".speech.tmp", "speech"]
    for name in (*ours, *others):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path, "speech")
    remove_leftovers(tmp_path, long)
    assert {path.name for path in tmp_path.iterdir()} == set(others)
