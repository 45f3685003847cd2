"""Scorers of tiny random models and rooms for them, that the tests of live scoring share."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import torch

from contentctr.batch import DataSpec, Vocabulary
from contentctr.config import Config, DataConfig, ModelConfig, TrainConfig
from contentctr.live.scorer import RoomScorer
from contentctr.live.scorer_segments import LiveSegment
from contentctr.models.contentctr import ContentCTR
from contentctr.models.ensemble import members_of
from contentctr.models.registry import MODELS, build_model
from contentctr.models.words import BUCKETS
from contentctr.models.words import KNOWN as KNOWN_WORDS
from contentctr.score.rooms import score_segments
from contentctr.store.statistics import COLUMNS, WIDTH
from contentctr.windows.segment_data import ExtraRows, from_arrays, with_extra
from make import make_table

V, T, X, N = 6, 4, 5, 8
W = 6
SPEC = DataSpec(visual_dim=V, text_dim=T, statistics_dim=WIDTH, sound_dim=X, words_dim=W)
KNOWN = Vocabulary(streamers=["a", "b"])
STREAMERS = ("a", "b", "new")
MORE = ModelConfig(statistics=True, residual=True, sound=True, words=True)
SIZES = ModelConfig(
    d_model=16, num_heads=2, perceiver_layers=2, decoder_layers=3, streamer_dim=4, dropout=0.1
)
ROOMS = sorted(kind for kind, model in MODELS.items() if model.task == "rooms")
CONTENT = [
    kind for kind in ROOMS if issubclass(MODELS[kind], ContentCTR) and not MODELS[kind].sees_later
]
OTHERS = [kind for kind in ROOMS if kind not in CONTENT]


def make_config(kind="contentctr", horizon=0, members=1, **sizes):
    sizes = dataclasses.replace(SIZES, kind=kind, **sizes)
    data, train = DataConfig(window_len=N, horizon=horizon), TrainConfig(members=members)
    return Config(data=data, model=sizes, train=train)


def make_scorer(config=None, seed=0, **options):
    config = config or make_config()
    torch.manual_seed(seed)
    model = build_model(config, SPEC, KNOWN)
    with torch.no_grad():  # far from the start, so that scores and attention differ
        for parameter in model.parameters():
            parameter.mul_(2.0 if parameter.ndim > 1 else 1.0)
        for member in members_of(model):
            if config.model.wide:  # which starts as nothing
                member.wide.linear.weight.normal_(std=0.1)
            if config.model.words:
                teach(member.words)
    return RoomScorer(model, config, SPEC, KNOWN, **{"max_rooms": 8, "batch_size": 3, **options})


def interrupt(monkeypatch, decoder, at):
    """Have a decoder's step number `at`, from 1, be interrupted; that one alone."""
    step, calls = decoder.step, []

    def breaks(*values):
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        return step(*values)

    monkeypatch.setattr(decoder, "step", breaks)


def teach(words):
    """Random weights for whatever is said, which says nothing before it was fitted."""
    words.row_U.copy_(torch.arange(BUCKETS) % KNOWN_WORDS)
    words.idf_V[1:].uniform_()
    words.by_word_VK[1:].normal_()
    words.by_feature_TK.normal_()


def make_words(rng, count):
    """Words of some segments, up to three each, float16 [count, W]."""
    high_SX = np.zeros((count, W // 2))
    low_SX = rng.integers(0, 5, (count, W // 2))
    return np.concatenate((high_SX, low_SX), axis=1).astype(np.float16)


def make_rooms(lengths, seed=0, horizon=0, gone=0.3):
    """SegmentData of rooms with missing parts, and the same as LiveSegments, by room."""
    rng = np.random.default_rng(seed)
    table = make_table(lengths, streamers=STREAMERS)
    count = table.height
    flags = torch.from_numpy(rng.random((3, count)) > gone)
    table = with_counts(table, seed, gone)
    data = from_arrays(
        table,
        KNOWN,
        horizon=horizon,
        has_visual_S=flags[0],
        has_speech_S=flags[1],
        has_comments_S=flags[2],
        visual_SV=torch.from_numpy(rng.normal(size=(count, V)).astype(np.float16)),
        text_ST=torch.from_numpy(rng.normal(size=(count, T)).astype(np.float16)),
    )
    sound_SX = torch.from_numpy(rng.normal(size=(count, X)).astype(np.float16))
    has_sound_S = torch.from_numpy(rng.random(count) > gone)
    words_SX = torch.from_numpy(make_words(rng, count))
    has_words_S = torch.from_numpy(rng.random(count) > gone)
    more = {
        "sound": ExtraRows(values_SX=sound_SX, has_S=has_sound_S),
        "words": ExtraRows(values_SX=words_SX, has_S=has_words_S),
    }
    data = dataclasses.replace(data, extra=more)
    counted = max(0, horizon)  # no model reads counts with look-ahead
    data = with_extra(data, table, MORE, horizon=counted, target="ctr", scale="none")
    rooms = {}
    for s, (room_id, streamer_id, index) in enumerate(
        table.select("room_id", "streamer_id", "segment").iter_rows()
    ):
        rooms.setdefault(room_id, []).append(
            LiveSegment(
                room_id=room_id,
                streamer_id=streamer_id,
                index=index,
                visual=data.visual_SV[s].numpy() if flags[0, s] else None,
                text=data.text_ST[s].numpy() if flags[1, s] or flags[2, s] else None,
                has_speech=bool(flags[1, s]),
                has_comments=bool(flags[2, s]),
                sound=sound_SX[s].numpy() if has_sound_S[s] else None,
                words=words_SX[s].numpy() if has_words_S[s] else None,
                counts={n: v for n in COLUMNS if (v := table[n][s]) is not None},
            )
        )
    return data, rooms


def with_counts(table, seed, gone):
    """The table with counts of its own, some unknown."""
    rng = np.random.default_rng(seed + 100)
    counts = rng.integers(0, 30, (len(COLUMNS), table.height)).astype(float)
    counts[COLUMNS.index("viewers")] += 30
    counts[rng.random(counts.shape) < gone] = np.nan
    columns = zip(COLUMNS, counts, strict=True)
    return table.with_columns(
        pl.Series(name, values).fill_nan(None).cast(pl.UInt32) for name, values in columns
    )


def play(scorer, rooms, apart=0):
    """Scores by room, one call a moment; each room starts `apart` moments after the one before."""
    found = {room_id: [] for room_id in rooms}
    starts = [number * apart for number in range(len(rooms))]
    ends = [start + len(room) for start, room in zip(starts, rooms.values(), strict=True)]
    for moment in range(max(ends)):
        segments = [
            room[moment - start]
            for start, room in zip(starts, rooms.values(), strict=True)
            if 0 <= moment - start < len(room)
        ]
        for result in scorer.score(segments):
            assert result.status == "scored"
            found[result.room_id].append(result.score)
    return found


def offline(scorer, data, horizon=0):
    return score_segments(scorer._model, data, window_len=N, horizon=horizon)


def only(scorer, segment):
    [result] = scorer.score([segment])
    return result


def changed(segment, **values):
    return dataclasses.replace(segment, **values)
