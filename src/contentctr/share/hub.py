"""A checkpoint as a folder of the Hugging Face hub, and its way there.

    OUT/README.md           the model's card
    OUT/config.json         what it is, for the hub's own tools
    OUT/checkpoint.json, vocabulary.json, model.safetensors, calibration.json,
    inputs.json, encoders/

The folder is a checkpoint like any other: all commands take it, and its model has the same id.
"""

from __future__ import annotations

import importlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contentctr import __version__
from contentctr.config import to_dict
from contentctr.errors import InputError
from contentctr.files import atomic, write_json, write_text
from contentctr.outputs import output_folder
from contentctr.score.checkpoint import Checkpoint, load
from contentctr.score.evaluation import read_metrics
from contentctr.score.hub import FILES, endpoint, reason
from contentctr.share.card import model_card

KIND = "a model for the hub"
_OWN = ("README.md", "config.json")
_NAME = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A folder that was written."""

    folder: Path
    files: tuple[str, ...]
    notes: tuple[str, ...]
    """What its owner should know before others see it."""


def require_name(name: str) -> str:
    """`name`, where it can be one on the hub.

    Raises:
        InputError: it cannot.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"--push-to-hub must be OWNER/NAME, not {name!r}")
    return name


def export_hub(
    checkpoint: Checkpoint | Path | str,
    out: Path | str,
    *,
    evaluation: Path | None = None,
    name: str | None = None,
) -> Exported:
    """Write a model's folder for the hub.

    Args:
        checkpoint: a checkpoint or run folder.
        out: a new or empty folder, or one of an earlier export, whose files are replaced.
        evaluation: the folder of an evaluation of it, for the card.
        name: `OWNER/NAME` on the hub, for the card.

    Raises:
        InputError: the checkpoint is damaged or is `out` itself, or the evaluation is not of it.
    """
    out = Path(out)
    checkpoint = checkpoint if isinstance(checkpoint, Checkpoint) else load(checkpoint)
    if out.resolve() == checkpoint.folder.resolve():  # its files would go before they are copied
        raise InputError(f"{out}: is the checkpoint itself; choose another folder")
    metrics = None if evaluation is None else _metrics(checkpoint, evaluation)
    checkpoint.load_model()  # damaged weights are not shared
    copied = sorted(_files(checkpoint.folder))
    with output_folder(out, KIND, [*copied, *_OWN]):
        for file in copied:
            (out / file).parent.mkdir(parents=True, exist_ok=True)
            with atomic(out / file) as temporary:
                shutil.copyfile(checkpoint.folder / file, temporary)
        write_json(out / "config.json", _config(checkpoint))
        card = model_card(checkpoint, metrics, name or f"OWNER/{out.absolute().name}")
        write_text(out / "README.md", card)
    return Exported(folder=out, files=(*copied, *_OWN), notes=tuple(_notes(checkpoint)))


def push(exported: Exported, name: str, *, private: bool = False) -> str:
    """Put a written folder on the hub, with the key that `hf auth login` or $HF_TOKEN gives.

    Args:
        exported: of `export_hub`.
        name: `OWNER/NAME`.
        private: of a new one: whether others see it.

    Returns:
        Its address.

    Raises:
        InputError: the hub cannot be reached, or refuses.
    """
    hub = importlib.import_module("huggingface_hub")
    try:
        api = hub.HfApi(endpoint=endpoint())
        address = api.create_repo(require_name(name), private=private, exist_ok=True)
        api.upload_folder(
            repo_id=name,
            folder_path=exported.folder,
            allow_patterns=list(exported.files),
            commit_message=f"Model of contentctr {__version__}",
        )
    except InputError:
        raise
    except Exception as error:  # of three libraries, and of no common kind
        raise InputError(f"--push-to-hub {name}: {reason(error)}") from None
    return str(address)


def _files(folder: Path) -> Iterator[str]:
    for pattern in FILES:
        for path in folder.glob(pattern.replace("*", "**/*")):
            if path.is_file():
                yield path.relative_to(folder).as_posix()


def _metrics(checkpoint: Checkpoint, evaluation: Path) -> dict[str, Any]:
    """What an evaluation measured.

    Raises:
        InputError: it is of another model.
    """
    found = read_metrics(evaluation, checkpoint.task)
    if found.get("model_id") != checkpoint.model_id:
        raise InputError(
            f"{evaluation}: is an evaluation of another model ({found.get('model_id')}) than "
            f"{checkpoint.folder} ({checkpoint.model_id}); evaluate that one"
        )
    return found


def _config(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "model_type": "contentctr",
        "architectures": [checkpoint.config.model.kind],
        "task": checkpoint.task,
        "model_id": checkpoint.model_id,
        "simulated": checkpoint.spec.simulated,
        "contentctr_version": __version__,
        "config": to_dict(checkpoint.config),
        "data_spec": to_dict(checkpoint.spec),
    }


def _notes(checkpoint: Checkpoint) -> Iterator[str]:
    spec, known = checkpoint.spec, len(checkpoint.vocabulary.streamers)
    if known:
        yield f"vocabulary.json holds the ids of {known:,} streamers: see that others may see them"
    places = {
        "data_spec.visual_encoder": "" if checkpoint.finetuned else spec.visual_encoder,
        "data_spec.text_encoder": "" if checkpoint.finetuned else spec.text_encoder,
        "config.model.streamer_table": checkpoint.config.model.streamer_table or "",
    }
    for name, place in places.items():
        if Path(place).is_absolute():
            yield f"{name} is a path of this machine, which others see and cannot use: {place}"
