"""What the option files of the package's own networks hold: small and medium ones, trained within hours of a CPU.

All are trained on BSD400; docs/training_small.md says what was tried, and what it gave.
"""

from __future__ import annotations

from rnan_plugin.choices import ShippedSize
from rnan_plugin.options.inputs import WEIGHTS, Inputs, inputs_of
from rnan_plugin.options.networks import Section, check_fits, rnan, small_rnan
from rnan_plugin.options.parts import loss_of, schedule_free, small_training, val_freq
from rnan_plugin.options.recipes import IDENTITY_START, SLOW_MASKS, OptionFile


def small(inputs: Inputs) -> OptionFile:
    """A small network that is trained on BSD400 within CPU hours; where there is a neighbour, from its weights."""
    about = f"A small RNAN for {inputs.title}, trained on BSD400 within CPU hours (docs/training_small.md)."
    start = _neighbour(inputs)
    row = inputs.task.row
    options = small_training(
        f"train_RNAN_small_{inputs.tag}",
        inputs,
        _network("small", inputs),
        learning_rate=1e-3,
        steps=row.warm_iter if start else 20_000 if inputs.blind else row.small_iter,
        looked_every=row.warm_iter // 2 if start else val_freq(inputs),
        again=0 if inputs.blind else row.again_iter,
        step=SLOW_MASKS if start else IDENTITY_START | SLOW_MASKS,
    )
    options["datasets"]["train"] |= _other_colours(inputs)
    if start:
        # Of another scale, the weights of the last layers do not fit, and are trained from their beginning.
        options["path"] |= {"pretrain_network_g": start, "strict_load_g": inputs.scale == 1}
    return OptionFile(options, (about,), "small")


# What goes on with larger patches, and for how many steps.
PATCH64: dict[tuple[ShippedSize, Inputs], int] = {
    ("small", inputs_of("graydn", 50)): 2500,
    ("small", inputs_of("graydn", 70)): 2500,
    ("small", inputs_of("colordn", 10)): 2000,
    ("small", inputs_of("colordn", 50)): 15_000,
    ("small", inputs_of("colordn", 70)): 15_000,
    ("small", inputs_of("demosaic")): 1500,
    ("small", inputs_of("colordn", blind=True)): 15_000,
    ("small", inputs_of("car", blind=True)): 1500,
    ("small", inputs_of("graydn", blind=True)): 1600,
    ("medium", inputs_of("colordn", 70)): 6500,
    ("medium", inputs_of("graydn", 70)): 6500,
}


def patch64(size: ShippedSize, inputs: Inputs) -> OptionFile:
    """A network of `PATCH64`, which goes on from its own weights with patches as large as the tiles it restores in."""
    about = f"A {size} RNAN for {inputs.title}, from its own weights, on larger patches (docs/training_small.md)."
    steps = PATCH64[size, inputs]
    looked_every = steps if steps <= 2500 else 2000
    options = _going_on(size, inputs, "patch64", patch=64, learning_rate=5e-4, steps=steps, looked_every=looked_every)
    options["datasets"]["train"] |= _other_colours(inputs)
    if inputs in EVENLY:  # after its longer training, as which it draws; others came before
        options["datasets"]["train"]["degradation"] |= _small_sigmas_more_often(inputs)
    return OptionFile(options, (about,), size)


# What has drawn small levels more often with its larger patches, and at last draws all alike, for how many steps.
EVENLY = {inputs_of("colordn", blind=True): 2000}


def evenly(inputs: Inputs) -> OptionFile:
    """A network of `EVENLY`, which goes on from its own weights with levels drawn uniformly."""
    about = f"A small RNAN for {inputs.title}, from its own weights, levels drawn evenly (docs/training_small.md)."
    steps = EVENLY[inputs]
    options = _going_on("small", inputs, "evenly", patch=64, learning_rate=5e-4, steps=steps, looked_every=steps)
    return OptionFile(options, (about,), "small")


# What goes on for many more steps, as each sees a fraction of the levels alone.
LONGER = {
    inputs_of("colordn", blind=True): 30_000,
    inputs_of("graydn", blind=True): 30_000,
    inputs_of("car", blind=True): 30_000,
}


def longer(inputs: Inputs) -> OptionFile:
    """A network of `LONGER`, which goes on from its own weights; if noisy, with small sigmas more often."""
    about = f"A small RNAN for {inputs.title}, from its own weights, for longer (docs/training_small.md)."
    steps = LONGER[inputs]
    options = _going_on("small", inputs, "longer", patch=48, learning_rate=1e-3, steps=steps, looked_every=steps // 4)
    if inputs.task.row.level == "sigma":
        options["datasets"]["train"]["degradation"] |= _small_sigmas_more_often(inputs)
    return OptionFile(options, (about,), "small")


def _small_sigmas_more_often(inputs: Inputs) -> Section:
    low, high = inputs.drawn()["sigma"]
    return {"sigma": {"low": low, "high": high, "spread": "root"}}


def _going_on(
    size: ShippedSize,
    inputs: Inputs,
    ending: str,
    *,
    patch: int,
    learning_rate: float,
    steps: int,
    looked_every: int,
) -> Section:
    """A training from a network's own weights, with four larger patches a batch."""
    options = small_training(
        f"train_RNAN_{size}_{inputs.tag}_{ending}",
        inputs,
        _network(size, inputs),
        learning_rate=learning_rate,
        steps=steps,
        looked_every=looked_every,
        step=SLOW_MASKS,
    )
    options["datasets"]["train"] |= {"gt_size": patch, "batch_size_per_gpu": 4}
    options["path"]["pretrain_network_g"] = _own_weights(inputs, size)
    return options


def _network(size: ShippedSize, inputs: Inputs) -> Section:
    check_fits("RNAN", inputs.num_channel, inputs.scale)
    if size == "small":
        return small_rnan(inputs.num_channel, inputs.scale)
    return rnan(inputs.num_channel, inputs.scale, num_rab=1, num_rnab=1)


def _other_colours(inputs: Inputs) -> Section:
    """For mosaics, whose colours come from neighbours: BSD's are paler than others."""
    mosaic = inputs.task.row.degradation == "mosaic"
    return {"use_rgb_permute": True, "saturation": [0.5, 2]} if mosaic else {}


# Steps of what goes on from the medium network for colour noise of sigma 50, whose layers have learned most of it.
MEDIUM_FROM_50 = {inputs_of("colordn", 70): 12_000, inputs_of("graydn", 70): 18_000}


def medium(inputs: Inputs) -> OptionFile:
    """The paper's small model (Table 7: one block of each kind, 64 features), trained on BSD400 within CPU hours."""
    about = f"RNAN of Table 7's size for {inputs.title}, trained on BSD400 within CPU hours (docs/training_small.md)."
    options = small_training(
        f"train_RNAN_medium_{inputs.tag}",
        inputs,
        _network("medium", inputs),
        learning_rate=5e-4,
        steps=24_000,
        looked_every=2000 if inputs in MEDIUM_FROM_50 else 12_000,
        step=IDENTITY_START | SLOW_MASKS,
    )
    if inputs in MEDIUM_FROM_50:
        _go_on_from_50(options, inputs)
        return OptionFile(options, (about, "First: pip install 'rnan_plugin[schedulefree]'"), "medium")
    return OptionFile(options, (about,), "medium")


def _go_on_from_50(options: Section, inputs: Inputs) -> None:
    """Larger patches, as the noise is stronger, and no schedule, so that one may end it when it has gained enough."""
    fits = inputs.channels == "rgb"  # else the layers next to the image begin anew
    options["datasets"]["train"] |= {"gt_size": 48, "batch_size_per_gpu": 4}
    options["path"] |= {"pretrain_network_g": _own_weights(inputs_of("colordn", 50), "medium"), "strict_load_g": fits}
    schedule = schedule_free(1e-3, MEDIUM_FROM_50[inputs], loss=loss_of(inputs))
    start: Section = {} if fits else IDENTITY_START
    options["train"] = {"precision": "auto", **start, **SLOW_MASKS, **schedule}


def _neighbour(inputs: Inputs) -> str | None:
    """Weights that a level's training starts from: of the task's unknown levels, of scales those of the typical one.

    The typical scale, tasks without levels, and levels that the paper does not have, begin with nothing.
    """
    row = inputs.task.row
    if inputs.blind or not inputs.are_the_papers or inputs.task.level not in row.levels:
        return None
    if not row.blind and inputs.task.level == row.typical_level:
        return None
    start = inputs_of(row.name, blind=True) if row.blind else inputs_of(row.name, row.typical_level)
    return _own_weights(start)


def _own_weights(inputs: Inputs, size: ShippedSize = "small") -> str:
    ending = "" if size == "small" else f"_{size}"
    return (WEIGHTS / f"{inputs.file_stem}{ending}.pth").as_posix()
