from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contentctr.rooms.folder import room_from_video
from contentctr.rooms.room import Media, Room
from contentctr.rule import watched as module
from contentctr.rule.watched import step_loudness, watch_recording
from shots import film


def test_sound_and_pictures_of_a_recording(tmp_path: Path) -> None:
    path = film(tmp_path / "v.mp4", [(21, 20), (22, 230), (17, 120)], loud=[(30, 35)])
    warnings: list[str] = []
    found = watch_recording(room_from_video(path), hear_speech=False, warnings=warnings)
    assert found.loudness_S is not None and len(found.loudness_S) == 60 and not warnings
    assert set(np.flatnonzero(found.loudness_S > -30)) <= set(range(29, 36))
    assert found.loudness_S[31:34].mean() - found.loudness_S[:20].mean() == pytest.approx(30, abs=3)
    assert found.cuts is not None and found.speaking_T is None
    # A keyframe a second, looked at every 2.5 s.
    assert [c - t for c, t in zip(found.cuts, (21, 43), strict=True)] == pytest.approx(
        [1.5] * 2, abs=1.5
    )
    step_T = step_loudness(found.loudness_S, 12)
    assert step_T.argmax() == 6 and step_T[6] - step_T[0] == pytest.approx(30, abs=4)


def test_a_recording_without_sound_or_without_pictures(tmp_path: Path) -> None:
    path = film(tmp_path / "v.mp4", [(12, 20)])
    found = watch_recording(room_from_video(path), hear_speech=True, warnings=[])
    assert found.loudness_S is None and found.speaking_T is None and found.cuts is not None
    assert len(found.cuts) == 0
    bare = Room(room_id="r", streamer_id="", started_at=None, duration_s=10.0)
    nothing = watch_recording(bare, hear_speech=True, warnings=[])
    assert (nothing.loudness_S, nothing.speaking_T, nothing.cuts) == (None, None, None)


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    for second in range(0, 40, 2):
        value = 30 if second < 20 else 220
        Image.new("RGB", (32, 32), (value,) * 3).save(tmp_path / f"{second}.png")
    room = Room(
        room_id="r",
        streamer_id="",
        started_at=None,
        duration_s=40.0,
        media=Media(path=tmp_path, kind="frames"),
    )
    found = watch_recording(room, hear_speech=False, warnings=[])
    assert found.cuts is not None and len(found.cuts) == 1 and abs(found.cuts[0] - 20) <= 2.5


def test_speech_is_heard_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the detector says of each piece lands where it was said."""
    pieces = []

    class Detector:
        def detect(self, samples):  # type: ignore[no-untyped-def]
            pieces.append(len(samples) / 16000)
            return {"events": {"speech": [(2.0, 9.0)]}}

    monkeypatch.setattr(module, "_load_detector", Detector)
    path = film(tmp_path / "v.mp4", [(70, 20)], sound=True)
    found = watch_recording(room_from_video(path), hear_speech=True, warnings=[])
    assert found.speaking_T is not None and pieces[:2] == [30, 30]
    expected = [0.6, 0.8, 0, 0, 0, 0] * 2 + [0.6, 0.8]
    assert found.speaking_T[:14] == pytest.approx(expected, abs=0.01)
