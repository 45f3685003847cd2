"""Pre-training: streamers' vectors from watch logs, and the encoders on rooms' own data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from contentctr.cli.common import Out, Resume, Words, print_table, print_warnings, training_exits


def streamer(
    logs: Annotated[Path, typer.Argument(help="Watch logs (.parquet, .csv), or their folder.")],
    out: Out,
    settings: Words = None,
    categories: Annotated[
        Path | None, typer.Option(help="Table of streamer_id and category, for search=hard.")
    ] = None,
    truth: Annotated[
        Path | None, typer.Option(help="Table of streamer_id and type, to judge the result by.")
    ] = None,
    resume: Resume = False,
) -> None:
    """Pre-train a table of streamers' vectors from watch logs."""
    from contentctr.config import from_dict
    from contentctr.files import read_json
    from contentctr.pretrain.sim import SimSettings
    from contentctr.pretrain.streamers import pretrain_streamers as run

    words = dict(word.partition("=")[::2] for word in settings or [])
    chosen = from_dict(SimSettings, words, where="pretrain streamer")
    with training_exits():
        table = run(logs, out, settings=chosen, categories=categories, truth=truth, resume=resume)
    found = read_json(out / "pretraining.json")
    print_warnings(found["warnings"])
    rows: dict[str, object] = {"streamers": found["counts"]["streamers"]}
    for name, values in (found["held_out"] or {}).items():
        rows[f"held-out AUC of {name}"] = values["auc"]
    for name in ("table", "random") if found["purity"] else ():
        rows[f"nearest-neighbour purity, {name}"] = found["purity"][name]
    print_table(f"{table}{' (simulated watch logs)' if found['simulated'] else ''}", rows)
