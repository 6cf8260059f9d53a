"""README and documentation: what they show can be typed, what they name is there, what is generated is current."""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY
from test_layers import FLOORS

from rnan_plugin.__main__ import FORWARDING, HELP_LINES, module_of, parser_of
from rnan_plugin.training.launcher import argument_parser

sys.path.insert(0, str(REPOSITORY / "tools"))
import reference
import results_table

PAGES = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((REPOSITORY / "docs").rglob("*.md"))
PAGES += sorted((REPOSITORY / "rnan_plugin/weights").glob("*.md"))
SOURCES = [
    file for name in ("benchmarks", "rnan_plugin", "scripts", "tools") for file in (REPOSITORY / name).rglob("*.py")
]
COMMAND = re.compile(r"(?:\brnan|-m rnan_plugin) ([a-z][a-z-]*)([^`\n]*)")
CODE = re.compile(r"^```.*?^```|^ {4}.*?$|`[^`\n]+`", re.MULTILINE | re.DOTALL)
# What stands for a value that a parser would not take as it is.
PLACEHOLDERS = {"NAME": "car", "L": "10", "N": "4"}
FOLDERS = "benchmarks|docs|options|rnan_plugin|scripts|tests|tools"
NAMED_FILE = re.compile(rf"(?<![\w/.])(?:{FOLDERS})/[\w./*{{}},-]+\.(?:json|log|md|pth|py|sh|yml)\b")


def shown_commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Name and arguments of every command in a page's code."""
    for code in CODE.findall(text):
        for name, rest in COMMAND.findall(code):
            words = shlex.split(rest.split(" > ")[0], comments=True)
            yield name, [PLACEHOLDERS.get(word, word) for word in words]


def parser(name: str) -> argparse.ArgumentParser:
    if name in FORWARDING:
        return argument_parser()
    if importlib.util.find_spec(module_of(name)) is None:
        pytest.skip(f"rnan {name} is announced alone")
    return parser_of(name, importlib.import_module(module_of(name)))


SHOWN = [(page, *shown) for page in PAGES for shown in shown_commands(page.read_text(encoding="utf-8"))]


def test_pages_show_commands() -> None:
    assert {name for _, name, _ in SHOWN} >= {"restore", "train", "evaluate", "compare", "study", "prepare", "options"}


@pytest.mark.parametrize(("page", "name", "arguments"), SHOWN, ids=lambda value: getattr(value, "stem", str(value)))
def test_a_shown_command_can_be_typed(page: Path, name: str, arguments: list[str]) -> None:
    assert name in HELP_LINES, f"{page}: rnan {name}"
    if not arguments:
        return  # a command's name in a sentence
    parsed = vars(parser(name).parse_args(arguments))
    for word in map(str, parsed.values()):
        if word.startswith("options/"):
            assert (REPOSITORY / word).is_file(), f"{page}: {word}"


@pytest.mark.parametrize(
    "line", ["rnan evaluate x --task car --levle 10", "rnan restore x", "rnan train --auto_resume"]
)
def test_a_wrong_command_is_noticed(line: str) -> None:
    ((name, arguments),) = shown_commands(f"    {line}\n")
    with pytest.raises(SystemExit):
        parser(name).parse_args(arguments)


def missing_files(text: str) -> list[str]:
    """Files of the repository that a text names and that are not there; capitals stand for a name."""
    named = {name for name in NAMED_FILE.findall(text) if not re.search("NAME|FILE", name)}
    return [name for name in sorted(named) if not list(REPOSITORY.glob(re.sub(r"\{[^}]*\}", "*", name)))]


def test_named_files_are_there() -> None:
    found = {page: missing_files(page.read_text(encoding="utf-8")) for page in (*PAGES, *sorted(SOURCES))}
    assert {str(page): names for page, names in found.items() if names} == {}
    assert missing_files("scripts/evaluate.py SET, tools/small_models.py") == ["scripts/evaluate.py"]


@pytest.mark.parametrize("page", PAGES[:3], ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_picture_of_the_floors_has_every_room() -> None:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (picture,) = re.findall(rf"```text\n({len(FLOORS)} .*?)```", text, re.DOTALL)
    floors = dict(re.findall(r"^ ?(\d+)((?:  .*\n(?: {4}.*\n)*))", picture, re.MULTILINE))
    assert len(floors) == len(FLOORS)
    wrong = [room for number, rooms in enumerate(FLOORS, 1) for room in rooms if room not in floors[str(number)]]
    assert wrong == []


def test_tables_are_current() -> None:
    assert results_table.outdated() == []


def test_an_old_table_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    text = results_table.PAGES[0].read_text(encoding="utf-8")
    page.write_text(re.sub(r"\d\d\.\d\d /", "99.99 /", text, count=1), encoding="utf-8")
    monkeypatch.setattr(results_table, "PAGES", [page])
    assert results_table.outdated() == [page]
    page.write_text(results_table.with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")
    assert results_table.outdated() == []
    assert page.read_text(encoding="utf-8") == text


def test_python_in_the_pages_imports() -> None:
    blocks = [code for page in PAGES for code in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)]
    assert blocks
    for node in (node for block in blocks for node in ast.walk(ast.parse(block)) if isinstance(node, ast.ImportFrom)):
        module = importlib.import_module(str(node.module))
        assert [item.name for item in node.names if not hasattr(module, item.name)] == []


def test_reference_has_every_command_flag_and_key() -> None:
    commands, options = reference.commands(), reference.options()
    assert [name for name in HELP_LINES if f"### `rnan {name}`" not in commands] == []
    assert "| `--tile SIDE` | of a tile in input pixels (default: 128) |" in commands
    assert "| `--force_yml KEY:KEY=VALUE [KEY:KEY=VALUE ...]` |" in commands
    assert re.search(r"`accumulate` \| whole number.*\| `1` \| Parts a batch is computed in, one after", options)
    assert re.search(r"`dataroot_gt` \| text.* \| required \| Folder or LMDB of ground truth", options)
    assert "| `channels` | `rgb`, `gray`, `y` | `rgb` |" in options
    assert "## `type: jpeg`" in reference.degradations()


def test_site_builds_without_a_warning(tmp_path: Path) -> None:
    missing = [name for name in ("furo", "myst_parser", "sphinx") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: pip install 'rnan-plugin[docs]'")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs", str(tmp_path)]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "rnan evaluate" in (tmp_path / "reference/commands.html").read_text(encoding="utf-8")
