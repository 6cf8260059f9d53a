"""Restorers for image files: one that was named, or for each file the one of the package that gains on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rnan_plugin.images.degradations import Image
from rnan_plugin.inference.choose import AUTO, choose, mismatch
from rnan_plugin.inference.networks import load_network
from rnan_plugin.inference.restorer import Restorer, RestoreSettings, provenance_of
from rnan_plugin.inference.shipped import measured_tiles
from rnan_plugin.paper.tasks import TaskAtLevel


@dataclass(frozen=True)
class Worker:
    """A restorer, and what its results depend on."""

    restorer: Restorer
    provenance: dict[str, Any]


# From a file's content and its image to what restores it, None to leave it as it is, and why.
Pick = Callable[[bytes, Image], tuple[Worker | None, str]]


def build_worker(
    option_file: str | None, weights: str | None, task: TaskAtLevel | None, settings: RestoreSettings
) -> Worker:
    """Load a network and say what its results depend on; errors as of `load_network`."""
    loaded = load_network(option_file, weights, task)
    restorer = Restorer(loaded.net, loaded.channels, settings, task)
    named = {"option_file": option_file, "task": str(task) if task else None, "channels": restorer.channels}
    return Worker(restorer, named | provenance_of(loaded.weights, settings, restorer))


def always(worker: Worker) -> Pick:
    """Restore every file with what was named."""
    task = worker.restorer.task
    return lambda code, _: (worker, (mismatch(task, code) if task is not None else None) or "")


@dataclass
class PackagePick:
    """Chooses among the package's weights for each file, and keeps those that it has loaded.

    Args:
        settings: How to restore.
        task_name: A task, or "auto".
        level: Of the task; None finds it in each file.
        is_policy_named: False takes the tiles that the package's networks were measured with.
    """

    settings: RestoreSettings
    task_name: str = AUTO
    level: float | None = None
    is_policy_named: bool = False
    _workers: dict[Path, Worker] = field(default_factory=dict)

    def __call__(self, code: bytes, img: Image) -> tuple[Worker | None, str]:
        """See `Pick`; errors as of `choose`."""
        choice = choose(code, img, self.task_name, self.level)
        if choice.network is None:
            return None, choice.why
        file = choice.network.file
        if file not in self._workers:
            self._workers[file] = self._load(choice.task, file)
        worker = self._workers[file]  # of the first file's level; the network is the same
        return Worker(worker.restorer, worker.provenance | {"task": str(choice.task)}), choice.why

    def _load(self, task: TaskAtLevel | None, file: Path) -> Worker:
        settings = self.settings
        if not self.is_policy_named:
            settings = replace(settings, policy=measured_tiles(settings.policy))
        return build_worker(None, str(file), task, settings)
