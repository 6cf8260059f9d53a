"""Tiles on a CPU: several passes at a time, each by one thread, instead of all threads in each operator.

Threads that share an operator wait for each other at its end, a few hundred times for each tile; on a busy machine most
of the time goes there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

Network = Callable[[Tensor], Tensor]


def at_a_time(device: torch.device) -> int:
    """How many passes are made at a time on a device."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def in_order(net: Network, inputs: Iterable[Tensor]) -> Iterator[Tensor]:
    """Outputs of a network, in the order of its inputs; no more inputs are taken than are worked on."""
    first = next(iterator := iter(inputs), None)
    if first is None:
        return
    threads = at_a_time(first.device)
    if threads == 1 or torch.is_grad_enabled():
        yield net(first)
        yield from map(net, iterator)
        return
    run = _as_in_this_thread(net)
    running: deque[Future[Tensor]] = deque()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            running.append(pool.submit(run, first))
            for item in iterator:
                running.append(pool.submit(run, item))
                if len(running) > threads:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
    finally:
        torch.set_num_threads(threads)  # a part of what the pool's threads set is the process's


def _as_in_this_thread(net: Network) -> Network:
    """The network with this thread's inference mode and autocast, which other threads don't have."""
    inference, casts = torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")
    dtype = torch.get_autocast_dtype("cpu")

    def run(lq: Tensor) -> Tensor:
        with torch.inference_mode(inference), torch.no_grad(), torch.autocast("cpu", dtype, enabled=casts):
            return net(lq)

    return run
