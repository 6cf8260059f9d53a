"""Check the losses of an option file by building them and computing them once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from rnan_plugin.errors import UserError, collect, shown
from rnan_plugin.options.schema import check_arguments, check_call
from rnan_plugin.options.sections import Loss
from rnan_plugin.toolbox.api import LOSS_REGISTRY
from rnan_plugin.training.section_check import check_type, raise_lines


def check_losses(train: dict[str, Any], where: str) -> None:
    """Check `pixel_opt` and `perceptual_opt` of a `train` section; normalise their values in place.

    Raises:
        UserError: A line for each problem.
    """
    checks: dict[str, Callable[[dict[str, Any], str], None]] = {
        "pixel_opt": _compute_once,
        "perceptual_opt": _find_features,
    }
    given = [key for key in checks if train.get(key)]
    collect(partial(_check_loss, train, key, f"{where}.{key}", checks[key]) for key in given)


def _check_loss(train: dict[str, Any], key: str, where: str, further: Callable[[dict[str, Any], str], None]) -> None:
    check_type(train[key], "type", LOSS_REGISTRY, where)
    loss = train[key] = dict(train[key])
    kind = LOSS_REGISTRY.get(loss["type"])
    check_call(kind, loss, where)
    raise_lines(list(check_arguments(kind, loss, where, Loss)))
    further(loss, where)


def _compute_once(loss: dict[str, Any], where: str) -> None:
    """Two small images have to give one number."""
    try:
        with torch.no_grad():
            value = _build(loss)(torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8))
        fits = isinstance(value, torch.Tensor) and value.numel() == 1
    except Exception as error:  # of any loss, also one that a user registered
        raise UserError(f"{where}: {loss['type']} can't be computed ({_first_line(error)})") from None
    if not fits:
        raise UserError(f"{where}: {loss['type']} gives no single number for an image and its ground truth")


def _find_features(loss: dict[str, Any], where: str) -> None:
    """The perceptual loss loads a network for its features, from the internet where it is not there yet."""
    layers = loss.get("layer_weights")
    if layers is not None and not isinstance(layers, dict):
        raise UserError(f"{where}.layer_weights: {shown(layers)} is not a section such as {{conv5_4: 1}}")
    try:
        _build(loss)
    except Exception as error:  # no network, no such layer, a damaged file
        raise UserError(
            f"{where}: {loss['type']} can't be built ({_first_line(error)}); its network's weights come from the "
            "internet at first use"
        ) from None


def _build(loss: dict[str, Any]) -> Any:
    return LOSS_REGISTRY.get(loss["type"])(**{key: value for key, value in loss.items() if key != "type"})


def _first_line(error: Exception) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:200]
