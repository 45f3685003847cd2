"""A model's card: what it predicts, from what, how well, and what it must not be used for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contentctr import __version__
from contentctr.batch import IN_ROOM_SCALES
from contentctr.counting import counted
from contentctr.models.registry import model_type
from contentctr.score.checkpoint import Checkpoint
from contentctr.score.evaluation import with_interval
from contentctr.score.inputs import read_inputs

_FRONT = """\
---
library_name: contentctr
tags:
- contentctr
- live-streaming
- click-through-rate
{more}---
"""


def model_card(checkpoint: Checkpoint, metrics: Mapping[str, Any] | None, name: str) -> str:
    """README.md of a model's folder.

    Args:
        checkpoint: the model.
        metrics: of an evaluation of it (metrics.json); None: there is none.
        name: where it will be found, as `OWNER/NAME`.
    """
    spec = checkpoint.spec
    kind = "simulated" if spec.simulated else "real"
    parts = [
        _FRONT.format(more="- simulated\n" if spec.simulated else ""),
        f"# {name.rpartition('/')[2]}\n",
        f"For every {spec.segment_seconds:g} s segment of a live room it predicts the "
        f"**{spec.target_name}**{_ahead(checkpoint)}, a number in (0, 1), from pictures, speech, "
        "comments and streamer. "
        f"It was trained on **{kind} rooms**.\n",
        _warning(spec.simulated),
        f"Model id `{checkpoint.model_id}`, kind `{checkpoint.config.model.kind}`, written by "
        f"contentctr {__version__}.\n",
        _usage(checkpoint, name),
        _inputs(checkpoint),
        _results(metrics),
        _limits(checkpoint),
    ]
    return "\n".join(part for part in parts if part)


def _ahead(checkpoint: Checkpoint) -> str:
    horizon = checkpoint.config.data.horizon
    if not horizon:
        later = ", once the segments after it are there too" if checkpoint.later_segments else ""
        return f" of that very segment{later}"
    return " of the next one" if horizon > 0 else f" of the one {-horizon} before it"


def _warning(simulated: bool) -> str:
    if not simulated:
        return ""
    return (
        "> Every room it has seen is simulated. Its numbers say how well it learns the simulator, "
        "and nothing of real viewers.\n"
    )


def _is_live(checkpoint: Checkpoint) -> bool:
    return not model_type(checkpoint.config.model.kind).sees_later


def _usage(checkpoint: Checkpoint, name: str) -> str:
    # Models that rank live rooms are those that can be served; the others are evaluated.
    live = _is_live(checkpoint)
    serve = f"contentctr serve hf://{name}\n" if live else ""
    package = '"contentctr[live]"' if live else "contentctr"
    return f"""## How to load it

```
pip install {package}
{serve}contentctr evaluate hf://{name} DATA -o evaluation
```

```python
from contentctr.score.checkpoint import load

model = load("hf://{name}").load_model()
```
"""


def _inputs(checkpoint: Checkpoint) -> str:
    spec, config, facts = checkpoint.spec, checkpoint.config, read_inputs(checkpoint.folder)
    rows = [
        ("window", f"{config.data.window_len} segments of {spec.segment_seconds:g} s"),
        ("pictures", f"{spec.frames_per_segment} a segment ({spec.frames})"),
        ("visual encoder", _encoder(checkpoint, "visual")),
        ("text encoder", _encoder(checkpoint, "text")),
        ("streamers known", f"{len(checkpoint.vocabulary.streamers):,}"),
    ]
    if spec.speech_source:
        rows.append(("speech from", spec.speech_source))
    if config.train.members > 1:
        rows.append(("members", f"{config.train.members}, whose mean log-odds are the score"))
    if config.model.reads_counts:
        rows.append(("counts", "of a room's earlier segments"))
    if facts is not None:
        rows.append(("training segments", f"{facts.segments:,}"))
        rows += [
            (f"of them without {name}", f"{100 * share:.1f} %")
            for name, share in facts.missing.items()
        ]
    return "## What it reads\n\n" + _table(("", ""), rows)


def _encoder(checkpoint: Checkpoint, part: str) -> str:
    spec = checkpoint.spec
    if checkpoint.finetuned:
        return "its own, in `encoders/`"
    return f"`{getattr(spec, f'{part}_encoder')}`, revision `{getattr(spec, f'{part}_revision')}`"


def _results(metrics: Mapping[str, Any] | None) -> str:
    if metrics is None:
        return "## How well\n\nNot evaluated: nothing is known of how well it predicts.\n"
    counts = metrics["counts"]
    kind = "simulated" if metrics["simulated"] else "real"
    head = (
        f"## How well\n\nOn {counts['samples']:,} samples of {counts['rooms_with_samples']:,} "
        f"{kind} rooms ({metrics['split']}), with 95 % intervals over rooms where there are any.\n"
    )
    floors = metrics.get("floors", {})
    named = floors.get("model", {})
    rows = [(name, with_interval(block)) for name, block in named.items()]
    rows += [
        (name, f"{value:.4f}")
        for name, value in metrics["metrics"].items()
        if isinstance(value, float) and name not in named
    ]
    parts = [head, _table(("metric", "model"), rows)]
    if floors.get("floors"):
        metric = floors["metric"]
        parts += [
            f"Beside rules of thumb that need no model, by {metric}:\n",
            _table(
                ("floor", metric),
                [(name, with_interval(block[metric])) for name, block in floors["floors"].items()],
            ),
            str(floors["sentence"]) + "\n",
        ]
    return "\n".join(parts)


def _limits(checkpoint: Checkpoint) -> str:
    live = _is_live(checkpoint)
    lines = [
        "Streamers that it does not know share one place; what it says of them comes from content.",
        "Its encoders must be the very ones named above: features of others mean nothing to it.",
        "A score is what viewers of the training rooms did. It says nothing of whether a room is "
        "good, true or allowed, and must not decide of people.",
        "What it was shown more often it knows better"
        + (": look at `contentctr_drift_*` where it is served." if live else "."),
    ]
    if not live:
        later = counted(checkpoint.later_segments, "segment")
        lines.append(
            f"A score may depend on up to {later} after its own: it is no forecast, and not "
            "comparable with scores of models of live rooms."
        )
    if checkpoint.spec.target_scale in IN_ROOM_SCALES:
        lines.append("Its target compares segments of one room: scores of two rooms do not.")
    return "## Limits\n\n" + "".join(f"- {line}\n" for line in lines)


def _table(head: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    lines = [head, ("---", "---"), *rows]
    return "".join(f"| {a} | {b} |\n" for a, b in lines)
