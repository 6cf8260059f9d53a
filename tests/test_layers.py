"""The floors of the house: imports go down only, deferred ones too; each rule is shown to bite on a broken copy."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY

# Rooms, files or folders of the package, from the ground up; CONTRIBUTING.md says what each is for.
FLOORS = [
    {"errors", "version", "choices"},
    {"targets"},
    {"files", "device", "images", "portable", "progress", "toolbox"},
    {"checkpoints", "paper"},
    {"archs", "perceptual"},
    {"options"},
    {"data"},
    {"inference"},
    {"training", "export"},
    {"evaluation", "startup"},
    {"environment", "face", "hub", "page", "spandrel"},
    {"__init__"},
    {"commands"},
    {"__main__"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS, start=1) for room in rooms}
# `startup` is read at every Python start where the hook is enabled: it reaches the others by deferred imports, when
# BasicSR is imported. `toolbox` is what it has to reach first.
WITHOUT_OPTION_FILES = {"images", "paper", "archs"}


def modules(package: Path) -> Iterator[tuple[str, ast.Module]]:
    """Dotted name and syntax tree of every module below a package."""
    for file in sorted(package.rglob("*.py")):
        yield file.relative_to(package).with_suffix("").as_posix().replace("/", "."), ast.parse(file.read_text())


def imports(tree: ast.Module) -> Iterator[str]:
    """Names of modules that a tree imports, deferred imports included; those for type checkers alone too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(module: str) -> str:
    return module.split(".")[0]


def arrows(package: Path) -> set[tuple[str, str]]:
    """Which room of a package imports which other."""
    found = set()
    for name, tree in modules(package):
        for target in imports(tree):
            parts = target.split(".")
            if parts[0] == "rnan_plugin" and len(parts) > 1 and parts[1] in FLOOR_OF and parts[1] != room_of(name):
                found.add((room_of(name), parts[1]))
    return found


def upwards(package: Path) -> list[str]:
    return [f"{a} -> {b}" for a, b in sorted(arrows(package)) if FLOOR_OF[a] <= FLOOR_OF[b]]


def unknown_rooms(package: Path) -> list[str]:
    return sorted({room_of(name) for name, _ in modules(package)} - FLOOR_OF.keys())


def circles(package: Path) -> list[str]:
    """Modules that reach themselves by imports."""
    names = {name.removesuffix(".__init__") for name, _ in modules(package)}
    graph: dict[str, set[str]] = {}
    for name, tree in modules(package):
        targets = {target.removeprefix("rnan_plugin.") for target in imports(tree) if target.startswith("rnan_plugin.")}
        graph[name.removesuffix(".__init__")] = (targets & names) - {name}

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        todo = list(graph[start])
        while todo:
            module = todo.pop()
            if module not in seen:
                seen.add(module)
                todo += graph[module]
        return seen

    return sorted(name for name in graph if name in reached(name))


def importers_of_basicsr(package: Path) -> list[str]:
    return [
        name
        for name, tree in modules(package)
        if room_of(name) != "toolbox" and any(target.split(".")[0] == "basicsr" for target in imports(tree))
    ]


def importers_of_commands_or_the_face(package: Path) -> list[str]:
    wrong = []
    for name, tree in modules(package):
        for node in ast.walk(tree):
            named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            face = "rnan_plugin" in named
            if isinstance(node, ast.ImportFrom) and node.module == "rnan_plugin":
                face = any(alias.name not in FLOOR_OF for alias in node.names)
            inside = any(
                target.startswith("rnan_plugin.commands") for target in [*named, getattr(node, "module", "") or ""]
            )
            if face or (inside and room_of(name) not in {"commands", "__main__"}):
                wrong.append(name)
    return wrong


def readers_of_option_files(package: Path) -> list[str]:
    """Modules below the options that know their sections."""
    return [
        name
        for name, tree in modules(package)
        if room_of(name) in WITHOUT_OPTION_FILES
        and any(target == "yaml" or target.startswith("rnan_plugin.options") for target in imports(tree))
    ]


RULES: dict[str, Callable[[Path], list[str]]] = {
    "down only": upwards,
    "every room has a floor": unknown_rooms,
    "no circle": circles,
    "basicsr in toolbox alone": importers_of_basicsr,
    "nobody imports a command or the face": importers_of_commands_or_the_face,
    "images, paper, archs without option files": readers_of_option_files,
}
# What breaks each rule: a file, and a line added to it.
BREAKS = {
    "down only": ("images/color.py", "def f() -> None:\n    from rnan_plugin.training import step\n"),
    "every room has a floor": ("attic.py", "\n"),
    "no circle": ("images/bicubic.py", "from rnan_plugin.images import degradations\n"),
    "basicsr in toolbox alone": ("training/step.py", "def f() -> None:\n    import basicsr.utils\n"),
    "nobody imports a command or the face": ("training/step.py", "import rnan_plugin\n"),
    "images, paper, archs without option files": ("archs/rnan_arch.py", "import yaml\n"),
}


@pytest.mark.parametrize("rule", RULES)
def test_the_house_keeps(rule: str) -> None:
    assert RULES[rule](REPOSITORY / "rnan_plugin") == []


@pytest.mark.parametrize("rule", RULES)
def test_breaking_is_noticed(rule: str, tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "rnan_plugin", tmp_path / "rnan_plugin", ignore=shutil.ignore_patterns("__pycache__"))
    name, line = BREAKS[rule]
    with (tmp_path / "rnan_plugin" / name).open("a") as file:
        file.write(line)
    assert RULES[rule](tmp_path / "rnan_plugin") != []


def test_nobody_refers_to_scripts() -> None:
    """What a user is told to type is in the wheel."""
    told = [
        name
        for name, tree in modules(REPOSITORY / "rnan_plugin")
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "scripts/" in node.value
    ]
    assert told == ["options.recipes"]  # the quickstart's option file says what runs it
