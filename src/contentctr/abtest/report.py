"""The report page of an A/B test, from its abtest.json alone; it asks no other host."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from contentctr.abtest.analysis import RESULTS, SCHEMA_VERSION
from contentctr.abtest.figures import ROLES, day_figure, lift_figure, running_figure
from contentctr.abtest.statistics import FORESEEN
from contentctr.errors import InputError
from contentctr.files import read_json, write_text
from contentctr.report.pieces import escaped, flat, html_table, show_number, show_value

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
        InputError: the file is missing, of another schema version, or lacks a field.
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
    page = folder / "report.html"
    write_text(page, _page(found, folder.resolve().name))
    return page


def effect_lines(found: dict[str, Any]) -> dict[str, str]:
    """Each effect of abtest.json in a line, by name, for a terminal."""
    return {
        f"{NAMES[metric][0]}, {arm}": f"{_share(effect['lift'])} "
        f"({_interval(effect['lift_interval'], _share)}), p {_p(effect['p_value'])}".replace(
            "&lt;", "<"
        )
        for arm, effects in found["effects"].items()
        for metric, effect in effects.items()
    }


def _page(found: dict[str, Any], folder: str) -> str:
    mark = "simulated " if found["simulated"] else ""
    sections = (
        ("result", "Result", _result(found)),
        ("arms", "Arms", _arms(found)),
        ("days", "Day by day", _days(found)),
        ("checks", "Checks", _checks(found)),
        ("power", "Power", _power(found)),
        ("setup", "Setup", _setup(found)),
    )
    template = resources.files("contentctr.report").joinpath("page.html").read_text("utf-8")
    counts = found["counts"]
    others = " and ".join(map(repr, found["effects"]))
    return Template(template).substitute(
        title=escaped(f"A/B test of a {mark}ranking"),
        lead=escaped(
            f"{others} against {found['control']!r}: {counts['exposures']:,} {mark}exposures to "
            f"{counts['users']:,} {mark}users over {counts['days']} day{_s(counts['days'])}. "
            f"Intervals are {_level(found)} and take users, not exposures, as independent."
        ),
        notices=_notices(found),
        nav=" ".join(f'<a href="#{key}">{name}</a>' for key, name, _ in sections),
        sections="\n".join(
            f'<section aria-labelledby="{key}"><h2 id="{key}">{name}</h2>\n{body}</section>'
            for key, name, body in sections
        ),
        footer=f"Made from <code>{RESULTS}</code> in <code>{escaped(folder)}</code>.",
    )


def _notices(found: dict[str, Any]) -> str:
    notices, scores = [], found["manifest"].get("scores")
    if found["simulated"]:
        notices.append(
            "<strong>Simulated test:</strong> every number and figure on this page comes from "
            "simulated users and simulated live rooms, not from real ones; the paper's own numbers "
            "are marked as such." + (f" Our scores: {escaped(scores)}." if scores else "")
        )
    if found["sample_ratio"]["mismatch"]:
        notices.append(
            "<strong>Sample-ratio mismatch:</strong> the arms' sizes do not fit the planned "
            "shares. Something in assignment or logging favours one arm; no effect below can be "
            "trusted until it is found."
        )
    return "\n".join(f'<p class="notice" role="note">{words}</p>' for words in notices)


def _result(found: dict[str, Any]) -> str:
    parts = []
    for number, (arm, effects) in enumerate(found["effects"].items()):
        rows = [
            [
                _metric(metric),
                _share(effect["lift"]),
                _interval(effect["lift_interval"], _share),
                f"{effect['difference']:+.4g}",
                _interval(effect["difference_interval"], lambda x: f"{x:+.4g}"),
                _p(effect["p_value"]),
            ]
            for metric, effect in effects.items()
        ]
        head = [
            "Metric",
            "Lift",
            f"{_level(found)} interval",
            "Difference",
            f"{_level(found)} interval",
            "p",
        ]
        figure = lift_figure(effects, {k: n for k, (n, _) in NAMES.items()}, f"lift{number}")
        title = f"{escaped(arm)} against {escaped(found['control'])}{_mark(found)}"
        parts.append(
            f'<article class="card"><h3>{title}</h3><figure>{figure}<figcaption>Relative change '
            f"and its {_level(found)} interval. {_words(effects)}</figcaption></figure></article>\n"
            + html_table(f"Effects of {arm}", head, rows, range(1, len(head)))
        )
    return "\n".join([*parts, _paper(found)])


def _words(effects: dict[str, Any]) -> str:
    """Which intervals leave out 0, in words."""
    clear = [
        f"{NAMES[metric][0]} {'rose' if effect['lift'] > 0 else 'fell'}"
        for metric, effect in effects.items()
        if effect["lift_interval"] and effect["lift_interval"][0] * effect["lift_interval"][1] > 0
    ]
    if not clear:
        return "No interval leaves out 0: the data shows no effect."
    return f"Intervals that leave out 0: {'; '.join(clear)}."


def _paper(found: dict[str, Any]) -> str:
    rows = [[escaped(name), value] for name, value in PAPER]
    table = html_table(
        "The paper's own test", ["Paper's own", "Lift"], rows, [1], css_class="small"
    )
    beside = (
        " Its users and rooms were real, those here are not: the numbers do not compare."
        if found["simulated"]
        else ""
    )
    return (
        '<article class="card"><h3>The paper\'s test, on its own platform</h3>'
        '<p class="note">Section 4.9 of the '
        "ContentCTR paper reports these lifts over four days on its company's platform, without "
        f"intervals, and does not say what play duration is taken per.{beside}</p>{table}</article>"
    )


def _arms(found: dict[str, Any]) -> str:
    level = f"<small>{_level(found)} interval</small>"
    head = [f"Arm{_mark(found)}", "Users", "Exposures", "Clicks"]
    head += [name + level for name, _ in NAMES.values()]
    rows = []
    for arm, block in found["arms"].items():
        role = "control" if arm == found["control"] else ""
        note = f"<small>{role}</small>" if role and role != arm else ""
        counts = [f"{block[name]:,}" for name in ("users", "exposures", "clicks")]
        values = [
            f"{_value(m)}<small>{_interval(m['interval'], show_number)}</small>"
            for m in block["metrics"].values()
        ]
        rows.append([escaped(arm) + note, *counts, *values])
    return html_table("Arms", head, rows, range(1, len(head)))


def _days(found: dict[str, Any]) -> str:
    cards = [_card(f"CTR of each day{_mark(found)}", day_figure(found, "ctr"), "Bars: intervals.")]
    for number, (arm, effects) in enumerate(found["effects"].items()):
        figure = running_figure(effects["ctr"]["running"], f"running{number}")
        about = "CTR lift with all data up to the day, and its interval."
        cards.append(_card(f"{arm}: lift so far{_mark(found)}", figure, about))
    legend = "".join(
        f'<li><i style="border-color:var(--{role})"></i>{escaped(arm)}</li>'
        for arm, role in zip(found["arms"], itertools.cycle(ROLES), strict=False)
    )
    return (
        "<p>The interval of the running lift holds for one look, at a length fixed before: "
        "stopping at the first day that leaves out 0 finds effects that are not there.</p>"
        f'<ul class="legend">{legend}</ul><div class="pair">{"".join(cards)}</div>'
    )


def _card(title: str, figure: str, about: str) -> str:
    return (
        f'<article class="card"><h3>{escaped(title)}</h3><figure>{figure}'
        f"<figcaption>{escaped(about)}</figcaption></figure></article>"
    )


def _checks(found: dict[str, Any]) -> str:
    ratio, counts = found["sample_ratio"], found["counts"]
    verdict = "mismatch" if ratio["mismatch"] else "fits the plan"
    sizes = ", ".join(
        f"{escaped(arm)} {users:,} (planned {100 * ratio['planned'][arm]:g} %)"
        for arm, users in ratio["users"].items()
    )
    rows = [
        ["Sample ratio", f"p = {_p(ratio['p_value'])}: {verdict}", f"users: {sizes}"],
        ["Users in several arms", f"{counts['users_in_several_arms']:,}", "left out of everything"],
    ]
    for arm, effects in found["effects"].items():
        for metric, effect in effects.items():
            if effect["bootstrap"] is None or effect["lift_interval"] is None:
                continue
            again = _interval(effect["bootstrap"]["lift_interval"], _share)
            rows.append(
                [
                    f"Bootstrap, {escaped(arm)}<small>{NAMES[metric][0]}, lift</small>",
                    again,
                    f"delta method: {_interval(effect['lift_interval'], _share)}",
                ]
            )
    rows += [["Warning", escaped(words), ""] for words in found["warnings"]]
    return (
        f"<p>The sample-ratio test asks whether chance explains the arms' sizes (chi-squared, "
        f"mismatch below 0.001). The bootstrap draws users anew and must give nearly the delta "
        f"method's intervals.{_mark(found)}</p>"
        + html_table("Checks", ["Check", "Found", "Beside it"], rows)
    )


def _power(found: dict[str, Any]) -> str:
    settings = found["settings"]
    rows = []
    for arm, effects in found["effects"].items():
        for metric, effect in effects.items():
            power = effect["power"]
            days = show_value(power["required_days"])
            if power["required_days"] is None:
                days = f"over {FORESEEN * len(found['days']):,}"
                days = days if len(effect["running"]) > 1 else "unknown<small>one day</small>"
            elif power["days_exponent"] is not None:
                days += "<small>extrapolated</small>"
            smallest = power["detectable"]
            rows.append(
                [
                    f"{NAMES[metric][0]}<small>{escaped(arm)}</small>",
                    "undefined" if smallest is None else f"{100 * smallest:.2f} %",
                    f"{power['users']:,}",
                    show_value(power["required_users"]),
                    days,
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
    return (
        f"<p>With the variance that this test shows{_mark(found)}, at level {settings['alpha']:g} "
        f"and power {100 * settings['power']:g} %. Days beyond the test's own continue the course "
        "of its smallest effect: users come back, so twice the days is not twice the users. The "
        "numbers of users are for tests as long as this one.</p>"
        + html_table("Power", head, rows, range(1, len(head)))
    )


def _setup(found: dict[str, Any]) -> str:
    parts = []
    for title, block in (("Analysis", found["settings"]), ("Logs", found["manifest"])):
        rows = [[escaped(name), show_value(value)] for name, value in flat(block)]
        if rows:
            parts.append(html_table(title, [title, "Value"], rows, css_class="small"))
    return "\n".join(parts)


# Numbers in words


def _metric(metric: str) -> str:
    name, about = NAMES[metric]
    return f"{escaped(name)}<small>{escaped(about)}</small>"


def _mark(found: dict[str, Any]) -> str:
    return " (simulated)" if found["simulated"] else ""


def _level(found: dict[str, Any]) -> str:
    return f"{100 * (1 - found['settings']['alpha']):g} %"


def _value(metric: dict[str, Any]) -> str:
    return show_number(metric["value"])


def _share(value: float | None) -> str:
    return "undefined" if value is None else f"{100 * value:+.2f} %"


def _interval(ends: Sequence[float] | None, show: Callable[[float], str]) -> str:
    return "undefined" if ends is None else f"{show(ends[0])} to {show(ends[1])}"


def _p(value: float | None) -> str:
    if value is None:
        return "undefined"
    return "&lt; 0.0001" if value < 0.0001 else f"{value:.4f}"


def _s(number: int) -> str:
    return "s" * (number != 1)
