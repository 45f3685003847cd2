"""The report page of an A/B test, from its abtest.json alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from contentctr.abtest.analysis import KIND, PAGE, RESULTS, SCHEMA_VERSION
from contentctr.abtest.figures import ROLES, day_figure, lift_figure, running_figure
from contentctr.abtest.statistics import FORESEEN
from contentctr.counting import counted
from contentctr.errors import InputError
from contentctr.files import read_json, write_text
from contentctr.outputs import output_folder
from contentctr.report.blocks import (
    Beside,
    Block,
    Card,
    Cell,
    Figure,
    Grid,
    Legend,
    Notice,
    Paragraph,
)
from contentctr.report.page import Page, Section, page_html
from contentctr.report.words import (
    show_number,
    show_value,
    simulated_mark,
    simulated_note,
    value_table,
)

NAMES = {
    "ctr": ("CTR", "clicks / exposures"),
    "play_per_exposure": ("Play duration per exposure", "seconds / exposures"),
    "play_per_user": ("Play duration per user", "seconds / users"),
}
"""Each metric's name, and what it is."""
PAPER = (("CTR", "+2.9 %"), ("Live play duration", "+5.9 %"))
"""Section 4.9 of the paper: four days on its own platform, without intervals."""

_FIELDS = (
    "simulated",
    "control",
    "settings",
    "counts",
    "days",
    "warnings",
    "sample_ratio",
    "arms",
    "effects",
    "by_day",
    "manifest",
)


def write_abtest_report(folder: Path | str) -> Path:
    """Write FOLDER/report.html from FOLDER/abtest.json.

    Raises:
        InputError: the file is missing, of another schema version, or lacks a field; or the page
            is there and not ours.
    """
    folder = Path(folder)
    path = folder / RESULTS
    found = read_json(path)
    if found.get("schema_version") != SCHEMA_VERSION:
        raise InputError(
            f"{path}: schema_version must be {SCHEMA_VERSION}, not "
            f"{found.get('schema_version')!r}; analyse the logs again"
        )
    for name in _FIELDS:
        if name not in found:
            raise InputError(f"{path}: field {name!r} is missing")
    page = folder / PAGE
    with output_folder(folder, KIND, [PAGE], keep=True):
        write_text(page, page_html(_page(found, folder.resolve().name)))
    return page


def effect_lines(found: dict[str, Any]) -> dict[str, str]:
    """Each effect of abtest.json in a line, by name, for a terminal."""
    return {
        f"{NAMES[metric][0]}, {arm}": f"{_share(effect['lift'])} "
        f"({_interval(effect['lift_interval'], _share)}), p {_p(effect['p_value'])}"
        for arm, effects in found["effects"].items()
        for metric, effect in effects.items()
    }


def _page(found: dict[str, Any], folder: str) -> Page:
    mark, counts = "simulated " if found["simulated"] else "", found["counts"]
    others = " and ".join(f"“{arm}”" for arm in found["effects"])
    return Page(
        title=f"A/B test of a {mark}ranking",
        lead=f"{others} against “{found['control']}”: "
        f"{counted(counts['exposures'], f'{mark}exposure')} to "
        f"{counted(counts['users'], f'{mark}user')} over {counted(counts['days'], 'day')}. "
        f"Intervals are {_level(found)} and take users, not exposures, as independent.",
        notices=_notices(found),
        mark=simulated_note(found),
        sections=[
            Section(key="result", title="Result", blocks=_result(found)),
            Section(key="arms", title="Arms", blocks=[_arms(found)]),
            Section(key="days", title="Day by day", blocks=_days(found)),
            Section(key="checks", title="Checks", blocks=_checks(found)),
            Section(key="power", title="Power", blocks=_power(found)),
            Section(key="setup", title="Setup", blocks=_setup(found)),
        ],
        footer=("Made from ", RESULTS, " in ", folder, "."),
    )


def _notices(found: dict[str, Any]) -> list[Notice]:
    notices, scores = [], found["manifest"].get("scores")
    if found["simulated"]:
        text = (
            "every number and figure on this page comes from simulated users and simulated live "
            "rooms, not from real ones; the paper's own numbers are marked as such."
        )
        text += f" Our scores: {scores}." if scores else ""
        notices.append(Notice(label="Simulated test:", text=text))
    if found["sample_ratio"]["mismatch"]:
        text = (
            "the arms' sizes do not fit the planned shares. Something in assignment or logging "
            "favours one arm; no effect below can be trusted until it is found."
        )
        notices.append(Notice(label="Sample-ratio mismatch:", text=text))
    return notices


# Result


def _result(found: dict[str, Any]) -> list[Block]:
    level, blocks = _level(found), list[Block]()
    head = ["Metric", "Lift", f"{level} interval", "Difference", f"{level} interval", "p"]
    for number, (arm, effects) in enumerate(found["effects"].items()):
        rows: list[list[Cell]] = [
            [
                NAMES[metric],
                _share(effect["lift"]),
                _interval(effect["lift_interval"], _share),
                f"{effect['difference']:+.4g}",
                _interval(effect["difference_interval"], lambda x: f"{x:+.4g}"),
                _p(effect["p_value"]),
            ]
            for metric, effect in effects.items()
        ]
        title = f"{arm} against {found['control']}{simulated_mark(found)}"
        blocks.append(Card(title=title, blocks=[_lifts(effects, f"lift{number}", level)]))
        blocks.append(
            Grid(name=f"Effects of {arm}", head=head, rows=rows, numbers=range(1, len(head)))
        )
    return [*blocks, _paper(found)]


def _lifts(effects: dict[str, Any], key: str, level: str) -> Block:
    """The lifts drawn, and in words which intervals leave out 0."""
    lifts = {metric: effect for metric, effect in effects.items() if effect["lift_interval"]}
    if not lifts:  # a share of nothing
        return Paragraph(text="No lift is defined: the control's metrics are 0.", note=True)
    clear = [
        f"{NAMES[metric][0]} {'rose' if effect['lift'] > 0 else 'fell'}"
        for metric, effect in lifts.items()
        if effect["lift_interval"][0] * effect["lift_interval"][1] > 0
    ]
    words = "No interval leaves out 0: the data shows no effect."
    if clear:
        words = f"Intervals that leave out 0: {'; '.join(clear)}."
    return Figure(
        drawings=lift_figure(effects, {metric: name for metric, (name, _) in NAMES.items()}, key),
        caption=f"Relative change and its {level} interval. {words}",
    )


def _paper(found: dict[str, Any]) -> Card:
    text = (
        "Section 4.9 of the ContentCTR paper reports these lifts over four days on its company's "
        "platform, without intervals, and does not say what play duration is taken per."
    )
    if found["simulated"]:
        text += " Its users and rooms were real, those here are not: the numbers do not compare."
    table = Grid(
        name="The paper's own test",
        head=["Paper's own", "Lift"],
        rows=PAPER,
        numbers=[1],
        small=True,
    )
    note = Paragraph(text=text, note=True)
    return Card(title="The paper's test, on its own platform", blocks=[note, table])


# Arms and days


def _arms(found: dict[str, Any]) -> Grid:
    head: list[Cell] = [f"Arm{simulated_mark(found)}", "Users", "Exposures", "Clicks"]
    head += [(name, f"{_level(found)} interval") for name, _ in NAMES.values()]
    rows = []
    for arm, block in found["arms"].items():
        named = arm == found["control"] and arm != "control"  # it does not say so itself
        row: list[Cell] = [(arm, "control") if named else arm]
        row += [f"{block[name]:,}" for name in ("users", "exposures", "clicks")]
        row += [
            (show_number(m["value"]), _interval(m["interval"], show_number))
            for m in block["metrics"].values()
        ]
        rows.append(row)
    return Grid(name="Arms", head=head, rows=rows, numbers=range(1, len(head)))


def _days(found: dict[str, Any]) -> list[Block]:
    mark = simulated_mark(found)
    by_day = Figure(drawings=[day_figure(found, "ctr")], caption="Bars: intervals.")
    cards = [Card(title=f"CTR of each day{mark}", blocks=[by_day])]
    for number, (arm, effects) in enumerate(found["effects"].items()):
        figure = Figure(
            drawings=[running_figure(effects["ctr"]["running"], f"running{number}")],
            caption="CTR lift with all data up to the day, and its interval.",
        )
        cards.append(Card(title=f"{arm}: lift so far{mark}", blocks=[figure]))
    words = (
        "The interval of the running lift holds for one look, at a length fixed before: stopping "
        "at the first day that leaves out 0 finds effects that are not there."
    )
    arms = list(zip(itertools.cycle(ROLES), found["arms"], strict=False))
    return [Paragraph(text=words), Legend(items=arms), Beside(cards=cards)]


# Checks and power


def _checks(found: dict[str, Any]) -> list[Block]:
    ratio, counts = found["sample_ratio"], found["counts"]
    verdict = "mismatch" if ratio["mismatch"] else "fits the plan"
    sizes = ", ".join(
        f"{arm} {users:,} (planned {100 * ratio['planned'][arm]:g} %)"
        for arm, users in ratio["users"].items()
    )
    rows: list[list[Cell]] = [
        ["Sample ratio", f"p = {_p(ratio['p_value'])}: {verdict}", f"users: {sizes}"],
        ["Users in several arms", f"{counts['users_in_several_arms']:,}", "left out of everything"],
    ]
    for arm, effects in found["effects"].items():
        for metric, effect in effects.items():
            if effect["bootstrap"] is None or effect["lift_interval"] is None:
                continue
            again = _interval(effect["bootstrap"]["lift_interval"], _share)
            delta = f"delta method: {_interval(effect['lift_interval'], _share)}"
            rows.append([(f"Bootstrap, {arm}", f"{NAMES[metric][0]}, lift"), again, delta])
    rows += [["Warning", words, ""] for words in found["warnings"]]
    words = (
        "The sample-ratio test asks whether chance explains the arms' sizes (chi-squared, mismatch "
        "below 0.001). The bootstrap draws users anew and must give nearly the delta method's "
        "intervals."
    )
    table = Grid(name="Checks", head=["Check", "Found", "Beside it"], rows=rows)
    return [Paragraph(text=words), table]


def _power(found: dict[str, Any]) -> list[Block]:
    settings = found["settings"]
    rows: list[list[Cell]] = []
    for arm, effects in found["effects"].items():
        for metric, effect in effects.items():
            power, smallest = effect["power"], effect["power"]["detectable"]
            users = power["required_users"]
            rows.append(
                [
                    (NAMES[metric][0], arm),
                    "undefined" if smallest is None else f"{100 * smallest:.2f} %",
                    f"{power['users']:,}",
                    "undefined" if users is None else show_value(users),
                    _needed_days(found, effect),
                ]
            )
    wanted = f"{100 * settings['effect']:g} %"
    head = [
        "Metric",
        "Smallest effect this test finds",
        "Users it had",
        f"Users for {wanted}",
        f"Days for {wanted}",
    ]
    words = (
        f"With the variance that this test shows, at level {settings['alpha']:g} and power "
        f"{100 * settings['power']:g} %. Days beyond the test's own continue the course of its "
        "smallest effect: users come back, so twice the days is not twice the users. The numbers "
        "of users are for tests as long as this one."
    )
    return [
        Paragraph(text=words),
        Grid(name="Power", head=head, rows=rows, numbers=range(1, len(head))),
    ]


def _needed_days(found: dict[str, Any], effect: dict[str, Any]) -> Cell:
    power = effect["power"]
    if power["required_days"] is not None:
        days = show_value(power["required_days"])
        return days if power["days_exponent"] is None else (days, "extrapolated")
    if len(effect["running"]) > 1:
        return f"over {FORESEEN * len(found['days']):,}"
    return ("unknown", "one day")


def _setup(found: dict[str, Any]) -> list[Block]:
    tables = value_table("Analysis", found["settings"]), value_table("Logs", found["manifest"])
    return [table for table in tables if table.rows]


# Numbers in words


def _level(found: dict[str, Any]) -> str:
    return f"{100 * (1 - found['settings']['alpha']):g} %"


def _share(value: float | None) -> str:
    return "undefined" if value is None else f"{100 * value:+.2f} %"


def _interval(ends: Sequence[float] | None, show: Callable[[float], str]) -> str:
    return "undefined" if ends is None else f"{show(ends[0])} to {show(ends[1])}"


def _p(value: float | None) -> str:
    if value is None:
        return "undefined"
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"
