"""Restorers for image files: one that was named, or for each file the one of the package that gains on it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from threading import Lock
from typing import Any, Protocol

import torch

from rnan_plugin import device as devices
from rnan_plugin.images.color import Pixels, grey2y, y2grey
from rnan_plugin.images.jpeg_history import JpegSource
from rnan_plugin.images.jpeg_intervals import bring_within
from rnan_plugin.images.jpeg_segments import is_jpeg
from rnan_plugin.images.photo import Photo
from rnan_plugin.inference.choose import AUTO, choose, mismatch
from rnan_plugin.inference.networks import load_network
from rnan_plugin.inference.policy import Policy, fast_tiles
from rnan_plugin.inference.restorer import Restorer, RestoreSettings, provenance_of
from rnan_plugin.inference.shipped import FOLDER, ShippedNetwork
from rnan_plugin.inference.whole_images import Progress
from rnan_plugin.paper.tasks import TaskAtLevel


@dataclass(frozen=True)
class Worker:
    """A restorer, and what its results depend on.

    Args:
        restorer: Of images.
        provenance: What to write down.
        takes_luma: Whether grey images are brought to the range of luma, in which a network for Y was trained.
        source: A JPEG file whose intervals the result has to be in; None: nothing is asked of it.
    """

    restorer: Restorer
    provenance: dict[str, Any]
    takes_luma: bool = False
    source: JpegSource | None = None

    def restore(self, img: Pixels, name: str, progress: Progress | None = None) -> tuple[Pixels, Policy]:
        """Restore an image; see `Restorer`."""
        if not self.takes_luma or img.shape[2] != 1 or self.restorer.num_channel != 1:
            return self.restorer(img, name, progress)
        luma, used = self.restorer(grey2y(img), name, progress)
        return y2grey(luma, img), used


class Pick(Protocol):
    """Chooses what restores a file."""

    @property
    def asked(self) -> Mapping[str, Any]:
        """All that its choices depend on beside the file: two runs with the same make the same results."""

    @property
    def device(self) -> torch.device:
        """That restores."""

    def __call__(self, code: bytes, img: Pixels) -> tuple[Worker | None, str]:
        """From a file's content and its image to what restores it, None to leave it as it is, and why."""


def build_worker(
    option_file: str | None, weights: str | None, task: TaskAtLevel | None, settings: RestoreSettings
) -> Worker:
    """Load a network and say what its results depend on; errors as of `load_network`."""
    loaded = load_network(option_file, weights, task)
    restorer = Restorer(loaded.net, loaded.channels, settings, task)
    named = {"option_file": option_file, "task": str(task) if task else None, "channels": restorer.channels}
    return Worker(restorer, named | provenance_of(loaded.weights, settings, restorer))


def restore_photo(
    photo: Photo, worker: Worker, name: str, progress: Progress | None = None
) -> tuple[Photo, dict[str, Any], list[str]]:
    """Restore a photograph: what the command, the page and the Python function have in common.

    Args:
        photo: As `read_photo` gives it.
        worker: What a pick chose for it.
        name: For errors.
        progress: As of `inference.whole_images.restore`.

    Returns:
        The restored photograph, not turned yet, since a network for JPEG files learnt their 8×8 grid as it is stored;
        what it depends on; and lines for the user.

    Raises:
        UserError: The network and the image do not go together, or memory is short.
    """
    visible = photo.visible
    pixels, used = worker.restore(visible, name, progress)
    lines = _on_channels(photo.pixels.shape[2], pixels.shape[2], worker.restorer)
    facts: dict[str, Any] = {**worker.provenance, "policy": used.describe()}
    if worker.source:
        left = bring_within(visible, pixels, worker.source)
        facts["left_as_it_was"] = round(left, 3)  # the share
        if left >= _TOLD:
            lines.append(f"{left:.0%} of it left as it was, where the network's result contradicts the file")
    return photo.restored(pixels), facts, lines


_TOLD = 0.01  # share of an image that is left as it was and worth a line


def _on_channels(given: int, restored: int, restorer: Restorer) -> list[str]:
    of_network = restorer.num_channel
    if restored < given:
        return ["warning: colour, but the network and --channels give a grey result"]
    if given > of_network:
        return ["its luma is restored, its chroma is as it was"]
    if restored < of_network:
        return ["grey, restored as R = G = B by a network for colour; the result is the mean of its colours"]
    if restorer.has_needless_channels:
        return ["restored in colour, as the network does; --channels is for those of one channel"]
    return []


@dataclass(frozen=True)
class NamedPick:
    """Restores every file with what was named."""

    worker: Worker

    @property
    def asked(self) -> Mapping[str, Any]:
        """See `Pick`."""
        return {key: value for key, value in self.worker.provenance.items() if key != "device"}

    @property
    def device(self) -> torch.device:
        """See `Pick`."""
        return self.worker.restorer.device

    def __call__(self, code: bytes, img: Pixels) -> tuple[Worker | None, str]:  # noqa: ARG002
        """See `Pick`."""
        task = self.worker.restorer.task
        return self.worker, (mismatch(task, code) if task is not None else None) or ""


_KEPT = 16  # networks of the package in memory, each in a way to restore
_loading = Lock()


@lru_cache(maxsize=_KEPT)
def _loaded(network: ShippedNetwork, settings: RestoreSettings) -> Worker:
    settings = replace(settings, channels=settings.channels or network.channels)
    return build_worker(None, str(network.file), TaskAtLevel(network.task, network.low), settings)


@dataclass(frozen=True)
class PackagePick:
    """Chooses among the package's weights for each file; the process keeps those that it has loaded, for all threads.

    Args:
        settings: How to restore.
        task_name: A task, or "auto".
        level: Of the task; None finds it in each file.
        is_policy_named: False takes on other devices, too, what is fastest on a CPU; `auto` may take whole images.
    """

    settings: RestoreSettings
    task_name: str = AUTO
    level: float | None = None
    is_policy_named: bool = False

    @property
    def asked(self) -> Mapping[str, Any]:
        """See `Pick`."""
        package = hashlib.sha256()
        for file in sorted(path for path in FOLDER.iterdir() if path.suffix in {".pth", ".json"}):
            package.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
        settings = asdict(self._settings) | {"fast": asdict(fast_tiles(self.settings.policy))}  # what `auto` goes for
        del settings["device"]
        return {"task": self.task_name, "level": self.level, "package": package.hexdigest(), **settings}

    @property
    def device(self) -> torch.device:
        """See `Pick`."""
        return devices.choose(self.settings.device)

    def __call__(self, code: bytes, img: Pixels) -> tuple[Worker | None, str]:
        """See `Pick`; errors as of `choose`."""
        choice = choose(code, img, self.task_name, self.level)
        if choice.network is None:
            return None, choice.why
        with _loading:
            worker = _loaded(choice.network, self._settings)
        told = worker.provenance | {"task": str(choice.task)}
        # A JPEG file's grey goes from 0 to 255. Others may hold luma itself, as the paper's inputs do: if their quality
        # is named they are taken for it; if it is found, either may be, and luma loses nothing by a narrower range.
        takes_luma = choice.network.channels == "y" and (is_jpeg(code) or choice.source is not None)
        source = choice.source if choice.source and choice.source.steps else None
        return Worker(worker.restorer, told, takes_luma, source), choice.why

    @property
    def _settings(self) -> RestoreSettings:
        if self.is_policy_named or self.device.type == "cpu":
            return self.settings
        return replace(self.settings, policy=fast_tiles(self.settings.policy))
