"""Packages that only some commands need: whether they are there, and how to install them."""

from __future__ import annotations

import importlib.util
import json
import urllib.parse
import urllib.request
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from contentctr.errors import InputError


def install_hint(extra: str) -> str:
    """The command that installs an extra, from where this package itself came.

    In double quotes, which every shell takes, that of Windows too.

    Args:
        extra: of pyproject.toml, such as speech.
    """
    checkout = _checkout()
    if checkout is not None:
        place = "." if checkout == Path.cwd() else str(checkout)
        return f'pip install -e "{place}[{extra}]"'
    place = _source()
    if "://" in place:
        return f'pip install "contentctr[{extra}] @ {place}"'
    return f'pip install "{place}[{extra}]"'


def require_installed(package: str, extra: str) -> None:
    """Stop where a package is not installed.

    Args:
        package: as it is imported.
        extra: that it is of.

    Raises:
        InputError: names the package, and how to install it.
    """
    if importlib.util.find_spec(package) is None:
        raise InputError(f"{package} is not installed: {install_hint(extra)}")


def _checkout() -> Path | None:
    """The repository that this very file lies in; None where it is installed elsewhere."""
    root = Path(__file__).resolve().parents[2]
    project = root / "pyproject.toml"
    found = project.is_file() and 'name = "contentctr"' in project.read_text(encoding="utf-8")
    return root if found else None


def _source() -> str:
    """The folder or address that it was installed from, or its name on a package index."""
    try:
        text = distribution("contentctr").read_text("direct_url.json")
    except PackageNotFoundError:
        text = None
    if not text:
        return "contentctr"
    origin = json.loads(text)
    parts = urllib.parse.urlsplit(origin["url"])
    if parts.scheme != "file":
        kind = origin.get("vcs_info", {}).get("vcs")
        return f"{kind}+{origin['url']}" if kind else str(origin["url"])
    path = urllib.request.url2pathname(parts.path)
    return path if Path(path).is_dir() else "contentctr"
