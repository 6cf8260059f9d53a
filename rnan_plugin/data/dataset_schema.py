"""The JSON schema of an entry of `datasets`, for editors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_type_hints

from rnan_plugin.data.dataset_options import OUR_SET, DatasetOptions
from rnan_plugin.errors import UserError
from rnan_plugin.images.degradations import DEGRADATIONS
from rnan_plugin.images.levels import LevelRange, level_key
from rnan_plugin.options.json_schema import Schema, by_type, closed, or_null, section_schema, value_schema
from rnan_plugin.options.sections import NEEDED

_TRIED = range(-1, 257)  # levels that tell the ends of a legal interval


def dataset_schema(*, training: bool) -> Schema:
    """An entry for `RestorationDataset`; a level may be a range in training, and a list elsewhere."""
    one = by_type({name: _degradation(name, training=training) for name in DEGRADATIONS})
    chain = {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}
    replaced = {
        "type": {"const": OUR_SET},
        "degradation": or_null(chain),
        "io_backend": closed({"type": value_schema(Literal["disk", "lmdb"])}, ["type"]),
    }
    if not training:
        replaced["dataroot_gt"] = value_schema(str)
    needed = ("gt_size", *NEEDED["datasets.train"]) if training else ()
    return section_schema([DatasetOptions], replaced, needed=needed)


def _degradation(name: str, *, training: bool) -> Schema:
    kind: Any = DEGRADATIONS[name]
    replaced: dict[str, Schema] = {"type": {"const": name}}
    if key := level_key(name):
        level = _level(kind, key)
        several = {"type": "array", "items": level, "minItems": 1}
        drawn = [several | {"minItems": 2, "maxItems": 2}, section_schema([LevelRange])]
        replaced[key] = {"anyOf": [*level["anyOf"], *(drawn if training else [several])]}
    elif "scale" in kind.__dataclass_fields__:
        replaced["scale"] = _level(kind, "scale")
    return section_schema([kind], replaced)


def _level(kind: Callable[..., Any], key: str) -> Schema:
    """A level's schema; its interval is what the degradation itself takes."""
    schema = value_schema(get_type_hints(kind)[key])
    legal = [level for level in _TRIED if _takes(kind, key, level)]
    number = dict(schema["anyOf"][0])
    if legal and legal[0] > _TRIED[0]:
        number["minimum"] = legal[0]
    if legal and legal[-1] < _TRIED[-1]:
        number["maximum"] = legal[-1]
    return {"anyOf": [number, *schema["anyOf"][1:]]}


def _takes(kind: Callable[..., Any], key: str, level: int) -> bool:
    try:
        kind(**{key: level})
    except (UserError, TypeError):
        return False
    return True
