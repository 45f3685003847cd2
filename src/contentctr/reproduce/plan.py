"""The paper's tables and figures as data: which models are trained, and what the paper reports.

A run is a model's name and the settings that make it, put on top of a recipe. Rows of several
tables that have the same run share it.
"""

from __future__ import annotations

from collections.abc import Mapping

from contentctr.config import EXTRA_TOKENS
from contentctr.errors import InputError
from contentctr.reproduce.rows import Metric, Picture, Reference, Row, Run, Table, TaskPlan

# CTR of live rooms, in the paper KLive

OURS = Run(name="contentctr")
ROOMS = TaskPlan(
    key="rooms",
    data="live rooms",
    ours=OURS,
    name="ContentCTR",
    recipe="paper",
    decided=("model.kind", "ids.same_segment", "loss.pair", "loss.align", "train.seed"),
)
TAU = Metric(key="kendall_tau", heading="tau")
TAU_IN_ROOMS = Metric(key="kendall_tau_in_rooms", heading="tau inside a room")
RATIO = Metric(key="mean_ratio", heading="mean s/y")


def _tau(tau: float) -> Mapping[str, float]:
    return {TAU.key: tau}


def _losses(tau: float, ratio: float) -> Mapping[str, float]:
    return {TAU.key: tau, RATIO.key: ratio}


ID_SETTINGS = (
    "loss.point_weight=1",
    "loss.pair_weight=0",
    "loss.align_weight=0",
    "train.learning_rate=0.001",
    *(
        f"model.{name}=false"
        for name in (*EXTRA_TOKENS, "residual", "wide", "words", "standardise")
    ),
    "model.content=true",
)
"""Of every ID baseline: they regress the CTR (Section 4.3.2), so the pointwise loss alone; the
paper does not give their learning rate, and 0.001 is Adam's usual one. Extra tokens that the user
may want of the others they cannot take."""


def _id_run(kind: str) -> Run:
    return Run(name=kind, settings=(f"model.kind={kind}", *ID_SETTINGS))


def _leaking(row: Row) -> Row:
    """An ID baseline that is given the outcome, which the paper's list of inputs allows for."""
    settings = (*row.run.settings, "ids.same_segment=true")
    return Row(
        label=f"{row.label} ({LEAKS})",
        run=Run(name=f"{row.run.name}_same_segment", settings=settings),
        group=LEAKING,
    )


def _kind_run(kind: str) -> Run:
    return Run(name=kind, settings=(f"model.kind={kind}",))


LEAKS = "leaks: counts of the same segment"
LEAKING = "Not comparable: ID-based methods that are given the outcome"
WITHOUT_ITEM = _kind_run("without_item")
WITHOUT_TEXT = Run(name="without_text", settings=("model.kind=without_text", "model.words=false"))
ID_ROWS = tuple(
    Row(label=label, run=_id_run(kind), paper=_tau(tau), group="ID-based recommendation methods")
    for label, kind, tau in (
        ("W&D", "wide_deep", 0.5619),
        ("DeepFM", "deepfm", 0.5542),
        ("DIFM", "difm", 0.5697),
        ("DCN-M", "dcn_m", 0.5629),
    )
)
VARIANT_ROWS = tuple(
    Row(label=label, run=_kind_run(kind), paper=_tau(tau), group="Variants of ContentCTR")
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
    task=ROOMS,
    metrics=(TAU, TAU_IN_ROOMS),
    rows=(
        *ID_ROWS,
        *VARIANT_ROWS,
        Row(label="ContentCTR", run=OURS, paper=_tau(0.5919), group="Variants of ContentCTR"),
        *map(_leaking, ID_ROWS),
    ),
    about="The paper's list of inputs of the ID-based methods does not say of which segment their "
    "counts are. Ours are given those of the segment before the predicted one. The rows that leak "
    "are given those of the predicted segment itself, exposures and clicks among them, whose ratio "
    "is what they are to predict: they say what such an input is worth, and are no result.",
)
TABLE_3 = Table(
    key="table3",
    title="Table 3: modalities",
    task=ROOMS,
    metrics=(TAU, TAU_IN_ROOMS),
    rows=(
        Row(label="ContentCTR", run=OURS, paper=_tau(0.5919)),
        Row(label="ContentCTR w/o item", run=WITHOUT_ITEM, paper=_tau(0.5868)),
        Row(label="ContentCTR w/o text", run=WITHOUT_TEXT, paper=_tau(0.5718)),
        Row(label="ContentCTR w/o visual", run=_kind_run("without_visual"), paper=_tau(0.5447)),
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
    task=ROOMS,
    metrics=(TAU, RATIO),
    about="Active losses keep their weights of Eq. 14. The paper's alignment loss can be read in "
    "two ways: as written, cosine similarity stands where Eq. 8 speaks of a distance. The row "
    "“as written” follows the letter, and the paper has no number of its own for it.",
    rows=(
        Row(label="Model1: point", run=_pair_run(1, "none"), paper=_losses(0.5761, 1.2789)),
        Row(label="Model2: point, pair L0", run=MODEL_2, paper=_losses(0.5857, 1.3164)),
        Row(label="Model3: point, pair L1", run=MODEL_3, paper=_losses(0.5872, 1.3021)),
        Row(label="Model4: point, pair L2", run=_pair_run(4, "L2"), paper=_losses(0.5256, 1.3414)),
        Row(label="Model5: point, pair L3", run=_pair_run(5, "L3"), paper=_losses(0.5824, 1.2194)),
        Row(
            label="ContentCTR: point, pair L1, align (distance)",
            run=OURS,
            paper=_losses(0.5919, 1.3011),
        ),
        Row(
            label="ContentCTR, align as written (similarity)",
            run=Run(name="align_similarity", settings=("loss.align=similarity",)),
        ),
    ),
)
BEYOND = Table(
    key="beyond",
    title="Beyond the paper: further tokens",
    task=ROOMS,
    metrics=(TAU, TAU_IN_ROOMS),
    about="What the paper's model gains by content that the paper's does not have. Statistics are "
    "counts of earlier segments; the residual form starts from their exponential mean; sound is "
    "loudness, log-mel bands and shares of speech, singing and music, where the data has it; words "
    "are those of the texts, where they are stored.",
    rows=(
        Row(label="ContentCTR", run=OURS),
        Row(
            label="with statistics",
            run=Run(name="with_statistics", settings=("model.statistics=true",)),
        ),
        Row(
            label="with statistics, residual form",
            run=Run(
                name="with_statistics_residual",
                settings=("model.statistics=true", "model.residual=true"),
            ),
            needs="known target",
        ),
        Row(
            label="statistics alone, no content",
            run=Run(
                name="statistics_alone",
                settings=("model.statistics=true", "model.content=false", "model.words=false"),
            ),
        ),
        Row(
            label="with sound",
            run=Run(name="with_sound", settings=("model.sound=true",)),
            needs="sound",
        ),
        Row(
            label="with words",
            run=Run(name="with_words", settings=("model.words=true",)),
            needs="words",
        ),
    ),
)
FIGURE_4 = Picture(
    key="fig4",
    title="Figure 4: curves of rooms",
    task=ROOMS,
    runs=(OURS, *(row.run for row in ID_ROWS)),
)
FIGURE_5 = Picture(
    key="fig5",
    title="Figure 5: losses during training",
    task=ROOMS,
    runs=(MODEL_2, MODEL_3),
)
FIGURE_6 = Picture(key="fig6", title="Figure 6: alignment paths", task=ROOMS, runs=(OURS,))

# Personalized highlights, in the paper PHD


def _highlights_run(kind: str, *settings: str, frames: int = 192, name: str = "") -> Run:
    settings = (f"model.kind={kind}", f"data.window_len={frames}", *settings)
    return Run(name=name or kind, settings=settings)


OURS_HL = _highlights_run("contentctr_hl")
PERSONAL = TaskPlan(
    key="personal",
    data="personalized highlights",
    ours=OURS_HL,
    name="ContentCTR-HL",
    recipe="highlights",
    decided=("model.kind", "data.window_len", "train.seed"),
)
MAP = Metric(key="map", heading="mAP\N{NO-BREAK SPACE}%", scale=100, digits=2)
MAP_PUBLISHED = Metric(
    key="map_published", heading=f"{MAP.heading} as published", scale=100, digits=2
)
PARAMETERS = Metric(
    key="parameters", heading="parameters,\N{NO-BREAK SPACE}M", scale=1e-6, digits=2, fixed=True
)


def _map(value: float) -> Mapping[str, float]:
    return {MAP.key: value}


METHODS, COMPARED = "Personalized methods", "For comparison"
NON_PERSONAL, RANDOM = "Non-personal", "Random"
TABLE_2 = Table(
    key="table2",
    title="Table 2: methods of highlight detection",
    task=PERSONAL,
    metrics=(MAP, MAP_PUBLISHED, PARAMETERS),
    floors=(NON_PERSONAL, RANDOM),
    about="The four rivals are small models, made anew from their papers' published descriptions; "
    "none of them is its authors' program, and where a description leaves something open, we "
    "chose. They are as wide as ContentCTR-HL and read the same frames with the same projection, "
    "so that they differ from one another in how they use a history. So a rival's row says nothing "
    "of the published program, and its parameters are not the paper's. Only ContentCTR-HL reads "
    "captions. The non-personal model scores a frame from the frame alone, the same for all users; "
    "the oracle, where users are simulated, knows their tastes.",
    rows=(
        Row(
            label="Adaptive-H-FCSN",
            run=_highlights_run("adaptive_h_fcsn"),
            group=METHODS,
            paper={**_map(0.1565), PARAMETERS.key: 197.35e6},
        ),
        Row(label="PR-Net", run=_highlights_run("pr_net"), group=METHODS, paper=_map(0.1866)),
        Row(
            label="PAC-Net",
            run=_highlights_run("pac_net"),
            group=METHODS,
            paper={**_map(0.1751), PARAMETERS.key: 5.89e6},
        ),
        Row(label="ShowMe", run=_highlights_run("showme"), group=METHODS, paper=_map(0.1640)),
        Row(
            label="ContentCTR-HL",
            run=OURS_HL,
            group=METHODS,
            paper={**_map(0.2189), PARAMETERS.key: 66.35e6},
        ),
        Row(label=NON_PERSONAL, run=_highlights_run("highlight_average"), group=COMPARED),
        Reference(label=RANDOM, name="random", group=COMPARED),
        Reference(label="Oracle (ceiling)", name="oracle", group=COMPARED),
    ),
)


def _frames_row(frames: int, paper: float) -> Row:
    run = _highlights_run("contentctr_hl", frames=frames, name=f"contentctr_hl_{frames}")
    return Row(label=f"ContentCTR-HL, n = {frames}", run=run, paper=_map(paper))


TABLE_5 = Table(
    key="table5",
    title="Table 5: ablations of highlight detection",
    task=PERSONAL,
    metrics=(MAP, MAP_PUBLISHED),
    about="n is the number of frames that the model sees at once; the rows without a part have "
    "192. Without captions there is nothing to align, so that row is without L_align too. In its "
    "text the paper gives a loss of 1.11 without captions; its table, which is followed here, "
    "has 1.83.",
    rows=(
        Row(label="ContentCTR-HL, n = 192", run=OURS_HL, paper=_map(0.2189)),
        _frames_row(96, 0.2159),
        _frames_row(64, 0.1954),
        _frames_row(32, 0.1829),
        Row(
            label="w/o history",
            run=_highlights_run("contentctr_hl_without_history"),
            paper=_map(0.1955),
        ),
        Row(
            label="w/o caption",
            run=_highlights_run("contentctr_hl_without_captions"),
            paper=_map(0.2006),
        ),
        Row(
            label="w/o DTW",
            paper=_map(0.2175),
            run=_highlights_run(
                "contentctr_hl", "loss.align_weight=0", name="contentctr_hl_without_dtw"
            ),
        ),
    ),
)

ITEMS: dict[str, Table | Picture] = {
    item.key: item
    for item in (
        TABLE_1,
        TABLE_2,
        TABLE_3,
        TABLE_4,
        TABLE_5,
        BEYOND,
        FIGURE_4,
        FIGURE_5,
        FIGURE_6,
    )
}
"""Everything that can be reproduced; of one task, in the page's order."""

TASKS = {task.key: task for task in (ROOMS, PERSONAL)}


def choose(what: str, task: TaskPlan) -> tuple[Table | Picture, ...]:
    """The items that a word names: one of ITEMS, or "all" of a task.

    Args:
        what: the word.
        task: of the data.

    Raises:
        InputError: no such item, or it is of another task.
    """
    fitting = {key: item for key, item in ITEMS.items() if item.task == task}
    if what == "all":
        return tuple(fitting.values())
    if what in fitting:
        return (fitting[what],)
    wrong = f"{what} is of {ITEMS[what].task.data}" if what in ITEMS else f"not {what!r}"
    raise InputError(
        f"what must be all or one of {', '.join(fitting)}, as the data is of {task.data}; {wrong}"
    )
