"""Speech and comments of simulated rooms: English sentences of each activity, and small talk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from contentctr.simulate.mechanism import (
    MISSING,
    SEGMENT_SECONDS,
    SimulatedRoom,
    SimulatorConfig,
    stream,
)
from contentctr.simulate.tables import ACTIVITIES

SPEECH: dict[str, tuple[str, ...]] = {
    "chatting": (
        "So how was your {day}, tell me everything",
        "Let me tell you a story about my trip to {place}",
        "I was talking to my friend about this on {day}",
        "Where are you all watching from, anybody from {place}",
        "Honestly I think people worry too much about that",
        "My neighbour in {place} asked me the same question",
    ),
    "dancing": (
        "Okay watch this move, turn, step, and jump",
        "Dance with me, left foot first, now clap",
        "This choreography took me {number} days to learn",
        "Turn up the beat, I am going to dance now",
        "My legs are tired but let us do one more dance",
        "Watch my feet, this step comes from {place}",
    ),
    "singing": (
        "The next song is called {song}, I hope you like it",
        "Let me sing the chorus of {song} one more time",
        "I will warm up my voice, this high note is hard",
        "La la la, sing along with me if you know the lyrics",
        "That was {song}, thank you for listening to me sing",
        "Play the piano track, I want to sing a slow ballad",
    ),
    "contest": (
        "We are in a battle now, send your points, we are behind",
        "Our opponent has {number} points, do not let them win",
        "Last {number} seconds of the match, fight for our team",
        "The loser of this round has to do a penalty",
        "Welcome our rival from {place}, the competition begins",
        "Come on team, we need to score before the time is up",
    ),
    "giveaway": (
        "I am giving away {number} gifts, type one to join the draw",
        "The lucky winner of the prize is about to be drawn",
        "Spin the wheel, who is getting the free gift today",
        "Follow me to enter the lottery, the red packet is coming",
        "Congratulations, you have won the prize, send me your address",
        "Free presents for everyone in the room, do not miss the draw",
    ),
    "product": (
        "This {item} is only {number} dollars today, link below",
        "Look at the quality of this {item}, the fabric is so soft",
        "Only {number} pieces left in stock, add it to your cart",
        "Use my coupon and get a discount on the {item}",
        "The {item} comes in three colours, shipping is free",
        "I use this {item} every day, you can return it if you do not like it",
    ),
    "idle": (
        "Give me a minute, I will be right back",
        "I am just getting a glass of water",
        "Sorry, I have to answer the phone, wait a moment",
        "The connection is bad, let me restart the camera",
    ),
}
COMMENTS: dict[str, tuple[str, ...]] = {
    "chatting": (
        "I am from {place}",
        "tell us more of that story",
        "my {day} was boring, what about you",
        "haha your friend is funny",
        "what do you do for a living?",
        "that happened to me too",
    ),
    "dancing": (
        "love this dance!!",
        "your moves are amazing",
        "teach us that step",
        "so flexible wow",
        "dance again please",
        "the choreography is great",
    ),
    "singing": (
        "what a voice",
        "please sing {song} next",
        "that high note gave me goosebumps",
        "i know these lyrics",
        "beautiful song, sing it again",
        "your singing is so good",
    ),
    "contest": (
        "we are losing, vote everyone",
        "go team go!!!",
        "{number} points behind",
        "the other side is cheating",
        "we won the battle",
        "penalty for the loser lol",
    ),
    "giveaway": (
        "1",
        "pick me for the prize please",
        "when is the draw?",
        "i never win a giveaway",
        "congrats to the winner",
        "free gift here please",
    ),
    "product": (
        "how much is the {item}?",
        "is it still in stock",
        "does the {item} come in black?",
        "ordered two, how long is shipping",
        "do you have size {number}",
        "too expensive, any discount?",
    ),
    "idle": (
        "where did she go?",
        "is the stream frozen",
        "hello? anybody there",
        "come back",
    ),
}
SMALL_TALK = (
    "Hello everybody, welcome to the room",
    "Thank you so much for the support",
    "Hi there, good to see you again",
    "If you are new here, press the follow button",
    "Okay, okay, let me see",
    "Yes, yes, exactly",
    "Thanks for the likes, guys",
    "What is that, I cannot read so fast",
)
CHATTER = (
    "hi",
    "lol",
    "first time here",
    "hello from {place}",
    "good evening",
    "nice",
    "hahaha",
    "who is this?",
    "followed",
    "???",
    "how old are you",
    "the sound is a bit low",
    "wow",
    "love you",
)
FILLERS: dict[str, tuple[str, ...]] = {
    "{day}": ("Monday", "Friday", "weekend", "birthday", "evening", "holiday"),
    "{place}": ("Lisbon", "Chengdu", "Texas", "Osaka", "Lagos", "Mumbai", "Berlin", "Lima"),
    "{song}": ("Silver River", "Paper Moon", "Stay a While", "Blue Train", "Midnight Rain"),
    "{item}": ("jacket", "lipstick", "frying pan", "face cream", "backpack", "phone case"),
}


class Sentence(NamedTuple):
    """A sentence of the streamer; milliseconds from the room's start."""

    start_ms: int
    end_ms: int
    text: str
    about: int
    """Row of ACTIVITIES, or MISSING for small talk."""


class Comment(NamedTuple):
    """A comment's text, and what it is about (MISSING for chatter)."""

    text: str
    about: int


def write_speech(config: SimulatorConfig, room: SimulatedRoom) -> list[Sentence]:
    """The sentences of a room, in order.

    One to three in every segment in which the streamer speaks, each inside its segment.
    """
    rng = stream(config, "speech", room.index)
    sentences = []
    for segment in np.flatnonzero(room.speaks_S):
        count = int(rng.integers(1, 4))
        slot = 1000 * SEGMENT_SECONDS // count
        for k in range(count):
            start = 1000 * SEGMENT_SECONDS * int(segment) + slot * k
            start += int(rng.integers(1, slot // 3))
            about = int(room.said_S[segment])
            about = MISSING if rng.random() < config.off_topic_speech else about
            text = _sentence(SMALL_TALK if about == MISSING else SPEECH[ACTIVITIES[about]], rng)
            end = start + int(rng.integers(slot // 3, slot // 2))
            sentences.append(Sentence(start, end, text, about))
    return sentences


def write_comments(
    config: SimulatorConfig, room: SimulatedRoom, *, most: int | None = None
) -> list[list[Comment]]:
    """The comments of each segment, S lists; `most` of a segment at most, all if None."""
    rng = stream(config, "comments", room.index)
    comments = []
    for discussed, count in zip(room.discussed_S, room.counts["comment_count"], strict=True):
        number = int(count) if most is None else min(int(count), most)
        off_topic_N = rng.random(number) < config.off_topic_comments
        abouts = np.where(off_topic_N, MISSING, discussed).tolist()
        comments.append([_comment(about, rng) for about in abouts])
    return comments


def _comment(about: int, rng: np.random.Generator) -> Comment:
    templates = CHATTER if about == MISSING else COMMENTS[ACTIVITIES[about]]
    return Comment(_sentence(templates, rng), about)


def _sentence(templates: Sequence[str], rng: np.random.Generator) -> str:
    text = templates[int(rng.integers(len(templates)))]
    if "{" not in text:
        return text
    for slot, words in FILLERS.items():
        if slot in text:
            text = text.replace(slot, words[int(rng.integers(len(words)))])
    return text.replace("{number}", str(rng.integers(2, 99)))
