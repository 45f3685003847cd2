"""Simulated users with tastes as a researcher has real ones: videos, captions and PHD's CSV.

Users, videos and selections are those of `tastes.World`; a topic is an activity of the simulated
rooms, drawn by scenes.py, and every video has a look of its own.
Every number from such videos is labelled simulated.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from contentctr.errors import InputError
from contentctr.files import atomic, digest, remove_leftovers, write_text
from contentctr.prepare.phd.annotations import COLUMNS
from contentctr.progress import progress_bar
from contentctr.simulate.claim import claim_folder
from contentctr.simulate.folders import clock, write_video
from contentctr.simulate.mechanism import SimulatorConfig, draw_room
from contentctr.simulate.scenes import draw_frame, draw_look
from contentctr.simulate.tables import ACTIVITIES
from contentctr.simulate.tastes import HABITS, Scenes, Tastes, World
from contentctr.simulate.texts import FILLERS, SMALL_TALK, SPEECH
from contentctr.store.personal import LABEL_FILE, LABEL_KIND, SCENES_FILE

CSV_FILE, VIDEOS_DIR = "phd.csv", "videos"
DEFAULTS = Tastes(
    num_users=24, num_topics=len(ACTIVITIES), scene_s=(5.0, 12.0), max_video_s=90.0, max_history=4
)
"""Short videos and histories: pictures are slow to draw, and slower to encode."""
_CAPTION_S = 4.0
"""From one caption's start to the next one's."""
_SMALL_TALK = 0.25
"""Share of captions that are about nothing."""
_NUMBERS = tuple(str(number) for number in range(2, 99))


def write_videos(config: Tastes, out: Path | str, *, show_progress: bool = True) -> Path:
    """Write videos, captions and annotations, as `contentctr prepare phd` reads them.

        OUT/phd.csv               the selections, in PHD's published format; written last
        OUT/videos/ID.mp4         H.264, one picture a second
        OUT/videos/ID.en.vtt      captions of the share of videos that has them
        OUT/simulated.json        the label, the settings, and how users select
        OUT/truth_scenes.parquet  what each user may select from (prepare/personal_truth.py)

    A killed run goes on where it was.

    Args:
        config: the settings; of the topics there are as many as activities at most.
        out: a new or empty folder, or one that the same settings began.
        show_progress: show a bar on a terminal.

    Returns:
        The CSV.

    Raises:
        InputError: there are too many topics, or `out` holds anything else.
    """
    if config.num_topics > len(ACTIVITIES):
        raise InputError(
            f"num_topics must be at most {len(ACTIVITIES)} for videos, not {config.num_topics}"
        )
    out = Path(out)
    label = {"simulated": True, "kind": LABEL_KIND, **dataclasses.asdict(config)}
    label["habits"] = dataclasses.asdict(HABITS)
    claim_folder(out, LABEL_FILE, json.loads(json.dumps(label)))  # as it will be read
    world = World(config)
    videos = out / VIDEOS_DIR
    videos.mkdir(exist_ok=True)
    remove_leftovers(videos)
    with atomic(out / SCENES_FILE) as temporary:
        world.liked_scenes().write_parquet(temporary)
    with progress_bar("Drawing videos", len(world.videos), show=show_progress) as bar:
        for number, (video_id, scenes) in enumerate(world.videos.items()):
            rng = np.random.default_rng(int(digest(config.seed, video_id)[:15], 16))
            if world.captioned(video_id):
                write_text(videos / f"{video_id}.en.vtt", _captions(scenes, rng))
            path = videos / f"{video_id}.mp4"
            if not path.exists():
                with atomic(path) as temporary:
                    write_video(temporary, _pictures(config, number, scenes, rng))
            bar.advance()
    write_text(out / CSV_FILE, _annotations(world))
    return out / CSV_FILE


def _pictures(
    config: Tastes, number: int, scenes: Scenes, rng: np.random.Generator
) -> Iterator[Image.Image]:
    """A picture of each second, in the look of the simulated room of that number."""
    rooms = SimulatorConfig(num_rooms=number + 1, seed=config.seed)
    look = draw_look(rooms, draw_room(rooms, number))
    for topic in scenes.at(np.arange(int(scenes.end_s)) + 0.5).tolist():
        yield draw_frame(look, topic, rng)


def _captions(scenes: Scenes, rng: np.random.Generator) -> str:
    """WebVTT: sentences about the topic of the moment, and small talk."""
    blocks = ["WEBVTT\n"]
    for start in np.arange(0, scenes.end_s - _CAPTION_S, _CAPTION_S).tolist():
        activity = ACTIVITIES[scenes.at(np.array(start)).item()]
        sentence = rng.choice(SMALL_TALK if rng.random() < _SMALL_TALK else SPEECH[activity])
        text = re.sub(
            r"{\w+}", lambda slot: str(rng.choice(FILLERS.get(slot[0], _NUMBERS))), sentence
        )
        blocks.append(f"{_ms(start)} --> {_ms(start + 0.75 * _CAPTION_S)}\n{text}\n")
    return "\n".join(blocks)


def _ms(seconds: float) -> str:
    return clock(round(1000 * seconds), ".")


def _annotations(world: World) -> str:
    """The CSV; times in hundredths of a second, as published."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for user_id, video_id, start_s, end_s, is_target in world.selections:
        start = round(start_s, 2)
        duration = round(round(end_s, 2) - start, 2)
        end = world.videos[video_id].end_s
        writer.writerow([video_id, start, duration, user_id, end, is_target])
    return file.getvalue()
