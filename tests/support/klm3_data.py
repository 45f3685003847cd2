"""Made-up data of exactly the published form of KuaiLive-M3, of any size, for tests and benchmarks.

Planted mechanism: every segment has a hidden appeal that wanders inside its room. It shows in the
first number of the embedding, in who clicks, in who stays, in likes and comments, and in the words
of the comments. With `dirt`: late events, sessions without end, repeated rows, and rooms without
embeddings, without end, or with one segment.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

SHARDS = 18
ACTIONS = ("click", "slide up/down", "re-enter", "auto-enter", "unknown")
IDS = ("live_id", "live_stream_id", "user_id", "author_id")
_START_MS = 1_746_057_600_000
_BLOCK_ROOMS = 4_000
_ZEROS = (
    "send_gift_cnt",
    "send_gift_num",
    "follow_author_cnt",
    "cancel_follow_author_cnt",
    "share_cnt",
    "report_live_cnt",
)


@dataclass(frozen=True, kw_only=True)
class Form:
    """How the published columns are stored."""

    ids: str = "int"
    """int or str."""
    times: str = "ms"
    """s, ms, us, ns (integers), text (digits), iso, iso_zone, or datetime_ms, _us, _ns."""
    csv: bool = True
    """Whether the tables published as CSV are CSV; else Parquet."""


def write_klm3(
    root: Path,
    *,
    rooms: int = 40,
    segments: int = 12,
    sessions: float = 3.0,
    shows: float = 4.0,
    likes: float = 2.0,
    comments: float = 1.0,
    users: int = 2_000,
    authors: int = 10,
    dirt: bool = True,
    seed: int = 0,
    form: Form | None = None,
    leave_out: tuple[str, ...] = (),
    whole_seconds: bool = False,
    shards: int = SHARDS,
) -> None:
    """Write all files.

    Args:
        root: the folder.
        rooms: rooms.
        segments: segments a room has on average.
        sessions: sessions that begin in a segment on average; `shows`, `likes`, `comments` alike.
        users: users to draw from.
        authors: authors to draw from.
        dirt: with the dirt of real logs.
        seed: same seed, same files.
        form: types of the columns.
        leave_out: file names without suffix that are not written.
        whole_seconds: all times are.
        shards: files of the segment embeddings.
    """
    root.mkdir(parents=True, exist_ok=True)
    (root / "SIMULATED").touch()  # so that every number from it is labelled so
    form = form or Form()
    rates = {"sessions": sessions, "shows": shows, "likes": likes, "comments": comments}
    writer = _Writer(root, form, leave_out, whole_seconds, shards)
    for first in range(0, rooms, _BLOCK_ROOMS):
        rng = np.random.default_rng((seed, first))
        block = _block(
            rng, first, min(_BLOCK_ROOMS, rooms - first), segments, rates, users, authors, dirt
        )
        for name, table in block.items():
            writer.add(name, table)
    people = pl.DataFrame({"user_id": np.arange(1, users + 1)})
    writer.add("user_id_set", people)
    writer.add(
        "author_profile",
        pl.DataFrame(
            {
                "author_id": np.arange(1, authors + 1),
                "is_photo_author": 0,
                "is_live_author": 1,
                "gender": "F",
                "age_segment": "24-30",
                "fans_user_num": "10k-100k",
            }
        ),
    )
    writer.close()


def _block(
    rng: np.random.Generator,
    first: int,
    rooms: int,
    segments: int,
    rates: dict[str, float],
    users: int,
    authors: int,
    dirt: bool,
) -> dict[str, pl.DataFrame]:
    live_R = np.arange(first + 1, first + rooms + 1)
    author_R = rng.integers(1, authors + 1, rooms)
    start_R = _START_MS + rng.integers(0, 30 * 86_400, rooms) * 1000
    count_R = np.maximum(rng.poisson(segments, rooms), 1)
    room_S = np.repeat(np.arange(rooms), count_R)
    first_R = np.cumsum(count_R) - count_R
    length_S = rng.integers(8_000, 60_000, len(room_S))
    total_S = np.cumsum(length_S)
    before_R = total_S[first_R] - length_S[first_R]
    end_S = start_R[room_S] + total_S - before_R[room_S]
    begin_S = end_S - length_S
    appeal_S = _wander(rng, room_S, first_R) + rng.normal(0, 0.5, rooms)[room_S]
    last_R = end_S[first_R + count_R - 1]

    def draw(rate: np.ndarray[Any, Any]) -> tuple[Any, Any, Any]:
        """Segment, user and time of events of a kind."""
        at = np.repeat(np.arange(len(room_S)), rng.poisson(rate))
        t = begin_S[at] + (rng.random(len(at)) * length_S[at]).astype(np.int64)
        if dirt:
            late = rng.random(len(at)) < 0.01
            t = np.where(late, last_R[room_S[at]] + rng.integers(0, 10**6, len(at)), t)
        return at, rng.integers(1, users + 1, len(at)), t

    drawn = {
        name: draw(rate * np.exp(0.6 * appeal_S - 0.18))
        for name, rate in rates.items()
        if name != "shows"
    }
    drawn["shows"] = draw(rates["shows"] * np.exp(-0.3 * appeal_S))
    tables = {
        "live_interaction": _sessions(rng, live_R, author_R, room_S, appeal_S, drawn["sessions"]),
        "live_show": _log(live_R, author_R, room_S, drawn["shows"], "show_timestamp"),
        "live_like": _log(live_R, None, room_S, drawn["likes"], "like_timestamp"),
        "live_comment": _comments(rng, live_R, author_R, room_S, appeal_S, drawn["comments"]),
        "live_room_meta": _meta(rng, live_R, author_R, start_R, last_R, dirt),
        "live_room_set": pl.DataFrame({"live_id": live_R}),
    }
    shares = tables["live_like"].head(rooms).rename({"like_timestamp": "share_timestamp"})
    tables["live_share"] = shares.with_columns(author_id=pl.lit(1), is_share_success=pl.lit(1))
    vector_SD = rng.normal(size=(len(room_S), 128)).astype(np.float32)
    vector_SD[:, 0] = appeal_S
    keep_S = (rng.random(rooms) >= 0.05 * dirt)[room_S] & (rng.random(len(room_S)) >= 0.03 * dirt)
    vectors = pl.DataFrame(
        {
            "live_stream_id": live_R[room_S].astype(str),
            "segment_id": np.arange(len(room_S)).astype(str),
            "feature_128": vector_SD,
            "timestamp": end_S,
        }
    )
    order = rng.permutation(np.flatnonzero(keep_S))
    tables["live_emb_128_ts"] = _repeat(rng, vectors[order], 0.005 * dirt)
    tables["live_emb_64"] = pl.DataFrame(
        {"live_id": live_R, "embedding": rng.normal(size=(rooms, 64)).astype(np.float32)}
    )
    for name in ("live_interaction", "live_show", "live_like", "live_comment"):
        tables[name] = _repeat(
            rng, tables[name].sample(fraction=1, shuffle=True, seed=first), 0.01 * dirt
        )
    if dirt:
        lost = pl.Series(rng.random(tables["live_interaction"].height) < 0.02)
        none = rng.random(len(lost)) < 0.5
        tables["live_interaction"] = tables["live_interaction"].with_columns(
            live_play_end_timestamp=pl.when(~lost).then("live_play_end_timestamp"),
            play_duration=pl.when(~(lost & pl.Series(none))).then("play_duration"),
        )
    return tables


def _wander(rng: np.random.Generator, room_S: Any, first_R: Any) -> Any:
    """A smooth walk inside each room: a moving mean of noise, begun anew in each."""
    noise = rng.normal(size=len(room_S) + 4)
    walk = sum(noise[k : k + len(room_S)] for k in range(5)) / 5**0.5
    return walk - walk[first_R][room_S] * 0.2


def _sessions(
    rng: Any, live_R: Any, author_R: Any, room_S: Any, appeal_S: Any, drawn: Any
) -> pl.DataFrame:
    at, user, t = drawn
    stay = (rng.exponential(40_000, len(at)) * np.exp(0.5 * appeal_S[at])).astype(np.int64)
    click = rng.random(len(at)) < 1 / (1 + np.exp(-appeal_S[at]))
    action = np.where(click, 0, rng.integers(1, len(ACTIONS), len(at)))
    room = room_S[at]
    return pl.DataFrame(
        {
            "user_id": user,
            "author_id": author_R[room],
            "live_id": live_R[room],
            "live_play_start_timestamp": t,
            "live_play_end_timestamp": t + stay,
            "p_date": 20250501,
            "live_source_category": "feed",
            "enter_live_action": np.array(ACTIONS)[action],
            "is_auto_play": 0,
            "is_follow_enter": 0,
            "is_follow_leave": 0,
            "play_duration": stay,
            "like_cnt": 0,
            "comment_cnt": 0,
            **dict.fromkeys(_ZEROS, 0),
        }
    )


def _log(live_R: Any, author_R: Any, room_S: Any, drawn: Any, time: str) -> pl.DataFrame:
    at, user, t = drawn
    author = {} if author_R is None else {"author_id": author_R[room_S[at]]}
    return pl.DataFrame({"live_id": live_R[room_S[at]], "user_id": user, **author, time: t})


def _comments(
    rng: Any, live_R: Any, author_R: Any, room_S: Any, appeal_S: Any, drawn: Any
) -> pl.DataFrame:
    at, user, t = drawn
    words = np.array(["so dull, bye", "hello", 'what a "show"', "太好看了", ""])
    word = np.clip(np.round(appeal_S[at] + 1 + rng.normal(0, 0.5, len(at))), 0, 3).astype(int)
    word[rng.random(len(at)) < 0.02] = 4
    room = room_S[at]
    return pl.DataFrame(
        {
            "live_stream_id": live_R[room],
            "user_id": user,
            "author_id": author_R[room],
            "content": words[word],
            "comment_ts": t,
        }
    )


def _meta(
    rng: Any, live_R: Any, author_R: Any, start_R: Any, last_R: Any, dirt: bool
) -> pl.DataFrame:
    live_now = pl.Series(rng.random(len(live_R)) < 0.03 * dirt)
    return pl.DataFrame(
        {
            "live_id": live_R,
            "author_id": author_R,
            "live_name": "",
            "start_timestamp": start_R,
            "end_timestamp": last_R + 5_000,
            "live_duration": last_R + 5_000 - start_R,
        }
    ).with_columns(end_timestamp=pl.when(~live_now).then("end_timestamp"))


def _repeat(rng: Any, table: pl.DataFrame, share: float) -> pl.DataFrame:
    again = np.flatnonzero(rng.random(table.height) < share)
    return pl.concat([table, table[again]])


class _Writer:
    """Appends blocks to the published files."""

    def __init__(
        self, root: Path, form: Form, leave_out: tuple[str, ...], whole_seconds: bool, shards: int
    ) -> None:
        self.root, self.form, self.leave_out = root, form, leave_out
        self.whole_seconds, self.shards = whole_seconds, shards
        self.parts: dict[str, list[Path]] = {}

    def add(self, name: str, table: pl.DataFrame) -> None:
        if name in self.leave_out:
            return
        csv = name not in ("live_show", "live_room_meta", "live_emb_64", "live_emb_128_ts")
        csv &= self.form.csv
        table = self._formed(table, csv)
        parts = self.parts.setdefault(name, [])
        if csv:
            path = self.root / f"{name}.csv"
            with path.open("ab" if parts else "wb") as file:
                table.write_csv(file, include_header=not parts)
            parts.append(path)
            return
        path = self.root / f".{name}.{len(parts)}.parquet"
        table.write_parquet(path, row_group_size=50_000)
        parts.append(path)

    def close(self) -> None:
        for name, parts in self.parts.items():
            if parts[0].suffix == ".csv":
                continue
            frame = pl.scan_parquet(parts)
            if name == "live_emb_128_ts":
                self._shards(frame)
            else:
                frame.sink_parquet(self.root / f"{name}.parquet")
            for part in parts:
                part.unlink()

    def _shards(self, frame: pl.LazyFrame) -> None:
        folder = self.root / "live_emb_128_ts"
        folder.mkdir(exist_ok=True)
        frame = frame.with_columns(pl.col("feature_128").arr.to_list())
        each = -(-frame.select(pl.len()).collect().item() // self.shards)
        for shard in range(self.shards):
            path = folder / f"live_emb_128_ts_part{shard}.parquet"
            frame.slice(shard * each, each).sink_parquet(path)

    def _formed(self, table: pl.DataFrame, csv: bool) -> pl.DataFrame:
        times = [c for c in table.columns if c.endswith(("timestamp", "_ts"))]
        ids = [
            c for c in table.columns if c in ("live_id", "live_stream_id", "user_id", "author_id")
        ]
        if self.whole_seconds:
            table = table.with_columns(pl.col(times) // 1000 * 1000)
        kind = pl.String if self.form.ids == "str" else pl.Int64
        if "live_stream_id" in ids and "feature_128" in table.columns and self.form == Form():
            kind = pl.String  # as published
        return table.with_columns(pl.col(ids).cast(kind), *(self._time(c, csv) for c in times))

    def _time(self, column: str, csv: bool) -> pl.Expr:
        ms, times = pl.col(column), self.form.times
        if times.startswith("iso") or (csv and times.startswith("datetime")):
            moment = ms.cast(pl.Datetime("ms"))
            zone = "+0800" if times == "iso_zone" else ""
            shift = pl.duration(hours=8 if zone else 0)
            return (moment + shift).dt.strftime("%Y-%m-%d %H:%M:%S%.3f") + zone
        if times.startswith("datetime"):
            unit = times.removeprefix("datetime_")
            return ms.cast(pl.Datetime("ms")).cast(pl.Datetime(unit))
        if times == "text":
            return ms.cast(pl.String)
        over = {"s": 1 / 1000, "ms": 1, "us": 1_000, "ns": 1_000_000}[times]
        return ms // 1000 if over < 1 else ms * int(over)
