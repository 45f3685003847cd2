"""A room's chat as counts of people: who writes, who laughs, and who writes the same new words.

Each person counts once in a step's 15 s, however much is written: one who floods is one. Left out
are commands to bots, bots by their usual names, and whoever mostly writes one long text over and
over. A word is a run of letters and digits; scripts without spaces are read in pairs of characters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import polars as pl

from contentctr.rule.usual import AROUND, STEP_S, Floats

BOTS = (
    *("nightbot", "streamelements", "streamlabs", "moobot", "fossabot", "wizebot", "botisimo"),
    *(
        "sery_bot",
        "soundalerts",
        "pokemoncommunitygame",
        "kofistreambot",
        "buttsbot",
        "botrixoficial",
    ),
)
_COMMAND = r"^\s*[!！][\p{L}]"
_REPEATED, _LONG = 10, 20
"""A person whose most frequent text has come so often, is so long, and half of all, is a bot."""
LAUGHTER = (
    r"(?i)(?:^|[^\p{L}\p{N}])(?:(?:b?a?(?:ha){2,}h?)|(?:he){2,}|(?:hi){2,}|l+o+l+(?:o+l+)*|lmf?ao+|rofl|x+d+"
    r"|w{2,}|k{3,}|(?:ja|je){2,}|(?:rs){2,}|mdr+|ptdr+|kek\w*|lul\w*|omegalul|5{3,})(?:$|[^\p{L}\p{N}])"
    r"|哈哈|呵呵|嘿嘿|笑|草{2,}|ｗ{2,}|ㅋㅋ|ㅎㅎ|(?:ха){2,}|(?:ах){2,}|هه+|(?:^|\D)23{2,}(?:$|\D)"
    r"|[\x{1F602}\x{1F923}\x{1F606}\x{1F604}]"
)
"""How people laugh in writing, in some twenty languages."""
ENOUGH = 3.0
"""People that say something."""
_CHARACTERS, _WORDS = 200, 40
"""Of a comment that are read."""
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_RUN = rf"[{_UNSPACED}]+|[\p{{L}}\p{{M}}\p{{N}}--{_UNSPACED}]+"
_PAIRED = re.compile(rf"[{_UNSPACED}]")
_AGAIN = re.compile(r"(.{1,3}?)\1{2,}")
_STEPS_AT_ONCE = 720
"""An hour of words is counted at once: of a longer chat no more is in memory."""
TOLD = 6
"""New words of a step that are kept, to be told."""
_TELLING = 4.0
"""So surprising a word must be to be told: two of three people write "the" by chance."""


@dataclass(frozen=True, kw_only=True)
class Chat:
    """Counts of people in the 15 s around each step."""

    people_T: Floats
    laughing_T: Floats
    same_T: Floats
    """People who write the word that has risen most, beyond those who would as usual."""
    words: pl.DataFrame
    """step, word, people: the words that tell most of a step, at most TOLD, best first."""
    left_out: int
    """Comments of bots and commands."""


def read_chat(comments: pl.DataFrame, steps: int, lag_s: float) -> Chat:
    """Counts of people from a chat.

    Args:
        comments: of COMMENTS_SCHEMA.
        steps: T.
        lag_s: how long comments come after what they are of; it is taken off.
    """
    kept = clean(comments)
    step = ((pl.col("t") - lag_s).clip(lower_bound=0.0) / STEP_S).floor().cast(pl.Int32)
    nobody = pl.col("user_id") == ""
    # Users that are gone are not one person who floods.
    user = pl.when(nobody).then(pl.int_range(pl.len()).cast(pl.String) + "?")
    rows = kept.select(
        step.clip(upper_bound=steps - 1).alias("step"),
        user.otherwise("u" + pl.col("user_id")).rank("dense").cast(pl.UInt32).alias("user"),
        pl.col("text").str.slice(0, _CHARACTERS),
        pl.col("text").str.contains(LAUGHTER).alias("laughs"),
    )
    people_T = _people(rows, steps)
    same_T, words = _same_words(rows, people_T)
    return Chat(
        people_T=people_T,
        laughing_T=_people(rows.filter(pl.col("laughs")), steps),
        same_T=same_T,
        words=words,
        left_out=comments.height - kept.height,
    )


def clean(comments: pl.DataFrame) -> pl.DataFrame:
    """The comments that people wrote to each other: none of bots, no commands."""
    user, text = pl.col("user_id"), pl.col("text").fill_null("")
    kept = comments.with_columns(text).filter(
        ~user.str.to_lowercase().is_in(BOTS) & ~text.str.contains(_COMMAND)
    )
    long = kept.filter((text.str.len_chars() >= _LONG) & (user != ""))
    copies = long.group_by("user_id", "text").len("copies").filter(pl.col("copies") >= _REPEATED)
    if not copies.height:
        return kept
    most = copies.group_by("user_id").agg(pl.col("copies").max())
    bots = most.join(kept.group_by("user_id").len("all"), on="user_id").filter(
        pl.col("copies") * 2 >= pl.col("all")
    )
    return kept.join(bots, on="user_id", how="anti", maintain_order="left")


def words_of(texts: pl.Series) -> pl.DataFrame:
    """Words of comments: `text` number and `word`, each once a comment; see the file.

    What is drawn out ("loooool", "哈哈哈哈") is as if repeated twice.
    """
    runs = (
        pl.DataFrame({"text": np.arange(len(texts), dtype=np.uint32), "run": texts})
        .with_columns(pl.col("run").str.to_lowercase().str.extract_all(_RUN).list.head(_WORDS))
        .explode("run")
        .drop_nulls()
    )
    # A chat of a million comments has some ten thousand runs: those alone are looked at one by one.
    known = runs["run"].unique()
    table = pl.DataFrame(
        {"run": known, "word": [_words_of_run(run) for run in known]},
        schema={"run": pl.String, "word": pl.List(pl.String)},
    )
    return runs.join(table, on="run").select("text", "word").explode("word").unique()


def _words_of_run(run: str) -> list[str]:
    run = _AGAIN.sub(r"\1\1", run)
    if not _PAIRED.match(run):
        return [run]
    return list(dict.fromkeys(run[i : i + 2] for i in range(max(len(run) - 1, 1))))[:_WORDS]


def _around(rows: pl.DataFrame) -> pl.DataFrame:
    """Each row at every step that it is around of, in which it counts."""
    moved = [rows.with_columns(pl.col("step") + k) for k in range(-AROUND, AROUND + 1)]
    return pl.concat(moved)


def _people(rows: pl.DataFrame, steps: int) -> Floats:
    """Distinct people around each step, [T]."""
    seen = _around(rows.select("step", "user").unique()).unique()
    counts = seen.filter(pl.col("step").is_between(0, steps - 1))["step"].to_numpy()
    return np.bincount(counts, minlength=steps).astype(np.float64)


def _same_words(rows: pl.DataFrame, people_T: Floats) -> tuple[Floats, pl.DataFrame]:
    """People beyond the usual who write the same word, [T], and those words."""
    # Most words are written once or twice: without them little is left.
    numbered = rows.select("step", "user").with_row_index("text")
    said = numbered.join(words_of(rows["text"]), on="text").select("step", "user", "word").unique()
    all_rows = max(rows.select("step", "user").n_unique(), 1)
    share = said.group_by("word").agg((pl.len() / all_rows).alias("share"), pl.len().alias("n"))
    said = said.join(share.filter(pl.col("n") >= ENOUGH).drop("n"), on="word")
    same_T, told = np.zeros(len(people_T)), []
    for first in range(0, len(people_T), _STEPS_AT_ONCE):
        last = min(first + _STEPS_AT_ONCE, len(people_T))
        near = said.filter(pl.col("step").is_between(first - AROUND, last - 1 + AROUND))
        found = _risen(near, first, last, people_T)
        told.append(_telling(found))
        best = found.group_by("step").agg(pl.col("beyond").max())
        same_T[best["step"].to_numpy()] = best["beyond"].to_numpy()
    words = pl.concat(told)
    return same_T, words.select("step", "word", "people")


def _risen(near: pl.DataFrame, first: int, last: int, people_T: Floats) -> pl.DataFrame:
    """Words with their people of steps first..last - 1, those beyond the usual."""
    people = pl.DataFrame(
        {"step": np.arange(first, last, dtype=np.int32), "all": people_T[first:last]}
    )
    around = _around(near).filter(pl.col("step").is_between(first, last - 1)).unique()
    counts = around.group_by("step", "word").agg(
        pl.len().alias("people"), pl.col("share").first().alias("share")
    )
    usual = pl.col("all") * pl.col("share")
    return (
        counts.filter(pl.col("people") >= ENOUGH)
        .join(people, on="step")
        .with_columns((pl.col("people") - usual).alias("beyond"))
        .filter(pl.col("beyond") > 0)
    )


def _telling(risen: pl.DataFrame) -> pl.DataFrame:
    """The words of each step that chance does not bring, the most surprising first.

    Surprise is the log-likelihood ratio of a Poisson count, people ln(people / usual) - beyond. It
    is not what is scored: on films that lost a little, as common words rise with the excitement.
    """
    usual = pl.col("people") - pl.col("beyond")
    surprise = pl.col("people") * (pl.col("people") / usual).log() - pl.col("beyond")
    return (
        risen.with_columns(surprise.alias("surprise"))
        .filter(pl.col("surprise") >= _TELLING)
        .sort("step", "surprise", "word", descending=[False, True, False])
        .group_by("step", maintain_order=True)
        .head(TOLD)
    )
