"""What a model's training segments were like, kept beside its weights; live ones are held to it.

    CHECKPOINT/inputs.json     of each part how often it is missing, mean and spread of its features

Shape suffixes as in batch.py, and: S segments, R rows of them, C shares of equal size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from contentctr.batch import DataSpec
from contentctr.errors import InputError
from contentctr.files import read_json, write_json

if TYPE_CHECKING:
    from contentctr.windows.segment_data import SegmentData  # brings tables, for training alone

FILE = "inputs.json"
FLAGS = ("visual", "speech", "comments", "sound")
"""Parts of a segment that may be missing."""
FEATURES = ("visual", "text", "sound")
"""Parts that have features."""
SHARES = 10
"""C: the distances of training segments are cut into so many shares of equal size."""
_ROWS = 4096
"""Of the training segments are looked at, evenly: more would change the third digit."""
_FLAT = 1e-4
"""Least spread: a number that never moved in training would make any other infinitely far."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class FeatureFacts:
    """Features of one part in training."""

    mean_V: Floats
    std_V: Floats
    """At least a little above 0."""
    edges: Floats
    """Between the C shares of the segments' distances from the mean."""

    def distances(self, values_RV: NDArray[np.floating]) -> Floats:
        """How far each row is from the mean, in spreads: root mean square over the numbers, [R]."""
        scaled_RV = (values_RV - self.mean_V) / self.std_V
        out: Floats = np.sqrt(np.mean(scaled_RV * scaled_RV, axis=1))
        return out


@dataclass(frozen=True, kw_only=True)
class InputFacts:
    """What training segments were like."""

    segments: int
    missing: Mapping[str, float]
    """Share of the segments that lack a part, by FLAGS; those that the model reads."""
    features: Mapping[str, FeatureFacts]
    """By FEATURES."""


def measure_inputs(data: SegmentData) -> InputFacts:
    """Look at training segments, evenly some thousand of them."""
    flags = {
        "visual": data.has_visual_S,
        "speech": data.has_speech_S,
        "comments": data.has_comments_S,
    }
    parts = {"visual": (data.visual_SV, data.has_visual_S), "text": (data.text_ST, data.has_text_S)}
    if (sound := data.extra.get("sound")) is not None:
        flags["sound"], parts["sound"] = sound.has_S, (sound.values_SX, sound.has_S)
    features = {}
    for name, (values_SV, has_S) in parts.items():
        rows = torch.nonzero(has_S)[:, 0]
        rows = rows[:: 1 + len(rows) // _ROWS]
        # Of a model that encodes by itself no features are stored.
        if data.inputs is None and values_SV.shape[1] and len(rows) >= SHARES:
            features[name] = measure_features(values_SV[rows].double().numpy())
    return InputFacts(
        segments=len(data),
        missing={name: float((~has_S).double().mean()) for name, has_S in flags.items()},
        features=features,
    )


def measure_features(values_RV: Floats) -> FeatureFacts:
    """Mean, spread and distances of some segments' features."""
    # As they are stored: what is measured again from the file's numbers is then the same.
    mean_V, std_V = (_rounded(x) for x in (values_RV.mean(0), values_RV.std(0).clip(_FLAT)))
    bare = FeatureFacts(mean_V=mean_V, std_V=std_V, edges=np.empty(0))
    inner = np.linspace(0, 1, SHARES + 1)[1:-1]
    edges = _rounded(np.quantile(bare.distances(values_RV), inner))
    return FeatureFacts(mean_V=mean_V, std_V=std_V, edges=edges)


def _rounded(values: Floats) -> Floats:
    return np.array([float(f"{value:.5g}") for value in values])


def write_inputs(folder: Path, facts: InputFacts) -> None:
    """Keep them in a checkpoint's folder."""
    features = {
        name: {"mean": x.mean_V.tolist(), "std": x.std_V.tolist(), "edges": x.edges.tolist()}
        for name, x in facts.features.items()
    }
    values = {"segments": facts.segments, "missing": dict(facts.missing), "features": features}
    write_json(folder / FILE, values)


def read_inputs(folder: Path, spec: DataSpec | None = None) -> InputFacts | None:
    """Those of a checkpoint's folder; None where it has none.

    Args:
        folder: the checkpoint's.
        spec: what the model takes, which they must be of; None: nobody compares with them.

    Raises:
        InputError: the file is damaged, or of another model; names the field.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    values = read_json(path)
    segments, missing = values.get("segments"), _mapping(path, values, "missing")
    if not isinstance(segments, int):
        raise InputError(f"{path}: field 'segments' must be a whole number, not {segments!r}")
    for name, share in missing.items():
        if name not in FLAGS or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise InputError(f"{path}: field 'missing.{name}' must be a share of one of {FLAGS}")
    features = _mapping(path, values, "features")
    facts = InputFacts(
        segments=segments,
        missing={name: float(share) for name, share in missing.items()},
        features={name: _features(path, name, found) for name, found in features.items()},
    )
    for name, found in facts.features.items() if spec is not None else ():
        wanted, width = getattr(spec, f"{name}_dim"), len(found.mean_V)
        if width != wanted:
            raise InputError(
                f"{path}: field 'features.{name}.mean' must be {wanted} numbers, as the model "
                f"takes, not {width}"
            )
    return facts


def _mapping(path: Path, values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    if not isinstance(found, dict):
        raise InputError(f"{path}: field {name!r} must be an object")
    return found


def _features(path: Path, name: str, values: Any) -> FeatureFacts:
    try:
        mean_V, std_V, edges = (np.array(values[x], np.float64) for x in ("mean", "std", "edges"))
    except (KeyError, TypeError, ValueError):
        mean_V = std_V = edges = np.array(math.nan)
    numbers = all(x.ndim == 1 and np.isfinite(x).all() for x in (mean_V, std_V, edges))
    if name not in FEATURES or not numbers or len(mean_V) != len(std_V) or not (std_V > 0).all():
        raise InputError(
            f"{path}: field 'features.{name}' must hold mean, std (above 0, as many) and edges"
        )
    if len(edges) != SHARES - 1 or (np.diff(edges) < 0).any():
        raise InputError(f"{path}: field 'features.{name}.edges' must be {SHARES - 1}, rising")
    return FeatureFacts(mean_V=mean_V, std_V=std_V, edges=edges)
