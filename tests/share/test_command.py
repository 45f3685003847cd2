"""`contentctr export`: what goes with what."""

import pytest
from typer.testing import CliRunner

from contentctr.cli import app
from contentctr.errors import InputError


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (["--format", "onnx", "--push-to-hub", "a/b"], "--push-to-hub: must not be given"),
        (["--format", "onnx", "--private"], "--private: must not be given"),
        (["--format", "hub", "--data", "d"], "--data: must not be given with --format hub"),
        (["--format", "hub", "--private"], "--private: needs --push-to-hub"),
        (["--format", "hub", "--push-to-hub", "b"], "must be OWNER/NAME"),
    ],
)
def test_options_that_do_not_go_together(tmp_path, words, rule):
    found = CliRunner().invoke(app, ["export", "run", "-o", str(tmp_path / "out"), *words])
    assert isinstance(found.exception, InputError) and rule in str(found.exception)
    assert not (tmp_path / "out").exists()
