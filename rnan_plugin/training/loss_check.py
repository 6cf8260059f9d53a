"""Check the losses of an option file by building them and computing them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from rnan_plugin.errors import UserError, collect, said_by, shown
from rnan_plugin.options.schema import check_arguments, check_call
from rnan_plugin.options.sections import Loss
from rnan_plugin.toolbox.api import LOSS_REGISTRY
from rnan_plugin.training.section_check import check_type, raise_lines

# Of BasicSR's losses, and what they are where they are left out.
_WEIGHTS = (
    ("pixel_opt", "loss_weight", 1.0),
    ("perceptual_opt", "perceptual_weight", 1.0),
    ("perceptual_opt", "style_weight", 0.0),
)


def loss_weights(train: Mapping[str, Any]) -> dict[str, Any]:
    """The weights of the losses that a `train` section has, by their places, as they are written there."""
    return {
        f"train.{section}.{key}": train[section].get(key, default)
        for section, key, default in _WEIGHTS
        if train.get(section)
    }


def check_losses(train: dict[str, Any], datasets: Mapping[str, Any], where: str) -> None:
    """Check `pixel_opt` and `perceptual_opt` of a `train` section; normalise their values in place.

    Args:
        train: The section.
        datasets: The section of that name: losses are tried on patches no larger than training's.
        where: The section's place, for messages.

    Raises:
        UserError: A line for each problem.
    """
    size = (datasets.get("train") or {}).get("gt_size")
    side = min(size, _LARGEST_SIDE) if isinstance(size, int) and size > 0 else _LARGEST_SIDE
    checks: dict[str, Callable[..., None]] = {"pixel_opt": _compute_once, "perceptual_opt": _compute_both}
    given = [key for key in checks if train.get(key)]
    collect(partial(_check_loss, train, key, f"{where}.{key}", partial(checks[key], side=side)) for key in given)


_LARGEST_SIDE = 32  # pixels of what losses are tried on; the features of VGG19 need 16


def _check_loss(train: dict[str, Any], key: str, where: str, further: Callable[[dict[str, Any], str], None]) -> None:
    check_type(train[key], "type", LOSS_REGISTRY, where)
    loss = train[key] = dict(train[key])
    kind = LOSS_REGISTRY.get(loss["type"])
    check_call(kind, loss, where)
    raise_lines(list(check_arguments(kind, loss, where, Loss)))
    further(loss, where)


def _compute_once(loss: dict[str, Any], where: str, *, side: int) -> None:
    """Two small images have to give one number."""
    try:
        computed = _build(loss)
    except Exception as error:  # of any loss, also one that a user registered
        raise UserError(f"{where}: {loss['type']} can't be built ({said_by(error)})") from None
    _try(loss, where, computed, side, lambda value: [value], "no single number for an image and its ground truth")


def _compute_both(loss: dict[str, Any], where: str, *, side: int) -> None:
    """The perceptual loss loads a network for its features, from the internet where it is not there yet."""
    layers = loss.get("layer_weights")
    if layers is not None and not isinstance(layers, dict):
        raise UserError(f"{where}.layer_weights: {shown(layers)} is not a section such as {{conv5_4: 1}}")
    try:
        computed = _build(loss)
    except Exception as error:  # no network, no such layer, a damaged file
        raise UserError(
            f"{where}: {loss['type']} can't be built ({said_by(error)}); its network's weights come from the "
            "internet at first use"
        ) from None
    _try(loss, where, computed, side, _given_of_both, "no two losses, of content and style, as PerceptualLoss does")


def _given_of_both(value: Any) -> list[Any]:
    """Those losses of content and style whose weight is not 0."""
    both = isinstance(value, tuple | list) and len(value) == _CONTENT_AND_STYLE
    return [part for part in value if part is not None] if both else [None]


_CONTENT_AND_STYLE = 2


def _try(
    loss: dict[str, Any], where: str, computed: Any, side: int, parts: Callable[[Any], list[Any]], wrong: str
) -> None:
    """Compute a loss of two small pairs of an image and its ground truth: they are equal, and the image is black.

    Args:
        loss: Its section.
        where: The section's place, for messages.
        computed: What is called with image and ground truth.
        side: Of the images, in pixels.
        parts: The single losses in what it returns.
        wrong: What to say where they are no numbers.
    """
    gt = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            equal, black = (parts(computed(output, gt)) for output in (gt.clone(), torch.zeros_like(gt)))
    except Exception as error:  # of any loss, also one that a user registered
        raise UserError(f"{where}: {loss['type']} can't be computed ({said_by(error)})") from None
    if not all(isinstance(value, torch.Tensor) and value.numel() == 1 for value in [*equal, *black]):
        raise UserError(f"{where}: {loss['type']} gives {wrong}; take another type")
    if any(first.item() > second.item() for first, second in zip(equal, black, strict=True)):
        raise UserError(  # such as WeightedTVLoss, which takes the ground truth for weights
            f"{where}: {loss['type']} is no loss between two images, it is less for black than for the ground truth "
            "itself; take another type"
        )


def _build(loss: dict[str, Any]) -> Any:
    with torch.random.fork_rng(devices=[]):  # the training's weights are drawn as without checks
        return LOSS_REGISTRY.get(loss["type"])(**{key: value for key, value in loss.items() if key != "type"})
