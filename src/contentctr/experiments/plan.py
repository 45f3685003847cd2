"""The paper's tables and figures as data: which models are trained, and what the paper reports.

A run is a model's name and the settings that make it, put on top of a recipe. Rows of several
tables that have the same run share it.
"""

from __future__ import annotations

from dataclasses import dataclass

from contentctr.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Run:
    """One model to train, once a seed."""

    name: str
    """Begins the name of its folder."""
    settings: tuple[str, ...] = ()
    """`key=value` words on top of the recipe and the user's own settings."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table, with the paper's numbers on KLive."""

    label: str
    run: Run
    tau: float | None
    """Kendall's tau in the paper; None where the paper has no such row."""
    ratio: float | None = None
    """Mean s/y in the paper (Table 4)."""
    group: str = ""
    """Heading that the row stands under."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of the paper."""

    key: str
    title: str
    rows: tuple[Row, ...]
    with_ratio: bool = False
    """Whether it has the column mean s/y."""
    about: str = ""

    @property
    def runs(self) -> tuple[Run, ...]:
        """What must be trained."""
        return tuple(row.run for row in self.rows)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure of the paper."""

    key: str
    title: str
    runs: tuple[Run, ...]


ID_SETTINGS = (
    "loss.point_weight=1",
    "loss.pair_weight=0",
    "loss.align_weight=0",
    "train.learning_rate=0.001",
)
"""Of every ID baseline: they regress the CTR (Section 4.3.2), so the pointwise loss alone; the
paper does not give their learning rate, and 0.001 is Adam's usual one."""


def _id_run(kind: str) -> Run:
    return Run(name=kind, settings=(f"model.kind={kind}", *ID_SETTINGS))


def _kind_run(kind: str) -> Run:
    return Run(name=kind, settings=(f"model.kind={kind}",))


OURS = Run(name="contentctr")
WITHOUT_ITEM = _kind_run("without_item")
ID_ROWS = tuple(
    Row(label=label, run=_id_run(kind), tau=tau, group="ID-based recommendation methods")
    for label, kind, tau in (
        ("W&D", "wide_deep", 0.5619),
        ("DeepFM", "deepfm", 0.5542),
        ("DIFM", "difm", 0.5697),
        ("DCN-M", "dcn_m", 0.5629),
    )
)
VARIANT_ROWS = tuple(
    Row(label=label, run=_kind_run(kind), tau=tau, group="Variants of ContentCTR")
    for label, kind, tau in (
        ("SelfAttention-plain", "self_attention_plain", 0.5868),
        ("SelfAttention-input", "self_attention_input", 0.5718),
        ("CrossAttention-q", "cross_attention_q", 0.5909),
        ("CrossAttention-kv", "cross_attention_kv", 0.5780),
        ("CrossAttention-qkv", "cross_attention_qkv", 0.5883),
    )
)
TABLE_1 = Table(
    key="table1",
    title="Table 1: methods",
    rows=(
        *ID_ROWS,
        *VARIANT_ROWS,
        Row(label="ContentCTR", run=OURS, tau=0.5919, group="Variants of ContentCTR"),
    ),
)
TABLE_3 = Table(
    key="table3",
    title="Table 3: modalities",
    rows=(
        Row(label="ContentCTR", run=OURS, tau=0.5919),
        Row(label="ContentCTR w/o item", run=WITHOUT_ITEM, tau=0.5868),
        Row(label="ContentCTR w/o text", run=_kind_run("without_text"), tau=0.5718),
        Row(label="ContentCTR w/o visual", run=_kind_run("without_visual"), tau=0.5447),
    ),
)


def _pair_run(number: int, pair: str) -> Run:
    # Active losses keep their weights of Eq. 14, so that rows differ in what they add alone.
    return Run(name=f"model{number}", settings=(f"loss.pair={pair}", "loss.align_weight=0"))


MODEL_2 = _pair_run(2, "L0")
MODEL_3 = _pair_run(3, "L1")
TABLE_4 = Table(
    key="table4",
    title="Table 4: losses",
    with_ratio=True,
    about="Active losses keep their weights of Eq. 14. The paper's alignment loss can be read in "
    "two ways: as written, cosine similarity stands where Eq. 8 speaks of a distance. The row "
    "“as written” follows the letter, and the paper has no number of its own for it.",
    rows=(
        Row(label="Model1: point", run=_pair_run(1, "none"), tau=0.5761, ratio=1.2789),
        Row(label="Model2: point, pair L0", run=MODEL_2, tau=0.5857, ratio=1.3164),
        Row(label="Model3: point, pair L1", run=MODEL_3, tau=0.5872, ratio=1.3021),
        Row(label="Model4: point, pair L2", run=_pair_run(4, "L2"), tau=0.5256, ratio=1.3414),
        Row(label="Model5: point, pair L3", run=_pair_run(5, "L3"), tau=0.5824, ratio=1.2194),
        Row(label="ContentCTR: point, pair L1, align (distance)", run=OURS, tau=0.5919,
            ratio=1.3011),
        Row(label="ContentCTR, align as written (similarity)",
            run=Run(name="align_similarity", settings=("loss.align=similarity",)), tau=None),
    ),
)  # fmt: skip
FIGURE_4 = Picture(
    key="fig4",
    title="Figure 4: curves of rooms",
    runs=(OURS, *(row.run for row in ID_ROWS)),
)
FIGURE_5 = Picture(key="fig5", title="Figure 5: losses during training", runs=(MODEL_2, MODEL_3))
FIGURE_6 = Picture(key="fig6", title="Figure 6: alignment paths", runs=(OURS,))

ITEMS: dict[str, Table | Picture] = {
    item.key: item for item in (TABLE_1, TABLE_3, TABLE_4, FIGURE_4, FIGURE_5, FIGURE_6)
}
"""Everything that can be reproduced, in the page's order."""

DECIDED = ("model.kind", "loss.pair", "loss.align", "train.seed")
"""Settings that the plan decides, and the user may not."""


def choose(what: str) -> tuple[Table | Picture, ...]:
    """The items that a word names: one of ITEMS, or "all".

    Raises:
        InputError: no such item.
    """
    if what == "all":
        return tuple(ITEMS.values())
    if what not in ITEMS:
        raise InputError(f"what must be all or one of {', '.join(ITEMS)}, not {what!r}")
    return (ITEMS[what],)
