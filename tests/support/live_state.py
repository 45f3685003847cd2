"""A scorer's thread with a state that can be killed, and segments for it."""

from __future__ import annotations

import shutil

import numpy as np

from contentctr.live.known_rooms import Shown
from contentctr.live.scorer_segments import LiveSegment
from contentctr.live.service.keeping import Keeper
from contentctr.live.service.scoring import Item, Scoring
from live_service import T, V, X, make_engine

COUNTS = {"viewers": 40, "clickers": 3, "comment_count": 2}


def segment(room, index, **fields):
    rng = np.random.default_rng([index, *room.encode()])
    visual, text, sound = (rng.normal(size=n).astype(np.float32) for n in (V, T, X))
    return LiveSegment(
        **{
            "room_id": room,
            "streamer_id": "a",
            "index": index,
            "visual": visual,
            "text": text,
            "has_speech": True,
            "has_comments": False,
            "counts": {**COUNTS, "clickers": index % 7},
            "sound": sound,
            **fields,
        }
    )


OPEN = []


def close_all():
    """Close the files of all that were made."""
    while OPEN:
        file = OPEN.pop()._file
        if file is not None:
            file.close()


class Kept:
    """A scorer's thread with a state, that can be killed: its folder is copied as it stands."""

    def __init__(self, folder, engine=None, forget_after_s=600.0, clock=None, encoder=None):
        self.said = []
        clocks = {} if clock is None else {"clock": clock}
        self.folder = folder
        self.keeper = Keeper(
            folder, forget_after_s=forget_after_s, report=self.said.append, **clocks
        )
        OPEN.append(self.keeper)
        self.scoring = Scoring(engine or make_engine(), encoder, self.keeper)
        self.rooms = self.scoring.start()

    def post(self, *segments, **shown):
        items = [Item(s, Shown(ended_at=1.0, **shown), owner="k") for s in segments]
        return [done.taken.scored.score for done in self.scoring.work(items)]

    def killed(self, folder, engine=None, **options):
        """The next process, on what the disk holds at this moment."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return Kept(folder, engine, **options)
