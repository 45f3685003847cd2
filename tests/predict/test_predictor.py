"""A Predictor finds what the functions with files find, keeps what it loaded, and shows itself."""

import json
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import av
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

import contentctr
from contentctr.encode import encoders
from contentctr.errors import InputError
from contentctr.predict.by_rule import highlight_recording
from contentctr.predict.found import BY_RULE
from contentctr.predict.rooms import predict_recording
from contentctr.score.choose import HighlightChoice
from shots import film
from world import World, make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recording")
    film(folder / "<b>live & loud.mp4", [(60, 40), (67, 200), (20, 90)], loud=[(100, 108)])
    rows = [(5.0 * i, f"u{i % 20}", "so it goes") for i in range(28)]
    rows += [(105 + 0.2 * i, f"v{i}", "LOL <script>alert(1)</script>") for i in range(25)]
    (folder / "chat.jsonl").write_text(
        "".join(json.dumps({"t": t, "user_id": u, "text": text}) + "\n" for t, u, text in rows)
    )
    return folder


def paths(recording: Path) -> tuple[Path, Path]:
    return recording / "<b>live & loud.mp4", recording / "chat.jsonl"


def test_by_the_rule_it_finds_what_the_command_writes(recording: Path, tmp_path: Path) -> None:
    video, chat = paths(recording)
    predictor = contentctr.Predictor()
    found = predictor.predict(str(video), comments=str(chat))
    assert_frame_equal(found.curve, predictor.predict(video, comments=chat).curve)
    written = highlight_recording(
        str(video), str(tmp_path / "out"), comments=str(chat), show_progress=False
    )
    assert_frame_equal(found.curve, written.curve)
    assert found.highlights == written.highlights and found.warnings == written.warnings
    assert found.label == BY_RULE and isinstance(found.curve, pl.DataFrame)
    later = found.write(str(tmp_path / "later"))
    assert later.highlights == written.highlights
    for name in ("curve.csv", "highlights.csv"):
        assert (tmp_path / "later" / name).read_text() == (tmp_path / "out" / name).read_text()
    best = predictor.predict(video, comments=chat, choice=HighlightChoice(top_k=1)).highlights
    assert best == found.highlights[:1]


def test_with_a_run_it_finds_what_predict_writes_and_loads_once(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = world.rooms[0]
    wanted = predict_recording(str(world.run), str(room), tmp_path / "p", show_progress=False)
    loaded = []
    load_visual, load_text = encoders.load_visual, encoders.load_text

    def visual(*args, **options):  # type: ignore[no-untyped-def]
        loaded.append("visual")
        return load_visual(*args, **options)

    def text(*args, **options):  # type: ignore[no-untyped-def]
        loaded.append("text")
        return load_text(*args, **options)

    monkeypatch.setattr(encoders, "load_visual", visual)
    monkeypatch.setattr(encoders, "load_text", text)
    predictor = contentctr.Predictor(str(world.run), device="cpu")
    for _ in range(2):
        found = predictor.predict(room)
        np.testing.assert_array_equal(found.curve["score"], wanted.curve["score"])
        assert found.highlights == wanted.highlights and found.warnings == wanted.warnings
    assert sorted(loaded) == ["text", "visual"]
    facts = json.loads((tmp_path / "p/prediction.json").read_text())
    assert (facts["visual_engine"], facts["visual_precision"]) == ("torch", "float32")
    assert facts["text_engine"] in ("torch", "onnx", "openvino")


def test_a_notebook_shows_it_escaped_and_without_a_request(recording: Path) -> None:
    video, chat = paths(recording)
    found = contentctr.Predictor().predict(video, comments=chat)
    assert repr(found).startswith(f"<{len(found.highlights)} highlight")
    html = found._repr_html_()
    root = ElementTree.fromstring(html)  # well formed: every tag is one of ours
    assert {node.tag for node in root.iter()} <= {
        *("div", "p", "b", "i", "svg", "rect", "polyline", "small"),
        *("table", "tr", "th", "td"),
    }
    assert "&lt;b&gt;live &amp; loud.mp4" in html and BY_RULE in html
    assert not re.search(r"https?:|href|src=|url\(|<script", html)
    assert len(root.findall(".//rect")) == len(found.highlights) > 0
    points = [
        tuple(map(float, p.split(","))) for p in root.find(".//polyline").get("points").split()
    ]
    assert len(points) == found.curve.height
    assert min(y for _, y in points) == 8 and max(y for _, y in points) <= 120
    best = found.curve["score"].arg_max()
    assert points[best][1] == 8


def test_a_long_curve_keeps_its_peaks(recording: Path) -> None:
    from dataclasses import replace

    from contentctr.predict.notebook import MOST_POINTS, curve_html

    video, chat = paths(recording)
    found = contentctr.Predictor().predict(video, comments=chat).found
    length = 10 * MOST_POINTS
    starts = np.arange(length) * 5.0
    scores = np.full(length, 0.1)
    scores[1234], scores[3000:3500] = 0.9, np.nan
    table = pl.DataFrame({"start_s": starts, "end_s": starts + 5.0, "score": scores})
    root = ElementTree.fromstring(curve_html(replace(found, curve=table, line_S=scores)))
    lines = [line.get("points").split() for line in root.findall(".//polyline")]
    assert len(lines) == 2  # a gap in the scores is a gap
    assert sum(map(len, lines)) <= MOST_POINTS
    assert any(point.endswith(",8.0") for point in lines[0])


def test_wrong_use_is_said(recording: Path, world: World, tmp_path: Path) -> None:
    video, chat = paths(recording)
    with pytest.raises(InputError, match="no such file or folder"):
        contentctr.Predictor().predict("none.mp4")
    with pytest.raises(InputError, match="device must be cpu"):
        contentctr.Predictor(world.run, device="gpu")
    with pytest.raises(InputError, match="top_k must be"):
        contentctr.Predictor().predict(video, comments=chat, choice=HighlightChoice(top_k=0))


def test_the_rule_needs_no_torch(recording: Path) -> None:
    import subprocess

    video, chat = paths(recording)
    code = (
        "import sys, contentctr; contentctr.Predictor().predict(*sys.argv[1:2], "
        "comments=sys.argv[2]); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(video), str(chat)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"


def test_of_sound_alone_no_clips_are_cut(recording: Path, tmp_path: Path) -> None:
    video, chat = paths(recording)
    sound = tmp_path / "sound.m4a"
    with av.open(str(video)) as source, av.open(str(sound), "w", format="mp4") as out:
        track = source.streams.audio[0]
        copy = out.add_stream_from_template(track)
        for packet in source.demux(track):
            if packet.dts is not None:
                packet.stream = copy
                out.mux(packet)
    found = contentctr.Predictor().predict(sound, comments=chat)
    with pytest.raises(InputError, match="sound.m4a: clips can be cut from a video only"):
        found.write(tmp_path / "out", clips=True)
    assert not (tmp_path / "out").exists()
    assert found.write(tmp_path / "out").highlights == found.highlights


def test_what_it_is_made_from_is_not_replaced_by_it(recording: Path, tmp_path: Path) -> None:
    video, chat = paths(recording)
    out = tmp_path / "out"
    first = highlight_recording(video, out, comments=chat, clips=True, show_progress=False)
    [clip, *_] = [path for path in first.files if path.suffix == ".mp4"]
    before = clip.read_bytes()
    with pytest.raises(InputError, match=f"{clip.name}: is of the earlier prediction in"):
        highlight_recording(clip, out, show_progress=False)
    with pytest.raises(InputError, match=f"{clip.name}: is of the earlier prediction in"):
        contentctr.Predictor().predict(clip).write(out)
    assert clip.read_bytes() == before


def test_each_writing_tells_its_own_warnings_alone(recording: Path, tmp_path: Path) -> None:
    video, chat = paths(recording)
    found = contentctr.Predictor().predict(video, comments=chat)
    told = list(found.warnings)
    odd = contentctr.predict.editing.Editing(formats=("edl",))
    assert found.write(tmp_path / "a", editing=odd).warnings[: len(told)] == told
    assert found.write(tmp_path / "b").warnings == told == found.warnings
