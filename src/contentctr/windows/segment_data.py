"""Segments of some rooms with what a model may read of them, ready to be gathered into windows.

Shape suffixes as in batch.py, and: S segments of all rooms in a row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from contentctr.batch import Vocabulary
from contentctr.config import ModelConfig
from contentctr.errors import InputError, require
from contentctr.models.registry import model_type
from contentctr.store.inputs import InputStore
from contentctr.store.mapped import MappedFeatures, MappedRows
from contentctr.store.rooms import COUNT_COLUMNS, SPLITS, PreparedRooms, is_label_name
from contentctr.store.statistics import known_target, table_statistics
from contentctr.store.vectors import FeatureStore, SegmentFeatures

IntArray = npt.NDArray[np.int64]
_TABLE = ("room_id", "streamer_id", "segment", "start_s", "end_s", "viewers", "target")


@dataclass(frozen=True, kw_only=True)
class ExtraRows:
    """What an extra token is made of, or words, [S, X], and whether there is anything, bool [S]."""

    values_SX: Tensor | MappedRows
    has_S: Tensor


@dataclass(frozen=True, kw_only=True)
class SegmentData:
    """The segments of some rooms, one room after the other, ready to be gathered by row.

    Stored features stay in their files: gathering from one file takes as long as from memory. What
    is held in memory is some 120 bytes a segment (an id of more than 12 characters adds its
    length), and as much again in the table that PreparedRooms keeps: 100 million segments take 24
    GB, where their features of width 2 x 1,024 take 400 GB of disk.
    """

    visual_SV: Tensor | MappedRows
    """float16 features; zeros where there are none, and for a model that encodes by itself."""
    text_ST: Tensor | MappedRows
    has_visual_S: Tensor
    has_speech_S: Tensor
    has_comments_S: Tensor
    streamer_S: Tensor
    """int64 row in the model's streamer table, 0 for unknown."""
    known_room_S: Tensor
    """int64 row in the vocabulary of rooms, 0 for unknown."""
    hour_S: Tensor
    """int64 hour of the day (UTC) in which the predicted segment starts, 1 to 24; 0: unknown."""
    next_position_S: Tensor
    """int64 number of the predicted segment in its room."""
    counts_SA: Tensor
    """float32 COUNT_COLUMNS of the segment before the predicted one (with the leak of
    IdConfig.same_segment, of itself); NaN where unknown."""
    target_S: Tensor
    """float32 target of the segment `horizon` after each one; NaN where there is none."""
    viewers_S: Tensor
    """float32 viewers of that same segment; NaN where unknown."""
    room_S: IntArray
    """Number of each segment's room, in the order of the table."""
    table: pl.DataFrame
    """The segments' ids, times, viewers and target of segments.parquet, in the same order. No
    texts: they are the encoder's, and would fill the memory."""
    extra: Mapping[str, ExtraRows] = field(default_factory=dict)
    """What the extra tokens of the model are made of, and words, by their names."""
    mean_logit_S: Tensor | None = None
    """float32 log-odds of the target's exponential mean before the predicted segment; NaN where it
    is not known. None: the model does not ask."""
    inputs: InputStore | None = None
    """Encoder inputs, for a model that encodes by itself."""

    def __len__(self) -> int:
        return len(self.room_S)

    @property
    def has_text_S(self) -> Tensor:
        """Bool [S], whether there is any text."""
        return self.has_speech_S | self.has_comments_S

    @property
    def position_S(self) -> IntArray:
        """Number of each segment in its room, from 0."""
        starts, _ = self.room_bounds
        return np.arange(len(self)) - starts[self.room_S]

    @property
    def room_bounds(self) -> tuple[IntArray, IntArray]:
        """First row of each room, and the row after its last."""
        starts = np.flatnonzero(np.diff(self.room_S, prepend=-1))
        return starts, np.append(starts[1:], len(self.room_S))


def known_ids(segments: pl.DataFrame) -> Vocabulary:
    """Streamers and rooms of the training rooms, sorted."""
    train = segments.filter(pl.col("split") == "train")
    streamers, rooms = (
        sorted(train.filter(pl.col(name) != "")[name].unique().to_list())
        for name in ("streamer_id", "room_id")
    )
    return Vocabulary(streamers=streamers, rooms=rooms)


def load_segments(
    data: PreparedRooms,
    vocabulary: Vocabulary,
    *,
    split: str,
    horizon: int,
    inputs: bool = False,
    content: bool = True,
    model: ModelConfig | None = None,
    same_segment: bool = False,
) -> SegmentData:
    """Segments of one split, or of "all", with their stored features.

    Args:
        data: the prepared folder.
        vocabulary: the model's known ids.
        split: train, val, test or all.
        horizon: which segment's target a segment predicts: DataConfig.horizon.
        inputs: read the stored encoder inputs in place of features.
        content: whether features are wanted at all; without, they have width 0.
        model: whose extra tokens are wanted; None: the paper's two alone.
        same_segment: the leak of IdConfig.same_segment.

    Raises:
        InputError: a table or a feature file is missing, damaged, or does not fit the others; or
            the look-ahead shows comments that the data keeps from their segments.
    """
    if split not in (*SPLITS, "all"):
        raise InputError(f"split must be one of {', '.join(SPLITS)}, all, not {split!r}")
    started = data.rooms().select("room_id", "started_at")
    table = data.segments(texts=False).join(
        started, on="room_id", how="left", maintain_order="left"
    )
    if split != "all":
        table = table.filter(pl.col("split") == split)
    sizes, manifest = model or ModelConfig(), data.manifest()
    lag = manifest["comment_lag"]
    require(
        not (content and lag) or -horizon < lag,
        "data.horizon",
        f"above {-lag} with the data's comment_lag {lag}, or comments that are kept from a segment "
        "would be known to its score",
        horizon,
    )
    # Sound is stored beside the others, in the same files.
    stored = content or sizes.sound
    found = _found(table, data, vocabulary, horizon, inputs=inputs, content=stored)
    if same_segment:
        found = dataclasses.replace(found, counts_SA=_counts(table, -horizon))
    return with_extra(
        found,
        table,
        sizes,
        horizon=horizon,
        target=manifest["target"],
        scale=manifest.get("target_scale", "none"),
    )


def with_extra(
    data: SegmentData,
    table: pl.DataFrame,
    model: ModelConfig,
    *,
    horizon: int,
    target: str,
    scale: str,
) -> SegmentData:
    """The segments with what the model's extra tokens, words and residual form need, and no more.

    Args:
        data: the segments.
        table: theirs, with all counts.
        model: its settings.
        horizon: which segment's target a segment predicts: DataConfig.horizon.
        target: DataSpec.target.
        scale: how that is brought to [0, 1] (DataSpec.target_scale).

    Raises:
        InputError: the residual form is asked for, and the target is not known when a segment ends;
            or statistics with look-ahead or by a model that sees later segments, and the target is
            no label.
    """
    if model.residual and not known_target(target):
        raise InputError(
            f"model.residual must be false with target {target!r}: only the CTR and what is "
            "counted in a segment are known when it has ended"
        )
    # What was counted up to the score's own segment is then known, and would be a counted target's
    # own future, or itself; what people marked is not made of counts.
    require(
        horizon >= 0 or not model.reads_counts or is_label_name(target),
        "data.horizon",
        f"0 or 1 with model.statistics and target {target!r}, as it is below 0 for labels alone",
        horizon,
    )
    # A later segment's statistics hold the counts of this one.
    require(
        not (model.statistics and model_type(model.kind).sees_later) or is_label_name(target),
        "model.statistics",
        f"false with model.kind={model.kind}, which sees later segments, and target {target!r}, "
        "as it is for labels alone",
        model.statistics,
    )
    wanted = {*model.extra_tokens, *(["words"] if model.words else [])}
    extra = {name: rows for name, rows in data.extra.items() if name in wanted}
    if not model.reads_counts:
        return dataclasses.replace(data, extra=extra)
    found = table_statistics(table, horizon=horizon, target=target, scale=scale)
    if model.statistics:
        values_SX, has_S = torch.from_numpy(found.values_RX), torch.from_numpy(found.has_R)
        extra["statistics"] = ExtraRows(values_SX=values_SX, has_S=has_S)
    mean_logit_S = torch.from_numpy(found.mean_logit_R) if model.residual else None
    return dataclasses.replace(data, extra=extra, mean_logit_S=mean_logit_S)


def _found(
    table: pl.DataFrame,
    data: PreparedRooms,
    vocabulary: Vocabulary,
    horizon: int,
    *,
    inputs: bool,
    content: bool,
) -> SegmentData:
    """The segments of a table with what is stored of them."""
    if inputs:
        return _with_inputs(table, data, vocabulary, horizon)
    if not content:
        return from_features(table, _no_features(table.height), vocabulary, horizon=horizon)
    rooms = table.group_by("room_id", maintain_order=True).len()
    found = FeatureStore(data.features_dir).map(dict(rooms.iter_rows()))
    return from_features(table, found, vocabulary, horizon=horizon)


def from_features(
    table: pl.DataFrame,
    found: SegmentFeatures | MappedFeatures,
    vocabulary: Vocabulary,
    *,
    horizon: int,
) -> SegmentData:
    """SegmentData of a segment table and what was encoded of it, in memory or in its files."""
    visual_SV, text_ST = (
        torch.from_numpy(rows) if isinstance(rows, np.ndarray) else rows
        for rows in (found.visual, found.text)
    )
    data = from_arrays(
        table,
        vocabulary,
        visual_SV=visual_SV,
        text_ST=text_ST,
        has_visual_S=torch.from_numpy(found.has_visual),
        has_speech_S=torch.from_numpy(found.has_speech),
        has_comments_S=torch.from_numpy(found.has_comments),
        horizon=horizon,
    )
    data = _with_part(data, "sound", found.sound, found.has_sound)
    return _with_part(data, "words", found.words, found.has_words)


def _with_part(
    data: SegmentData,
    name: str,
    values_SX: npt.NDArray[np.float16] | MappedRows | Tensor | None,
    has_S: npt.NDArray[np.bool_] | Tensor | None,
) -> SegmentData:
    if values_SX is None or has_S is None:
        return data
    values = torch.from_numpy(values_SX) if isinstance(values_SX, np.ndarray) else values_SX
    rows = ExtraRows(values_SX=values, has_S=torch.as_tensor(has_S))
    return dataclasses.replace(data, extra={**data.extra, name: rows})


def from_arrays(
    table: pl.DataFrame,
    vocabulary: Vocabulary,
    *,
    visual_SV: Tensor | MappedRows,
    text_ST: Tensor | MappedRows,
    has_visual_S: Tensor,
    has_speech_S: Tensor,
    has_comments_S: Tensor,
    horizon: int,
    inputs: InputStore | None = None,
) -> SegmentData:
    """SegmentData of a segment table and its features; rooms stand together, in order.

    Args:
        table: of SEGMENTS_SCHEMA; with `started_at` where the hour of the day is known.
        vocabulary: the model's known ids.
        visual_SV: features, as are those that follow.
        text_ST: [S, T].
        has_visual_S: flags, as are those that follow.
        has_speech_S: [S].
        has_comments_S: [S].
        horizon: which segment's target a segment predicts: DataConfig.horizon.
        inputs: encoder inputs, for a model that encodes by itself.
    """

    def column(expression: pl.Expr) -> Tensor:
        return torch.from_numpy(table.select(expression).to_series().to_numpy().copy())

    def of_predicted(name: str) -> pl.Expr:
        return pl.col(name).shift(-horizon).over("room_id").cast(pl.Float32).fill_null(np.nan)

    return SegmentData(
        visual_SV=visual_SV,
        text_ST=text_ST,
        has_visual_S=has_visual_S.bool(),
        has_speech_S=has_speech_S.bool(),
        has_comments_S=has_comments_S.bool(),
        streamer_S=_rows(table["streamer_id"], vocabulary.streamers),
        known_room_S=_rows(table["room_id"], vocabulary.rooms),
        hour_S=column(_hour(table, horizon)),
        next_position_S=column(pl.col("segment").cast(pl.Int64) + horizon),
        counts_SA=_counts(table, 1 - horizon),  # of the segment before the predicted one
        target_S=column(of_predicted("target")),
        viewers_S=column(of_predicted("viewers")),
        room_S=table["room_id"].rle_id().to_numpy().astype(np.int64),
        table=table.select(_TABLE),
        inputs=inputs,
    )


def _rows(ids: pl.Series, known: Sequence[str]) -> Tensor:
    """Row of each id in a table whose entry i stands in row i + 1; 0 where it is not known."""
    row_of = pl.DataFrame(
        {"id": pl.Series(known, dtype=pl.String), "row": np.arange(1, len(known) + 1)}
    )
    found = ids.to_frame("id").join(row_of, on="id", how="left", maintain_order="left")["row"]
    return torch.from_numpy(found.fill_null(0).to_numpy().copy())


def _hour(table: pl.DataFrame, horizon: int) -> pl.Expr:
    """Hour of the day of the predicted segment's start, 1 to 24; 0 where the start is unknown."""
    if "started_at" not in table.columns:
        return pl.lit(pl.Series(np.zeros(table.height, np.int64)))
    ahead_s = horizon * (pl.col("end_s") - pl.col("start_s"))
    start = pl.col("started_at") + pl.duration(milliseconds=1000 * (pl.col("start_s") + ahead_s))
    return (start.dt.hour().cast(pl.Int64) + 1).fill_null(0)


def _counts(table: pl.DataFrame, segments_before: int) -> Tensor:
    """Counts of the segment so many before each row's, [S, A]; NaN where there is none."""
    counts = table.select(
        pl.col(name).shift(segments_before).over("room_id").cast(pl.Float32).fill_null(np.nan)
        for name in COUNT_COLUMNS
    )
    return torch.from_numpy(counts.to_numpy().astype(np.float32))


def _no_features(count: int) -> SegmentFeatures:
    nothing, none = np.zeros((count, 0), np.float16), np.zeros(count, np.bool_)
    return SegmentFeatures(
        visual=nothing, text=nothing, has_visual=none, has_speech=none, has_comments=none
    )


def _with_inputs(
    table: pl.DataFrame, data: PreparedRooms, vocabulary: Vocabulary, horizon: int
) -> SegmentData:
    """Segments whose features the model's own encoders will make."""
    rooms = table.group_by("room_id", maintain_order=True).len()
    store = InputStore(data.inputs_dir, dict(rooms.iter_rows()))
    found = from_arrays(
        table,
        vocabulary,
        visual_SV=_zeros(len(table), store.visual_dim),
        text_ST=_zeros(len(table), store.text_dim),
        has_visual_S=store.has_visual,
        has_speech_S=store.has_speech,
        has_comments_S=store.has_comments,
        horizon=horizon,
        inputs=store,
    )
    return _with_part(found, "sound", store.sound, store.has_sound)


def _zeros(rows: int, width: int) -> Tensor:
    """A float16 matrix of zeros that takes the memory of one."""
    return torch.zeros((), dtype=torch.float16).expand(rows, width)
