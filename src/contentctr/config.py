"""Every setting, with the paper's values as defaults (recipes.py has the recipes).

A Config is made of frozen dataclasses that check themselves; checkpoints and metrics have theirs.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from contentctr.errors import InputError, near, require

COUNT_COLUMNS = (
    "exposures",
    "clicks",
    "comment_count",
    "likes",
    "gifts",
    "follows",
    "enters",
    "exits",
)
"""Actions that are counted in a segment."""
LATE_COMMENTS = ("comments_last_sixth", "comments_last_third", "comments_last_two_thirds")
"""How many of a segment's comments came in its last part; of 30 s, in the last 5, 10 and 20 s."""
EXTRA_TOKENS = ("statistics", "sound")
"""Content tokens beyond the paper's two, each a setting of ModelConfig, off by default."""

T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """The numbers that a setting may be: what is checked is what `contentctr settings` lists.

    Args:
        low: the smallest.
        high: the largest.
        above_low: `low` itself is not allowed.
        below_high: `high` itself is not allowed.
        words: said in place of the ends.
    """

    low: float
    high: float = math.inf
    above_low: bool = False
    below_high: bool = False
    words: str = ""

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.above_low else value >= self.low
        return above and (value < self.high if self.below_high else value <= self.high)

    def __str__(self) -> str:
        if self.words or self.high == math.inf:
            return self.words or f"{'above' if self.above_low else 'at least'} {self.low:g}"
        ends = "(" if self.above_low else "[", ")" if self.below_high else "]"
        return f"in {ends[0]}{self.low:g}, {self.high:g}{ends[1]}"


MAX_SIZE, MAX_LAYERS = 65_536, 256
"""Of what is wide or long in a model, and of its layers: a checkpoint of somebody else's that
claims more would take all memory before its weights were looked at."""

Count = Annotated[int, Range(1)]
Width = Annotated[int, Range(1, MAX_SIZE)]
Depth = Annotated[int, Range(1, MAX_LAYERS)]
Number = Annotated[int, Range(0)]
Size = Annotated[float, Range(0)]
Positive = Annotated[float, Range(0, above_low=True)]
Share = Annotated[float, Range(0, 1, below_high=True)]
PairKind = Literal["none", "L0", "L1", "L2", "L3"]
AlignReading = Literal["distance", "similarity"]
LearningRate = Literal["constant", "cosine"]
Precision = Literal["no", "bf16"]
CountValues = Literal["buckets", "dense"]
CrossKind = Literal["mixture", "low_rank", "matrix"]
FrameChoice = Literal["exact", "keyframe"]
"""Which picture of a video stands for a time (rooms/frames.py)."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which windows of the prepared data are samples (Section 4.1.1).

    Of videos with personalized highlights (Section 4.1.2) only `window_len` counts.
    """

    window_len: Width = 20
    """n, consecutive segments in a window; of a video, frames."""
    stride: Count = 1
    """Segments between the starts of two training windows of a room."""
    min_viewers: Number = 10
    """A window is a sample only if its last segment has so many viewers. The paper does not give
    its number. Not applied to targets other than CTR."""
    horizon: Annotated[int, Range(-MAX_SIZE, 1, words="1 at most, and above -data.window_len")] = 0
    """0: a segment's score predicts its own CTR; 1: the next segment's; -k: that of the segment k
    before, of which so many later ones are known then (look-ahead): a score comes k segments later.
    """
    short_windows: bool = False
    """Also use rooms shorter than `window_len`, as one window padded on the right."""

    def __post_init__(self) -> None:
        _check_ranges(self, "data")
        require(
            self.horizon > -self.window_len,
            "data.horizon",
            f"above -data.window_len ({-self.window_len})",
            self.horizon,
        )

    @property
    def look_ahead(self) -> int:
        """Segments after the predicted one that its score depends on."""
        return max(0, -self.horizon)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Sizes of the model (Section 4.3.2)."""

    kind: str = "contentctr"
    """Name of the model: contentctr, one of its variants, or a baseline."""
    d_model: Width = 512
    """d, width of every token; a multiple of num_heads."""
    num_heads: Width = 8
    """n_h, attention heads of width d_model / num_heads (the paper: 64)."""
    perceiver_layers: Depth = 3
    """L of the Perceiver block (Algorithm 1)."""
    decoder_layers: Depth = 3
    """Layers of the causal decoder (Algorithm 2)."""
    ff_mult: Width = 4
    """Hidden width of the feed-forward networks, in d_model."""
    streamer_dim: Width = 64
    """Width of a streamer's embedding, before it is mapped to d_model; an imported table has its
    own."""
    streamer_table: str = ""
    """File of streamers' vectors to import, such as `pretrain streamer` writes; "": learned. The
    ID baselines have tables of their own and leave it alone."""
    dropout: Share = 0.0
    """Dropout after attention and feed-forward; the paper mentions none."""
    feature_dropout: Share = 0.0
    """Dropout of the encoders' features, before their projections; against learning frozen
    features by heart where rooms are few."""
    standardise: bool = False
    """Features are brought to mean 0 and deviation 1 of the training segments, number by number, in
    place of a layer norm. Sentence encoders' features share a large mean, beside which what tells
    them apart is small. Beyond the paper."""
    prior: Share | None = None
    """The output layer's bias starts at the log-odds of this mean target; 0: of the training
    segments' own mean; none: as it is drawn, near the log-odds of a half, where a rare label's
    first epochs go into nothing but learning that it is rare."""
    rotary: bool = False
    """Rotary positions in the decoder; the paper mentions no positions."""
    decoder_lookback: str = ""
    """Segments that each decoder layer sees, itself among them, such as 7,7,8; "": all of the
    window, as in the paper. With 1 + the sum of (each - 1) equal to the window's length the
    decoder can be run on a stream, each segment once, and is the same function as on windows."""
    statistics: bool = False
    """A content token of what the room's viewers did in earlier segments: counts, rates and their
    exponential means. Beyond the paper."""
    sound: bool = False
    """A content token of a segment's sound: loudness, log-mel bands, shares of speech, singing and
    music; needs `encode --sound`. Beyond the paper."""
    content: bool = True
    """Whether pictures and texts are read; without, extra tokens alone: with `statistics`, what the
    rooms' counts tell by themselves (KuaiLive-M3's `stats`)."""
    text: bool = True
    """Of KuaiLive-M3's models: whether texts are read beside the vectors, which its own do not."""
    residual: bool = False
    """The score starts from the exponential mean of the target in earlier segments: its log-odds,
    times a learned number, are added to the model's own. Beyond the paper."""
    words: bool = False
    """What a segment's words and its text's feature say, by least squares, of the target so many
    segments later: a content token, and in sum added to the log-odds. Beyond the paper."""
    wide: bool = False
    """The score has a part that is linear in the statistics' numbers, as Wide&Deep's: norms keep
    the rest within what training rooms showed, and a linear part goes on in rooms that are busier
    than any of them. Needs `statistics`. Beyond the paper."""

    def __post_init__(self) -> None:
        _check_ranges(self, "model")
        require(
            self.d_model % self.num_heads == 0,
            "model.d_model",
            f"a multiple of model.num_heads ({self.num_heads})",
            self.d_model,
        )
        require(
            not self.rotary or self.d_model // self.num_heads % 2 == 0,
            "model.d_model / model.num_heads",
            "even with model.rotary",
            self.d_model // self.num_heads,
        )
        if self.decoder_lookback:
            require(
                len(self.lookbacks) == self.decoder_layers and min(self.lookbacks) >= 1,
                "model.decoder_lookback",
                f"{self.decoder_layers} numbers of at least 1 (one a decoder layer) with commas "
                "between",
                self.decoder_lookback,
            )
        require(
            self.content or bool(self.extra_tokens),
            "model.content",
            f"true, unless one of model.{', model.'.join(EXTRA_TOKENS)} is",
            self.content,
        )
        for name, needs in (("wide", "statistics"), ("words", "content")):
            on = getattr(self, name)
            require(getattr(self, needs) or not on, f"model.{name}", f"false without {needs}", on)

    @property
    def lookbacks(self) -> tuple[int, ...]:
        """What each decoder layer sees, in segments; 0: all of the window."""
        if not self.decoder_lookback:
            return (0,) * self.decoder_layers
        parts = self.decoder_lookback.split(",")
        return tuple(int(part) if part.strip().isdigit() else 0 for part in parts)

    @property
    def extra_tokens(self) -> tuple[str, ...]:
        """Those of EXTRA_TOKENS that are on, in their order."""
        return tuple(name for name in EXTRA_TOKENS if getattr(self, name))

    @property
    def reads_counts(self) -> bool:
        """Whether a score depends on what was counted in earlier segments."""
        return self.statistics or self.residual

    @property
    def receptive_field(self) -> int:
        """Segments that a score depends on through a decoder that looks back; 0: unbounded."""
        return 1 + sum(k - 1 for k in self.lookbacks) if self.decoder_lookback else 0


@dataclass(frozen=True, kw_only=True)
class IdConfig:
    """Sizes of the ID baselines (Section 4.3.1), which the paper does not give."""

    embedding_dim: Width = 8
    """Width of a field's embedding."""
    hidden_dim: Width = 128
    """Width of a hidden layer of the deep part."""
    hidden_layers: Depth = 2
    """Hidden layers of the deep part."""
    deep_dropout: Share = 0.0
    """Dropout in the deep part."""
    counts: CountValues = "buckets"
    """Counts in log-spaced buckets with an embedding each (the paper calls all inputs sparse), or
    as dense values log(1 + count)."""
    same_segment: bool = False
    """A leak, for comparison alone: counts of the predicted segment in place of those of the one
    before. They hold the CTR, and nobody knows them when a score is due: never live."""
    attention_dim: Width = 2
    """DIFM: width of an attention head."""
    attention_heads: Width = 4
    """DIFM: attention heads."""
    cross: CrossKind = "mixture"
    """DCN-M: low-rank mixture of experts, one low-rank matrix, or a full matrix."""
    cross_layers: Depth = 2
    """DCN-M: cross layers."""
    rank: Width = 32
    """DCN-M: rank of a low-rank cross matrix."""
    num_experts: Width = 4
    """DCN-M: experts of the mixture."""

    def __post_init__(self) -> None:
        _check_ranges(self, "ids")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The weighted sum of Eq. 14."""

    point_weight: Size = 0.65
    """lambda_1, of L_point (Eq. 6)."""
    align_weight: Size = 0.15
    """lambda_2, of L_align (Eq. 9); 0 turns it off."""
    pair_weight: Size = 0.20
    """lambda_3, of L_pair (Eq. 10-13); 0 turns it off."""
    positive_weight: Annotated[float, Range(0, 1000)] = 1.0
    """How much more the positive part of a target counts in Eq. 6; 0: the square root of what
    would make both parts even over the training segments (7 where 2 % are positive). The losses
    then see log-odds with the weight's logarithm added: so scores stay what they are, shares, and
    the pairwise loss, which sees differences of scores, is not blind where all are small."""
    pair: PairKind = "L1"
    """Which pairs are active: L0 all, L1 inside the boundary, L2 part 1, L3 part 2, or none."""
    sigma: Positive = 10.0
    """Steepness of the pairwise loss."""
    align: AlignReading = "distance"
    """Reading of Eq. 9: DTW over 1 - cosine with exp(-d), or over cosine with exp(+d)."""
    num_negatives: Count = 8
    """N, shuffled sequences a window is compared with."""
    temperature: Positive = 0.1
    """Temperature of InfoNCE (the paper's second tau, not given)."""

    def __post_init__(self) -> None:
        _check_ranges(self, "loss")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The optimiser and the loop (Section 4.3.2)."""

    epochs: Count = 12
    """Passes over the training windows."""
    batch_size: Count = 48
    """Windows in one optimiser step, over all processes together."""
    block: Count = 1
    """Consecutive windows of a room that come together, in random order of blocks. Above 1 the
    projections and the Perceiver run once for each distinct segment of a batch."""
    micro_batch_size: Number = 0
    """Windows one process puts through the model at once; 0: all of its share of the batch."""
    learning_rate: Positive = 5e-5
    """Of Adam."""
    weight_decay: Size = 0.0
    """Decoupled (AdamW) where above 0; the paper uses plain Adam."""
    schedule: LearningRate = "constant"
    """Of the learning rate; cosine decays to 0 over all epochs."""
    warmup_steps: Number = 0
    """Steps over which the learning rate rises from 0."""
    max_grad_norm: Size = 0.0
    """Gradients are scaled down to this norm; 0: never."""
    hide_streamers: Share = 0.05
    """Share of training windows whose streamer is hidden, so that "unknown" is trained."""
    hide_rooms: Share = 0.5
    """Share of training windows whose room id is hidden. Every test room is unknown, so the ID
    baselines, which alone look at it, must have learned what to say then."""
    finetune_encoders: bool = False
    """Train both encoders too (the paper does); needs `encode --inputs`."""
    encoder_learning_rate: Size = 0.0
    """Of the encoders when they are trained; 0: as `learning_rate`."""
    patience: Number = 0
    """Stop after so many epochs without a better validation score; 0: never."""
    save_every: Number = 0
    """Steps between two saves of `last`; 0: at the end of every epoch only."""
    precision: Precision = "no"
    """Mixed precision; on processors without bfloat16 units it is slower than none."""
    calibrate: bool = True
    """Fit a calibration of live rooms' scores on the validation rooms at the end of the run."""
    seed: Number = 0
    """Of the weights, the order of windows, the shuffles and the hidden streamers."""
    members: Annotated[int, Range(1, 32)] = 1
    """Models, of seeds from `seed` on, whose mean log-odds are the score; each costs as much."""

    def __post_init__(self) -> None:
        _check_ranges(self, "train")
        fits = self.members == 1 or not self.finetune_encoders
        require(fits, "train.members", "1 with train.finetune_encoders", self.members)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that decides what a training run does, apart from its data."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    ids: IdConfig = field(default_factory=IdConfig)

    def __post_init__(self) -> None:
        rule = "false with train.finetune_encoders, whose features change"
        for name in ("standardise", "words"):
            on = getattr(self.model, name)
            require(not (on and self.train.finetune_encoders), f"model.{name}", rule, on)
        field_len = self.model.receptive_field
        require(
            not field_len or field_len <= self.data.window_len,
            "1 + the sum of (each of model.decoder_lookback - 1)",
            f"at most data.window_len ({self.data.window_len})",
            field_len,
        )


def setting_range(kind: Any) -> str:
    """What a setting of a type may be, in words; "" for any text.

    Args:
        kind: the type as `get_type_hints` with `include_extras` has it.
    """
    if get_origin(kind) is Literal:
        return " or ".join(map(str, get_args(kind)))
    if get_origin(kind) in (typing.Union, types.UnionType):
        inner = [setting_range(k) for k in get_args(kind) if k is not type(None)]
        return f"{', '.join(inner)}, or none"
    if kind is bool:
        return "true or false"
    return ", ".join(str(r) for r in getattr(kind, "__metadata__", ()) if isinstance(r, Range))


def _check_ranges(block: Any, where: str) -> None:
    """Stop at the first number outside of its Range."""
    for name, kind in get_type_hints(type(block), include_extras=True).items():
        value = getattr(block, name)
        for part in (kind, *get_args(kind)):
            for rule in getattr(part, "__metadata__", ()):
                inside = value is None or not isinstance(rule, Range) or value in rule
                require(inside, f"{where}.{name}", setting_range(kind), value)


def to_dict(config: Any) -> dict[str, Any]:
    """Nested plain dict of a config dataclass, ready for JSON."""
    return dataclasses.asdict(config)


def from_dict(cls: type[T], values: Mapping[str, Any], *, where: str = "config") -> T:
    """A config dataclass from `to_dict`'s form; unknown and ill-typed fields are errors.

    Raises:
        InputError: names `where`, the field, what it must be and its value.
    """
    hints = get_type_hints(cls)
    require(isinstance(values, Mapping), where, "an object of settings", values)
    unknown = set(values) - set(hints)
    if unknown:
        wrong = sorted(unknown)[0]
        raise InputError(f"{where} has no setting {wrong!r}{near(wrong, hints)}")
    made = {
        name: from_dict(hints[name], value, where=f"{where}.{name}")
        if dataclasses.is_dataclass(hints[name])
        else _coerce(value, hints[name], f"{where}.{name}")
        for name, value in values.items()
    }
    return cls(**made)


def override(config: Config, words: Sequence[str]) -> Config:
    """`config` with `key=value` words applied; a key is `train.epochs`, or `epochs` if unique.

    Raises:
        InputError: names the word, and the nearest setting where the key is unknown.
    """
    values = to_dict(config)
    for word in words:
        key, equals, text = word.partition("=")
        require(bool(equals and key), "a setting", "of the form key=value", word)
        part, name = find_setting(key).split(".")
        values[part][name] = text
    return from_dict(Config, values, where="config")


def find_setting(key: str) -> str:
    """The whole name of a setting, as train.epochs, of that or of its last part alone.

    Raises:
        InputError: there is none, and the nearest are named; or there are several.
    """
    names = [f"{part}.{name}" for part, block in to_dict(Config()).items() for name in block]
    matches = [name for name in names if name == key or name.split(".")[1] == key]
    if len(matches) > 1:
        raise InputError(f"setting {key!r} is ambiguous: {' or '.join(sorted(matches))}")
    if not matches:
        raise InputError(f"there is no setting {key!r}{near_setting(key, names)}")
    return matches[0]


def near_setting(wrong: str, known: Iterable[str]) -> str:
    """`near` for names with their block's before them, which the user may have left out."""
    short = {name.split(".")[-1]: name for name in known}
    return near(wrong.split(".")[-1], short, short)


def _coerce(value: Any, kind: Any, where: str) -> Any:
    """`value` as `kind`; text is parsed, since the command line knows nothing else."""
    if get_origin(kind) is Literal:
        allowed = get_args(kind)
        if value not in allowed:
            rule = f"must be one of {', '.join(allowed)}, not {value!r}"
            raise InputError(f"{where} {rule}{near(str(value), allowed)}")
        return value
    if get_origin(kind) in (typing.Union, types.UnionType):
        if value is None or value == "none":
            return None
        kind = next(k for k in get_args(kind) if k is not type(None))
    if kind is str:
        require(isinstance(value, str), where, "text", value)
        return value
    if kind is bool:
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        require(isinstance(value, bool), where, "true or false", value)
        return value
    if kind not in (int, float):
        raise TypeError(f"{where}: settings of type {kind} are not supported")
    try:
        require(not isinstance(value, bool), where, f"a number ({kind.__name__})", value)
        number = kind(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    exact = number is not None and (isinstance(value, str) or number == value)
    finite = number is not None and number == number and abs(number) != float("inf")
    require(exact and finite, where, f"a number ({kind.__name__})", value)
    return number
