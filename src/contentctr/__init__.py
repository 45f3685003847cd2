"""contentctr: frame-level click-through rate prediction for live streaming rooms.

The names here are what the command is made of: a recipe, the steps from raw rooms to a report,
and the model. They are imported when first used, so `import contentctr` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from contentctr.batch import Batch as Batch
    from contentctr.batch import Output as Output
    from contentctr.checkpoint import Checkpoint as Checkpoint
    from contentctr.checkpoint import load as load_checkpoint
    from contentctr.config import Config as Config
    from contentctr.config import DataSpec as DataSpec
    from contentctr.config import override as override
    from contentctr.encode import encode_rooms as encode_rooms
    from contentctr.errors import InputError as InputError
    from contentctr.evaluate import evaluate_model as evaluate_model
    from contentctr.highlights import find_highlights as find_highlights
    from contentctr.metrics import kendall_tau as kendall_tau
    from contentctr.models.contentctr import ContentCTR as ContentCTR
    from contentctr.personal import pick_highlights as pick_highlights
    from contentctr.phd.encode import encode_videos as encode_videos
    from contentctr.phd.prepare import prepare_phd as prepare_phd
    from contentctr.predict import predict_recording as predict_recording
    from contentctr.prepare import prepare_rooms as prepare_rooms
    from contentctr.prepared import Prepared as Prepared
    from contentctr.recipes import recipe as recipe
    from contentctr.report import write_report as write_report
    from contentctr.rooms.folder import read_room as read_room
    from contentctr.rooms.room import Room as Room
    from contentctr.rooms.simulated.mechanism import SimulatorConfig as SimulatorConfig
    from contentctr.segments import segment_rooms as segment_rooms
    from contentctr.simulate import write_features as write_features
    from contentctr.simulate import write_room_folders as write_room_folders
    from contentctr.train import train_model as train_model

_WHERE = {
    "Batch": ("batch", "Batch"),
    "Checkpoint": ("checkpoint", "Checkpoint"),
    "load_checkpoint": ("checkpoint", "load"),
    "Config": ("config", "Config"),
    "ContentCTR": ("models.contentctr", "ContentCTR"),
    "DataSpec": ("config", "DataSpec"),
    "InputError": ("errors", "InputError"),
    "Output": ("batch", "Output"),
    "Prepared": ("prepared", "Prepared"),
    "Room": ("rooms.room", "Room"),
    "SimulatorConfig": ("rooms.simulated.mechanism", "SimulatorConfig"),
    "encode_rooms": ("encode", "encode_rooms"),
    "encode_videos": ("phd.encode", "encode_videos"),
    "evaluate_model": ("evaluate", "evaluate_model"),
    "find_highlights": ("highlights", "find_highlights"),
    "kendall_tau": ("metrics", "kendall_tau"),
    "override": ("config", "override"),
    "pick_highlights": ("personal", "pick_highlights"),
    "prepare_phd": ("phd.prepare", "prepare_phd"),
    "predict_recording": ("predict", "predict_recording"),
    "prepare_rooms": ("prepare", "prepare_rooms"),
    "read_room": ("rooms.folder", "read_room"),
    "recipe": ("recipes", "recipe"),
    "segment_rooms": ("segments", "segment_rooms"),
    "train_model": ("train", "train_model"),
    "write_features": ("simulate", "write_features"),
    "write_report": ("report", "write_report"),
    "write_room_folders": ("simulate", "write_room_folders"),
}

__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'contentctr' has no attribute {name!r}")
    module, attribute = _WHERE[name]
    value = getattr(importlib.import_module(f"contentctr.{module}"), attribute)
    globals()[name] = value
    return value
