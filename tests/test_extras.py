import json
import re
import tomllib
from pathlib import Path

import pytest

from contentctr import extras
from contentctr.errors import InputError
from contentctr.extras import install_hint, require_installed

ROOT = Path(__file__).parents[1]


class Installed:
    def __init__(self, url):
        self.url = url

    def read_text(self, name):
        assert name == "direct_url.json"
        return None if self.url is None else json.dumps({"url": self.url})


def test_in_a_checkout_the_hint_names_the_checkout(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    assert install_hint("speech") == 'pip install -e ".[speech]"'
    monkeypatch.chdir(tmp_path)
    assert install_hint("speech") == f'pip install -e "{ROOT}[speech]"'


@pytest.mark.parametrize("from_folder", [True, False])
def test_an_installed_package_names_where_it_is_from(monkeypatch, tmp_path, from_folder):
    url = tmp_path.as_uri() if from_folder else None
    monkeypatch.setattr(extras, "__file__", str(tmp_path / "a/b/contentctr/extras.py"))
    monkeypatch.setattr(extras, "distribution", lambda name: Installed(url))
    wanted = str(tmp_path) if from_folder else "contentctr"
    assert install_hint("live") == f'pip install "{wanted}[live]"'
    monkeypatch.setattr(extras, "distribution", lambda name: Installed("https://a/b.zip"))
    assert install_hint("live") == 'pip install "contentctr[live] @ https://a/b.zip"'


def test_what_is_missing_is_named():
    require_installed("json", "live")
    wanted = f"no_such is not installed: {install_hint('live')}"
    with pytest.raises(InputError, match=re.escape(wanted)):
        require_installed("no_such", "live")


def test_every_extra_that_a_hint_names_is_there():
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    source = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    named = set(re.findall(r"install_hint\(['\"](\w+)['\"]\)", source))
    named |= set(re.findall(r"require_installed\([^,]+, \"(\w+)\"\)", source))
    named |= set(re.findall(r"^_?EXTRA = \"(\w+)\"$", source, re.M))
    assert {"speech", "embedded", "live", "tune"} <= named <= set(known)
    assert not re.findall(r"pip install '", source)
