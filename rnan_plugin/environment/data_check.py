"""What is wrong with the data that an option file names; imported when the libraries are known to be there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rnan_plugin.environment.finding import Finding
from rnan_plugin.errors import UserError, one_line
from rnan_plugin.options.schema import read_yaml


def check_option_file(path: Path) -> Iterator[Finding]:
    """The option file can be read and the data it names are there."""
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
    for name, settings in datasets.items():
        yield from _check_dataset(f"datasets.{name}", settings if isinstance(settings, dict) else {})


def _check_dataset(where: str, settings: Mapping[str, Any]) -> Iterator[Finding]:
    from rnan_plugin.data.image_store import is_lmdb  # needs libraries, of which the doctor tells first

    backend = settings.get("io_backend")
    in_lmdb = isinstance(backend, dict) and backend.get("type") == "lmdb"
    for key in ("dataroot_gt", "dataroot_lq"):
        roots = settings.get(key) or []
        for root in roots if isinstance(roots, list) else [roots]:
            place = Path(str(root)).expanduser()
            packed = is_lmdb(str(root)) if isinstance(roots, list) else in_lmdb
            yield _check_lmdb(f"{where}.{key}", place) if packed else _check_folder(f"{where}.{key}", place)


def _check_folder(where: str, folder: Path) -> Finding:
    if folder.exists():
        return Finding("ok", f"{where}: {folder}")
    return Finding("FAIL", f"{where}: {folder} does not exist", "prepare the data there, or correct the path")


def _check_lmdb(where: str, folder: Path) -> Finding:
    from rnan_plugin.data.image_store import LmdbStore  # needs libraries that may be what is broken

    remedy = f"`rnan prepare FOLDER {folder}`"
    try:
        store = LmdbStore(str(folder))
        missing = [name for name in (store.names[0], store.names[-1]) if not store.holds(name)]
        stored = store.stored()
    except UserError as error:
        return Finding("FAIL", f"{where}: {error}", remedy)
    if missing:
        return Finding("FAIL", f"{where}: {folder} lists {one_line(missing[0])} but does not hold it", remedy)
    if stored != len(store.names):
        return Finding("FAIL", f"{where}: {folder} lists {len(store.names)} images but holds {stored}", remedy)
    return Finding("ok", f"{where}: {folder}, {stored} images")
