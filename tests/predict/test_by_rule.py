"""Highlights of a recording without a run: what is written, told and refused."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from contentctr import cli
from contentctr.errors import InputError
from contentctr.outputs import LOCK, MARKER, alone
from contentctr.predict.by_rule import highlight_recording
from contentctr.predict.found import BY_RULE
from contentctr.rule.parts import PARTS
from contentctr.score.choose import HighlightChoice
from shots import film
from world import NAMES

BURST_S, LAG_S = 130.0, 5.0


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recording")
    shots = [(60, 40), (67, 200), (20, 90), (153, 180)]
    film(folder / "live.mp4", shots, loud=[(BURST_S, BURST_S + 8)])
    rng = np.random.default_rng(0)
    rows = [(t, f"u{rng.integers(0, 40)}", "so it goes") for t in np.sort(rng.uniform(0, 300, 60))]
    rows += [(BURST_S + LAG_S + 0.2 * i, f"v{i}", "LOL what") for i in range(25)]
    rows += [(1.0, "nightbot", "follow us"), (40.0, "a", "!uptime")]
    chat = "".join(
        json.dumps({"t": float(t), "user_id": u, "text": text}) + "\n" for t, u, text in rows
    )
    (folder / "chat.jsonl").write_text(chat)
    speech = "1\n00:02:04,500 --> 00:02:20,000\nThat is it, he has done it!\n"
    (folder / "said.srt").write_text(speech)
    return folder


def find(recording: Path, out: Path, **options: object):  # type: ignore[no-untyped-def]
    given = {"comments": recording / "chat.jsonl", "speech": recording / "said.srt"} | options
    return highlight_recording(recording / "live.mp4", out, show_progress=False, **given)  # type: ignore[arg-type]


def test_the_moment_is_found_with_its_reasons(recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = find(recording, out, clips=True)
    assert {p.name for p in out.iterdir()} == {*NAMES, MARKER, LOCK, "clips"}
    first = found.highlights[0]
    assert first.start_s <= BURST_S <= first.peak_s <= first.end_s <= BURST_S + 40
    reasons = {r.part: r.text for r in first.reasons}
    assert {"chat", "laughter", "words", "loudness"} <= set(reasons)
    assert reasons["words"] == "'lol' and 'what'" and reasons["loudness"].startswith("loud: ")
    assert first.start_s == 124.5  # where the sentence starts
    assert found.kind == "rule" and found.label == BY_RULE and found.verdict == ""
    assert "2 comments of bots and commands not counted" in found.warnings


def test_the_files_agree_with_what_is_promised(recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = find(recording, out, clips=True)
    curve = pl.read_csv(out / "curve.csv")
    names = ["segment", "start_s", "end_s", "score", "highlight", *(f"part_{p}" for p in PARTS)]
    assert curve.columns == names and curve.height == 60
    values = curve.select("score", "^part_.*$").to_numpy()
    assert np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1
    facts = json.loads((out / "prediction.json").read_text())
    assert facts["kind"] == "rule" and facts["run"] is None and facts["label"] == BY_RULE
    assert facts["recording"] == str(recording / "live.mp4") and facts["video"] is not None
    assert [p["part"] for p in facts["parts"]] == list(PARTS)
    assert facts["settings"]["max_length_s"] == 90 and facts["duration_s"] == pytest.approx(300)
    assert facts["warnings"] == found.warnings and facts["verdict"] == ""
    rows = pl.read_csv(out / "highlights.csv").to_dicts()
    assert len(rows) == len(facts["highlights"]) == len(found.highlights)
    for row, told, h in zip(rows, facts["highlights"], found.highlights, strict=True):
        assert (row["start_s"], row["end_s"]) == (told["start_s"], told["end_s"])
        assert told["start_s"] == pytest.approx(h.start_s) and row["peak_s"] == h.peak_s
        assert row["reasons"] == "; ".join(r["text"] for r in told["reasons"]) != ""
        assert [r["score"] for r in told["reasons"]] == [r.score for r in h.reasons]
        assert told["clip"] == f"clips/{row['clip']}" and (out / told["clip"]).is_file()


def test_whatever_there_is_will_do(recording: Path, tmp_path: Path) -> None:
    mute = find(recording, tmp_path / "a", comments=None, speech=None)
    # Without a transcript, speech is told from the sound, where the detector is installed.
    heard = mute.curve["part_speech"].null_count() == 0
    missing = "no chat" if heard else "no chat, no speech"
    assert f"{missing}: the rule has the other parts" in mute.warnings
    assert any("told from the sound" in note for note in mute.warnings) == heard
    assert mute.curve["part_chat"].null_count() == 60 and mute.highlights
    assert mute.highlights[0].start_s <= BURST_S + 4 <= mute.highlights[0].end_s
    room = tmp_path / "room"
    room.mkdir()
    (room / "room.json").write_text(
        '{"room_id": "r", "streamer_id": "s", "started_at": "2026-01-01T00:00:00Z"}'
    )
    (room / "comments.jsonl").write_bytes((recording / "chat.jsonl").read_bytes())
    chat = highlight_recording(room, tmp_path / "b", show_progress=False)
    assert chat.highlights[0].start_s <= BURST_S + 5 <= chat.highlights[0].end_s
    facts = json.loads((tmp_path / "b" / "prediction.json").read_text())
    assert facts["video"] is None and facts["chat_lag_from"] == "assumed"
    with pytest.raises(InputError, match="clips can be cut from a video only"):
        highlight_recording(room, tmp_path / "b", clips=True, show_progress=False)


def test_a_recording_of_which_nothing_happens(tmp_path: Path) -> None:
    path = film(tmp_path / "still.mp4", [(60, 100)], sound=True)
    found = highlight_recording(path, tmp_path / "out", show_progress=False)
    assert found.highlights == [] and "nothing rises clearly" in found.verdict
    assert found.verdict in found.warnings
    assert pl.read_csv(tmp_path / "out" / "highlights.csv").height == 0


def test_a_reel(recording: Path, tmp_path: Path) -> None:
    choice = HighlightChoice(length="20s")
    found = find(recording, tmp_path / "out", choice=choice)
    assert 10 <= sum(h.end_s - h.start_s for h in found.highlights) <= 20


def test_the_rule_loads_no_torch() -> None:
    """Which takes seconds, of a command that is to show something in a minute."""
    code = "import sys, contentctr.predict.by_rule; print('torch' in sys.modules)"
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def command(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["contentctr", *map(str, words)])
    try:
        cli.main()
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


@pytest.mark.parametrize("name", ["highlights", "predict"])
def test_the_commands(
    recording: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    chat = ("--comments", recording / "chat.jsonl")
    video = recording / "live.mp4"
    assert command(monkeypatch, name, video, *chat, "-o", tmp_path / "o", "--top", 1) == 0
    out = capsys.readouterr().out
    assert out.startswith("1. 02:") and f"({BY_RULE})" in out and "people laugh" in out
    assert "2. " not in out and str(tmp_path / "o" / "highlights.csv") in out
    for words, message in (
        (("--asr", "base"), "run"),
        (("--max-length", 0), "max_length_s must be above 0"),
        (("--length", "x"), "length must be as 90s"),
    ):
        assert command(monkeypatch, name, video, "-o", tmp_path / "p", *words) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("name", ["chat.jsonl", "chat.json.gz", "talk.srt"])
def test_a_log_in_place_of_the_recording_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match=f"{name}: is no video or sound file; give it as --comm"):
        highlight_recording(tmp_path / name, tmp_path / "out")


def test_of_two_into_one_folder_the_second_is_refused(recording: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused = pytest.raises(InputError, match="out: another process is at work here")
    with alone(out), refused:
        find(recording, out)
    assert not out.exists()
    find(recording, out)
    find(recording, out)  # the lock that the first has left keeps nobody out
