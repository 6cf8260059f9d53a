"""Which option files the repository ships: listing them all, writing them, and comparing those that are there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rnan_plugin.choices import NETWORKS
from rnan_plugin.errors import UserError, shown
from rnan_plugin.files import write_texts
from rnan_plugin.options import recipes, small_recipes
from rnan_plugin.options.inputs import inputs_of
from rnan_plugin.options.networks import unfit
from rnan_plugin.options.recipes import OptionFile
from rnan_plugin.options.schema import flat, read_yaml
from rnan_plugin.paper.tables import all_published
from rnan_plugin.paper.tasks import TASKS, Task
from rnan_plugin.targets import why_no_folder

# Schemas for editors, below the folder of the option files; `rnan_plugin.evaluation.schemas` makes them.
OPTION_SCHEMA = "schemas/option_file.json"
COMPARISON_SCHEMA = "schemas/comparison_file.json"


def shipped_files() -> Iterator[OptionFile]:
    """All of them; a task that was added by `add_task` has its own."""
    for task in TASKS.values():
        yield from _papers(task)
        yield from _blind(task)
        yield from _typical(task)
    yield from map(small_recipes.medium, (inputs_of("colordn", 50), *small_recipes.MEDIUM_FROM_50))
    yield from _going_on()
    yield recipes.quickstart()
    yield from (recipes.ablation(case) for case in range(1, len(recipes.ABLATION_CASES) + 1))
    yield from _small_data()
    yield from map(recipes.equal_budget, recipes.EQUAL_BUDGET)


def _papers(task: Task) -> Iterator[OptionFile]:
    """A training at each level of the paper, small and large, its test, and that of the released weights."""
    for level in task.levels if task.level else (None,):
        inputs = inputs_of(task.name, level)
        yield small_recipes.small(inputs)
        yield (training := recipes.paper(inputs))
        if task.sets:
            yield recipes.test(training, inputs)
        if inputs.task.released:
            yield recipes.released(inputs)


def _blind(task: Task) -> Iterator[OptionFile]:
    """Networks for unknown levels."""
    for channels in (task.channels, *task.other_channels) if task.blind else ():
        inputs = inputs_of(task.name, blind=True, channels=channels)
        yield recipes.paper(inputs)
        yield small_recipes.small(inputs)


def _typical(task: Task) -> Iterator[OptionFile]:
    """The networks of BasicSR at the task's typical level."""
    level = task.typical_level
    if task.level and level is None:
        return
    inputs = inputs_of(task.name, level)
    for network in NETWORKS:
        if network != "RNAN" and unfit(network, inputs.num_channel, inputs.scale) is None:
            yield recipes.compare(network, inputs)


def _going_on() -> Iterator[OptionFile]:
    """Networks that go on from their own weights, with larger patches, for longer, or with levels drawn evenly."""
    yield from (small_recipes.patch64(size, inputs) for size, inputs in small_recipes.PATCH64)
    yield from map(small_recipes.longer, small_recipes.LONGER)
    yield from map(small_recipes.evenly, small_recipes.EVENLY)


def _small_data() -> Iterator[OptionFile]:
    """The columns of Table 8."""
    rows = [row for row in all_published() if (row.table, row.method) == (8, "RNAN")]
    columns = dict.fromkeys((row.training_set, row.task, row.level) for row in rows)
    yield from (recipes.small_data(name, inputs_of(task, level)) for name, task, level in columns)


def shipped_text(file: OptionFile) -> str:
    """What a file in the repository holds: above all a line from which editors know its schema."""
    up = "../" * file.path.count("/")
    return f"# yaml-language-server: $schema={up}{OPTION_SCHEMA}\n{file.text}"


def write_files(folder: Path, *, overwrite: bool = False) -> tuple[int, int, list[Path]]:
    """Write those that are missing; those that differ may hold someone's changes.

    Args:
        folder: Of the option files.
        overwrite: Write those that differ, too.

    Returns:
        How many were written, how many there are, and which were left as they differ.

    Raises:
        UserError: The folder can't be created or written.
    """
    texts = {folder / file.path: shipped_text(file) for file in shipped_files()}
    kept = [] if overwrite else [path for path, text in texts.items() if path.exists() and text_of(path) != text]
    written = sum(write_if_stale(path, text) for path, text in texts.items() if path not in kept)
    return written, len(texts), kept


def write_if_stale(path: Path, text: str) -> bool:
    """Write a text file that is missing or holds another text, and make its folder; return whether it was.

    Raises:
        UserError: The folder can't be created or written.
    """
    if text_of(path) == text:
        return False
    write_texts({path: text})
    return True


def differences(folder: Path) -> Iterator[str]:
    """A line for each file that is missing, or differs from its recipe: the first key that does.

    Raises:
        UserError: There is no such folder, or it can't be read.
    """
    if reason := why_no_folder(folder):
        raise UserError(f"{folder}: {reason}; name that of the option files with --folder")
    for file in shipped_files():
        path = folder / file.path
        text = text_of(path)
        if text is None:
            yield f"{path}: missing"
        elif text != shipped_text(file):
            yield f"{path}: {_first_difference(path, file.options)}"


def text_of(path: Path) -> str | None:
    """What a file holds, None if it can't be read as text."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _first_difference(path: Path, recipe: Mapping[str, Any]) -> str:
    try:
        content = dict(flat(read_yaml(path, "option file")))
    except UserError as error:
        return str(error).removeprefix(f"{path}: ")
    expected = dict(flat(recipe))
    for key in dict.fromkeys([*expected, *content]):
        if key not in content:
            return f"{key} is missing, the recipe has {shown(expected[key])}"
        if key not in expected:
            return f"{key} is {shown(content[key])}, the recipe has no such key"
        if (type(content[key]), content[key]) != (type(expected[key]), expected[key]):
            return f"{key} is {shown(content[key])}, the recipe has {shown(expected[key])}"
    return "comments or layout differ"
