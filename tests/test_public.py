"""What all public functions have in common: places as text or Path, and devices by name."""

import inspect
from pathlib import Path

import pytest
import torch

import contentctr
from contentctr.devices import find_device
from contentctr.errors import InputError
from contentctr.transcribe.recogniser import Choice

FUNCTIONS = [
    value
    for name in contentctr.__all__
    if inspect.isfunction(value := getattr(contentctr, name)) and value.__module__ != "typing"
]
PLACES = {"visual", "text", "asr"}
"""Parameters that are a name or a place, beside those that are places by their type."""


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_places_are_text_or_path_everywhere(function):
    for parameter in inspect.signature(function).parameters.values():
        kinds = str(parameter.annotation)
        if "Path" in kinds or parameter.name in PLACES:
            assert "Path" in kinds and ("str" in kinds or kinds == "Data"), parameter


def test_rooms_are_written_and_read_by_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = contentctr.SimulatorConfig(
        num_rooms=1, num_streamers=1, min_segments=2, max_segments=2, viewers=5
    )
    [folder] = contentctr.write_room_folders(config, "rooms", show_progress=False)
    assert contentctr.read_room(str(folder)).room_id == contentctr.read_room(folder).room_id
    data = contentctr.write_features(config, "data", val=0, test=0, show_progress=False)
    assert contentctr.PreparedRooms("data").segments().equals(data.segments())


def test_a_recogniser_is_named_by_text_or_path():
    assert Choice(asr=Path("model")).asr == "model"


def test_a_device_is_found_by_its_name():
    assert find_device("auto") == torch.device("cuda" if torch.cuda.is_available() else "cpu")
    assert find_device(torch.device("cpu")) == torch.device("cpu")
    with pytest.raises(InputError, match="device must be cpu, cuda, .* not 'gpu'"):
        find_device("gpu")
    with pytest.raises(InputError, match="device 'cuda:99': this machine has"):
        find_device("cuda:99")
