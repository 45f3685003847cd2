"""The head of the page: what it is about, the data, the settings, and what sets them apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from contentctr.report.blocks import Grid, Notice, Paragraph
from contentctr.report.page import Page, Section
from contentctr.reproduce.plan import ID_SETTINGS, MAP, TAU
from contentctr.reproduce.results import evaluations
from contentctr.reproduce.rows import Metric
from contentctr.reproduce.study import Study
from contentctr.store.personal import SPLITS, PreparedPersonal

PAPER = (
    "the paper “ContentCTR: Frame-level Live Streaming Click-Through Rate Prediction "
    "with Multimodal Transformer”, trained and tested on the data below. The paper's own numbers, "
    "beside ours, are of"
)


SIMULATED_ROOMS = Notice(
    label="Simulated rooms:",
    text="every number, curve and figure of ours on this page comes from simulated live rooms and "
    "simulated viewers, not from real ones.",
)
SIMULATED_USERS = Notice(
    label="Simulated users and videos:",
    text="every number of ours on this page comes from simulated videos and simulated users with "
    "simulated tastes, not from real ones.",
)


def head_of(study: Study) -> Page:
    """A study's page with its first section alone; some rows of that need a finished run."""
    return HEADS[study.task.key](study, _first_metrics(study))


def _first_metrics(study: Study) -> dict[str, Any] | None:
    """metrics.json of any finished run: the references do not depend on the model."""
    runs = [run for item in study.items for run in item.runs]
    found = (block for run in runs for block in evaluations(study, run).values())
    return next(found, None)


def _setup(study: Study, rows: Sequence[list[str]], *words: str) -> Section:
    """A table of the data, what a run told and the settings, and words on what they mean."""
    members = study.config(study.task.ours).train.members
    settings = [
        ["Recipe", study.recipe],
        ["Settings", " ".join(study.settings) or "the recipe's"],
        [
            "Seeds",
            ", ".join(map(str, study.seeds))
            + (f" (each of the first of {members} members)" if members > 1 else ""),
        ],
    ]
    rows = [["Data", study.data.root.resolve().name], *rows, *settings]
    title = "Data and settings"
    table = Grid(name=title, head=["What", "Value"], rows=rows, small=True)
    return Section(key="setup", title=title, blocks=[table, *(Paragraph(text=w) for w in words)])


def _measured_rows(
    facts: Mapping[str, Any], metric: Metric, names: Mapping[str, str]
) -> list[list[str]]:
    """The encoders, and a metric of the references."""
    spec, references = facts["data_spec"], facts["references"]
    rows = []
    for part in ("visual", "text"):
        name = f"{spec[f'{part}_encoder']} (width {spec[f'{part}_dim']})"
        rows.append([f"{part.capitalize()} encoder", name])
    for key, name in names.items():
        if references.get(key, {}).get(metric.key) is not None:
            rows.append([f"{name}, {metric.heading}", metric.show(references[key][metric.key])])
    return rows


# Live rooms

ROWS_OWN = (
    "Whatever the recipe and the settings say, the ID baselines have "
    f"{', '.join(ID_SETTINGS)} (and those that leak ids.same_segment=true), "
    "Models 1 to 5 of Table 4 loss.align_weight=0 and a loss.pair of "
    "their own, and the last row of Table 4 loss.align=similarity."
)


def _rooms_head(study: Study, facts: dict[str, Any] | None) -> Page:
    manifest = study.manifest()
    counts, simulated = manifest["counts"], bool(manifest["simulated"])
    by_split = ", ".join(f"{n:,} {split}" for split, n in counts["rooms_by_split"].items())
    rows = [
        ["Source", f"{manifest['source']}{' (simulated)' if simulated else ''}"],
        ["Target", str(manifest["target"])],
        ["Rooms", f"{counts['rooms']:,} ({by_split})"],
        ["Segments", f"{counts['segments']:,} of {manifest['segment_seconds']:g} s"],
    ]
    more = []
    if facts:
        more = [["Test samples", f"{facts['metrics']['counts']['samples']:,}"]]
        names = {"streamer_mean": "Streamer mean", "oracle": "Oracle (ceiling)"}
        more += _measured_rows(facts, TAU, names)
    words = (
        "The streamer mean knows each streamer's mean in the training rooms alone; the oracle, "
        "where rooms are simulated, knows the true click probability. A model's checkpoint is that "
        "of its best validation epoch; numbers are of the test rooms. "
        f"{ROWS_OWN} {_rooms_apart(study)}"
    )
    return Page(
        title=f"The paper's experiments on {'simulated ' if simulated else ''}rooms: "
        f"{study.data.root.resolve().name}",
        lead=f"Models of {PAPER} its data set KLive: only orders and differences can agree, not "
        "heights.",
        notices=[SIMULATED_ROOMS] if simulated else [],
        sections=[_setup(study, [*rows, *more], words)],
    )


def _rooms_apart(study: Study) -> str:
    """What sets these experiments apart from the paper's, and may turn an order."""
    config = study.config(study.task.ours)
    if config.train.finetune_encoders:
        encoders = "both encoders are trained too, as in the paper"
    else:
        encoders = "both encoders are frozen, where the paper trains them too"
    test = study.manifest()["counts"]["rooms_by_split"]["test"]
    return (
        "Where an order differs from the paper's, the data may be the reason (KLive's rooms, "
        "viewers and number of rooms are others), the sizes (here the model is "
        f"{config.model.d_model} wide and is trained for {config.train.epochs} epochs), the "
        f"encoders (here {encoders}), or chance: {test:,} test rooms and the seeds above are what "
        "a difference rests on. The spread over seeds does not hold what other rooms would change."
    )


# Personalized highlights

MEASURE = (
    "mAP is the mean over test users of the average precision over all frames of the target video. "
    "“As published” follows the evaluation that was published with PHD: frames have the mean score "
    "of their 5 s segment, and precision is interpolated. The paper follows PAC-Net's protocol, "
    "which we could not obtain; so neither column is claimed to be the paper's measure, and its "
    "mAP stands beside ours for its order alone. The random scorer's numbers are means over "
    "several draws; the oracle, where users are simulated, knows their tastes. A model's "
    "checkpoint is that of its best validation epoch; numbers are of the test users. Where a "
    "table's row does not say otherwise, a model sees 192 frames at once."
)


def _personal_head(study: Study, facts: dict[str, Any] | None) -> Page:
    data = study.data
    assert isinstance(data, PreparedPersonal)
    simulated = bool(data.manifest()["simulated"])
    users, videos = data.users(), data.videos()
    by_split = [f"{users.filter(pl.col('split') == s).height:,} {s}" for s in SPLITS]
    targets = videos.filter("is_target")
    captioned = targets.filter("has_captions").height
    rows = [
        ["Source", "made up, in the form of PHD (simulated)" if simulated else "PHD"],
        ["Users", f"{users.height:,} ({', '.join(by_split)})"],
        ["Videos", f"{videos.height:,}"],
        ["Target videos", f"{targets.height:,}, of which {captioned:,} with captions"],
        ["Frames", f"{data.frame_rate:g} a second"],
    ]
    more = []
    if facts:
        more = _test_rows(facts)
        mark = " (simulated)" if simulated else ""
        names = {"random": f"Random scores{mark}", "oracle": f"Oracle (ceiling){mark}"}
        more += _measured_rows(facts, MAP, names)
    test = users.filter(pl.col("split") == "test")
    made_up = facts is not None and facts["data_spec"]["visual_encoder"] == "simulated"
    apart = _personal_apart(
        study, test.height, test["video_id"].n_unique(), simulated=simulated, made_up=made_up
    )
    return Page(
        title=f"The paper's experiments on {'simulated ' if simulated else ''}personalized "
        f"highlights: {data.root.resolve().name}",
        lead=f"ContentCTR-HL and its rivals, of {PAPER} its own copy of PHD, with its features and "
        "its evaluation: only orders and differences can agree, not heights.",
        notices=[SIMULATED_USERS] if simulated else [],
        sections=[_setup(study, [*rows, *more], MEASURE, apart)],
    )


def _test_rows(facts: Mapping[str, Any]) -> list[list[str]]:
    """What the test users are, as an evaluation counted them."""
    counts = facts["counts"]
    share = 100 * counts["highlight_frames"] / max(counts["frames"], 1)
    return [
        [
            "Test users",
            f"{counts['users']:,}, of which {counts['users_without_history']:,} without "
            f"a history and {counts['users_with_captions']:,} with captions",
        ],
        ["Test frames", f"{counts['frames']:,}, of which selected {share:.1f} %"],
    ]


def _personal_apart(
    study: Study, users: int, videos: int, *, simulated: bool, made_up: bool
) -> str:
    """As for rooms; `made_up` features come from no encoder."""
    config = study.config(study.task.ours)
    if simulated:
        data = "simulated, so it shows what was built into the simulation"
    else:
        data = "those videos of PHD that could still be had"
    features = (
        "here made up, without an encoder"
        if made_up
        else "here both encoders are frozen, and the paper does not say which of YOLOv5's "
        "features it takes"
    )
    positions = "ContentCTR-HL has rotary positions here, of which the paper says nothing. "
    return (
        f"Where an order differs from the paper's, the data may be the reason (here {data}), the "
        f"features ({features}), the sizes (here the models are {config.model.d_model} wide and "
        f"are trained for {config.train.epochs} epochs, all at the same learning rate), the rivals "
        "(our small re-makings, none of them tuned), the measure, or chance: "
        f"{users:,} test users (target videos: {videos:,}) and the seeds above are what a "
        f"difference rests on. {positions if config.model.rotary else ''}"
        "The spread over seeds does not hold what other users would change."
    )


HEADS: dict[str, Callable[[Study, dict[str, Any] | None], Page]] = {
    "rooms": _rooms_head,
    "personal": _personal_head,
}
"""By a task's name: the head from a study and the metrics.json of any finished run."""
