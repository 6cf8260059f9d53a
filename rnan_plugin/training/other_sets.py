"""Data sets of other types than the plugin's, BasicSR's own: built and looked into before anything is made."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import numpy as np
import torch

from rnan_plugin.errors import UserError, said_by
from rnan_plugin.toolbox.api import DATASET_REGISTRY


def first_channels(dataset: Mapping[str, Any], where: str) -> tuple[int, int | None]:
    """Channels of the first sample's input and ground truth; None where the set has no ground truth.

    Args:
        dataset: An entry of `datasets`.
        where: Its place, for messages.

    Raises:
        UserError: Whatever the set says of its keys or images, in one line; or it can't be trained with.
    """
    try:
        with _streams_kept():
            sample = DATASET_REGISTRY.get(dataset["type"])(deepcopy(dict(dataset)))[0]
        shapes = {key: tuple(sample[key].shape) for key in ("lq", "gt") if key in sample}
    except KeyError as error:  # how BasicSR's tell of a key that is not there
        raise UserError(f"{where}: key {error} is missing; {dataset['type']} needs it") from None
    except Exception as error:  # of any set, also one that a user registered
        raise UserError(f"{where}: {dataset['type']} can't read its first image ({said_by(error)})") from None
    if any(len(shape) != 3 for shape in shapes.values()) or "lq" not in shapes:
        raise UserError(f"{where}: {dataset['type']} has no images 'lq' of 3 dimensions; take another type")
    if dataset["phase"] == "train" and "gt" not in shapes:
        raise UserError(f"{where}: {dataset['type']} has no ground truth, which training needs; take another type")
    return shapes["lq"][0], shapes["gt"][0] if "gt" in shapes else None


@contextmanager
def _streams_kept() -> Iterator[None]:
    """Let what is drawn here not change what a training draws."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
