"""Checkpoints: a folder of weights, settings and what the data looked like; no pickle anywhere.

    CHECKPOINT/checkpoint.json     format, config, data spec, position and metrics
    CHECKPOINT/calibration.json    what becomes of its scores (calibration.py), once it is trained
    CHECKPOINT/vocabulary.json     known streamers and rooms, in the order of the model's tables
    CHECKPOINT/model.safetensors   weights
    CHECKPOINT/inputs.json         what training segments were like (inputs.py)
    CHECKPOINT/encoders/           fine-tuned encoders, in the form that encode/encoders.py loads
    CHECKPOINT/training/           optimiser state and position of a run, to resume

A run keeps its checkpoints in RUN/checkpoints/step-*; RUN/best and RUN/last are links to them.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from contentctr.batch import DataSpec, Vocabulary
from contentctr.config import Config, from_dict, to_dict
from contentctr.devices import find_device
from contentctr.encode import encoders, words
from contentctr.encode.engines.runtime import runtime_in
from contentctr.encode.sound import SoundEncoder, sound_of_revision
from contentctr.errors import InputError
from contentctr.files import atomic, digest, file_sha256, read_json, write_json
from contentctr.models.end_to_end import EndToEnd
from contentctr.models.registry import build_model, later_segments, model_type, reads_content
from contentctr.models.words import KNOWN, Words
from contentctr.score import calibration as calibrations
from contentctr.score.hub import fetch, is_hub_name
from contentctr.score.weights import (
    load_weights,
    require_shapes,
    save_weights,
    shapes_of,
    stored_shapes,
    without_memory,
)
from contentctr.transcribe.source import difference

FORMAT = 2
_STEP = re.compile(r"step-\d+-epoch-\d+|ensemble-[0-9a-f]{12}")
"""Names of the folders that a run makes for its checkpoints."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint folder that has been read and checked, weights aside."""

    folder: Path
    config: Config
    spec: DataSpec
    vocabulary: Vocabulary
    info: Mapping[str, Any]
    """Position and metrics: epoch, step, and what training saved beside them."""
    calibration: calibrations.Calibration = field(default_factory=calibrations.Calibration)
    """From the model's scores to those that are told."""

    @cached_property
    def model_id(self) -> str:
        """Names the model by its content: 12 hex digits.

        A hash of weights, calibration, settings, streamers and encoders; where the folder lies, and
        how well the model did, do not count.

        Raises:
            InputError: a file cannot be read; names it.
        """
        parts = [*sorted(self.folder.glob("encoders/**/*"))]
        parts += [self.folder / name for name in ("model.safetensors", calibrations.FILE)]
        try:
            hashes = {
                str(path.relative_to(self.folder)): file_sha256(path)
                for path in parts
                if path.is_file()
            }
        except OSError as error:
            raise InputError(f"{self.folder}: cannot be read ({error.strerror})") from None
        known = [list(self.vocabulary.streamers), list(self.vocabulary.rooms)]
        return digest(hashes, to_dict(self.config), to_dict(self.spec), known)[:12]

    @property
    def finetuned(self) -> bool:
        """Whether the encoders were trained too, and lie in the checkpoint."""
        return (self.folder / "encoders").is_dir()

    @property
    def task(self) -> str:
        """What the model predicts (ModelType.task)."""
        return model_type(self.config.model.kind).task

    @property
    def reads_content(self) -> bool:
        """Whether the model needs the encoders' features."""
        return reads_content(self.config.model)

    @property
    def later_segments(self) -> int:
        """Segments after the predicted one that its score may depend on."""
        return later_segments(self.config)

    @property
    def trained_on(self) -> DataSpec:
        """The data spec as training found it: of encoders as they were before fine-tuning."""
        before = self.info.get("inputs_from", {})
        return from_dict(DataSpec, {**to_dict(self.spec), **before}, where=str(self.folder))

    def encoder_source(self, part: str) -> str:
        """Where encode/encoders.py finds the `visual` or `text` encoder."""
        if self.finetuned:
            return str(self.folder / "encoders" / part)
        return self.spec.visual_encoder if part == "visual" else self.spec.text_encoder

    def require_fits(self, data: DataSpec, where: Path | str) -> None:
        """Stop where data does not look like what the model was trained on.

        Raises:
            InputError: names `where`, the field, what the model needs and what the data has.
        """
        wanted, found = to_dict(self.trained_on), to_dict(data)
        # A revision says more than a name; speech from elsewhere is a warning (`speech_warnings`).
        free = {"simulated", "visual_encoder", "text_encoder", "speech_source"}
        # Engines of one precision are equal to rounding, and precisions near enough for a model
        # (docs/decisions.md, "Inference engines").
        free |= {f"{part}_{x}" for part in ("visual", "text") for x in ("engine", "precision")}
        if not self.config.model.reads_counts:
            free.add("statistics_dim")
        if not self.config.model.sound:
            free |= {"sound_dim", "sound_revision"}
        if not self.config.model.words:
            free |= {"words_dim", "words_revision"}
        wrong = [n for n in wanted if n not in free and found[n] != wanted[n]]
        if wrong:
            raise InputError(
                f"{where}: does not fit the checkpoint {self.folder}: "
                + "; ".join(f"{n} must be {wanted[n]!r}, not {found[n]!r}" for n in wrong)
            )

    def speech_warnings(self, source: str) -> list[str]:
        """What to tell of speech from other sources than the model was trained on.

        Args:
            source: of `join_sources`.
        """
        note = difference(self.spec.speech_source, source)
        return [note] if note else []

    def load_model(self, device: torch.device | str = "cpu") -> nn.Module:
        """The model with its weights, in evaluation mode.

        Raises:
            InputError: the weights are damaged or do not fit the settings; names the file.
        """
        path = self.folder / "model.safetensors"
        with without_memory():
            shapes = shapes_of(build_model(self.config, self.spec, self.vocabulary).state_dict())
        require_shapes(path, shapes, stored_shapes(path))
        model = build_model(self.config, self.spec, self.vocabulary)
        load_weights(model, path)
        _require_rows(model, path)
        return model.to(find_device(device)).eval()

    def require_words(self) -> None:
        """Stop where texts' words are no longer what the model learned from.

        Raises:
            InputError: this version makes other numbers of them.
        """
        if self.config.model.words and self.spec.words_revision != words.REVISION:
            raise InputError(
                f"{self.folder}: words_revision must be {words.REVISION!r} to read words as this "
                f"version does, not {self.spec.words_revision!r}; encode and train again"
            )

    def load_sound(self) -> SoundEncoder | None:
        """What makes the sound's features that the model reads; None if it reads none.

        Raises:
            InputError: it is not what the model was trained with.
        """
        if not self.config.model.sound:
            return None
        try:
            return sound_of_revision(self.spec.sound_revision)
        except InputError as error:
            raise InputError(f"{self.folder}: {error}") from None

    def load_visual(
        self,
        device: torch.device | str = "cpu",
        *,
        engine: str | None = None,
        notes: list[str] | None = None,
    ) -> encoders.ImageEncoder:
        """The visual encoder the model was trained with.

        Args:
            device: where it is put.
            engine: what runs it, frozen then and in the precision of the features that the model
                learned from, as `encoders.for_inference` has it; None: torch, to be trained too.
            notes: what the user should know of the engine is added to it.

        Raises:
            InputError: it cannot be had, is not the one the model was trained with, or the engine
                cannot be had.
        """
        visual = encoders.load_visual(self.encoder_source("visual"), device=find_device(device))
        self.require_revision("visual", visual.revision)
        return self._run_by(visual, "visual", engine, notes)

    def load_text(
        self,
        device: torch.device | str = "cpu",
        *,
        engine: str | None = None,
        notes: list[str] | None = None,
    ) -> encoders.TextPairEncoder:
        """The text encoder the model was trained with; as `load_visual`."""
        text = encoders.load_text(
            self.encoder_source("text"),
            pooling=self.spec.text_pooling,
            prefix=self.spec.text_prefix,
            max_tokens=self.spec.max_text_tokens,
            device=find_device(device),
        )
        self.require_revision("text", text.revision)
        return self._run_by(text, "text", engine, notes)

    def _run_by(
        self, encoder: encoders.E, part: str, engine: str | None, notes: list[str] | None
    ) -> encoders.E:
        if engine is None:
            return encoder
        like = runtime_in(self.spec, part)
        return encoders.for_inference(encoder, engine=engine, like=like, notes=notes)

    def load_encoders(
        self,
        device: torch.device | str = "cpu",
        *,
        engine: str | None = None,
        notes: list[str] | None = None,
    ) -> tuple[encoders.ImageEncoder, encoders.TextPairEncoder]:
        """Both encoders; as `load_visual`."""
        return (
            self.load_visual(device, engine=engine, notes=notes),
            self.load_text(device, engine=engine, notes=notes),
        )

    def require_revision(self, part: str, found: str) -> None:
        """Stop where an encoder at hand is not the very one that the model was trained with.

        Args:
            part: visual or text.
            found: the encoder's revision.

        Raises:
            InputError: names the encoder and both revisions.
        """
        wanted = getattr(self.spec, f"{part}_revision")
        if found != wanted:
            raise InputError(
                f"{self.folder}: the {part} encoder {self.encoder_source(part)!r} must have "
                f"revision {wanted}, which the model was trained with, not {found}"
            )

    def load_end_to_end(self, device: torch.device | str = "cpu") -> nn.Module:
        """The model with its fine-tuned encoders in front, in evaluation mode."""
        visual, text = self.load_encoders(device)
        return EndToEnd(self.load_model(device), visual, text).eval()


def _require_rows(model: nn.Module, path: Path) -> None:
    """Stop where a table of words has numbers that are no rows: each is looked up unseen."""
    for name, part in model.named_modules():
        if not isinstance(part, Words):
            continue
        wrong = part.row_U[(part.row_U < 0) | (part.row_U >= KNOWN)].tolist()
        if wrong:
            raise InputError(
                f"{path}: weight '{name}.row_U' must be in [0, {KNOWN - 1}], not {wrong[0]}"
            )


def load(path: Path | str) -> Checkpoint:
    """Read a checkpoint folder, or the best (else the last) checkpoint of a run folder.

    Args:
        path: the folder; or `hf://OWNER/NAME`, which is fetched from the Hugging Face hub.

    Raises:
        InputError: not a checkpoint, of another format, or damaged; or it cannot be fetched.
    """
    folder = fetch(path) if is_hub_name(path) else Path(path)
    for name in ("best", "last"):
        if not (folder / "checkpoint.json").is_file() and (folder / name).exists():
            folder = folder / name
    folder = folder.resolve()
    if not (folder / "checkpoint.json").is_file():
        half = (folder / "members").is_dir()  # of an ensemble, of which none stands for all
        why = "its members are not all trained" if half else "it has no checkpoint.json"
        raise InputError(f"{path}: not a checkpoint ({why})")
    values = read_json(folder / "checkpoint.json")
    if values.get("format") != FORMAT:
        raise InputError(
            f"{folder / 'checkpoint.json'}: format must be {FORMAT}, not {values.get('format')!r}"
        )
    where = str(folder / "checkpoint.json")
    vocabulary = _read_vocabulary(folder / "vocabulary.json")
    try:
        config = from_dict(Config, values.get("config", {}), where="config")
        spec = from_dict(DataSpec, values.get("data_spec", {}), where="data_spec")
    except InputError as error:  # a rule of one setting does not know the file
        raise InputError(f"{where}: {error}") from None
    return Checkpoint(
        folder=folder,
        config=config,
        spec=spec,
        vocabulary=vocabulary,
        info=values.get("info", {}),
        calibration=calibrations.read_calibration(folder),
    )


def load_for(checkpoint: Checkpoint | Path | str, task: str) -> Checkpoint:
    """A checkpoint, read if it is not yet, of a model for `task` (ModelType.task).

    Raises:
        InputError: as `load`; or its model is for another task.
    """
    found = checkpoint if isinstance(checkpoint, Checkpoint) else load(checkpoint)
    if found.task != task:
        raise InputError(
            f"{found.folder}: must be a model of {task} here; its model.kind "
            f"{found.config.model.kind!r} is one of {found.task}"
        )
    return found


def require_no_leak(config: Config) -> None:
    """Refuse a model that reads what nobody knows when its score is due.

    Raises:
        InputError: it was trained with counts of the very segments that it scores.
    """
    if config.ids.same_segment:
        raise InputError(
            "ids.same_segment must be false to score rooms of which the outcome is not known: the "
            "counts of a segment are not known when its score is due, so this model "
            f"({config.model.kind}) can only be evaluated"
        )


def require_live(config: Config) -> None:
    """Refuse a model that cannot score a room while it is live.

    Raises:
        InputError: as `require_no_leak`; or its scores depend on later segments.
    """
    require_no_leak(config)
    if model_type(config.model.kind).sees_later:
        raise InputError(
            "model.kind must be contentctr or another whose scores depend on no later segment to "
            f"score live rooms, not {config.model.kind!r}: it scores recordings (predict, "
            "evaluate), as a whole"
        )


def _read_vocabulary(path: Path) -> Vocabulary:
    values = read_json(path)
    for name in ("streamers", "rooms"):
        ids = values.get(name)
        if not isinstance(ids, list) or not all(isinstance(entry, str) for entry in ids):
            raise InputError(f"{path}: field {name!r} must be a list of text")
    return Vocabulary(streamers=values["streamers"], rooms=values["rooms"])


def save(
    folder: Path,
    model: nn.Module,
    *,
    config: Config,
    spec: DataSpec,
    vocabulary: Vocabulary,
    info: Mapping[str, Any],
) -> None:
    """Write a checkpoint folder, whole or not at all; it must not exist. See `write`."""
    with atomic(folder) as temporary:
        temporary.mkdir()
        write(temporary, model, config=config, spec=spec, vocabulary=vocabulary, info=info)


def write(
    folder: Path,
    model: nn.Module,
    *,
    config: Config,
    spec: DataSpec,
    vocabulary: Vocabulary,
    info: Mapping[str, Any],
) -> None:
    """Write a checkpoint into a folder.

    Args:
        folder: where; empty.
        model: the model, or an EndToEnd around it and its encoders.
        config: settings of the run.
        spec: of the data the model is trained on.
        vocabulary: known ids, in the order of the model's tables.
        info: JSON-ready position and metrics.
    """
    if isinstance(model, EndToEnd):
        encoders.save(model.visual, folder / "encoders" / "visual")
        encoders.save(model.text, folder / "encoders" / "text")
        # Stored inputs are cut and tokenised by the encoders as they were before training.
        before = ("visual_revision", "text_revision")
        info = {**info, "inputs_from": {name: getattr(spec, name) for name in before}}
        spec = _fitted(spec, model)
        model = model.core
    save_weights(model, folder / "model.safetensors")
    known = {name: list(getattr(vocabulary, name)) for name in ("streamers", "rooms")}
    write_json(folder / "vocabulary.json", known)
    write_json(
        folder / "checkpoint.json",
        {
            "format": FORMAT,
            "config": to_dict(config),
            "data_spec": to_dict(spec),
            "info": dict(info),
        },
    )


def _fitted(spec: DataSpec, model: EndToEnd) -> DataSpec:
    """The data spec with the revisions that training gave the encoders."""
    visual, text = str(model.visual.revision), str(model.text.revision)
    return DataSpec(**{**to_dict(spec), "visual_revision": visual, "text_revision": text})


def point_to(link: Path, folder: Path) -> None:
    """Make `link` a link to `folder` (relative), replacing an older link in one step."""
    with atomic(link) as temporary:
        temporary.symlink_to(os.path.relpath(folder, link.parent), target_is_directory=True)


def prune(run: Path) -> None:
    """Remove the run's checkpoints that neither `best` nor `last` points to, and nothing else."""
    wanted = {(run / name).resolve() for name in ("best", "last")}
    for folder in sorted((run / "checkpoints").iterdir()):
        if _STEP.fullmatch(folder.name) and folder.resolve() not in wanted:
            shutil.rmtree(folder)
