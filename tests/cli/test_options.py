"""Options that several commands share."""

import sys
from pathlib import Path

import pytest

from contentctr import cli
from contentctr.cli.common import column_names
from contentctr.errors import InputError


def test_names_of_columns() -> None:
    assert column_names(None) == column_names("") == {}
    assert column_names("t=offset, text=message,user_id=a=b") == {
        "t": "offset",
        "text": "message",
        "user_id": "a=b",
    }


@pytest.mark.parametrize("text", ["t", "t=", "=x", "time=x", "t=a,t=b", "t:a"])
def test_wrong_names_of_columns(text: str) -> None:
    with pytest.raises(InputError, match="--columns must be FIELD=NAME,... with each of t, text,"):
        column_names(text)


def test_a_wrong_start_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = str(tmp_path / "out")
    words = ["contentctr", "predict", str(tmp_path), "x.mp4", "-o", out, "--started-at", "now"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert "error: --started-at must be ISO 8601 with a zone" in capsys.readouterr().err
