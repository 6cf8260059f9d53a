"""Scoring a method on image sets under the paper's protocol of a task; `scripts/evaluate.py` is the command."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

import rnan_plugin
from rnan_plugin.images.degradations import Image
from rnan_plugin.data.image_store import FolderStore, ImageStore, is_lmdb, open_store
from rnan_plugin.paper.image_sets import VALIDATION_SETS
from rnan_plugin.paper.tasks import TaskAtLevel
from rnan_plugin.errors import UserError
from rnan_plugin.images.metrics import psnr, ssim
from rnan_plugin.inference.policy import Policy
from rnan_plugin.inference.restorer import Restorer, Settings, provenance_of
from rnan_plugin.inference.networks import load_network
from rnan_plugin.toolbox.api import imresize, to_y_channel

# From an 8-bit LQ image (h, w, C) and its name to the restored one, 8 bits.
Method = Callable[[Image, str], Image]


@dataclass(frozen=True)
class Score:
    """How well a method did on one image, or in the mean: dB, structural similarity, seconds of the method itself."""

    psnr: float
    ssim: float
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """Scores of a method on one image set, with everything they depend on.

    Args:
        method: Name of the method.
        setting: The task and its level.
        image_set: Name of the set.
        fingerprint: Of the ground truth's pixels and names.
        scores: By image.
        settings: What the method says of itself: weights, policy, device, and so on.
        unlike_the_papers: What tells an image set of that name from the paper's.
    """

    method: str
    setting: TaskAtLevel
    image_set: str
    fingerprint: str
    scores: dict[str, Score]
    settings: dict[str, Any] = field(default_factory=dict)
    unlike_the_papers: list[str] = field(default_factory=list)

    @property
    def mean(self) -> Score:
        """Mean over the images, as the paper's tables have it."""
        rows = list(self.scores.values())
        return Score(
            fmean(row.psnr for row in rows), fmean(row.ssim for row in rows), fmean(row.seconds for row in rows)
        )

    @property
    def protocol(self) -> dict[str, Any]:
        """Everything that another evaluation has to share for its numbers to be comparable, and the versions used."""
        setting = self.setting
        return {
            "task": setting.name,
            "level": setting.level,
            "input": f"{type(setting.degradation).__name__}, 8 bits",
            "noise_seed": setting.noise_seed,
            "scored_on": scored_on(setting),
            "crop_border": border(setting),
            "rounding": "output rounded to 8 bits before scoring",
            "mean": "of the images' scores",
            "image_set": self.image_set,
            "images": len(self.scores),
            "fingerprint": self.fingerprint,
            "unlike_the_papers_set": "; ".join(self.unlike_the_papers),
            "method": self.method,
            **self.settings,
            "versions": {
                "rnan_plugin": rnan_plugin.__version__,
                "basicsr": version("basicsr"),
                "torch": torch.__version__,
                "opencv": cv2.__version__,
                "numpy": np.__version__,
            },
        }


def border(setting: TaskAtLevel) -> int:
    """Pixels at the rim that are not scored: the scale in super-resolution, else none."""
    return setting.degradation.scale if setting.name == "sr" else 0


def scored_on(setting: TaskAtLevel) -> str:
    """The channels that a task is scored on."""
    if setting.name == "sr":
        return "Y, unrounded"
    return {"rgb": "RGB", "gray": "grey", "y": "Y"}[setting.task.channels]


def score(restored: Image, gt: Image, setting: TaskAtLevel) -> tuple[float, float]:
    """PSNR and SSIM of an 8-bit image (H, W, C) under the protocol of a task.

    Raises:
        UserError: The images are not of one shape, or too small for SSIM.
    """
    if restored.shape != gt.shape:
        raise UserError(f"the restored image is {restored.shape}, the ground truth {gt.shape}")
    rim = border(setting)
    pair: list[NDArray[Any]] = [img[rim : img.shape[0] - rim, rim : img.shape[1] - rim] for img in (restored, gt)]
    if setting.name == "sr":
        pair = [to_y_channel(img[..., ::-1]) for img in pair]  # BGR, as the toolbox reads files
    return psnr(pair[0], pair[1]), ssim(pair[0], pair[1])


def evaluate(
    method: Method,
    setting: TaskAtLevel,
    root: str,
    *,
    name: str,
    describe: Callable[[], dict[str, Any]] = dict,
    keep: Callable[[str, Image, Image], None] | None = None,
) -> Evaluation:
    """Score a method on all images of a folder or LMDB, with progress.

    Args:
        method: Restores one image.
        setting: The task and its level.
        root: Ground truth: a folder or an LMDB, such as `datasets/Kodak24`.
        name: Of the method.
        describe: Tells what the method's results depend on; asked after its last image.
        keep: Called with name, restored image and ground truth of each image.

    Raises:
        UserError: Images are missing, unreadable, or too small; names the image.
    """
    store = open_store(root, is_lmdb=is_lmdb(root))
    scores, digest = {}, hashlib.sha256()
    for key, lq, gt in _pairs(setting, store, f"{name}, {Path(root).stem}"):
        digest.update(f"{key} {gt.shape} ".encode() + gt.tobytes())
        start = time.perf_counter()
        restored = method(lq, key)
        seconds = time.perf_counter() - start
        try:
            scores[key] = Score(*score(restored, gt, setting), seconds)
        except UserError as error:
            raise UserError(f"{store.path(key)}: {error}") from None
        if keep is not None:
            keep(key, restored, gt)
    unlike = _unlike_the_papers(root, store)
    return Evaluation(name, setting, Path(root).stem, digest.hexdigest()[:16], scores, describe(), unlike)


def _unlike_the_papers(root: str, store: ImageStore) -> list[str]:
    """What is wrong with a folder that has the name of one of the paper's image sets."""
    named = VALIDATION_SETS.get(Path(root).stem)
    return list(named.problems(store.sizes())) if named is not None else []


def _pairs(setting: TaskAtLevel, store: ImageStore, label: str) -> Iterator[tuple[str, Image, Image]]:
    for key in tqdm(store.names, desc=label, unit="image"):
        yield (key, *setting.pair(store, key))


def unrestored(setting: TaskAtLevel) -> Method:
    """The input itself, the first row of the paper's tables; enlarged by bicubic interpolation in super-resolution."""
    if setting.name != "sr":
        return lambda lq, _: lq
    scale = setting.degradation.scale
    return lambda lq, _: _bicubic_up(lq, scale)


def _bicubic_up(img: Image, scale: int) -> Image:
    enlarged = imresize(img.astype(np.float32) / 255, scale)
    return (np.clip(enlarged, 0, 1) * 255).round().astype(np.uint8)


class NetworkMethod:
    """A network as a method; arguments as of `load_network`."""

    def __init__(self, setting: TaskAtLevel, settings: Settings, option_file: str | None, weights: str | None) -> None:
        loaded = load_network(option_file, weights, setting)
        self.net = loaded.net
        named = [Path(file).stem for file in (option_file, weights) if file] or [Path(loaded.weights).stem]
        self.name = "_".join([*named, settings.policy.label])
        self._restorer = Restorer(loaded.net, loaded.channels, settings)
        wanted = 3 if setting.task.channels == "rgb" else 1
        if self._restorer.num_channel != wanted:
            told = f"restores images of {self._restorer.num_channel} channel(s), {setting} has {wanted}"
            raise UserError(f"{loaded.weights}: {told}; take other weights, or another task")
        self._policies: list[str] = []
        self._settings = provenance_of(loaded.weights, settings, self._restorer) | {
            "beside_the_paper": _beside_the_paper(settings.policy, is_released=weights is not None and not option_file),
            "weights": Path(loaded.weights).name,
            "parameters": sum(weight.numel() for weight in loaded.net.parameters()),
        }

    def __call__(self, lq: Image, name: str) -> Image:
        """Restore an image."""
        restored, policy = self._restorer(lq, name)
        self._policies.append(policy.describe())
        return restored

    def describe(self) -> dict[str, Any]:
        """What the results since the last call depend on: "auto" chooses a policy for each image."""
        policies, self._policies = list(dict.fromkeys(self._policies)), []
        return self._settings | {"policies": policies}


def _beside_the_paper(policy: Policy, *, is_released: bool) -> str:
    """What a measured row does not share with the paper's rows of the network."""
    weights = "the released weights" if is_released else "other weights and training than the paper's"
    return weights + (", tiles as in the release" if policy.name == "release" else ", other tiles")


class RestoredFiles:
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
        return restored
