"""The demo's recording, and what the demo says of its metrics."""

import importlib.util
import json
import re
from pathlib import Path

import av
import pytest

from contentctr.demo import recorded as module
from contentctr.demo.recorded import SCENES, demo, make_recording
from contentctr.errors import InputError
from contentctr.extras import install_hint
from contentctr.prepare.segments import segment_rooms
from contentctr.rooms.folder import room_from_video
from contentctr.transcribe.recogniser import load_recogniser
from contentctr.transcribe.rooms import hear_room
from voices import samples

SHORT = (("bikes", 4), ("bigbuckbunny", 11), ("bikes", 6))


def changes(path: Path) -> list[float]:
    """Mean differences between the middles of neighbouring seconds of a video."""
    with av.open(str(path)) as container:
        frames = [f.to_ndarray(format="gray") for f in container.decode(video=0)]
    return [
        float(abs(a.astype(float) - b).mean())
        for a, b in zip(frames[5::10], frames[15::10], strict=False)
    ]


def test_a_recording_of_real_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SCENES", SHORT)
    make_recording(tmp_path / "r")
    assert {p.name for p in (tmp_path / "r").iterdir()} == {"video.mp4", "comments.jsonl"}
    room = room_from_video(tmp_path / "r" / "video.mp4", comments=tmp_path / "r" / "comments.jsonl")
    assert room.duration_s == pytest.approx(21, abs=0.2) and room.warnings == []
    assert room.comments is not None
    assert room.comments["t"].to_list() == [8.5, 13.5, 19.5]
    assert room.comments["text"].to_list()[:2] == ["so cute", "the bunny!!"]
    found = changes(tmp_path / "r" / "video.mp4")
    assert len(found) == 20
    assert min(found[3], found[14]) > 20  # the scene changes there
    with av.open(str(tmp_path / "r" / "video.mp4")) as container:
        packets = list(container.demux(video=0))
        keys = [float(p.pts * p.time_base) for p in packets if p.is_keyframe and p.pts is not None]
    assert {float(s) for s in range(21)} <= {round(k, 3) for k in keys}  # clips start on time


@pytest.mark.slow
def test_the_whole_recording_hears_itself(tmp_path: Path) -> None:
    """No subtitle is ours: what is said stands in the recordings of speech under the clips."""
    samples("beckett")  # or skip
    pytest.importorskip("faster_whisper")
    make_recording(tmp_path / "r")
    room = room_from_video(tmp_path / "r" / "video.mp4", comments=tmp_path / "r" / "comments.jsonl")
    assert room.duration_s == pytest.approx(sum(s for _, s in SCENES), abs=0.2)
    assert room.warnings == [] and room.comments is not None and room.comments.height > 40
    heard = hear_room(
        room,
        load_recogniser("embedded"),
        language=None,
        segment_seconds=30.0,
        warnings=[],
        show_progress=False,
    )
    texts = segment_rooms([heard])["speech"].to_list()
    assert "best of times" in texts[0] and "superlative" in " ".join(texts[1:3])
    assert "story" in texts[4] + texts[5] and "fail" in texts[8].lower()
    assert [bool(text) for text in texts] == [*[1] * 3, 0, *[1] * 2, 0, 0, 1, 0]


def test_without_the_package_of_voices_it_is_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if "moonshine" in name else find(name)
    )
    monkeypatch.setattr(module, "SCENES", SHORT[:1])
    make_recording(tmp_path / "r")
    assert room_from_video(tmp_path / "r" / "video.mp4").sound is None


def test_the_clips_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=re.escape(install_hint("demo"))):
        make_recording(tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_the_folder_must_be_empty(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(InputError, match="new or empty folder"):
        demo(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("model", "mean", "oracle", "kept"),
    [(0.40, 0.20, 0.50, True), (0.29, 0.20, 0.35, False), (0.35, 0.20, 0.50, False)],
)
def test_the_promise(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    model: float,
    mean: float,
    oracle: float,
    kept: bool,
) -> None:
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "metrics.json").write_text(
        json.dumps(
            {
                "metrics": {"kendall_tau": model},
                "counts": {"samples": 12},
                "references": {
                    "streamer_mean": {"kendall_tau": mean},
                    "oracle": {"kendall_tau": oracle},
                },
            }
        )
    )
    found = module._tell(tmp_path, 3.0)
    assert found["as_promised"] is kept
    assert found["above_streamer_mean"] == pytest.approx(model - mean)
    assert found["share_of_oracle"] == pytest.approx(model / oracle)
    said = capsys.readouterr().out
    assert "simulated, 12 samples" in said and f"{model:.3f}" in said
