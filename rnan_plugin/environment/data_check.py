"""What is wrong with the data that an option file names; imported when the libraries are known to be there."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rnan_plugin.environment.finding import Finding
from rnan_plugin.errors import UserError
from rnan_plugin.options.schema import read_yaml
from rnan_plugin.targets import absence, expanded, why_no_folder


def check_option_file(path: Path) -> Iterator[Finding]:
    """The option file can be read, the data it names are there, and its command would begin."""
    try:
        options = read_yaml(path, "option file")
    except UserError as error:
        yield Finding("FAIL", str(error), "correct the file or its path")
        return
    datasets = options.get("datasets")
    if not isinstance(datasets, dict) or not datasets:
        yield Finding("FAIL", f"{path}: no data sets", "add `datasets:`, as in the plugin's options folder")
        return
    yield Finding("ok", f"{path}: readable, {len(datasets)} data set(s)")
    places = [
        finding
        for name, settings in datasets.items()
        for finding in _check_dataset(f"datasets.{name}", settings if isinstance(settings, dict) else {})
    ]
    told = list(_as_its_command(path))
    # What both find, the command puts as it will when it is typed.
    yield from (finding for finding in places if finding.verdict == "ok" or not told)
    yield from told


def _as_its_command(path: Path) -> Iterator[Finding]:
    """What `rnan train` or `rnan test` would refuse; nothing where BasicSR, which both need, is missing."""
    if importlib.util.find_spec("basicsr") is None:
        return
    import rnan_plugin.training.connect  # noqa: F401 - BasicSR has to know the plugin's classes
    from rnan_plugin.training.launcher import check_file

    try:
        check_file(str(path))
    except UserError as error:
        yield from (Finding("FAIL", line) for line in map(str, error.args))


def _check_dataset(where: str, settings: Mapping[str, Any]) -> Iterator[Finding]:
    from rnan_plugin.data.image_store import is_lmdb  # needs libraries, of which the doctor tells first

    backend = settings.get("io_backend")
    in_lmdb = isinstance(backend, dict) and backend.get("type") == "lmdb"
    for key in ("dataroot_gt", "dataroot_lq"):
        roots = settings.get(key) or []
        for root in roots if isinstance(roots, list) else [roots]:
            place = Path(expanded(str(root)))
            packed = is_lmdb(str(root)) if isinstance(roots, list) else in_lmdb
            yield _check_lmdb(f"{where}.{key}", place) if packed else _check_folder(f"{where}.{key}", place)


def _check_folder(where: str, folder: Path) -> Finding:
    if (reason := absence(folder) or why_no_folder(folder)) is None:
        return Finding("ok", f"{where}: {folder}")
    return Finding("FAIL", f"{where}: {folder} {reason}", "prepare the data there, or correct the path")


def _check_lmdb(where: str, folder: Path) -> Finding:
    from rnan_plugin.data.lmdb_check import check_listing  # needs libraries that may be what is broken

    try:
        return Finding("ok", f"{where}: {folder}, {check_listing(str(folder))} images")
    except UserError as error:
        return Finding("FAIL", f"{where}: {error}", f"`rnan prepare FOLDER {folder}`")
