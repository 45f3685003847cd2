"""What plain words tell of goals, cards and substitutions: a rule of thumb, and a ceiling.

One regular expression a class, in the ten languages of the commentary, written down once and not
tuned.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import polars as pl

from contentctr.evaluate.floors import Floats

WORDS = {
    "goal": r"\b(?:goa+l\w*|go+l(?:azo|e|es|s)?|gol\w{0,3}|tor+e?|treffer|but+s?|marque\w*|rete"
    r"|гол\w*|golo?s?|[0-9]-[0-9])\b",
    "card": r"yellow card|red card|booked|booking|caution|tarjeta|amarilla|cartulina|roja\b"
    r"|carton|jaune|rouge\b|gelb\w*|karte\b|verwarn\w*|cartellin\w*|ammoni\w*|giallo|espuls\w*"
    r"|rosso|ж[её]лт\w*|карточк\w*|cart[aã]o|amarelo",
    "substitution": r"substitut\w*|comes? on for|replac\w*|\bcoming on\b|coming off|cambio\b"
    r"|sustitu\w*|en lugar de|wechsel\w*|kommt f[uü]r|ausgewechselt|eingewechselt|rempla\w*"
    r"|changement|cambi\w*\b|sostitu\w*|замен\w*|substitui\w*",
}
BEFORE_S, AFTER_S = 10, 75
"""A moment is spoken of from so long before it to so long after it, or not heard at all."""


def count_words(
    texts: Mapping[str, list[str]], rooms: pl.DataFrame, name: str, *, later: bool
) -> Floats:
    """How often a class's words stand in each minute: float64, row by row.

    Args:
        texts: each room's speech by minute.
        rooms: room_id and minute.
        name: the class.
        later: count those of the next minute too.
    """
    pattern = re.compile(WORDS[name])
    counts = {
        room: [len(pattern.findall(text.lower())) for text in minutes]
        for room, minutes in texts.items()
    }
    return np.array(
        [
            sum(counts[room][k : k + 1 + later])
            for room, k in rooms.select("room_id", "minute").iter_rows()
        ],
        dtype=float,
    )


def heard(segments: pl.DataFrame, events: pl.DataFrame) -> pl.DataFrame:
    """Of each class's moments, how many can be heard at all: shares, a row a class.

    `silent`: nobody speaks from BEFORE_S before to AFTER_S after. `loop`: the recogniser repeats
    itself there, half of what it wrote is the same over again. `words`: of the others, one of the
    class's words stands there; `elsewhere`: the same of stretches with no such moment near.

    Args:
        segments: room_id, start_s, speech.
        events: room_id, t, label (a class).
    """
    by_room = {
        str(room): (own["start_s"].to_numpy(), own["speech"].fill_null("").to_list())
        for (room,), own in segments.group_by("room_id")
    }
    rows = []
    for name, pattern in WORDS.items():
        own = events.filter(pl.col("label") == name)
        found = [_hears(by_room[room], t, pattern) for room, t in own.select("room_id", "t").rows()]
        far = []
        for room, (start_S, _) in by_room.items():
            times = own.filter(pl.col("room_id") == room)["t"].to_numpy()
            for t in start_S[:: max(1, len(start_S) // 14)]:
                if not (np.abs(times - t) < 2 * AFTER_S).any():
                    far.append(_hears(by_room[room], t, pattern))
        audible = [x for x in found if x in ("words", "none")]
        rows.append(
            {
                "class": name,
                "moments": len(found),
                **{kind: found.count(kind) / max(1, len(found)) for kind in ("silent", "loop")},
                "words": audible.count("words") / max(1, len(audible)),
                "elsewhere": far.count("words") / max(1, far.count("words") + far.count("none")),
            }
        )
    return pl.DataFrame(rows)


def _hears(room: tuple[Floats, list[str]], t: float, pattern: str) -> str:
    start_S, speech = room
    low, high = np.searchsorted(start_S, (t - BEFORE_S, t + AFTER_S))
    parts = [part for part in speech[max(0, int(low) - 1) : int(high)] if part]
    if not parts:
        return "silent"
    said = [sentence.strip() for part in parts for sentence in re.split(r"[.!?]", part)]
    said = [sentence for sentence in said if sentence]
    if len(set(said)) <= max(2, len(said) // 2):
        return "loop"
    return "words" if re.search(pattern, " ".join(parts).lower()) else "none"
