"""How the few constants of the rule's chat were chosen, and what that choice is worth: F1 on films.

    python benchmarks/real/rule_choice.py FOLDER

FOLDER holds room folders of films with comments, and highlights.csv (room_id, start_s, end_s), as
Ping and Chen published (EMNLP 2017 workshop, W17-4501), scored as scenes.py says: mean F1 over
films and its standard error. Nothing is trained.

Rows: the fullest 15 s; the rule as it ships, on all films; each part alone; the best of the grid
on all films, which flatters itself; and the cross-validated number: of each film with the choice
that is best on the others.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import polars as pl

from contentctr.rooms.folder import find_rooms, read_room
from contentctr.rooms.room import Room
from contentctr.rule import usual
from contentctr.rule.chat import read_chat
from contentctr.rule.curve import score_chat
from contentctr.rule.lag import REACTION_S
from contentctr.rule.parts import PARTS, chat_signals
from contentctr.rule.usual import count_steps
from danmaku import fullest_scenes
from scenes import SCENE_S, Floats, apart_scenes, score_scenes

USUAL = (600.0, 1200.0, 2400.0)
LAGS = (0.0, 5.0, 8.0)
LAUGHTER, WORDS = (0.0, 0.5, 1.0), (0.0, 0.25, 0.5, 1.0)
"""Weights beside that of the chat, 1."""


def starts_of(room: Room) -> Floats:
    return np.arange(0.0, room.duration_s - SCENE_S + 1e-6, usual.STEP_S)


def f1(room: Room, scores: Floats, labels: Floats) -> float:
    """F1 of the best scenes of a film, of `labels` [L, 2] in seconds."""
    return score_scenes(apart_scenes(starts_of(room), scores, len(labels)), labels).f1


def fullest(room: Room, labels: Floats) -> float:
    assert room.comments is not None
    times = room.comments["t"].to_numpy()
    return score_scenes(fullest_scenes(times, room.duration_s, len(labels)), labels).f1


def by_rule(room: Room, **options: object) -> Floats:
    assert room.comments is not None
    starts = starts_of(room)
    given = (room.comments, room.duration_s, starts, starts + SCENE_S)
    return score_chat(*given, **options)  # type: ignore[arg-type]


def grid(room: Room) -> dict[tuple[float, ...], Floats]:
    """Scores of a film by (usual_s, lag_s, weight of laughter, weight of words)."""
    assert room.comments is not None
    steps, found = count_steps(room.duration_s), {}
    at = ((starts_of(room) + SCENE_S / 2) / usual.STEP_S).astype(np.int64)
    shipped = usual.USUAL_S
    for lag_s in LAGS:
        chat = read_chat(room.comments, steps, lag_s)
        for usual_s in USUAL:
            usual.USUAL_S = usual_s
            parts = {name: signal.score_T[at] for name, signal in chat_signals(chat).items()}
            for laughter, words in itertools.product(LAUGHTER, WORDS):
                score = parts["chat"] + laughter * parts["laughter"] + words * parts["words"]
                found[usual_s, lag_s, laughter, words] = score
    usual.USUAL_S = shipped
    return found


def show(name: str, values: list[float]) -> None:
    error = np.std(values, ddof=1) / len(values) ** 0.5
    films = " ".join(f"{value:.2f}" for value in values)
    print(f"{name:44} {np.mean(values):.3f} +- {error:.3f}   {films}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    table = pl.read_csv(folder / "highlights.csv", schema_overrides={"room_id": pl.String})
    rooms = [read_room(path) for path in find_rooms(folder)]
    labels = [
        table.filter(pl.col("room_id") == room.room_id).select("start_s", "end_s").to_numpy() + 0.0
        for room in rooms
    ]

    def measure(scores: list[Floats]) -> list[float]:
        given = zip(rooms, scores, labels, strict=True)
        return [f1(room, score, truth) for room, score, truth in given]

    floor = [fullest(*each) for each in zip(rooms, labels, strict=True)]
    show("fullest 15 s", floor)
    shipped = measure([by_rule(room) for room in rooms])
    show("the rule", shipped)
    for name in ("chat", "laughter", "words"):
        alone = {other: float(other == name) for other in ("chat", "laughter", "words")}
        show(f"{name} alone", measure([by_rule(room, weights=alone) for room in rooms]))
    found = [grid(room) for room in rooms]
    by_choice = {key: measure([film[key] for film in found]) for key in found[0]}
    means = {key: float(np.mean(values)) for key, values in by_choice.items()}
    best = max(means, key=lambda key: means[key])
    show(f"best of {len(means)} choices {best}", by_choice[best])
    show("worst of them", by_choice[min(means, key=lambda key: means[key])])
    kept = []
    for i in range(len(rooms)):
        others = {key: sum(v) - v[i] for key, v in by_choice.items()}
        kept.append(by_choice[max(others, key=lambda key: others[key])][i])
    show("cross-validated over films", kept)
    show("the same, less the fullest 15 s", (np.array(kept) - floor).tolist())
    own = {name: PARTS[name].weight / PARTS["chat"].weight for name in ("laughter", "words")}
    print(f"shipped: usual {usual.USUAL_S:g} s, lag {REACTION_S:g} s, weights beside chat {own}")
    low, middle, high = np.quantile(list(means.values()), (0.1, 0.5, 0.9))
    print(f"of all choices, 10 %, half and 90 % are below {low:.3f}, {middle:.3f}, {high:.3f}")


if __name__ == "__main__":
    main()
