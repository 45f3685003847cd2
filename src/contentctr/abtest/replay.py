"""A simulated A/B test of Eq. 16: users of a simulated platform, with and without our term.

The rooms are those of a prepared folder of simulated rooms, with their true click probabilities.
Each is on air once, from a moment drawn anew; users ask for rooms over some days; the base ranker
knows what lasts (each streamer's mean CTR in the training rooms, each user's liking of each
streamer) and the treatment adds our score of the last segment that has ended. Clicks follow the
true probability of the segment on screen, and how long one stays follows the segments after it.
No fatigue, no position bias, no crowding: what is assumed is made up (docs/decisions.md, "A/B
tests"). Its numbers say what the ranking does to such users, nothing of real ones.

Shape suffixes: S segments of all rooms in a row, P rooms, U users, Q requests of one moment,
L rooms that are live then, E exposures, D width of users' and streamers' tastes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contentctr.abtest.analysis import KIND
from contentctr.abtest.logs import LOG_SCHEMA
from contentctr.abtest.platform import Floats, Ints, Platform, Scores, air_rooms, load_platform
from contentctr.errors import InputError, require
from contentctr.files import atomic, file_sha256, write_json
from contentctr.live.ranking import RankSettings, content_part, fade
from contentctr.outputs import check_output, output_folder
from contentctr.progress import progress_bar
from contentctr.store.rooms import PreparedRooms

_require = partial(require, of="replay setting")

CONTROL, TREATMENT = "control", "content"
TASTES = 4
"""D: a user's liking of a streamer is a product of two vectors of this width."""
LONG_VIEW_SEGMENTS = 2.0
"""A stay of so many segments is a long view (s_lvtr)."""
LOG = "exposures.parquet"

Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class ReplaySettings:
    """The simulated test."""

    days: int = 4
    """Days of the test; the paper's had four."""
    users: int = 20_000
    """Users of the platform."""
    requests: float = 3.0
    """Mean requests for rooms of a user on a day; each user has a rate of their own, exponential
    around it."""
    live_rooms: float = 30.0
    """Mean of the rooms live at once. It decides how long a day is: as long as the rooms last."""
    shown: int = 3
    """Rooms shown to a request: the first so many of the ranking."""
    affinity_sd: float = 0.5
    """Standard deviation of a user's liking of a streamer, log-odds of a click."""
    stay_segments: float = 4.0
    """Mean stay after a click while the room has the platform's mean attraction, segments."""
    stay_power: float = 0.5
    """The rate of leaving goes with (mean click probability / the segment's) to this power."""
    treatment_share: float = 0.5
    """Share of the users whose ranking has our term."""
    weight: float = 1.0
    """w of Eq. 16 in the treatment; 0 makes an A/A test."""
    seed: int = 0
    """Of everything."""

    def __post_init__(self) -> None:
        for name in ("days", "users", "shown"):
            _require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        for name in ("requests", "live_rooms", "stay_segments"):
            value = getattr(self, name)
            _require(math.isfinite(value) and value > 0, name, "above 0", value)
        for name in ("affinity_sd", "stay_power", "seed"):
            value = getattr(self, name)
            _require(math.isfinite(value) and value >= 0, name, "at least 0", value)
        share = self.treatment_share
        _require(0 < share < 1, "treatment_share", "between 0 and 1", share)
        _require(math.isfinite(self.weight), "weight", "finite", self.weight)


def replay_test(
    data: PreparedRooms | Path | str,
    out: Path | str,
    scores: Scores,
    *,
    split: str = "test",
    settings: ReplaySettings | None = None,
    show_progress: bool = True,
) -> dict[str, Any]:
    """Simulate an A/B test and write its exposure log: OUT/exposures.parquet and manifest.json.

    Args:
        data: a prepared folder of simulated rooms, with training rooms.
        out: a new or empty folder, or one of an earlier replay, whose files are replaced.
        scores: where our scores come from: a model's evaluation, or a stand-in.
        split: rooms that are on air; those a model was trained on would flatter it.
        settings: the test.
        show_progress: show a bar.

    Returns:
        What manifest.json holds.

    Raises:
        InputError: the rooms are not simulated or too few, the scores are not of these rooms, or
            `out` holds files of somebody else.
    """
    settings, out = settings or ReplaySettings(), Path(out)
    check_output(out, KIND)
    data = data if isinstance(data, PreparedRooms) else PreparedRooms(Path(data))
    platform = load_platform(data, scores, split=split, seed=settings.seed)
    log, facts = simulate(platform, settings, show_progress=show_progress)
    with output_folder(out, KIND, ["manifest.json", LOG]):
        with atomic(out / LOG) as temporary:
            log.write_parquet(temporary)
        manifest = _manifest(settings, platform, split, facts, {LOG: file_sha256(out / LOG)})
        write_json(out / "manifest.json", manifest)
    return manifest


def _manifest(
    settings: ReplaySettings,
    platform: Platform,
    split: str,
    facts: dict[str, Any],
    hashes: dict[str, str],
) -> dict[str, Any]:
    return {
        "source": "abtest-replay",
        "simulated": True,
        "arms": {
            CONTROL: "base ranker alone",
            TREATMENT: f"base ranker + {settings.weight:g} x our score",
        },
        "scores": platform.scores_name,
        "split": split,
        "settings": dataclasses.asdict(settings),
        "facts": facts,
        "hashes": hashes,
    }


def assign_arms(user_ids: list[str], share: float, salt: str) -> Bools:
    """Whether each user is in the treatment: a hash of the user decides, the same every day.

    Args:
        user_ids: U of them.
        share: of the treatment, in (0, 1).
        salt: of this test; another one gives an independent assignment.
    """
    hashes = (hashlib.blake2b(f"{salt}/{user}".encode(), digest_size=8) for user in user_ids)
    limit = share * 2.0**64
    return np.array([int.from_bytes(h.digest(), "big") < limit for h in hashes])


@dataclass(frozen=True, kw_only=True)
class _Users:
    ids: list[str]
    treated_U: Bools
    taste_UD: Floats
    rate_U: Floats
    """Mean requests on a day."""


@dataclass(frozen=True, kw_only=True)
class _Leaving:
    """Rate of leaving, per segment, of a user without liking or dislike of the streamer."""

    rate_S: Floats
    running_S: Floats
    """Sum of the rates before each segment, [S + 1]."""

    @classmethod
    def of(cls, platform: Platform, settings: ReplaySettings) -> _Leaving:
        ratio_S = platform.mean_probability / platform.probability_S
        rate_S = ratio_S**settings.stay_power / settings.stay_segments
        return cls(rate_S=rate_S, running_S=np.concatenate([[0.0], np.cumsum(rate_S)]))


@dataclass
class _Counts:
    requests: int = 0
    without_room: int = 0
    live: list[int] = field(default_factory=list)


def simulate(
    platform: Platform, settings: ReplaySettings, *, show_progress: bool = True
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The exposure log of a simulated test, and counts of what happened in it.

    Args:
        platform: rooms with truth and scores.
        settings: the test.
        show_progress: show a bar.

    Returns:
        A table of LOG_SCHEMA, sorted by time; the counts, for the manifest.
    """
    # A stream each: rooms and users stay the same however much the requests draw.
    streams = np.random.SeedSequence(settings.seed).spawn(3)
    air_rng, user_rng, rng = (np.random.default_rng(s) for s in streams)
    start_P, slots = air_rooms(platform, settings.live_rooms, settings.days, air_rng)
    users = _draw_users(settings, user_rng)
    # Scaled so that the product of two tastes has the wanted deviation.
    taste_PD = user_rng.standard_normal((platform.num_streamers, TASTES))[platform.streamer_P]
    taste_PD *= settings.affinity_sd / math.sqrt(TASTES)
    leaving = _Leaving.of(platform, settings)
    counts, parts = _Counts(), []
    with progress_bar("Replaying", slots, show=show_progress) as bar:
        for slot, user_Q in _requests(users, slots, settings.days, rng):
            counts.requests += len(user_Q)
            live_L = np.flatnonzero((start_P <= slot) & (slot < start_P + platform.length_P))
            counts.live.append(len(live_L))
            if len(live_L) and len(user_Q):
                now_L = platform.first_P[live_L] + slot - start_P[live_L]
                affinity_QL = users.taste_UD[user_Q] @ taste_PD[live_L].T
                day = 1 + slot * settings.days // slots
                treated_Q = users.treated_U[user_Q]
                part = _serve(
                    platform, settings, leaving, live_L, now_L, affinity_QL, treated_Q, rng
                )
                parts.append({"user": user_Q[part.pop("request")], "day": day, **part})
            elif len(user_Q):
                counts.without_room += len(user_Q)
            bar.advance()
    if not parts:
        raise InputError("the replay showed nothing: no request met a live room; take more of both")
    facts = {
        "rooms": len(start_P),
        "minutes_per_day": slots / settings.days * platform.segment_seconds / 60,
        "mean_live_rooms": float(np.mean(counts.live)),
        "requests": counts.requests,
        "requests_without_live_room": counts.without_room,
        "mean_click_probability": platform.mean_probability,
    }
    return _table(parts, users, platform), facts


def _draw_users(settings: ReplaySettings, rng: np.random.Generator) -> _Users:
    ids = [f"user{number:07d}" for number in range(settings.users)]
    return _Users(
        ids=ids,
        treated_U=assign_arms(ids, settings.treatment_share, f"replay{settings.seed}"),
        taste_UD=rng.standard_normal((settings.users, TASTES)),
        rate_U=settings.requests * rng.exponential(size=settings.users),
    )


def _requests(
    users: _Users, slots: int, days: int, rng: np.random.Generator
) -> Iterator[tuple[int, Ints]]:
    """Each slot of the test with the users who request rooms in it, evenly spread over the day."""
    per_day = slots // days
    for day in range(days):
        user_N = np.repeat(np.arange(len(users.rate_U)), rng.poisson(users.rate_U))
        slot_N = rng.integers(per_day, size=len(user_N))
        order = np.argsort(slot_N, kind="stable")
        bounds = np.searchsorted(slot_N[order], np.arange(per_day + 1))
        for k in range(per_day):
            yield day * per_day + k, user_N[order[bounds[k] : bounds[k + 1]]]


def _serve(
    platform: Platform,
    settings: ReplaySettings,
    leaving: _Leaving,
    live_L: Ints,
    now_L: Ints,
    affinity_QL: Floats,
    treated_Q: Bools,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Exposures of one slot's requests, and what follows from them: E values each.

    `now_L` are the rows, among all S segments, of what is on screen.
    """
    into_Q = rng.random(len(treated_Q))  # share of the segment that has passed
    total_QL = base_scores(platform.level_P[live_L], affinity_QL, settings)
    part_QL = _content_parts(platform, settings, now_L, into_Q)
    total_QL = total_QL + np.where(treated_Q[:, None], part_QL, 0.0)
    # Rooms are in the order of their ids, so a stable sort breaks ties as the ranking does.
    shown_QK = np.argsort(-total_QL, axis=1, kind="stable")[:, : settings.shown]
    request_E = np.repeat(np.arange(len(treated_Q)), shown_QK.shape[1])
    room_E = shown_QK.ravel()
    now_E, affinity_E = now_L[room_E], affinity_QL[request_E, room_E]
    clicked_E = rng.random(len(room_E)) < _sigmoid(platform.logit_S[now_E] + affinity_E)
    stay_E = _stays(platform, settings, leaving, now_E, into_Q[request_E], affinity_E, rng)
    return {
        "request": request_E,
        "treated": treated_Q[request_E],
        "room": live_L[room_E],
        "segment": now_E - platform.first_P[live_L[room_E]],
        "clicked": clicked_E,
        "play_s": np.where(clicked_E, stay_E, 0.0),
    }


def base_scores(level_P: Floats, affinity_QP: Floats, settings: ReplaySettings) -> Floats:
    """The base ranker's s_ctr + s_lvtr [Q, P]: what lasts of streamer and user, nothing of now.

    s_ctr is the click probability at the streamer's long-term level; s_lvtr that of a click and a
    stay of LONG_VIEW_SEGMENTS, at the platform's mean rate of leaving.
    """
    s_ctr_QP = _sigmoid(level_P + affinity_QP)
    leaving_QP = np.exp(-settings.stay_power * affinity_QP) / settings.stay_segments
    return s_ctr_QP + s_ctr_QP * np.exp(-LONG_VIEW_SEGMENTS * leaving_QP)


def _content_parts(
    platform: Platform, settings: ReplaySettings, now_L: Ints, into_Q: Floats
) -> Floats:
    """Our term [Q, L], as `live.ranking.rank` has it, from the latest score that is ready."""
    rank_settings = RankSettings(
        content_weight=settings.weight,
        neutral_score=platform.mean_score,
        segment_seconds=platform.segment_seconds,
    )
    lag_L = platform.ready_lag_S[now_L]
    age_QL = (lag_L[None] + into_Q[:, None]) * platform.segment_seconds
    return content_part(platform.ready_score_S[now_L], fade(age_QL, rank_settings), rank_settings)


def _stays(
    platform: Platform,
    settings: ReplaySettings,
    leaving: _Leaving,
    now_E: Ints,
    into_E: Floats,
    affinity_E: Floats,
    rng: np.random.Generator,
) -> Floats:
    """Seconds [E] until each user would leave, at the latest when the room ends.

    A user leaves at a rate that each segment has; rates add up along the room, and the sum at
    leaving is exponential. So one search in the running sum finds the moment.
    """
    rate_S, running_S = leaving.rate_S, leaving.running_S
    patience_E = rng.exponential(size=len(now_E)) * np.exp(settings.stay_power * affinity_E)
    leaving_E = running_S[now_E] + into_E * rate_S[now_E] + patience_E
    last_E = np.searchsorted(running_S, leaving_E, side="right") - 1
    last_E = last_E.clip(max=len(rate_S) - 1)
    end_E = last_E + (leaving_E - running_S[last_E]) / rate_S[last_E]
    end_E = np.minimum(end_E, platform.end_S[now_E])
    stay_E: Floats = (end_E - (now_E + into_E)) * platform.segment_seconds
    return stay_E


def _table(parts: list[dict[str, Any]], users: _Users, platform: Platform) -> pl.DataFrame:
    names = ("user", "treated", "room", "segment", "clicked", "play_s")
    columns = {name: np.concatenate([part[name] for part in parts]) for name in names}
    day_E = np.repeat([part["day"] for part in parts], [len(part["user"]) for part in parts])
    user_ids, room_ids = pl.Series(users.ids), pl.Series(platform.room_ids)
    arms = pl.Series([CONTROL, TREATMENT])
    return pl.DataFrame(
        {
            "user_id": user_ids.gather(columns["user"]),
            "arm": arms.gather(columns["treated"].astype(np.int64)),
            "day": day_E,
            "room_id": room_ids.gather(columns["room"]),
            "segment": columns["segment"],
            "clicked": columns["clicked"],
            "play_s": columns["play_s"],
            "simulated": np.ones(len(day_E), dtype=np.bool_),
        },
        schema_overrides=LOG_SCHEMA,
    )


def _sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))
