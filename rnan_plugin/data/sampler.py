"""The order of training samples and their random streams, as functions of the seed and a sample's number alone.

Neither the number of workers or processes nor an interruption changes what is drawn: sample `n` of a training is the
same image with the same crop, flips and noise.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

Draw = tuple[int, int]  # index of the image, number of the draw


def hashed_seed(*entropy: int | str) -> int:
    """A seed in [0, 2^32) from anything that names the moment; torch's CPU generator takes no more bits."""
    return int.from_bytes(hashlib.blake2b(repr(entropy).encode(), digest_size=4).digest(), "big")


def seed_streams(*entropy: int | str) -> None:
    """Seed Python's, NumPy's and torch's streams of this process from anything that names the moment."""
    seed = hashed_seed(*entropy)
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # a data worker must not start CUDA
        torch.cuda.manual_seed(seed)


class DrawSampler(Sampler[Draw]):
    """Draws `first` to `last` of an endless order that takes every image once in each pass.

    Args:
        size: Number of images.
        seed: Of the order.
        first: Number of the first draw of all processes together.
        last: Number after the last one.
        rank: Of this process; draws are dealt out in turn.
        world_size: Number of processes.
    """

    def __init__(self, size: int, seed: int, first: int, last: int, *, rank: int = 0, world_size: int = 1) -> None:
        self.size = size
        self.seed = seed
        self.numbers = range(first + rank, last, world_size)

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Draw]:
        order, current = [], -1
        for number in self.numbers:
            turn, place = divmod(number, self.size)
            if turn != current:
                generator = torch.Generator().manual_seed(hashed_seed(self.seed, "order", turn))
                order, current = torch.randperm(self.size, generator=generator).tolist(), turn
            yield order[place], number


class SeededDraws(Dataset[Any]):
    """A data set whose samples take their randomness from their draw's number.

    Args:
        dataset: Any, drawing from Python's, NumPy's or torch's stream.
        seed: Of the whole training.
    """

    def __init__(self, dataset: Dataset[Any], seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def __getitem__(self, draw: Draw) -> Any:
        index, number = draw
        seed_streams(self.seed, "draw", number)
        return self.dataset[index]
