"""Scoring a method on an image set under the paper's protocol of a task."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import fmean
from typing import Any

import cv2
import numpy as np
import torch

from rnan_plugin.data.image_store import ImageStore, is_lmdb, open_store
from rnan_plugin.data.pairs import pair
from rnan_plugin.errors import UserError
from rnan_plugin.evaluation.methods import Method
from rnan_plugin.evaluation.protocol import score, without_border
from rnan_plugin.files import readable
from rnan_plugin.images.degradations import Image
from rnan_plugin.paper.image_sets import VALIDATION_SETS
from rnan_plugin.paper.tasks import TaskAtLevel
from rnan_plugin.perceptual import Lpips
from rnan_plugin.progress import FileProgress
from rnan_plugin.targets import with_a_name
from rnan_plugin.version import __version__


@dataclass(frozen=True)
class Score:
    """How well a method did on one image, or in the mean: dB, structural similarity, seconds of the method itself."""

    psnr: float
    ssim: float
    seconds: float
    lpips: float | None = None  # where it is asked for; lower is better


@dataclass(frozen=True)
class Evaluation:
    """Scores of a method on one image set, with everything they depend on.

    Args:
        method: Name of the method.
        task: The task and its level.
        image_set: Name of the set.
        fingerprint: Of the ground truth's pixels and names.
        scores: By image.
        settings: What the method says of itself: weights, policy, device, and so on.
        set_problems: What tells an image set of that name from the paper's.
    """

    method: str
    task: TaskAtLevel
    image_set: str
    fingerprint: str
    scores: dict[str, Score]
    settings: dict[str, Any] = field(default_factory=dict)
    set_problems: list[str] = field(default_factory=list)

    @property
    def mean(self) -> Score:
        """Mean over the images, as the paper's tables have it."""
        rows = list(self.scores.values())
        distances = [row.lpips for row in rows if row.lpips is not None]
        return Score(
            fmean(row.psnr for row in rows),
            fmean(row.ssim for row in rows),
            fmean(row.seconds for row in rows),
            fmean(distances) if distances else None,
        )

    @property
    def protocol(self) -> dict[str, Any]:
        """Everything that another evaluation has to share for its numbers to be comparable, and the versions used."""
        task = self.task
        return {
            "task": task.name,
            "level": task.level,
            "input": f"{type(task.degradation).__name__}, 8 bits",
            "noise_seed": task.noise_seed,
            "scored_on": task.scored_on,
            "crop_border": task.border,
            "rounding": "output rounded to 8 bits before scoring",
            "mean": "of the images' scores",
            "image_set": self.image_set,
            "images": len(self.scores),
            "fingerprint": self.fingerprint,
            "not_the_papers_set": "; ".join(self.set_problems),
            "method": self.method,
            **self.settings,
            "versions": {
                "rnan_plugin": __version__,
                "basicsr": _basicsr_version(),
                "torch": torch.__version__,
                "opencv": cv2.__version__,
                "numpy": np.__version__,
            },
        }


def _basicsr_version() -> str | None:
    """None where it is not installed, which scores but super-resolution do without."""
    try:
        return version("basicsr")
    except PackageNotFoundError:
        return None


def evaluate(
    method: Method,
    task: TaskAtLevel,
    root: str,
    *,
    keep: Callable[[str, Image, Image], None] | None = None,
    lpips: Lpips | None = None,
) -> Evaluation:
    """Score a method on all images of a folder or LMDB, with progress.

    Args:
        method: What to score.
        task: The task and its level.
        root: Ground truth: a folder or an LMDB, such as `datasets/Kodak24`.
        keep: Called with name, restored image and ground truth of each image.
        lpips: Computed too, on the images without the task's border, in their own channels.

    Raises:
        UserError: Images are missing, unreadable, or too small; names the image.
    """
    root = with_a_name(root)
    store = open_store(root, is_lmdb=is_lmdb(root))
    unlike = _set_problems(root, store.sizes())
    scores, digest = {}, hashlib.sha256()
    for key, lq, gt in _pairs(task, store, f"{method.name}, {Path(root).stem}"):
        digest.update(f"{key} {gt.shape} ".encode() + gt.tobytes())
        start = time.perf_counter()
        restored = method.restore(lq, key)
        seconds = time.perf_counter() - start
        try:
            distance = lpips(*without_border(restored, gt, task)) if lpips else None
            scores[key] = Score(*score(restored, gt, task), seconds, distance)
        except UserError as error:
            raise error.within(f"{store.path(key)}: ") from None
        if keep is not None:
            keep(key, restored, gt)
    facts = method.facts() | ({"lpips": lpips.describe()} if lpips else {})
    return Evaluation(method.name, task, readable(Path(root).stem), digest.hexdigest()[:16], scores, facts, unlike)


def _set_problems(root: str, sizes: Mapping[str, tuple[int, int]]) -> list[str]:
    """What is wrong with a folder that has the name of one of the paper's image sets."""
    named = VALIDATION_SETS.get(Path(root).stem)
    return list(named.problems(sizes)) if named is not None else []


def _pairs(task: TaskAtLevel, store: ImageStore, label: str) -> Iterator[tuple[str, Image, Image]]:
    with FileProgress(len(store.names), label) as progress:
        for key in store.names:
            yield (key, *pair(task, store, key))
            progress.step()
