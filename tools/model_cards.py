"""The card beside each of the package's weights, from what was measured of them and how they were trained.

`tools/small_models.py` and `tools/gains.py` measure, and write the card anew; nothing in it is written by hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rnan_plugin import checkpoints
from rnan_plugin.files import sha256_of
from rnan_plugin.images.levels import Spread, level_key, level_range
from rnan_plugin.inference.shipped import OVERLAP, TILE, ShippedNetwork, training_spent
from rnan_plugin.options.schema import read_option_file
from rnan_plugin.paper.tables import OTHER_SSIM, published_rows
from rnan_plugin.paper.tasks import TASKS, TaskAtLevel

REPOSITORY = Path(__file__).resolve().parents[1]
NUMBERS = REPOSITORY / "docs/small_models.json"
LOGS = REPOSITORY / "docs/small_models"
TILES = f"tile {TILE}, overlap {OVERLAP}"  # with which all is measured
USUAL_OPTIMISER, USUAL_SPREAD = "Adam", "uniform"  # others are told
Numbers = Mapping[str, Any]

_SPREADS: dict[Spread, str] = {"uniform": "uniformly", "root": "uniformly by its square root", "log": "log-uniformly"}

SIZED = {
    "small": "Small network, not the paper's",
    "medium": "The size of the paper's small model (Table 7: one block of each kind, 64 features)",
}
CARD = """# {network}: a {size} RNAN for {title}

{sized}, small budget: {purpose}.

- Levels: {levels}
- Architecture: RNAN, text settings, {arguments}; {parameters:,} parameters, computed in float32, stored as {stored}
- Data: BSD400 (BSDS500's train and test images, 481×321, JPEG of quality about 95), 380 images; 20 held out to choose
  the checkpoint. No benchmark image was seen
- Training: `rnan train -opt {option_file} {iterations:,} iterations{shortened}{start}, loss {loss},{optimiser}
  rate {rate:g}{of_masks}, seed {seed}; {hours} on one core, other work beside it; log in docs/small_models
- Input: {input}; output rounded to 8 bits; {policy}
- SHA-256: {sha256}
- Limits: other degradations and levels than these, and real noise, which is neither Gaussian nor white, are not what
  it knows
- Licence: the weights are under the plugin's. The Berkeley images carry none of their own; Berkeley offers them for
  non-commercial research and education
"""


def known_numbers() -> dict[str, Any]:
    """What docs/small_models.json says, by name of the network."""
    found: dict[str, Any] = json.loads(NUMBERS.read_text(encoding="utf-8")) if NUMBERS.exists() else {}
    return found


def write_card(network: ShippedNetwork) -> None:
    """Write NAME.md beside the weights."""
    checkpoint = checkpoints.read(network.file)
    numbers, gains = known_numbers().get(str(network)), _gains(network)
    parts = [CARD.format(**_facts(network, checkpoint, trained_by(network, checkpoint), gains))]
    if numbers is not None:
        parts.append("\n".join(_blind_scores(numbers) if network.is_blind else _scores(numbers)))
    if gains:
        parts.append("\n".join(_gain_table(network, gains)))
    network.file.with_suffix(".md").write_text("\n".join(parts) + "\n", encoding="utf-8")


def path_of(option_file: str) -> str:
    """Where a file is, from the repository's root: "options/small/NAME.yml", or of another size."""
    (path,) = REPOSITORY.glob(f"options/*/{option_file}")
    return path.relative_to(REPOSITORY).as_posix()


def recipe_of(option_file: str | Path) -> dict[str, Any]:
    """How a file trains; kept with the weights and the numbers, since shipped files may change after a training."""
    options = read_option_file(str(option_file))
    train, start = options["train"], options["path"]["pretrain_network_g"]
    optimiser, degradation = train["optim_g"]["type"], options["datasets"]["train"]["degradation"]
    drawn = level_range(degradation.get(level_key(degradation["type"])))
    return {
        "total_iter": train["total_iter"],
        "start": start and Path(start).name,
        "loss": train["pixel_opt"]["type"],
        **({"optimiser": optimiser} if optimiser != USUAL_OPTIMISER else {}),
        **({"spread": drawn.spread} if drawn and drawn.spread != USUAL_SPREAD else {}),
        "rate": float(train["optim_g"]["lr"]),
        **{key: train[key] for key in ("identity_start", "mask_lr_mult") if key in train},
        "seed": options["manual_seed"],
    }


def trained_by(network: ShippedNetwork, checkpoint: Numbers) -> dict[str, Any]:
    """The recipe of packed weights: they say it, for older ones their numbers do, and before those the shipped file."""
    known = known_numbers().get(str(network), {})
    kept = known.get("recipe") if known.get("weights_sha256") == sha256_of(network.file) else None
    found: dict[str, Any] = (
        checkpoint.get("recipe") or kept or recipe_of(REPOSITORY / path_of(checkpoint["option_file"]))
    )
    return found


def _gains(network: ShippedNetwork) -> dict[str, Any]:
    file = network.file.with_suffix(".json")
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return found


def _facts(network: ShippedNetwork, checkpoint: Numbers, recipe: Numbers, gains: Numbers) -> dict[str, Any]:
    task, weights = TASKS[network.task], checkpoint["params"]
    wanted, now = recipe["total_iter"], recipe_of(REPOSITORY / path_of(checkpoint["option_file"]))
    taken = {"rgb": "RGB", "gray": "grey", "y": "Y"}[network.channels]
    return {
        "network": network,
        "size": network.size,
        "sized": SIZED[network.size],
        "title": _title_of(network),
        "purpose": "for `rnan restore`, as a start for training of your own, and as a baseline",
        "levels": _levels(network, recipe, gains),
        "arguments": ", ".join(f"{key} {value}" for key, value in checkpoint["network_g"].items()),
        "parameters": sum(weight.numel() for weight in weights.values()),
        "stored": str(next(iter(weights.values())).dtype).removeprefix("torch."),
        "option_file": path_of(checkpoint["option_file"]) + ("`, as it was then:" if recipe != now else "`,"),
        "iterations": checkpoint["iterations"],
        "shortened": f" (its schedule shortened from {wanted:,})" if wanted != checkpoint["iterations"] else "",
        "start": _start(recipe, checkpoint),
        "optimiser": f" {recipe['optimiser']}," if "optimiser" in recipe else "",
        "of_masks": f" (of the mask branches {recipe['mask_lr_mult']:g} of it)" if "mask_lr_mult" in recipe else "",
        **{key: recipe[key] for key in ("loss", "rate", "seed")},
        "hours": f"{training_spent(checkpoint)[1]:.2f} hours",
        "input": f"{taken}, unknown {task.level}" if network.is_blind else task.input.format(level=network.low),
        "policy": TILES,
        "sha256": sha256_of(network.file),
    }


def _start(recipe: Numbers, checkpoint: Numbers) -> str:
    if "before" in checkpoint:
        mean = " (these are the mean of both)" if checkpoint.get("mean") else ""
        before = f"{checkpoint['before']['iterations']:,} iterations of an earlier training"
        return f" from its own weights after {before}{mean}"
    if recipe["start"]:
        return f" from the weights of `{recipe['start']}`"
    return " from near the identity" if recipe.get("identity_start") else ""


def _title_of(network: ShippedNetwork) -> str:
    """What a network is for, in words."""
    if not network.is_blind:
        return TaskAtLevel(network.task, network.low).title
    task = TASKS[network.task]
    kind = task.title.split(",")[0] if network.is_the_tasks else f"{task.title.split(',')[0]} in colour"
    return f"{kind}, {task.level} {network.low:g} to {network.high:g}"


def _levels(network: ShippedNetwork, recipe: Numbers, gains: Numbers) -> str:
    name = TASKS[network.task].level
    trained = f"{name} {network.low:g}" if name else "none"
    if network.is_blind:
        spread = _SPREADS[recipe.get("spread", USUAL_SPREAD)]
        trained = f"{name} {network.low:g} to {network.high:g}, drawn {spread} for each sample"
    if not gains.get("gains"):
        return trained
    low, high = gains["gains"]
    levels = list(map(float, gains["measured_gain_db"]))
    measured = f"measured from {min(levels):g} to {max(levels):g}"
    return (
        f"{trained}. Gains from {name} {low:g} to {high:g} ({measured}): there alone `rnan restore` takes it by itself"
    )


def _scores(numbers: Numbers) -> Iterator[str]:
    task = TaskAtLevel(numbers["task"], numbers["level"])
    published = published_rows(task.name, task.level, numbers["image_set"])
    yield f"Scored on: {task.scored_on}, border {task.border}"
    if any(row.other_ssim for row in published):
        yield OTHER_SSIM
    yield from ("", f"| on {numbers['image_set']} | PSNR (dB) | SSIM |", "|---|---|---|")
    for key, name in (("plain", "this model"), ("self_ensemble", "this model, self-ensemble")):
        if key in numbers:
            yield f"| {name} | {numbers[key]['psnr']:.2f} | {numbers[key]['ssim']:.4f} |"
    for row in published:
        trained = f", {row.training_set}" if row.training_set else ""
        ssim = f"{row.ssim:.4f}" if row.ssim is not None else ""
        yield f"| {row.method} (published, Table {row.table}{trained}) | {row.psnr:.2f} | {ssim} |"


def _blind_scores(numbers: Numbers) -> Iterable[str]:
    rows = numbers["levels"]
    singles = known_numbers()
    yield f"PSNR and SSIM on {numbers['image_set']}, {numbers['scored_on']}:"
    yield from ("", "| level | input | this model | network for this level |", "|---|---|---|---|")
    for level, found in rows.items():
        single = singles.get(f"{numbers['task']} {level}") if numbers["is_the_tasks"] else None
        beside = f"{single['plain']['psnr']:.2f}" if single else ""
        yield f"| {level} | {found['input_psnr']:.2f} | {found['psnr']:.2f} / {found['ssim']:.4f} | {beside} |"


def _gain_table(network: ShippedNetwork, gains: Numbers) -> Iterable[str]:
    name = TASKS[network.task].level
    yield f"\nMean gain in PSNR over the degraded image, {gains['on']}:"
    yield from ("", f"| {name} | gain (dB) |", "|---|---|")
    yield from (f"| {level} | {gain:+.2f} |" for level, gain in gains["measured_gain_db"].items())
