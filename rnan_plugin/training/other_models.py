"""A training with another model than the plugin's: what the plugin's loop reads of its option file is checked too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from rnan_plugin.data.dataset_options import OUR_SET, normalise_shared
from rnan_plugin.errors import collect
from rnan_plugin.options.schema import normalise
from rnan_plugin.options.sections import NEEDED, Logger, Train, Validation
from rnan_plugin.toolbox.api import ARCH_REGISTRY, DATASET_REGISTRY, MODEL_REGISTRY
from rnan_plugin.training.section_check import OUR_MODEL, check_type, missing_keys, raise_lines

_READ: dict[str, tuple[type, tuple[str, ...]]] = {
    "train": (Train, ("total_iter",)),
    "logger": (Logger, ("print_freq", "save_checkpoint_freq")),
    "val": (Validation, ("val_freq",)),
}


def check_other_model(opt: dict[str, Any], path: str) -> None:
    """Check what the loop reads, and what the toolbox looks up by name; all else is for the model itself to judge.

    BasicSR's own script, through which such files pass as they are, does without. Values are normalised in place.

    Args:
        opt: As the launcher gives it; with the plugin's model, everything was checked before.
        path: The file, for messages.

    Raises:
        UserError: A line for each problem.
    """
    if opt["model_type"] == OUR_MODEL or not opt["is_train"]:
        return
    checks = [
        partial(check_type, opt, "model_type", MODEL_REGISTRY, path, joint=", "),
        partial(_check_sections, opt, path),
        *(partial(_check_set, opt["datasets"], phase, f"{path}, datasets.{phase}") for phase in opt["datasets"]),
    ]
    if opt.get("network_g") is not None:
        checks.append(partial(check_type, opt["network_g"], "type", ARCH_REGISTRY, f"{path}, network_g"))
    collect(checks)


def _check_sections(opt: dict[str, Any], path: str) -> None:
    raise_lines([line for name in _READ if opt.get(name) is not None for line in _problems(opt, name, path)])


def _problems(opt: dict[str, Any], name: str, path: str) -> Iterator[str]:
    kind, keys = _READ[name]
    section: Mapping[str, Any] = opt[name]
    yield from missing_keys(section, keys, f"{path}, {name}")
    read = {key: section[key] for key in keys if section.get(key) is not None}
    yield from normalise(read, [kind], f"{path}, {name}")
    opt[name] = {**section, **read}


def _check_set(datasets: Mapping[str, Any], phase: str, where: str) -> None:
    dataset: dict[str, Any] = datasets[phase]
    check_type(dataset, "type", DATASET_REGISTRY, where)
    if dataset["type"] != OUR_SET:  # which checks itself
        normalise_shared(dataset, where)
    raise_lines(missing_keys(dataset, NEEDED.get(f"datasets.{phase}", ()), where))
