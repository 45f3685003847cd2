"""The import rule: each file of the package imports from its own layer or a lower one."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import contentctr

PACKAGE = Path(contentctr.__file__).parent
GROUND = {"errors", "interrupts", "kernels", "prefetch", "shards", "files", "config", "recipes",
          "batch",
          "vocabulary", "streamer_table", "metrics", "ranking_metrics", "average_precision",
          "kendall", "highlights", "progress"}  # fmt: skip
DATA = {"rooms", "prepared", "segments", "targets", "prepare", "efficientnet", "preprocess",
        "encoders", "segment_features", "features", "stored_vectors", "mapped", "encode",
        "segment_data", "epoch_loader", "windows", "simulate", "phd", "yolo"}  # fmt: skip
MODEL = {"layers", "models", "dtw", "losses", "size"}
CHECKPOINT = {"checkpoint", "scoring", "highlight_scoring"}
TRAIN = {"run", "tasks", "train", "evaluation", "evaluate", "pretrain"}
USE = {"figures", "report", "highlight_files", "predict", "personal", "live", "abtest"}
STUDY = {"experiments"}
TOP = {"demo", "demo_live", "cli", "__main__"}
MAY_IMPORT = {
    "ground": (GROUND,),
    "data": (GROUND, DATA),
    "model": (GROUND, MODEL),
    "checkpoint": (GROUND, DATA, MODEL, CHECKPOINT),
    "train": (GROUND, DATA, MODEL, CHECKPOINT, TRAIN),
    "use": (GROUND, DATA, MODEL, CHECKPOINT, USE),
    "study": (GROUND, DATA, MODEL, CHECKPOINT, TRAIN, USE, STUDY),
    "top": (GROUND, DATA, MODEL, CHECKPOINT, TRAIN, USE, STUDY, TOP),
}
LAYERS = dict(
    zip(MAY_IMPORT, (GROUND, DATA, MODEL, CHECKPOINT, TRAIN, USE, STUDY, TOP), strict=True)
)


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


def layer(name):
    found = [key for key, members in LAYERS.items() if name.split(".")[0] in members]
    assert len(found) == 1, f"{name} must stand in one layer, not {found}"
    return found[0]


def test_imports_run_one_way_down_the_layers():
    for name, path in files().items():
        allowed = set().union(*MAY_IMPORT[layer(name)])
        for other in imports(path):
            assert other.split(".")[0] in allowed, f"{name} must not import {other}"


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
