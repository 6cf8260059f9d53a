"""The JSON schema of the plugin's option files, for editors: what `option_check` checks, as far as a schema can say."""

from __future__ import annotations

from collections.abc import Sequence

import rnan_plugin.training.connect  # noqa: F401 - BasicSR's registries have to know the plugin's classes
from rnan_plugin.data.dataset_options import OUR_SET, AnySet
from rnan_plugin.data.dataset_schema import dataset_schema
from rnan_plugin.options.json_schema import DIALECT, Schema, by_type, call_schema, closed, or_null, section_schema
from rnan_plugin.options.optimisers import KEYS_OF_OPTIMISERS, SCHEDULE_FREE, Optimiser
from rnan_plugin.options.sections import (
    NEEDED,
    SCHEDULERS,
    Logger,
    Loss,
    Metric,
    Paths,
    Top,
    Train,
    Validation,
)
from rnan_plugin.toolbox.api import ARCH_REGISTRY, DATASET_REGISTRY, LOSS_REGISTRY, METRIC_REGISTRY
from rnan_plugin.training.section_check import OUR_MODEL
from rnan_plugin.training.step import StepOptions

_TOP = ("name", "model_type", "num_gpu", "datasets", "path", "network_g")


def option_schema() -> Schema:
    """Of a whole file for `model_type: RestorationModel`; networks, losses and metrics are those that BasicSR knows."""
    networks = {name: call_schema(ARCH_REGISTRY.get(name)) for name in sorted(ARCH_REGISTRY.keys())}
    replaced = {
        "model_type": {"const": OUR_MODEL},
        "datasets": _datasets(),
        "network_g": by_type(networks),
        "path": section_schema([Paths]),
        "train": or_null(_train()),
        "val": or_null(section_schema([Validation], {"metrics": or_null(_metrics())})),
        "logger": or_null(section_schema([Logger], needed=NEEDED["logger"])),
    }
    about = "An option file of rnan_plugin, for `rnan train` and `rnan test`; `rnan doctor -opt FILE` checks the rest."
    return {
        "$schema": DIALECT,
        "title": "Option file of rnan_plugin",
        "description": about,
        **section_schema([Top], replaced, needed=_TOP),
    }


def _datasets() -> Schema:
    """`train`, and any number of `val…` and `test…`."""
    named = {
        "type": "object",
        "properties": {"train": _entry(training=True)},
        "patternProperties": {"^(val|test)(_.*)?$": _entry(training=False)},
    }
    return {**named, "additionalProperties": False}


def _entry(*, training: bool) -> Schema:
    """A set of the plugin's type, or of another, of which the keys that any type has are known."""
    others = sorted({*DATASET_REGISTRY.keys()} - {OUR_SET})
    entry = by_type({OUR_SET: dataset_schema(training=training), **{name: {} for name in others}})
    shared = section_schema([AnySet], {"type": {}}, needed=NEEDED["datasets.train"] if training else ())
    shared.pop("additionalProperties")
    of_another = {"properties": {"type": {"enum": others}}, "required": ["type"]}
    return {**entry, "allOf": [*entry["allOf"], {"if": of_another, "then": shared}]}


def _train() -> Schema:
    schedules = {name: section_schema([kind], needed=[needed]) for name, (kind, needed, *_) in SCHEDULERS.items()}
    losses = by_type({name: call_schema(LOSS_REGISTRY.get(name), Loss) for name in sorted(LOSS_REGISTRY.keys())})
    replaced = {
        "optim_g": by_type({name: _optimiser(keys) for name, keys in KEYS_OF_OPTIMISERS.items()}),
        "scheduler": or_null(by_type(schedules)),
        "pixel_opt": or_null(losses),
        "perceptual_opt": or_null(losses),
    }
    free = {"properties": {"optim_g": {"properties": {"type": {"enum": list(SCHEDULE_FREE)}}}}}
    return {
        **section_schema([Train, StepOptions], replaced, needed=NEEDED["train"]),
        "if": free,
        "then": {"properties": {"scheduler": {"type": "null"}}},
        "else": {"required": ["scheduler"], "properties": {"scheduler": {"type": "object"}}},
    }


def _optimiser(keys: Sequence[str]) -> Schema:
    """A section of an optimiser that takes these keys; defaults differ from one to the next, and are left out."""
    properties = section_schema([Optimiser])["properties"]
    return closed({key: {name: part for name, part in properties[key].items() if name != "default"} for key in keys})


def _metrics() -> Schema:
    """By any name, a metric."""
    kinds = {
        name: call_schema(METRIC_REGISTRY.get(name), Metric, supplied=["img", "img2"], extra=["better"])
        for name in sorted(METRIC_REGISTRY.keys())
    }
    return {"type": "object", "additionalProperties": by_type(kinds)}
