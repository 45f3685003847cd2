from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from contentctr.daily.settings import day_rooms, read_settings
from contentctr.errors import InputError

LEAST = 'rooms = "rooms/{date}"\ndata = "data"\nruns = "runs"\n'


def read(folder: Path, text: str, name: str = "daily.toml"):
    (folder / name).write_text(text)
    return read_settings(folder / name)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    found = read(tmp_path, LEAST + "[encode]\nsound = true\n")
    assert (found.data, found.runs) == (str(tmp_path / "data"), str(tmp_path / "runs"))
    assert found.recipe == "small" and found.encode == {"sound": True} and found.init_from == ""
    day = date(2026, 5, 31)
    assert day_rooms(found, day) == []
    for name in ("2026-05-31", "2026-05-30"):
        (tmp_path / "rooms" / name / "a").mkdir(parents=True)
    assert day_rooms(found, day) == [
        tmp_path / "rooms" / "2026-05-31",
        tmp_path / "rooms" / "2026-05-30",  # for rooms that have come since
    ]
    assert day_rooms(found, date(2026, 6, 1)) == []
    assert day_rooms(replace(found, keep_days=1), day) == [tmp_path / "rooms" / "2026-05-31"]
    every = read(tmp_path, LEAST.replace("{date}", "*/a"))
    assert len(day_rooms(every, day)) == 2
    (tmp_path / "swin").mkdir()
    encoders = read(tmp_path, LEAST + '[encode]\nvisual = "swin"\ntext = "embedded"\n').encode
    assert encoders == {"visual": str(tmp_path / "swin"), "text": "embedded"}
    named = read(tmp_path, LEAST + 'init_from = "hf://me/model"\n').init_from
    assert named == "hf://me/model"
    json = '{"rooms": "r", "data": "d", "runs": "x", "keep_days": 5}'
    assert read(tmp_path, json, "daily.json").keep_days == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('data = "d"\nruns = "r"\n', "rooms is missing"),
        (LEAST + "kept = 1\n", "has no setting 'kept'; there are rooms, data"),
        (LEAST + 'keep = ["run"]\n', "keep must name folders as day-2026-05-31, not 'run'"),
        (LEAST + 'keep_days = "7"\n', "keep_days must be a whole number, not '7'"),
        (LEAST + "keep_days = 2\n", "keep_days must be at least 3, those of test and validation"),
        (LEAST + "least_rooms = 0\n", "least_rooms must be at least 1, not 0"),
        (LEAST + "settings = [1]\n", "settings must be a list of texts"),
        (LEAST + "[prepare]\nval = 0.1\n", "prepare has no option 'val'"),
        (LEAST + '[encode]\nbatch_size = "8"\n', "encode.batch_size must be a whole number"),
        (LEAST + '[encode]\nframes = "some"\n', "encode.frames must be exact or keyframe"),
        (LEAST + "rooms = \n", "not TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, text)
    with pytest.raises(InputError, match=r"must be a \.toml or \.json file"):
        read(tmp_path, text, "daily.yaml")
