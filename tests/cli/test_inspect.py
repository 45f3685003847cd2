"""`contentctr inspect`: what it prints, its exit codes, JSON and picture."""

import json
import subprocess
import sys

import pytest

from contentctr import cli
from recordings import record

ROWS = "t,user_id,text\n" + "".join(f"{n}.5,user{n},wow {n}\n" for n in range(20))


@pytest.fixture
def run(monkeypatch, capsys):
    def inspect(*words):
        monkeypatch.setattr(sys, "argv", ["contentctr", "inspect", *map(str, words)])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        return code, *capsys.readouterr()

    return inspect


@pytest.fixture
def video(tmp_path):
    return record(tmp_path / "20:00 [live] %03d.mp4", 20.0)


def test_a_recording_and_its_chat(run, video, tmp_path):
    chat = tmp_path / "chat.csv"
    chat.write_text(ROWS)
    picture = tmp_path / "out.png"
    code, out, err = run(video, "--comments", chat, "-o", picture)
    assert code == 0 and not err
    for words in (
        "stream 0   video h264",
        "20 rows, 20 used",
        "pictures █",
        "shift      cannot tell",
    ):
        assert words in out, out
    assert picture.is_file() and str(picture) in out.replace("\n", "")
    code, out, _ = run(video, "--comments", chat, "--json")
    (found,) = json.loads(out)["inputs"]
    assert code == 0 and found["recording"]["width"] > 0
    assert found["parts"][0]["used"] == 20 and found["shift"]["verdict"] == "cannot tell"


def test_several_inputs_and_codes(run, video, tmp_path):
    bad, empty = tmp_path / "bad.bin", tmp_path / "empty.csv"
    bad.write_bytes(bytes(range(256)) * 9)
    empty.touch()
    code, out, _ = run(video, bad, empty)
    assert code == 0 and out.count("problem: ") == 2 and "is empty" in out
    assert run(bad, empty)[0] == 2
    code, _, err = run(video, bad, "--comments", empty)
    assert code == 2 and "of one video" in err
    code, _, err = run(video, "-o", bad)
    assert code == 2 and ".png" in err
    assert run(video, "--started-at", "yesterday")[0] == 2


def test_force_a_kind_and_name_columns(run, tmp_path):
    log = tmp_path / "x.csv"
    log.write_text("when,who,what\n1,a,hi\n2,b,oh\n")
    code, out, _ = run(log, "--columns", "t=when,user_id=who,text=what")
    assert code == 0 and "a chat log" in out and "2 rows, 2 used" in out
    code, out, _ = run(log, "--as", "events")
    assert code == 2 and "an event log, told by --as" in out


def test_a_terminal_that_knows_ascii_alone(video):
    done = subprocess.run(
        [sys.executable, "-m", "contentctr", "inspect", str(video)],
        env={"PYTHONIOENCODING": "ascii", "PYTHONPATH": ":".join(sys.path), "PATH": ""},
        capture_output=True,
        check=True,
    )
    assert b"pictures ####" in done.stdout and not done.stderr
