"""Train, killed with SIGKILL again and again, resuming each time.

    python kill_and_resume.py OPTION_FILE ITERATIONS KILLS SEED

Each training is a process of its own, forked from this one, which has imported everything but computed nothing.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import rnan_plugin.training.connect
import rnan_plugin.training.loop  # noqa: F401
from rnan_plugin.__main__ import main


def start(option_file: str) -> int:
    """Fork a training with all its data workers in a process group of its own; its process number."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os._exit(main(["train", "-opt", option_file, "--auto_resume"]))
    with suppress(PermissionError):  # whichever of the two comes first: it may be killed at once
        os.setpgid(child, child)
    return child


def reached() -> int:
    """The last iteration that was saved."""
    return max((int(state.stem) for state in Path("experiments").glob("*/training_states/[0-9]*.state")), default=0)


def kill(child: int, after: float, limit: float) -> None:
    """Kill a training after so many seconds, or as soon as it has saved an iteration; it must not have ended before."""
    deadline = time.monotonic() + after
    while time.monotonic() < deadline and reached() < limit:
        done, status = os.waitpid(child, os.WNOHANG)
        assert not done, f"ended with {status}"
        time.sleep(0.002)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)


if __name__ == "__main__":
    option_file, iterations, kills, seed = sys.argv[1], *map(int, sys.argv[2:])
    rng = random.Random(seed)
    for index in range(kills):
        # At any moment, yet so that there is something left of the training for the kills to come.
        kill(start(option_file), rng.uniform(0.1, 2.0), iterations * (index + 1) / (kills + 1))
        print(f"killed, {reached()} iterations saved")
    last = start(option_file)
    assert os.waitpid(last, 0)[1] == 0
