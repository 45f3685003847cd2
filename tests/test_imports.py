"""The import rule: a folder is a step of the data's way, and imports run one way along them."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import contentctr

PACKAGE = Path(contentctr.__file__).parent
ROOT = {
    "config",
    "recipes",
    "settings",
    "devices",
    "extras",
    "counting",
    "batch",
    "errors",
    "files",
    "hashes",
    "outputs",
    "progress",
    "shards",
    "ahead",
    "parquet",
    "printing",
    "visible",
}
"""Files of the package's root that every folder may use."""
ORDER = (
    {"__main__"},
    {"cli"},
    {"demo"},
    {"reproduce"},
    {"abtest"},
    {"live"},
    {"predict"},
    {"daily"},
    {"evaluate"},
    {"report"},
    {"pretrain"},
    {"train"},
    {"rule", "share"},
    {"score"},
    {"simulate"},
    {"windows", "encode", "prepare"},
    {"transcribe"},
    {"models", "metrics", "store"},
    {"rooms"},
    ROOT,
)
"""A line a step, from the command back to raw rooms: a step imports itself and what is below it."""
NEVER = {("live", name) for name in ("train", "pretrain", "report", "evaluate", "rule", "share")}
"""Imports that the order would allow: what ranks live rooms loads nothing that trains."""

SERVICE = "live.service"
LIVE = {"live": set(), SERVICE: set(), "live.redis": {SERVICE}, "live.watch": {SERVICE}}
"""Folders of live, and the others of them that each may import."""


def files():
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    }


def imports(path):
    """Files of the package that `path` imports, anywhere in it."""
    names = set(files())
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("contentctr"):
            module = node.module.removeprefix("contentctr").lstrip(".")
            for alias in node.names:
                inner = f"{module}.{alias.name}".lstrip(".")
                found = inner if inner in names else module
                if found:
                    yield found
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("contentctr."):
                    yield alias.name.removeprefix("contentctr.")


def place(name):
    found = [i for i, step in enumerate(ORDER) if name.split(".")[0] in step]
    assert len(found) == 1, f"{name} must stand in one step, not {found}"
    return found[0]


def test_imports_run_one_way_along_the_steps():
    for name, path in files().items():
        for other in imports(path):
            ends = name.split(".")[0], other.split(".")[0]
            below = (
                place(other) > place(name) or ends[0] == ends[1] or place(name) == len(ORDER) - 1
            )
            assert below and ends not in NEVER, f"{name} must not import {other}"


def test_the_folders_of_live_stand_on_its_files_and_redis_and_watch_on_the_service():
    for name, path in files().items():
        if (folder := name.rpartition(".")[0]) in LIVE:
            others = {other.rpartition(".")[0] for other in imports(path)} & set(LIVE)
            assert others <= LIVE[folder] | {folder, "live"}, name


def test_the_root_holds_the_steps_and_what_they_all_use():
    inner = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name[0] != "_"}
    outer = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    assert inner | outer == set().union(*ORDER)


def test_there_are_no_circles():
    graph = {name: set(imports(path)) for name, path in files().items()}
    graphlib.TopologicalSorter(graph).prepare()


def test_no_file_is_longer_than_500_lines():
    lengths = {name: len(path.read_text().splitlines()) for name, path in files().items()}
    assert {name: n for name, n in lengths.items() if n > 500} == {}


def test_every_public_name_is_there_and_documented():
    for name in contentctr.__all__:
        value = getattr(contentctr, name)
        assert name == "__version__" or value.__doc__, name
    listed = set(dir(contentctr)) | set(contentctr.__all__)
    assert "train_model" in listed


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, contentctr; print(sorted({'torch', 'polars', 'av'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
    code = "import sys, contentctr.cli; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "False\n"


def test_the_service_does_without_what_finds_peaks():
    code = "import sys, contentctr.live.service.app; print('scipy.signal' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout == "False\n", found.stderr
