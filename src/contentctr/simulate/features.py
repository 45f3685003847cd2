"""Features of simulated rooms without pictures or texts: what encoders might have made of them.

A feature is a fixed random projection of: what is shown or said (one-hot), the streamer's style,
the room's style, and noise. Projections depend on the seed alone, styles on their streamer and
room. Nothing else of the mechanism goes in, the click probability least of all.

Shape suffixes: S segments, F frames, V visual and T text width, A activities, L latent width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from contentctr.simulate.mechanism import (
    MISSING,
    SEGMENT_SECONDS,
    Bools,
    Floats,
    SimulatedRoom,
    SimulatorConfig,
    stream,
)
from contentctr.simulate.tables import ACTIVITIES
from contentctr.simulate.texts import Comment, Sentence, write_comments, write_speech

STYLE = 8
"""Width of a streamer's style, and of a room's."""
STREAMER_STYLE_SD = 0.5
ROOM_STYLE_SD = 0.3
FRAME_NOISE_SD = 0.7
TEXT_NOISE_SD = 0.7
MOST_COMMENTS = 3
"""Comments of a segment whose text is written and encoded."""

Line = Sentence | Comment
Half = NDArray[np.float16]


@dataclass(frozen=True, kw_only=True)
class RoomFeatures:
    """What one room adds to a prepared folder, S rows each."""

    visual_SV: Half
    text_ST: Half
    has_visual_S: Bools
    has_speech_S: Bools
    has_comments_S: Bools
    speech_S: list[str]
    comments_S: list[str]


class SimulatedEncoders:
    """The pretended encoders: seeded projections of the latents to V and T."""

    def __init__(self, config: SimulatorConfig, visual_dim: int, text_dim: int) -> None:
        self.config, self.visual_dim, self.text_dim = config, visual_dim, text_dim

    @cached_property
    def visual_LV(self) -> Floats:
        """Of (shown, streamer's style, room's style)."""
        return self._draw(0, len(ACTIVITIES) + 2 * STYLE, self.visual_dim)

    @cached_property
    def text_LT(self) -> Floats:
        """Of (share of sentences about each activity, the same of comments, streamer's style)."""
        return self._draw(1, 2 * len(ACTIVITIES) + STYLE, self.text_dim)

    def encode(self, room: SimulatedRoom) -> RoomFeatures:
        """Features of a room, float16, with small talk and missing parts as in its folder."""
        rng = stream(self.config, "features", room.index)
        style = stream(self.config, "style", room.streamer.index)
        streamer_style = STREAMER_STYLE_SD * style.standard_normal(STYLE)
        speech = _speech(self.config, room)
        comments = _comments(self.config, room)
        visual_SV, has_visual_S = self._visual(room, streamer_style, rng)
        has_speech_S = np.array([bool(lines) for lines in speech])
        has_comments_S = np.array([bool(lines) for lines in comments])
        latent_SL = np.concatenate(
            [
                _mean_about(speech),
                _mean_about(comments),
                np.tile(streamer_style, (room.num_segments, 1)),
            ],
            axis=1,
        )
        text_ST = latent_SL @ self.text_LT
        text_ST += TEXT_NOISE_SD * rng.standard_normal(text_ST.shape)
        text_ST[~(has_speech_S | has_comments_S)] = 0
        return RoomFeatures(
            visual_SV=visual_SV.astype(np.float16),
            text_ST=text_ST.astype(np.float16),
            has_visual_S=has_visual_S,
            has_speech_S=has_speech_S,
            has_comments_S=has_comments_S,
            speech_S=_join(speech, " "),
            comments_S=_join(comments, "\n"),
        )

    def _visual(
        self, room: SimulatedRoom, streamer_style: Floats, rng: np.random.Generator
    ) -> tuple[Floats, Bools]:
        """Mean over the frames that are there [S, V]; zeros where none is."""
        there_SF = (room.shown_SF != MISSING) & room.has_video
        shape = room.shown_SF.shape
        style_L = np.concatenate([streamer_style, ROOM_STYLE_SD * rng.standard_normal(STYLE)])
        latent_SFL = np.concatenate(
            [_one_hot(room.shown_SF), np.broadcast_to(style_L, (*shape, 2 * STYLE))], axis=2
        )
        frames_SFV = latent_SFL @ self.visual_LV
        frames_SFV += FRAME_NOISE_SD * rng.standard_normal(frames_SFV.shape)
        count_S = there_SF.sum(axis=1)
        total_SV = (frames_SFV * there_SF[:, :, None]).sum(axis=1)
        return total_SV / np.maximum(count_S, 1)[:, None], count_S > 0

    def _draw(self, number: int, rows: int, columns: int) -> Floats:
        return stream(self.config, "encoder", number).standard_normal((rows, columns))


def _speech(config: SimulatorConfig, room: SimulatedRoom) -> list[list[Line]]:
    lines: list[list[Line]] = [[] for _ in range(room.num_segments)]
    if room.has_speech:
        for sentence in write_speech(config, room):
            lines[sentence.start_ms // (1000 * SEGMENT_SECONDS)].append(sentence)
    return lines


def _comments(config: SimulatorConfig, room: SimulatedRoom) -> list[list[Line]]:
    if not room.has_comments:
        return [[] for _ in range(room.num_segments)]
    return [[*lines] for lines in write_comments(config, room, most=MOST_COMMENTS)]


def _join(lines_S: list[list[Line]], between: str) -> list[str]:
    return [between.join(line.text for line in lines) for lines in lines_S]


def _mean_about(lines_S: list[list[Line]]) -> Floats:
    """Share of each segment's lines that are about each activity [S, A]; small talk is zeros."""
    mean_SA = np.zeros((len(lines_S), len(ACTIVITIES)))
    for segment, lines in enumerate(lines_S):
        for line in lines:
            if line.about != MISSING:
                mean_SA[segment, line.about] += 1 / len(lines)
    return mean_SA


def _one_hot(activity: NDArray[np.int64]) -> Floats:
    """One-hot rows of ACTIVITIES; zeros for MISSING."""
    return np.eye(len(ACTIVITIES) + 1)[activity][..., : len(ACTIVITIES)]
