"""Pre-training: streamers' vectors from watch logs, and the encoders on rooms' own data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from contentctr.cli.common import Out, Resume, Words, print_table, print_warnings, training_exits
from contentctr.printing import say

Base = Annotated[
    str | None, typer.Option(help="What to start from: a hub name, a local folder, or embedded.")
]
Fresh = Annotated[
    str | None, typer.Option("--config", help="Train from nothing: small, or a JSON file.")
]


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

    chosen = from_dict(SimSettings, _values(settings), where="pretrain")
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


def text(
    data: Annotated[Path, typer.Argument(help="Prepared folder.")],
    out: Out,
    settings: Words = None,
    base: Base = None,
    config: Fresh = None,
    max_tokens: Annotated[int, typer.Option(help="Longer texts are cut.")] = 128,
    mask_share: Annotated[float, typer.Option(help="Share of tokens to predict.")] = 0.15,
    resume: Resume = False,
) -> None:
    """Masked language modelling on the rooms' speech and comments."""
    from contentctr.config import from_dict
    from contentctr.pretrain.masked import PretrainConfig
    from contentctr.pretrain.text import pretrain_text as run

    chosen = from_dict(PretrainConfig, _values(settings), where="pretrain")
    _pretrain(
        "text",
        lambda: run(
            data,
            base,
            out,
            config=config,
            max_tokens=max_tokens,
            mask_share=mask_share,
            settings=chosen,
            resume=resume,
        ),
    )


def vision(
    data: Annotated[Path, typer.Argument(help="Prepared folder with media.")],
    out: Out,
    settings: Words = None,
    base: Base = None,
    config: Fresh = None,
    mask_ratio: Annotated[float, typer.Option(help="Share of the picture to hide.")] = 0.6,
    mask_patch_size: Annotated[
        int | None, typer.Option(help="Side of a hidden square. \\[default: a last-stage token's]")
    ] = None,
    resume: Resume = False,
) -> None:
    """Masked image modelling on the rooms' frames, of a Swin Transformer."""
    from contentctr.config import from_dict
    from contentctr.pretrain.masked import PretrainConfig
    from contentctr.pretrain.vision import pretrain_vision as run

    chosen = from_dict(PretrainConfig, _values(settings), where="pretrain")
    _pretrain(
        "visual",
        lambda: run(
            data,
            base,
            out,
            config=config,
            mask_ratio=mask_ratio,
            mask_patch_size=mask_patch_size,
            settings=chosen,
            resume=resume,
        ),
    )


def _pretrain(option: str, work: Callable[[], Path]) -> None:
    with training_exits():
        folder = work()
    say(f"encoder: {folder} (contentctr encode DATA --{option} {folder})", result=True)


def _values(settings: list[str] | None) -> dict[str, str]:
    """`key=value` words, split."""
    return dict(word.partition("=")[::2] for word in settings or [])
