"""The order of training samples: a function of the seed and the pass, and of nothing else."""

from __future__ import annotations

import pytest
import torch

from rnan_plugin.data.sampler import DrawSampler, hashed_seed


def order(seed: int, turn: int, size: int = 50) -> list[int]:
    return [index for index, _ in DrawSampler(size, seed, turn * size, (turn + 1) * size)]


@pytest.mark.parametrize("seed", [0, 1, 10, 2**31])
def test_each_seed_and_each_pass_has_an_order_of_its_own(seed: int) -> None:
    orders = [order(seed, 0), order(seed + 1, 0), order(seed + 2**32, 0), order(seed, 1), order(seed + 1, 1)]
    assert all(sorted(one) == list(range(50)) for one in orders)
    assert len({tuple(one) for one in orders}) == len(orders)
    assert order(seed, 0) == orders[0]


def test_seed_and_pass_are_not_interchangeable() -> None:
    seeds = {hashed_seed(seed, "order", turn) for seed in range(100) for turn in range(10)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_draws_are_dealt_out_to_the_processes_in_turn() -> None:
    whole = list(DrawSampler(7, 3, 5, 29))
    parts = [list(DrawSampler(7, 3, 5, 29, rank=rank, world_size=3)) for rank in range(3)]
    assert [parts[place % 3][place // 3] for place in range(24)] == whole
    assert [number for _, number in whole] == list(range(5, 29))


def test_going_on_at_a_million_shuffles_but_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws before the first one cost nothing: the order of a pass comes from the seed and the pass's number."""
    shuffle, shuffled = torch.randperm, list[int]()

    def counted(size: int, **how: torch.Generator) -> torch.Tensor:
        shuffled.append(size)
        return shuffle(size, **how)

    monkeypatch.setattr(torch, "randperm", counted)
    draws = iter(DrawSampler(400, 3, 16 * 10**6, 10**9))
    assert next(draws)[1] == 16 * 10**6
    assert shuffled == [400]
