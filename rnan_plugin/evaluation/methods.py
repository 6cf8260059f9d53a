"""What can be scored: the input itself, classical methods, networks, results of other programs; one builder for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from rnan_plugin.data.image_store import FolderStore
from rnan_plugin.errors import UserError
from rnan_plugin.evaluation.classical import CLASSICAL, classical
from rnan_plugin.evaluation.protocol import Restore
from rnan_plugin.images.color import convert_channels
from rnan_plugin.images.degradations import Image
from rnan_plugin.inference.networks import load_network
from rnan_plugin.inference.policy import Policy
from rnan_plugin.inference.restorer import Restorer, RestoreSettings, provenance_of
from rnan_plugin.paper.tasks import TaskAtLevel


@dataclass(frozen=True)
class Method:
    """Something that restores images of a task.

    Args:
        name: In tables and file names.
        restore: Does the work.
        facts: Tells what the results since the last call depend on: weights, policies, versions.
        net: Its network, if it has one.
        passes: Through the network for each image: eight of a self-ensemble.
        computes: Whether its results are computed here and now, so that time and memory can be measured.
    """

    name: str
    restore: Restore
    facts: Callable[[], dict[str, Any]]
    net: nn.Module | None = None
    passes: int = 1
    computes: bool = True


@dataclass(frozen=True)
class MethodSource:
    """Where a method comes from, as a command line or a comparison file says it.

    Args:
        type: "network", "released", "shipped", "files", or one of `CLASSICAL`.
        opt: Option file of a network.
        weights: Checkpoint of a network, or the name of one in the package.
        files: Folder of another program's results.
        self_ensemble: Mean over the eight flips.
        training: Folder of the training, or of its TensorBoard log, for its curves.
    """

    type: str
    opt: str | None = None
    weights: str | None = None
    files: str | None = None
    self_ensemble: bool = False
    training: str | None = None


def build_method(
    source: MethodSource, task: TaskAtLevel, settings: RestoreSettings, wanted: Sequence[str], name: str | None = None
) -> Method:
    """Build a method for a task.

    Args:
        source: What to build.
        task: What it is to restore.
        settings: How networks are applied.
        wanted: Names of the images, which results of another program have to have.
        name: What to call it; left out, what it is.

    Raises:
        UserError: A file is missing or does not fit the task.
    """
    if source.type == "files":
        restore, folder = ResultsFolder(str(source.files), wanted), str(source.files)
        return Method(name or Path(folder).name, restore, lambda: {"files": folder}, computes=False)
    if source.type in CLASSICAL:
        described: Callable[[], dict[str, Any]] = CLASSICAL[source.type].describe
        return Method(name or source.type, classical(source.type, task), described)
    network = NetworkMethod(task, settings, source.opt, source.weights)
    passes = 8 if settings.policy.self_ensemble else 1
    return Method(name or network.name, network, network.facts, network.net, passes)


class NetworkMethod:
    """A network as a method; arguments as of `load_network`."""

    def __init__(
        self, task: TaskAtLevel, settings: RestoreSettings, option_file: str | None, weights: str | None
    ) -> None:
        loaded = load_network(option_file, weights, task)
        self.net = loaded.net
        named = [Path(file).stem for file in (option_file, weights) if file] or [Path(loaded.weights).stem]
        self.name = "_".join([*named, settings.policy.label])
        self._restorer = Restorer(loaded.net, loaded.channels, settings, task)
        wanted = task.row.num_channel
        if self._restorer.num_channel != wanted:
            told = f"restores images of {self._restorer.num_channel} channel(s), {task} has {wanted}"
            raise UserError(f"{loaded.weights}: {told}; take other weights, or another task")
        self._policies: list[str] = []
        self._settings = provenance_of(loaded.weights, settings, self._restorer) | {
            "not_comparable_because": _not_comparable_because(settings.policy, is_released=loaded.is_released),
            "weights": Path(loaded.weights).name,
            "parameters": sum(weight.numel() for weight in loaded.net.parameters()),
        }

    def __call__(self, lq: Image, name: str) -> Image:
        """Restore an image."""
        restored, policy = self._restorer(lq, name)
        self._policies.append(policy.describe())
        return restored

    def facts(self) -> dict[str, Any]:
        """What the results since the last call depend on: "auto" chooses a policy for each image."""
        policies, self._policies = list(dict.fromkeys(self._policies)), []
        return self._settings | {"policies": policies}


def _not_comparable_because(policy: Policy, *, is_released: bool) -> str:
    """What a measured row does not share with the paper's rows of the network."""
    weights = "the released weights" if is_released else "other weights and training than the paper's"
    return weights + (", tiles as in the release" if policy.name == "release" else ", other tiles")


class ResultsFolder:
    """Results of any other program, read from a folder and matched by name.

    Args:
        folder: 8-bit images, `NAME.*` for the ground truth's `NAME.*`.
        wanted: Names of the ground truth's images.

    Raises:
        UserError: Missing or extra images; lists them.
    """

    def __init__(self, folder: str, wanted: Sequence[str]) -> None:
        self.store = FolderStore(folder)
        missing, extra = sorted(set(wanted) - set(self.store.names)), sorted(set(self.store.names) - set(wanted))
        if missing or extra:
            told = [f"{word}: {', '.join(names)}" for word, names in (("missing", missing), ("extra", extra)) if names]
            raise UserError(f"{folder}: images do not match the ground truth's by name; {'; '.join(told)}")

    def __call__(self, lq: Image, name: str) -> Image:
        """Read the result for an image, in the channels of its input."""
        restored = self.store.read(name)
        if lq.shape[2] == 1 and restored.shape[2] == 3:
            if (restored != restored[..., :1]).any():
                raise UserError(f"{self.store.path(name)}: colour, where the task is of one channel")
            restored = restored[..., :1]
        if lq.shape[2] == 3:
            return convert_channels(restored, "rgb", self.store.path(name))  # of a grey image of the set
        return restored
