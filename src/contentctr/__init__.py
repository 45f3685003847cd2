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
    from contentctr.batch import DataSpec as DataSpec
    from contentctr.batch import Output as Output
    from contentctr.config import Config as Config
    from contentctr.config import override as override
    from contentctr.encode.personal import encode_personal as encode_personal
    from contentctr.encode.rooms import encode_rooms as encode_rooms
    from contentctr.errors import InputError as InputError
    from contentctr.evaluate.evaluate import evaluate_model as evaluate_model
    from contentctr.metrics.ctr import kendall_tau as kendall_tau
    from contentctr.models.contentctr import ContentCTR as ContentCTR
    from contentctr.predict.by_rule import highlight_recording as highlight_recording
    from contentctr.predict.personal import pick_highlights as pick_highlights
    from contentctr.predict.predictor import Predictor as Predictor
    from contentctr.predict.rooms import predict_recording as predict_recording
    from contentctr.prepare.personal import prepare_phd as prepare_phd
    from contentctr.prepare.rooms import prepare_rooms as prepare_rooms
    from contentctr.prepare.segments import segment_rooms as segment_rooms
    from contentctr.recipes import recipe as recipe
    from contentctr.report import write_report as write_report
    from contentctr.report.runs import compare_runs as compare_runs
    from contentctr.rooms.folder import read_room as read_room
    from contentctr.rooms.room import Room as Room
    from contentctr.score.checkpoint import Checkpoint as Checkpoint
    from contentctr.score.checkpoint import load as load_checkpoint
    from contentctr.score.highlights import find_highlights as find_highlights
    from contentctr.simulate.mechanism import SimulatorConfig as SimulatorConfig
    from contentctr.simulate.rooms import write_features as write_features
    from contentctr.simulate.rooms import write_room_folders as write_room_folders
    from contentctr.store.rooms import PreparedRooms as PreparedRooms
    from contentctr.train.loop import train_model as train_model
    from contentctr.train.tuning import tune_model as tune_model
    from contentctr.transcribe.rooms import transcribe_rooms as transcribe_rooms

_WHERE = {
    "Batch": ("batch", "Batch"),
    "Checkpoint": ("score.checkpoint", "Checkpoint"),
    "load_checkpoint": ("score.checkpoint", "load"),
    "Config": ("config", "Config"),
    "ContentCTR": ("models.contentctr", "ContentCTR"),
    "DataSpec": ("batch", "DataSpec"),
    "InputError": ("errors", "InputError"),
    "Output": ("batch", "Output"),
    "Predictor": ("predict.predictor", "Predictor"),
    "PreparedRooms": ("store.rooms", "PreparedRooms"),
    "Room": ("rooms.room", "Room"),
    "SimulatorConfig": ("simulate.mechanism", "SimulatorConfig"),
    "compare_runs": ("report.runs", "compare_runs"),
    "encode_rooms": ("encode.rooms", "encode_rooms"),
    "encode_personal": ("encode.personal", "encode_personal"),
    "evaluate_model": ("evaluate.evaluate", "evaluate_model"),
    "find_highlights": ("score.highlights", "find_highlights"),
    "highlight_recording": ("predict.by_rule", "highlight_recording"),
    "kendall_tau": ("metrics.ctr", "kendall_tau"),
    "override": ("config", "override"),
    "pick_highlights": ("predict.personal", "pick_highlights"),
    "prepare_phd": ("prepare.personal", "prepare_phd"),
    "predict_recording": ("predict.rooms", "predict_recording"),
    "prepare_rooms": ("prepare.rooms", "prepare_rooms"),
    "read_room": ("rooms.folder", "read_room"),
    "recipe": ("recipes", "recipe"),
    "segment_rooms": ("prepare.segments", "segment_rooms"),
    "train_model": ("train.loop", "train_model"),
    "tune_model": ("train.tuning", "tune_model"),
    "transcribe_rooms": ("transcribe.rooms", "transcribe_rooms"),
    "write_features": ("simulate.rooms", "write_features"),
    "write_report": ("report", "write_report"),
    "write_room_folders": ("simulate.rooms", "write_room_folders"),
}

__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'contentctr' has no attribute {name!r}")
    module, attribute = _WHERE[name]
    value = getattr(importlib.import_module(f"contentctr.{module}"), attribute)
    globals()[name] = value
    return value
