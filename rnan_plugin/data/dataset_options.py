"""One entry of `datasets` in an option file, as typed options and a chain of degradations."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from rnan_plugin.choices import Channels
from rnan_plugin.errors import UserError, nearest, shown
from rnan_plugin.images.degradations import DEGRADATIONS, Degradation, total_scale
from rnan_plugin.images.levels import DrawnDegradation, LevelRange, has_whole_levels, level_key, level_range
from rnan_plugin.options.schema import check_keys, normalise, parse, place_keys
from rnan_plugin.options.values import INTERVAL, NOT_EMPTY, Count, Name, PathText, Rule, Seed, number_or_same, within


def _is_template(text: str) -> bool:
    return text.count("{}") == 1 and not set("{}\0") & set(text.replace("{}", "", 1))


OUR_SET = "RestorationDataset"  # the type of the plugin's
Roots = Annotated[list[PathText], NOT_EMPTY]


@dataclass(frozen=True, kw_only=True)
class AnySet:
    """Keys of an entry of `datasets` that loader and validation read, whatever the type of the set.

    Those from `phase` on are BasicSR's own: it adds the first two and its data loader reads the rest.

    Args:
        name: Of the set, in logs and folders.
        type: RestorationDataset, the plugin's; others are BasicSR's own.
        phase: Added by BasicSR.
        scale: Added by BasicSR, from the top of the file.
        use_shuffle: Of BasicSR's files; training samples are drawn in random order whatever it is, there as here.
        num_worker_per_gpu: Processes that read data, for each GPU.
        batch_size_per_gpu: Samples of a batch, for each GPU.
        dataset_enlarge_ratio: Times that an epoch goes through the set.
        prefetch_mode: Of BasicSR's script; the plugin's loop does without.
        num_prefetch_queue: The same.
        pin_memory: Let batches reach a GPU while it computes.
        persistent_workers: Of BasicSR's script; the plugin's loop does without.
    """

    name: Name
    type: str
    phase: Literal["train", "val", "test"] = "train"
    scale: Count = 1
    use_shuffle: bool | None = None
    num_worker_per_gpu: Annotated[int, within(0, 1024)] | None = None
    batch_size_per_gpu: Annotated[int, within(1, 2**20)] | None = None
    dataset_enlarge_ratio: Annotated[int, within(1, 10**6)] = 1
    prefetch_mode: Literal["cpu", "cuda"] | None = None
    num_prefetch_queue: Annotated[int, within(1, 1024)] | None = None
    pin_memory: bool = False
    persistent_workers: bool = False


@dataclass(frozen=True, kw_only=True)
class DatasetOptions(AnySet):
    """One entry of `datasets` in an option file, of type RestorationDataset.

    Args:
        dataroot_gt: Folder or LMDB of ground truth; in training also a list of them, told apart by the ending `.lmdb`,
            for which `io_backend` says nothing.
        degradation: What makes the input, `{type: jpeg, quality: 10}`, or a list of such entries, applied in turn.
        dataroot_lq: Folder or LMDB of ready-made inputs, instead of `degradation`.
        filename_tmpl: Name of a ready-made input, with `{}` for the ground truth's.
        io_backend: `{type: disk}` or `{type: lmdb}`.
        channels: What the task works on; colour images are converted.
        gt_size: Side of a training patch of the ground truth, in pixels; needed in training.
        use_hflip: Mirror half of the training patches.
        use_rot: Turn half of the training patches upside down, and swap rows and columns of half of them.
        use_rgb_permute: Put the colours of each training patch into any of their six orders.
        saturation: Factors, the lowest and the highest, between which the saturation of each training patch is drawn.
        noise_seed: Of validation's noise, which depends on it and the image alone.
        sampling: What training draws uniformly: images, or pixels (more patches of larger images).
    """

    dataroot_gt: PathText | Roots
    degradation: Any = None
    dataroot_lq: PathText | None = None
    filename_tmpl: Annotated[
        str, Rule(_is_template, "with one {} and no other braces", {"pattern": r"^[^{}]*\{\}[^{}]*$"})
    ] = "{}"
    io_backend: Mapping[str, Any] = field(default_factory=lambda: {"type": "disk"})
    channels: Channels = "rgb"
    gt_size: Count | None = None
    use_hflip: bool = True
    use_rot: bool = True
    use_rgb_permute: bool = False
    saturation: Annotated[list[Annotated[float, within(0, 10)]], INTERVAL] | None = None
    noise_seed: Seed = 0
    sampling: Literal["images", "pixels"] = "images"

    @property
    def is_lmdb(self) -> bool:
        """Whether images come from an LMDB."""
        return bool(self.io_backend["type"] == "lmdb")


# `name`, `type` and what BasicSR adds are no slips.
place_keys(DatasetOptions.__dataclass_fields__.keys() - {"name", "type", "phase", "scale"}, "in an entry of datasets")
for _name, _kind in DEGRADATIONS.items():
    place_keys(inspect.signature(_kind).parameters.keys() - {"scale"}, f"in a degradation of type {_name}")
place_keys(LevelRange.__dataclass_fields__, "in a level's range, {low: 10, high: 50, spread: log}")


def option_file() -> str | None:
    """Name of the option file on the command line, if there is one."""
    arguments = [part for argument in sys.argv[1:] for part in re.split(r"(?<=^-opt)=", argument)]
    return arguments[arguments.index("-opt") + 1] if "-opt" in arguments[:-1] else None


Chain = list[Degradation | DrawnDegradation]


def parse_dataset(mapping: Mapping[str, Any], where: str) -> tuple[DatasetOptions, Chain]:
    """Check one entry of `datasets` and build its chain of degradations.

    Raises:
        UserError: Naming `where` and the key.
    """
    options = parse(DatasetOptions, mapping, where)
    check_keys(options.io_backend, ["type"], f"{where}.io_backend")
    if options.io_backend.get("type") not in ("disk", "lmdb"):  # may be unhashable
        raise UserError(f"{where}.io_backend.type: {shown(options.io_backend.get('type'))} is not one of disk, lmdb")
    if (options.degradation is None) == (options.dataroot_lq is None):
        raise UserError(f"{where}: needs either 'degradation' (LQ made on the fly) or 'dataroot_lq' (ready-made)")
    _check_roots(options, where)
    _check_loader(options, where)
    _check_colours(options, where)
    chain = build_chain(options.degradation, f"{where}.degradation") if options.degradation is not None else []
    if chain and total_scale(chain) != options.scale:
        raise UserError(f"{where}: scale is {options.scale}, but its degradation shrinks by {total_scale(chain)}")
    if options.phase != "train" and any(isinstance(item, DrawnDegradation) for item in chain):
        raise UserError(f"{where}.degradation: a range is for training; give a level, or a list with a set for each")
    if options.phase == "train" and (options.gt_size is None or options.gt_size < 1):
        raise UserError(f"{where}: training needs 'gt_size', the side of the GT patch in pixels")
    if options.gt_size is not None and options.gt_size % options.scale:
        raise UserError(f"{where}.gt_size: {options.gt_size} is not a multiple of the scale {options.scale}")
    return options, chain


def channels_of(mapping: Mapping[str, Any], where: str) -> Channels | None:
    """What an entry of `datasets` works on; None for a set of another type, which does not say.

    Raises:
        UserError: `channels` is not legal.
    """
    if mapping.get("type", OUR_SET) != OUR_SET:
        return None
    section = {"channels": mapping.get("channels", DatasetOptions.channels)}
    if problems := list(normalise(section, [DatasetOptions], where)):
        raise UserError(*problems)
    return section["channels"]


def _check_roots(options: DatasetOptions, where: str) -> None:
    if isinstance(options.dataroot_gt, list) and options.phase != "train":
        raise UserError(f"{where}.dataroot_gt: several are for training; give each validation set an entry of its own")
    if isinstance(options.dataroot_gt, list) and options.dataroot_lq is not None:
        raise UserError(f"{where}.dataroot_lq: several dataroot_gt need LQ made on the fly; use 'degradation'")


def normalise_shared(mapping: dict[str, Any], where: str) -> AnySet:
    """Check the keys of an entry of `datasets` that have nothing to do with its type, in place; others pass.

    Raises:
        UserError: Naming `where` and the key.
    """
    keys = [key for key in AnySet.__dataclass_fields__ if key in mapping]
    options = parse(AnySet, {key: mapping[key] for key in keys}, where)
    _check_loader(options, where)
    mapping |= {key: getattr(options, key) for key in keys}
    return options


def _check_loader(options: AnySet, where: str) -> None:
    """What torch's data loader and BasicSR's prefetching refuse after the training's folders were made."""
    if options.prefetch_mode == "cuda" and not options.pin_memory:
        raise UserError(f"{where}.prefetch_mode: cuda needs pin_memory: true")
    if options.persistent_workers and not (options.phase == "train" and options.num_worker_per_gpu):
        raise UserError(f"{where}.persistent_workers: is for training with num_worker_per_gpu of 1 or more")


def _check_colours(options: DatasetOptions, where: str) -> None:
    for key, given in (("use_rgb_permute", options.use_rgb_permute), ("saturation", options.saturation is not None)):
        if given and (options.channels != "rgb" or options.dataroot_lq is not None):
            raise UserError(f"{where}.{key}: is for channels rgb whose input is made on the fly; take it out")


def build_chain(config: Any, where: str) -> Chain:
    """Build degradations from `{type: jpeg, quality: 10}` or a list of such mappings; a level may be a range.

    Raises:
        UserError: An unknown type or key, or a value outside its legal interval.
    """
    entries = [config] if isinstance(config, Mapping) else config
    if not isinstance(entries, list) or not entries:
        raise UserError(
            f"{where}: {shown(config)} is not a mapping such as {{type: jpeg, quality: 10}}, or a list of them"
        )
    return [_build_degradation(entry, where) for entry in entries]


def _build_degradation(entry: Any, where: str) -> Degradation | DrawnDegradation:
    if not isinstance(entry, Mapping) or "type" not in entry:
        raise UserError(f"{where}: {shown(entry)} has no 'type'{nearest('', DEGRADATIONS)}")
    kind = entry["type"]
    if not isinstance(kind, str) or kind not in DEGRADATIONS:
        raise UserError(f"{where}.type: unknown degradation {shown(kind)}{nearest(shown(kind), DEGRADATIONS)}")
    arguments = {key: value for key, value in entry.items() if key != "type"}
    key = level_key(kind) or ""
    try:
        levels = drawn_range(arguments.get(key))
        if levels is None:
            return parse(DEGRADATIONS[kind], arguments, where)  # type: ignore[arg-type]
        return DrawnDegradation(
            partial(_at_level, kind, arguments, key, where), levels, whole=has_whole_levels(kind, key)
        )
    except UserError as error:
        raise error.within("" if str(error).startswith(where) else f"{where}: ") from None


def drawn_range(level: Any) -> LevelRange | None:
    """`level_range` of a level as YAML gives it, which takes 1e-1 for a text.

    Raises:
        UserError: It looks like a range and is none.
    """
    if isinstance(level, Mapping):
        level = {key: number_or_same(value) for key, value in level.items()}
    elif isinstance(level, list | tuple):
        level = list(map(number_or_same, level))
    return level_range(level)


def _at_level(kind: str, arguments: dict[str, Any], key: str, where: str, level: float) -> Degradation:
    degradation: Degradation = parse(DEGRADATIONS[kind], arguments | {key: level}, where)  # type: ignore[arg-type]
    return degradation


def missing_data_remedy(root: str) -> str:
    """What to run when a data set of the shipped option files is not there."""
    if "DIV2K" in root:
        return (
            f"pack DIV2K with: rnan prepare DIV2K_train_HR {root} --crop-size 480 --step 240 "
            "(no DIV2K at hand? `rnan options --size small` has trainings on a few hundred photographs)"
        )
    if Path(root).suffix == ".lmdb":
        return f"pack it with: rnan prepare FOLDER {root}"
    return "put the images there or change the path"
