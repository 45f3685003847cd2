"""A/B tests: the analysis of exposure logs, and a replay on simulated rooms."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from contentctr.cli.common import Out, print_table, print_warnings
from contentctr.printing import say


def abtest(
    logs: Annotated[
        Path, typer.Argument(help="Exposure log (.parquet, .csv), or a folder of them.")
    ],
    out: Out,
    control: Annotated[
        str | None, typer.Option(help="Arm to compare with. \\[default: control or base]")
    ] = None,
    share: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ARM=SHARE",
            help="Planned share of users; again for each arm. \\[default: equal]",
        ),
    ] = None,
    mde: Annotated[float, typer.Option(help="Smallest relative effect worth finding.")] = 0.01,
    alpha: Annotated[float, typer.Option(help="Level of the tests; intervals have 1 - it.")] = 0.05,
    power: Annotated[float, typer.Option(help="Probability of finding an effect of --mde.")] = 0.8,
    bootstrap: Annotated[int, typer.Option(help="Bootstrap replicates; 0: none.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
) -> None:
    """Analyse an A/B test: effects with intervals by user, checks, power, and a report page."""
    from contentctr.abtest.analysis import TestSettings, parse_shares

    settings = TestSettings(alpha=alpha, power=power, effect=mde, bootstrap=bootstrap, seed=seed)
    _analyse(logs, out, control=control, shares=parse_shares(share or []), settings=settings)


def abtest_replay(
    data: Annotated[Path, typer.Argument(help="Prepared folder of simulated rooms.")],
    out: Out,
    scores: Annotated[
        Path | None, typer.Option(help="Folder that evaluate wrote: a model's scores.")
    ] = None,
    stand_in: Annotated[
        float | None,
        typer.Option(help="No model: the truth with so much noise on its log-odds."),
    ] = None,
    split: Annotated[str, typer.Option(help="Rooms on air: train, val or test.")] = "test",
    weight: Annotated[float, typer.Option(help="w of our term; 0 makes an A/A test.")] = 1.0,
    days: Annotated[int, typer.Option(help="Days of the test.")] = 4,
    users: Annotated[int, typer.Option(help="Users of the platform.")] = 20_000,
    live_rooms: Annotated[float, typer.Option(help="Rooms live at once, on average.")] = 30.0,
    shown: Annotated[int, typer.Option(help="Rooms shown to a request.")] = 3,
    seed: Annotated[int, typer.Option(help="Same seed, same log.")] = 0,
) -> None:
    """Simulate an A/B test of our term on simulated rooms: exposure log, analysis, report page."""
    from contentctr.abtest.platform import Scores
    from contentctr.abtest.replay import ReplaySettings, replay_test

    settings = ReplaySettings(
        days=days, users=users, live_rooms=live_rooms, shown=shown, weight=weight, seed=seed
    )
    replay_test(
        data,
        out,
        Scores(evaluation=scores, stand_in_noise=stand_in),
        split=split,
        settings=settings,
    )
    _analyse(out, out)


def _analyse(logs: Path, out: Path, **options: Any) -> None:
    from contentctr.abtest.analysis import analyse_logs
    from contentctr.abtest.report import effect_lines, write_abtest_report

    found = analyse_logs(logs, out, **options)
    print_warnings(found["warnings"])
    if found["sample_ratio"]["mismatch"]:
        print_warnings(["sample-ratio mismatch: trust no effect below"])
    label = " (simulated)" if found["simulated"] else ""
    print_table(f"Effects against {found['control']}{label}", effect_lines(found))
    say(f"report: {write_abtest_report(out)}", result=True)
