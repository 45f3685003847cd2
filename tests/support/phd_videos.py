"""A small CSV of picks, its downloaded videos, and an encoder that reads what they show."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from contentctr.prepare.personal import Settings, prepare_phd
from contentctr.store.personal import PreparedPersonal
from phd_csv import write_csv
from videos import BITS, BLOCK, make_video

TARGET, OTHER, CLIP, GONE = "targetAAAAA", "targetBBBBB", "historyAAAA", "gone_AAAAAA"
ROWS = (
    f"{TARGET},2.0,3.0,ann,12,True",
    f"{TARGET},4.0,2.0,ann,12,True",
    f"{TARGET},11.0,9.0,ann,12,True",  # cut at the end
    f"{CLIP},1.0,2.0,ann,20,False",
    f"{CLIP},30.0,2.0,ann,20,False",  # beyond the end
    f"{GONE},1.0,2.0,ann,20,False",  # not downloaded
    f"{TARGET},6.0,1.0,bob,12,True",
    f"{CLIP},5.2,0.1,bob,20,False",  # shorter than a frame
    f"{OTHER},0.0,1.0,cat,-1,True",
    f"{CLIP},5.0,2.0,cat,20,False",
    f"{GONE},1.0,1.0,dan,12,True",  # target not downloaded
    f"{CLIP},5.0,2.0,dan,20,False",
    f"{OTHER},40.0,1.0,eve,6,True",  # target selection beyond the end
    f"{CLIP},5.0,2.0,eve,20,False",
    f"{OTHER},1.0,1.0,fay,6,True",  # history not downloaded
    f"{GONE},5.0,2.0,fay,20,False",
)


class NumberEncoder(nn.Module):
    """Reads the number that `make_video` drew into a frame."""

    name, dim, size, revision = "numbers", 2, (1, BITS), "1"

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(2.0 ** torch.arange(BITS))

    def preprocess(self, image):  # type: ignore[no-untyped-def]
        return np.asarray(image)[BLOCK, BLOCK // 2 :: BLOCK][None]

    def forward(self, frames_FHWC: torch.Tensor) -> torch.Tensor:
        number_F = (frames_FHWC[:, 0, :, 0] > 127).float() @ self.weight
        return torch.stack([number_F, torch.ones_like(number_F)], dim=1)


def write_downloads(folder: Path) -> Path:
    """Three videos as downloaders name them, and captions of one in two languages."""
    folder.mkdir(exist_ok=True)
    make_video(folder / f"{TARGET}.mp4", seconds=12)
    make_video(folder / f"Some title [{CLIP}].mkv", seconds=20)
    make_video(folder / f"Some title-{OTHER}.mp4", seconds=6)
    (folder / f"{TARGET}.en.vtt").write_text(
        "WEBVTT\n\n00:02.000 --> 00:04.500\nhello this\n\n00:03.200 --> 00:05.000\nthis song\n"
    )
    (folder / f"{TARGET}.de.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nhallo\n")
    return folder


def prepared(tmp_path: Path, videos: Path, **settings) -> PreparedPersonal:
    """The CSV and the videos, prepared."""
    csv = write_csv(tmp_path / "phd.csv", *ROWS)
    return prepare_phd(csv, videos, tmp_path / "out", settings=Settings(**settings))
