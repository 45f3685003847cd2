"""A new run that starts from another run's weights: what fits is taken over, and what was is told.

Other rooms have other streamers, and another target another level: tables of ids keep the rows of
known ids, and an output layer of another target may start anew. All else must fit.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from contentctr.batch import DataSpec, Vocabulary
from contentctr.config import Config
from contentctr.counting import counted
from contentctr.errors import InputError
from contentctr.files import file_sha256
from contentctr.models.ensemble import member_prefix
from contentctr.score.checkpoint import Checkpoint, load_for
from contentctr.score.weights import load_tensors

_MODEL_FIELDS = (
    "kind",
    "d_model",
    "num_heads",
    "perceiver_layers",
    "decoder_layers",
    "ff_mult",
    "streamer_dim",
    "rotary",
    "standardise",
)
"""Of ModelConfig, what both runs must agree on; the others have no weights or add their own."""
_ID_FREE = ("deep_dropout",)
"""Of IdConfig, what may differ."""
_OUTPUT = ("head.", "residual.", "wide.", "words.share_PK")
"""How names begin of weights that make log-odds."""
_TABLES = {"streamer.table.weight": ("streamers",), "fields.table.weight": ("streamers", "rooms")}
"""Weights whose first rows are ids: for each vocabulary in turn the unknown one, then the known."""


_OWN = "streamer.table_UE"
"""An imported table is the new run's own, whatever the other one imported."""


@dataclass(frozen=True, kw_only=True)
class InitFrom:
    """The run that a new one starts from."""

    checkpoint: Checkpoint
    new_head: bool | None = None
    """Whether the output layer starts anew; None: where the target is another."""
    member: int = 0
    """Which member's weights are taken over, where it is an ensemble."""

    def weights(self) -> dict[str, Tensor]:
        """Those of the member."""
        tensors = load_tensors(self.checkpoint.folder / "model.safetensors")
        if self.checkpoint.config.train.members == 1:
            return tensors
        prefix = member_prefix(self.member)
        return {
            name.removeprefix(prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }

    def described(self) -> dict[str, Any]:
        """Which weights they are: what a resumed run must agree on."""
        weights = self.checkpoint.folder / "model.safetensors"
        return {
            "checkpoint": str(self.checkpoint.folder),
            "weights": file_sha256(weights),
            "new_head": self.new_head,
        }


def open_init(
    run: Checkpoint | Path | str,
    task: str,
    *,
    new_head: bool | None = None,
    member: int = 0,
    members: int = 1,
) -> InitFrom:
    """The best checkpoint of a run, or a checkpoint, to start from.

    Args:
        run: the run or checkpoint.
        task: of the new run's model.
        new_head: as InitFrom has it.
        member: which of the new run's members starts.
        members: how many it has; each starts from its own of an ensemble, or all from one model.

    Raises:
        InputError: it is none, or of a model for another task, or of other members.
    """
    checkpoint = load_for(run, task)
    theirs = checkpoint.config.train.members
    if theirs not in (1, members):
        raise InputError(
            f"{checkpoint.folder}: train.members must be {theirs} to start from it, not {members}"
        )
    return InitFrom(checkpoint=checkpoint, new_head=new_head, member=member)


def take_over(
    model: nn.Module, init: InitFrom, config: Config, spec: DataSpec, vocabulary: Vocabulary
) -> dict[str, Any]:
    """Fill a fresh model with the weights of another run that fit.

    A known id keeps its row of a table of ids; a new one starts as the unknown one. Weights that
    the other run does not have, of an added token say, stay as they were drawn.

    Args:
        model: of `config`, without encoders around it.
        init: the other run.
        config: settings of the new run.
        spec: of its data.
        vocabulary: its known ids.

    Returns:
        What was taken over, JSON-ready: `taken`, `new` and `left` are names of weights.

    Raises:
        InputError: the runs differ in a width or a kind; names the field.
    """
    checkpoint = init.checkpoint
    _require_same(checkpoint, config, spec)
    before, theirs = checkpoint.vocabulary, init.weights()
    mine = model.state_dict()
    another = _level(config, spec) != _level(checkpoint.config, checkpoint.spec)
    new_head = another if init.new_head is None else init.new_head
    fresh = {_OWN, *_words_anew(model, theirs)}
    fresh |= _output_layer(model) if new_head else set()
    taken = {}
    for name in mine.keys() & theirs.keys() - fresh:
        found = theirs[name]
        if name in _TABLES:
            found = _matched(found, [_ids(v, name) for v in (vocabulary, before)])
        if found.shape != mine[name].shape:
            raise InputError(
                f"{checkpoint.folder}: weight {name!r} must have shape {tuple(mine[name].shape)} "
                f"to start from, not {tuple(found.shape)}"
            )
        taken[name] = found
    model.load_state_dict({**mine, **taken})
    known = set(before.streamers)
    return {
        **init.described(),
        "target": checkpoint.spec.target,
        "head": "new" if new_head else "taken over",
        "taken": sorted(taken),
        "new": sorted(mine.keys() - taken.keys()),
        "left": sorted(theirs.keys() - taken.keys()),
        "streamers_known": sum(name in known for name in vocabulary.streamers),
        "streamers_new": sum(name not in known for name in vocabulary.streamers),
    }


def told(report: Mapping[str, Any]) -> str:
    """What `take_over` did, in a sentence or two."""
    words = (
        f"started from {report['checkpoint']} (target {report['target']}): "
        f"{len(report['taken'])} weights taken over, output layer {report['head']}; "
        f"{counted(report['streamers_known'], 'streamer')} known, {report['streamers_new']} new"
    )
    if report["new"]:
        words += f"; new: {', '.join(report['new'])}"
    if report["left"]:
        words += f"; left: {', '.join(report['left'])}"
    return words


def _require_same(checkpoint: Checkpoint, config: Config, spec: DataSpec) -> None:
    """Stop at the first field in which the runs differ."""
    pairs: list[tuple[str, Any, Any, str]] = []
    pairs += [(f"model.{n}", config.model, checkpoint.config.model, n) for n in _MODEL_FIELDS]
    if not checkpoint.reads_content:
        names = [n for n in vars(config.ids) if n not in _ID_FREE]
        pairs += [(f"ids.{n}", config.ids, checkpoint.config.ids, n) for n in names]
    else:
        dims = ("visual_dim", "text_dim")
        pairs += [(f"data_spec.{n}", spec, checkpoint.spec, n) for n in dims]
    for field, mine, theirs, name in pairs:
        wanted, found = getattr(theirs, name), getattr(mine, name)
        if wanted != found:
            raise InputError(
                f"{checkpoint.folder}: {field} must be {wanted!r} to start from it, not {found!r}"
            )
    for part in ("visual", "text") if checkpoint.reads_content else ():
        now, then = (getattr(s, f"{part}_revision") for s in (spec, checkpoint.spec))
        if now != then:
            warnings.warn(
                f"{checkpoint.folder}: has learned from features of another {part} encoder "
                f"({then}) than this data has ({now})",
                stacklevel=3,
            )


def _level(config: Config, spec: DataSpec) -> tuple[object, ...]:
    """What the output layer's numbers are of."""
    return spec.target, spec.target_scale, config.model.residual


def _output_layer(model: nn.Module) -> set[str]:
    """Names of the weights that turn the last layer into log-odds."""
    bias = getattr(model, "output_bias", None)
    return {
        name
        for name, weight in model.named_parameters()
        if weight is bias or name.startswith(_OUTPUT)
    }


def _words_anew(model: nn.Module, theirs: Mapping[str, Tensor]) -> set[str]:
    """Names of what words start with anew: what is fitted, and all if the runs' lags differ.

    Of rooms that both runs have, what the other one fitted would say too much.
    """
    words = getattr(model, "words", None)
    if words is None:
        return set()
    share = theirs.get("words.share_PK")
    same = share is not None and share.shape == words.share_PK.shape
    fitted = dict(words.named_buffers()) if same else words.state_dict()
    return {f"words.{name}" for name in fitted}


def _ids(vocabulary: Vocabulary, table: str) -> list[Sequence[str]]:
    return [getattr(vocabulary, name) for name in _TABLES[table]]


def _matched(theirs: Tensor, ids: Sequence[Sequence[Sequence[str]]]) -> Tensor:
    """A table with a row for each id of mine: theirs where they have it, else their unknown one's.

    Args:
        theirs: their table; rows beyond its ids are kept.
        ids: of each vocabulary of the table, mine and theirs.
    """
    parts, first = [], 0
    for mine, known in zip(*ids, strict=True):
        row_of = {name: 1 + number for number, name in enumerate(known)}
        rows = [first + row for row in (0, *(row_of.get(name, 0) for name in mine))]
        parts.append(theirs[torch.tensor(rows)])
        first += 1 + len(known)
    return torch.cat([*parts, theirs[first:]])
