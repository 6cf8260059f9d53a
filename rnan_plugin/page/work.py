"""What the page does with a file: what `rnan restore` does, by the same functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from rnan_plugin import device as devices
from rnan_plugin.errors import UserError
from rnan_plugin.images.codec import header_size
from rnan_plugin.images.color import Pixels
from rnan_plugin.images.photo import read_photo
from rnan_plugin.inference.network_facts import scale_of
from rnan_plugin.inference.pick import PackagePick, Pick, Worker
from rnan_plugin.inference.plan import make_plan
from rnan_plugin.inference.restore_files import restore_one
from rnan_plugin.inference.restorer import RestoreSettings
from rnan_plugin.page.demonstration import Demonstration
from rnan_plugin.page.jobs import Job

MOST_PIXELS = 50_000_000  # of what comes and of what is made of it


class PageWork:
    """Does jobs with the package's networks, which it keeps.

    Args:
        settings: How to restore.
        threads: Of the CPU; None takes as many as the command.

    Raises:
        UserError: There is no such device.
    """

    def __init__(self, settings: RestoreSettings, threads: int | None = None) -> None:
        devices.choose(settings.device)  # checks it, before anybody sends a file
        self._threads = threads
        self._settings = settings

    def __call__(self, job: Job) -> None:
        """Restore a job's file, and take down what was done.

        Raises:
            UserError: It can't be restored.
        """
        if self._threads is not None:
            torch.set_num_threads(self._threads)  # of this thread, which does all jobs
        try:
            self._restore(job)
        except UserError as error:
            raise UserError(*(_without_folder(line, job) for line in error.args)) from None

    def _restore(self, job: Job) -> None:
        asked, source = job.asked, job.source
        code = source.read_bytes()
        _check_size(code, source.name)
        demonstration = None
        if asked.clean:
            assert asked.named is not None
            demonstration = Demonstration(asked.named, code, source.name)
            source = demonstration.write(job.folder)
        plan = make_plan([str(source)], str(job.folder / "out"), asked.naming)
        pick = _Telling(PackagePick(self._settings, asked.task, asked.level), job)
        made = restore_one(plan.jobs[0], pick, asked.naming, job.advance)
        job.facts = job.facts | _facts(made.facts, [_without_folder(line, job) for line in made.lines])
        pictures = {"before": source, "after": made.out}
        if demonstration is not None:
            job.facts = job.facts | {"scores": demonstration.scores(made.out.read_bytes())}
            pictures |= demonstration.pictures(job.folder)
        job.pictures, job.result = pictures, made.out


def _without_folder(text: str, job: Job) -> str:
    """What the command tells of a file, with names alone: where the page keeps files is nobody's concern."""
    for folder in ("in", "out", "degraded"):
        text = text.replace(f"{job.folder / folder}/", "")
    return text


def _facts(facts: Mapping[str, Any], lines: list[str]) -> dict[str, Any]:
    shown = {key: facts[key] for key in ("task", "policy", "device", "precision") if key in facts}
    return {**shown, "left_as_it_is": "left_as_it_is" in facts, "lines": lines}


def _check_size(code: bytes, name: str) -> None:
    """Whether the image is none too large, by its header where that can be read, so that it need not be decoded."""
    size = header_size(code) or read_photo(code, name).pixels.shape[:2]
    _check_pixels(size[0], size[1], f"{name}: {size[1]}×{size[0]} pixels")


def _check_pixels(height: int, width: int, told: str) -> None:
    if height * width > MOST_PIXELS:
        most = f"{MOST_PIXELS / 1e6:g} megapixels"
        raise UserError(f"{told} are more than the {most} that the page takes; use rnan restore for it")


@dataclass(frozen=True)
class _Telling:
    """A pick that tells the job what it chose, before it is done, and refuses results that get too large."""

    pick: Pick
    job: Job

    @property
    def asked(self) -> Mapping[str, Any]:
        """See `Pick`."""
        return self.pick.asked

    @property
    def device(self) -> torch.device:
        """See `Pick`."""
        return self.pick.device

    def __call__(self, code: bytes, img: Pixels) -> tuple[Worker | None, str]:
        """See `Pick`."""
        worker, why = self.pick(code, img)
        self.job.facts = {"chosen": why or None}
        if worker is not None:
            self.job.facts = {"chosen": why or None, "task": worker.provenance["task"]}
            scale = scale_of(worker.restorer.net) or 1
            height, width = (scale * side for side in img.shape[:2])
            _check_pixels(height, width, f"{self.job.source.name}: {width}×{height} pixels, enlarged,")
        return worker, why
