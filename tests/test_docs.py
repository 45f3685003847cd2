"""The documents: links lead somewhere, files they name are there, commands have their options."""

import ast
import re
import shlex
from pathlib import Path
from urllib.parse import unquote

import pytest
import typer.main

import contentctr
from contentctr.cli import app

ROOT = Path(__file__).parents[1]
PACKAGE = Path(contentctr.__file__).parent
SUBJECTS = (
    "rooms",
    "training",
    "evaluation",
    "live",
    "security",
    "sharing",
    "operating",
    "speech",
    "highlights",
    "editing",
    "klm3",
    "reproducing",
    "pretraining",
    "many-machines",
    "abtest",
    "python",
)
"""A page of docs/ each."""
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
TABLES = sorted((ROOT / "docs/tables").glob("*.md"))
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS]
COMMAND = typer.main.get_command(app)


def blocks(page):
    """Language and text of each fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.S | re.M)


def prose(page):
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)


def anchors(page):
    """What GitHub calls a page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.M)
    return {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}


def commands(page):
    """Words of each `contentctr` command that a page has, in blocks and in prose."""
    lines = [line for _, text in blocks(page) for line in text.splitlines()]
    lines += re.findall(r"`(contentctr [^`\n]*)`", prose(page))
    for line in lines:
        for part in re.split(r"&&|;", line):
            match = re.search(r"(?:^\s*|-m )contentctr (.*)", part)
            if match:
                yield shlex.split(match[1], comments=True)


@pytest.mark.parametrize("page", [*PAGES, *TABLES], ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    found = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    for link in found:
        if re.match(r"\w+:", link):
            continue
        place, _, anchor = unquote(link).partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), f"{page.name}: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


def test_the_readme_is_read_in_three_minutes():
    text = README.read_text()
    assert len(text.splitlines()) <= 110
    assert len(text.split()) <= 900


def test_the_readme_leads_to_every_page_and_shows_every_folder():
    text = README.read_text()
    for page in DOCS:
        assert f"(docs/{page.name})" in text, page.name
    [tree] = [block for _, block in blocks(README) if block.startswith("src/contentctr/")]
    assert len(tree.splitlines()) <= 20
    named = set(re.findall(r"(\w+)/", "\n".join(tree.splitlines()[1:])))
    folders = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name[0] != "_"}
    assert folders <= named


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_page_begins_with_a_command(subject):
    language, text = blocks(ROOT / "docs" / f"{subject}.md")[0]
    assert language == "" and re.match(r"(contentctr|make|python) ", text)


@pytest.mark.parametrize("page", [README, *DOCS], ids=lambda page: page.name)
def test_files_that_are_named_are_there(page):
    """`folder/file.py` is a file of the package or of the repository."""
    for name in re.findall(r"(?<![\w/])(?:src/contentctr/)?((?:\w+/)+\w+\.py)\b", page.read_text()):
        assert (PACKAGE / name).is_file() or (ROOT / name).is_file(), f"{page.name}: {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_their_options_exist(page):
    for words in commands(page):
        command, line = COMMAND, " ".join(words)
        while words and hasattr(command, "commands") and words[0] in command.commands:
            command, words = command.commands[words[0]], words[1:]
        known = {name for option in command.params for name in option.opts}
        for word in words:
            name = word.partition("=")[0]
            if re.match(r"--?[a-z]", name) and name not in {"--help", "-h"}:
                assert name in known, f"{page.name}: contentctr {line}: {name}"
        if hasattr(command, "commands") and words:
            assert words[0][0] == "-" or not words[0].isalpha(), f"{page.name}: contentctr {line}"


def test_make_has_the_targets_that_are_named():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in PAGES:
        lines = "\n".join(text for _, text in blocks(page))
        named = re.findall(r"^make ([\w-]+)", lines, re.M)
        named += re.findall(r"`make ([\w-]+)`", prose(page))
        assert set(named) <= targets, page.name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples_use_what_the_package_has(page):
    for language, text in blocks(page):
        if language != "python":
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "contentctr":
                assert node.attr in contentctr.__all__, f"{page.name}: contentctr.{node.attr}"


@pytest.mark.parametrize("name", ["abtest", pytest.param("python", marks=pytest.mark.slow)])
def test_python_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = {}
    for language, text in blocks(ROOT / f"docs/{name}.md"):
        if language == "python":
            exec(text, known)
