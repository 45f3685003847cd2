"""Simulated rooms: the mechanism that draws activities, attraction, clicks and all that follows.

A streamer of some type goes through activities (a semi-Markov chain). What the audience of that
type thinks of the activity, a burst at its start and small nuisances make the click probability;
viewers and clickers are drawn from it, the other counts follow with delay. Pictures, speech and
comments show the activity, the latter two with leads and lags. docs/simulator.md lists every
assumption. Everything here is about made-up rooms: no number from them says anything of real ones.

Shape suffixes: S segments of the room, F frames of a segment, A activities.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from functools import partial

import numpy as np
from numpy.typing import NDArray

from contentctr.errors import require
from contentctr.simulate import tables
from contentctr.simulate.tables import ACTIVITIES, TYPES

_require = partial(require, of="simulator setting")

FRAMES = 3
"""Frames of a segment."""
SEGMENT_SECONDS = 30
FIRST_START = datetime(2026, 1, 5, tzinfo=UTC)
BURST_SEGMENTS = 3
MISSING = -1
"""In place of an activity: a frame that is not there, a text that is about nothing."""
STREAMS = (
    "streamer",
    "look",
    "room",
    "framing",
    "pictures",
    "speech",
    "comments",
    "events",
    "files",
    "encoder",
    "style",
    "features",
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class SimulatorConfig:
    """Everything that decides what is drawn; room i does not depend on `num_rooms`."""

    num_rooms: int = 200
    """Rooms."""
    num_streamers: int = 40
    """Streamers, who share the rooms evenly at random."""
    num_types: int = 5
    """Types of streamers, the first so many of TYPES."""
    min_segments: int = 40
    """Segments of the shortest room."""
    max_segments: int = 100
    """Segments of the longest room; lengths are uniform."""
    days: int = 7
    """Days over which the rooms' starts are spread evenly."""
    num_users: int = 50_000
    """Users of the platform."""
    viewers: float = 100.0
    """Median over rooms of the expected viewers of a segment."""
    viewers_spread: float = 0.5
    """Standard deviation, over rooms, of the log of a room's expected viewers."""
    viewers_shape: float = 20.0
    """Shape of the negative binomial of a segment's viewers; smaller: more spread."""
    base_logit: float = -2.2
    """Log-odds of a click before everything else."""
    streamer_sd: float = 0.3
    """Standard deviation of a streamer's own level, log-odds."""
    taste_sd: float = 0.2
    """Of what a streamer's own audience adds to the table for each activity, log-odds."""
    room_sd: float = 0.15
    """Of the room's level, which nothing shows, log-odds."""
    drift: float = 0.15
    """Height of a slow wave over the room, which nothing shows, log-odds."""
    noise_sd: float = 0.12
    """Standard deviation of the AR(1) noise (coefficient 0.7), log-odds."""
    plain_view: float = 0.15
    """Probability that a segment's frames show the face as in chatting, whatever goes on."""
    misleading: float = 0.05
    """Probability that a frame shows another activity."""
    missing_frames: float = 0.05
    """Probability that a frame is missing."""
    off_topic_speech: float = 0.25
    """Probability that a sentence of the streamer is about nothing."""
    off_topic_comments: float = 0.5
    """Probability that a comment is about nothing."""
    rooms_without_video: float = 0.05
    """Share of rooms without pictures."""
    rooms_without_speech: float = 0.1
    """Share of rooms without speech."""
    rooms_without_comments: float = 0.1
    """Share of rooms without the comments' texts (their count is in the events)."""
    seed: int = 0
    """Of everything."""

    def __post_init__(self) -> None:
        for name in ("num_rooms", "num_streamers", "min_segments", "days"):
            _require(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        _require(1 <= self.num_types <= len(TYPES), "num_types", "1 to 5", self.num_types)
        _require(
            self.max_segments >= self.min_segments,
            "max_segments",
            f"at least min_segments ({self.min_segments})",
            self.max_segments,
        )
        _require(self.num_users >= 10 * self.viewers, "num_users", ">= 10 viewers", self.num_users)
        for name in ("viewers", "viewers_shape"):
            _require(getattr(self, name) > 0, name, "above 0", getattr(self, name))
        for name, kind in self.__annotations__.items():
            value = getattr(self, name)
            if name.endswith(("_sd", "_spread")) or name in ("drift", "seed"):
                _require(value >= 0, name, "at least 0", value)
            if name.startswith(("plain", "misleading", "missing", "off_topic", "rooms_without")):
                _require(0 <= value <= 1, name, "in [0, 1]", value)
            assert kind in ("int", "float"), name


@dataclass(frozen=True, kw_only=True)
class Streamer:
    """One streamer: what is theirs in every one of their rooms."""

    index: int
    streamer_id: str
    kind: int
    """Row of TYPES."""
    level: float
    """Own level of attraction, log-odds."""
    taste_A: Floats
    """What their audience adds to the type's attraction, log-odds."""
    log_fame: float
    """Own part of the log of expected viewers."""


@dataclass(frozen=True, kw_only=True)
class SimulatedRoom:
    """One drawn room, before it is written down. Activities are rows of ACTIVITIES."""

    index: int
    room_id: str
    streamer: Streamer
    started_at: datetime
    activity_S: Ints
    age_S: Ints
    """Segments since the activity began, 0 in its first."""
    probability_S: Floats
    """True click probability of a viewer."""
    shown_SF: Ints
    """Activity that a frame shows; MISSING: there is no frame."""
    said_S: Ints
    """Activity that the speech is about; MISSING: small talk."""
    speaks_S: Bools
    """Whether the streamer says anything."""
    discussed_S: Ints
    """Activity that the comments are about; MISSING: chatter."""
    viewers_S: Ints
    """Distinct users shown the room."""
    clickers_S: Ints
    """Distinct users who clicked."""
    counts: dict[str, Ints]
    """Each of store.rooms.COUNT_COLUMNS, [S]."""
    has_video: bool
    has_speech: bool
    has_comments: bool

    @property
    def num_segments(self) -> int:
        """S."""
        return len(self.activity_S)


def stream(config: SimulatorConfig, name: str, index: int = 0) -> np.random.Generator:
    """The random stream `name` of streamer or room `index`, independent of every other."""
    key = (STREAMS.index(name), index)
    return np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=key))


def draw_streamer(config: SimulatorConfig, index: int) -> Streamer:
    """Streamer `index`, 0 to num_streamers - 1; types come in turn."""
    rng = stream(config, "streamer", index)
    return Streamer(
        index=index,
        streamer_id=f"streamer{index:04d}",
        kind=index % config.num_types,
        level=config.streamer_sd * rng.standard_normal(),
        taste_A=config.taste_sd * rng.standard_normal(len(ACTIVITIES)),
        log_fame=config.viewers_spread * np.sqrt(0.5) * rng.standard_normal(),
    )


def draw_room(config: SimulatorConfig, index: int) -> SimulatedRoom:
    """Room `index`, the same whatever was drawn before."""
    rng = stream(config, "room", index)
    started_at = _draw_start(config, rng)
    streamer = draw_streamer(config, int(rng.integers(config.num_streamers)))
    num_segments = int(rng.integers(config.min_segments, config.max_segments + 1))
    has_video, has_speech, has_comments = rng.random(3) >= (
        config.rooms_without_video,
        config.rooms_without_speech,
        config.rooms_without_comments,
    )
    activity_S, age_S = _draw_activities(streamer.kind, num_segments, rng)
    attraction_S, probability_S = _draw_attraction(config, streamer, activity_S, age_S, rng)
    said_S = _shift(activity_S, age_S, tables.SPEECH_LAGS, tables.SPEECH_LAG_WEIGHTS, rng)
    discussed_S = _shift(activity_S, age_S, tables.COMMENT_LAGS, tables.COMMENT_LAG_WEIGHTS, rng)
    viewers_S = _draw_viewers(config, streamer, num_segments, rng)
    clickers_S = rng.binomial(viewers_S, probability_S)
    counts = _draw_exposures(viewers_S, clickers_S, rng)
    counts |= _draw_audience(attraction_S, clickers_S, discussed_S, rng)
    return SimulatedRoom(
        index=index,
        room_id=f"room{index:06d}",
        streamer=streamer,
        started_at=started_at,
        activity_S=activity_S,
        age_S=age_S,
        probability_S=probability_S,
        shown_SF=_draw_shown(config, activity_S, rng),
        said_S=said_S,
        speaks_S=rng.random(num_segments) >= tables.SILENCE[activity_S],
        discussed_S=discussed_S,
        viewers_S=viewers_S,
        clickers_S=clickers_S,
        counts=counts,
        has_video=bool(has_video),
        has_speech=bool(has_speech),
        has_comments=bool(has_comments),
    )


def _draw_start(config: SimulatorConfig, rng: np.random.Generator) -> datetime:
    zone = timezone(timedelta(minutes=int(rng.choice(tables.ZONES_MIN))))
    second = int(rng.integers(config.days * 86_400))
    return (FIRST_START + timedelta(seconds=second)).astimezone(zone)


def _draw_activities(kind: int, num_segments: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Activity and its age in segments [S] each: semi-Markov, durations 1 + Poisson."""
    activities: list[int] = []
    ages: list[int] = []
    weights_A = tables.PREFERENCE[kind]
    while len(activities) < num_segments:
        activity = int(rng.choice(len(ACTIVITIES), p=weights_A / weights_A.sum()))
        duration = 1 + int(rng.poisson(tables.MEAN_DURATION[activity] - 1))
        activities += [activity] * duration
        ages += range(duration)
        weights_A = tables.PREFERENCE[kind] * tables.FOLLOWS[activity]
    return np.array(activities[:num_segments]), np.array(ages[:num_segments])


def _draw_attraction(
    config: SimulatorConfig,
    streamer: Streamer,
    activity_S: Ints,
    age_S: Ints,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """What content adds to the log-odds [S], and the click probability [S] within 0.02 to 0.5."""
    size = len(activity_S)
    burst_S = np.where(age_S < BURST_SEGMENTS, np.exp(-age_S), 0.0) * tables.BURST[activity_S]
    content_S = (
        tables.ATTRACTION[streamer.kind, activity_S] + streamer.taste_A[activity_S] + burst_S
    )
    room = config.room_sd * rng.standard_normal()
    turns_S = np.arange(size) / rng.uniform(40, 120) + rng.random()
    drift_S = config.drift * np.sin(2 * np.pi * turns_S)
    noise_S = config.noise_sd * rng.standard_normal(size)
    for s in range(1, size):
        noise_S[s] = 0.7 * noise_S[s - 1] + np.sqrt(1 - 0.7**2) * noise_S[s]
    logit_S = config.base_logit + streamer.level + content_S + room + drift_S + noise_S
    return content_S, np.clip(1 / (1 + np.exp(-logit_S)), 0.02, 0.5)


def _shift(
    activity_S: Ints, age_S: Ints, lags: Ints, weights: Floats, rng: np.random.Generator
) -> Ints:
    """Activities moved by a lag of its own for each occurrence; MISSING in the gaps.

    Where two occurrences overlap after moving, the later one wins: who announces the next thing
    has stopped talking of the last.
    """
    size = len(activity_S)
    starts = np.flatnonzero(age_S == 0)
    stops = np.append(starts[1:], size)
    moved_S = np.full(size, MISSING)
    lag_N = rng.choice(lags, len(starts), p=weights)
    for start, stop, lag in zip(starts, stops, lag_N, strict=True):
        moved_S[max(0, start + lag) : max(0, stop + lag)] = activity_S[start]
    return moved_S


def _draw_shown(config: SimulatorConfig, activity_S: Ints, rng: np.random.Generator) -> Ints:
    """What each frame shows [S, F]: the activity, or the face, another activity, or nothing."""
    shape = (len(activity_S), FRAMES)
    plain_S = rng.random(len(activity_S)) < config.plain_view
    view_S = np.where(plain_S, ACTIVITIES.index("chatting"), activity_S)
    others_SF = (view_S[:, None] + rng.integers(1, len(ACTIVITIES), shape)) % len(ACTIVITIES)
    shown_SF = np.where(rng.random(shape) < config.misleading, others_SF, view_S[:, None])
    return np.where(rng.random(shape) < config.missing_frames, MISSING, shown_SF)


def _draw_viewers(
    config: SimulatorConfig, streamer: Streamer, num_segments: int, rng: np.random.Generator
) -> Ints:
    """Distinct viewers of each segment [S], negative binomial around the room's level.

    The level starts at half, is full after some ten segments, and knows nothing of the content.
    """
    log_level = streamer.log_fame + config.viewers_spread * np.sqrt(0.5) * rng.standard_normal()
    ramp_S = 1 - 0.5 * np.exp(-np.arange(num_segments) / 5)
    mean_S = config.viewers * np.exp(log_level) * ramp_S
    shape = config.viewers_shape
    viewers_S: Ints = rng.negative_binomial(shape, shape / (shape + mean_S))
    return viewers_S.clip(max=config.num_users)


def _draw_exposures(viewers_S: Ints, clickers_S: Ints, rng: np.random.Generator) -> dict[str, Ints]:
    """Exposures and clicks: a viewer in twenty is shown the room twice and does the same twice."""
    again_S = rng.binomial(viewers_S, 0.05)
    clicked_again_S = rng.hypergeometric(clickers_S, viewers_S - clickers_S, again_S)
    return {"exposures": viewers_S + again_S, "clicks": clickers_S + clicked_again_S}


def _draw_audience(
    attraction_S: Floats, clickers_S: Ints, discussed_S: Ints, rng: np.random.Generator
) -> dict[str, Ints]:
    """What the people inside the room do, which follows clicks and attraction with delay."""
    size = len(clickers_S)
    enters_S = _delay_people(rng.multinomial(clickers_S, tables.ENTER_DELAY))
    reaction_S = sum(
        weight * np.concatenate([np.zeros(k), attraction_S])[:size]
        for k, weight in enumerate(tables.REACTION)
    )
    leaving_S = np.clip(0.25 * np.exp(-0.5 * reaction_S), 0.05, 0.6)
    exits_S = np.zeros(size, np.int64)
    inside_S = np.zeros(size)
    inside = 0
    for s in range(size):
        exits_S[s] = rng.binomial(inside, leaving_S[s])
        inside += int(enters_S[s] - exits_S[s])
        inside_S[s] = inside
    commenting_S = np.where(discussed_S == MISSING, 1.0, tables.COMMENTING[discussed_S])
    entered_before_S = np.concatenate([[0], enters_S[:-1]])
    return {
        "comment_count": rng.poisson(0.1 * inside_S * np.exp(0.5 * reaction_S) * commenting_S),
        "likes": rng.poisson(0.25 * inside_S * np.exp(0.8 * reaction_S)),
        "gifts": rng.poisson(0.015 * inside_S * np.exp(0.8 * reaction_S)),
        "follows": rng.poisson(0.06 * entered_before_S),
        "enters": enters_S,
        "exits": exits_S,
    }


def _delay_people(people_SK: Ints) -> Ints:
    """People [S] who act in a segment, from those who will act k = 0, 1, ... segments later."""
    size, num_lags = people_SK.shape
    acting_S = np.zeros(size + num_lags, np.int64)
    for k in range(num_lags):
        acting_S[k : k + size] += people_SK[:, k]
    return acting_S[:size]
