"""The `restore` command: image files in, image files out, and a record beside them of what was done."""

from __future__ import annotations

import errno
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from tqdm import tqdm

from rnan_plugin.device import available_bytes
from rnan_plugin.errors import UserError, one_line
from rnan_plugin.files import cannot_write, readable, remove_leftovers, sha256_of
from rnan_plugin.images.codec import header_size, read_file
from rnan_plugin.images.photo import read_photo
from rnan_plugin.images.photo_writer import check_holds
from rnan_plugin.inference.pick import Pick, restore_photo
from rnan_plugin.inference.plan import INSTEAD, Job, Naming, Plan, make_plan
from rnan_plugin.inference.record import Record, input_sha256
from rnan_plugin.inference.results import write_photo, write_untouched
from rnan_plugin.inference.whole_images import Progress
from rnan_plugin.progress import FileProgress, say
from rnan_plugin.targets import is_file

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
_MOST_LINES = 10  # of files left out
_LARGE = 10**8  # pixels: such images are restored one at a time, whatever `jobs` says


@dataclass(frozen=True)
class Work:
    """How files are gone through.

    Args:
        jobs: Files at a time; None takes one for each thread on a CPU, where several files are to be restored.
        threads: Of each; None shares all out.
        overwrite: Restore again what the record says is done.
    """

    jobs: int | None = None
    threads: int | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        for name in ("jobs", "threads"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= 1024:
                raise UserError(f"--{name}: {value} is not from 1 to 1024")


@dataclass
class Summary:
    """What became of the files: how many were restored, left as they are, and done already."""

    restored: int = 0
    left_alone: int = 0
    skipped: int = 0
    errors: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """For the user, in a line."""
        parts = [f"{self.restored} image(s) restored"]
        parts += [f"{self.left_alone} left as they are"] if self.left_alone else []
        parts += [f"{self.skipped} done already (--overwrite does them again)"] if self.skipped else []
        return ", ".join(parts)


def restore_files(
    sources: Sequence[str], target: str, pick: Pick, naming: Naming | None = None, work: Work | None = None
) -> Summary:
    """Restore images and all images below folders, with progress; those that can't be are left out and told.

    Args:
        sources: Image files, folders or patterns; results below a folder are no sources.
        target: A file for a single image, else a folder, in which what a folder holds keeps its place.
        pick: Chooses what restores a file; what is left alone is copied as it is.
        naming: How results are called and stored.
        work: How files are gone through.

    Returns:
        What became of them; `errors` has a line for each that could not be restored. `restore.jsonl` beside the
        results has a line for each of them, JSON with what it depends on.

    Raises:
        UserError: A target that can't be written, if possible before anything is restored; or the only image there is
            can't be restored.
    """
    work = work or Work()
    plan = make_plan(sources, target, naming or Naming(), overwrite=work.overwrite)
    summary = _Session(plan, pick, naming or Naming(), work).run()
    _tell_left_out(plan)
    if summary.errors and len(plan.jobs) == 1 and not plan.unreadable:
        raise UserError(summary.errors[0])
    return summary


def _tell_left_out(plan: Plan) -> None:
    for path, why in plan.left_out[:_MOST_LINES]:
        say(f"left out: {readable(path)} ({why})")
    if len(plan.left_out) > _MOST_LINES:
        say(f"left out: {len(plan.left_out) - _MOST_LINES} more files that are no images")


class _Session:
    """One call of `restore_files`."""

    def __init__(self, plan: Plan, pick: Pick, naming: Naming, work: Work) -> None:
        self.plan, self.pick, self.naming, self.work = plan, pick, naming, work
        self.record = Record(plan.folder)
        described = {**pick.asked, "format": naming.format, "quality": naming.quality}
        self.asked = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()[:16]
        self.summary = Summary(errors=list(plan.unreadable))
        self._large = Lock()
        self._is_full = False

    def run(self) -> Summary:
        """Restore all; errors are kept in the summary."""
        for folder in {job.out.parent for job in self.plan.jobs}:
            if folder.is_dir():
                remove_leftovers(folder)
        outs = (out for job in self.plan.jobs for out in (job.out, job.copy))
        self.record.begin(out for out in outs if not is_file(out))
        jobs, threads = _shares(len(self.plan.jobs), self.work, self.pick.device)
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            with FileProgress(len(self.plan.jobs)) as progress:
                self._alone(progress) if jobs == 1 else self._together(progress, jobs, threads)
        finally:
            torch.set_num_threads(before)
            self.record.tidy()
        return self.summary

    def _alone(self, progress: FileProgress) -> None:
        for job in self.plan.jobs:
            if self._is_full:  # no other image would fare better
                return
            with _pass_progress(readable(job.source.name)) as passes:
                was_done = self._finish(self._attempt(job, passes))
            progress.step(was_done=was_done)

    def _together(self, progress: FileProgress, jobs: int, threads: int) -> None:
        rest = iter(self.plan.jobs)
        running: set[Future[_Outcome]] = set()
        with ThreadPoolExecutor(jobs, initializer=torch.set_num_threads, initargs=(threads,)) as pool:
            try:
                while True:
                    while len(running) < jobs and not self._is_full and (job := next(rest, None)) is not None:
                        running.add(pool.submit(self._attempt, job, None))
                    if not running:
                        return
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    for future in done:
                        progress.step(was_done=self._finish(future.result()))
            except KeyboardInterrupt:
                say(f"{len(running)} image(s) in hand are finished; then this ends")
                for future in running:
                    self._finish(future.result())
                raise

    def _attempt(self, job: Job, passes: Progress | None) -> _Outcome:
        try:
            return self._restore(job, passes)
        except UserError as error:
            return _Outcome(error=str(error))
        except OSError as error:
            return _not_written(job.out, error)

    def _finish(self, outcome: _Outcome) -> bool:
        """Take down an outcome, in the thread that began it all; whether there was nothing to do."""
        if outcome.entry is not None:
            try:
                self.record.add(outcome.entry)
            except OSError as error:
                outcome = replace(_not_written(self.record.file, error), lines=outcome.lines)
        for line in outcome.lines:
            say(line)
        self._is_full |= outcome.is_full
        if outcome.error:
            self.summary.errors.append(outcome.error)
        elif outcome.entry is None:
            self.summary.skipped += 1
        else:
            is_left = "left_as_it_is" in outcome.entry
            self.summary.left_alone += is_left
            self.summary.restored += not is_left
        return not outcome.error and outcome.entry is None

    def _restore(self, job: Job, passes: Progress | None) -> _Outcome:
        """Restore a file, or leave it as it is; see what is done already."""
        start = time.perf_counter()
        digest = input_sha256(job.source)
        if not self.work.overwrite:
            done = next((out for out in (job.out, job.copy) if self._is_done(out, digest)), None)
            if done is not None:
                changed = "was changed since it was restored, and stays; --overwrite makes it anew"
                return _Outcome(lines=[_about(readable(done), changed)] if self.record.is_changed(done) else [])
            self._refuse_changed(job)
        size = header_size(job.source) or (0, 0)
        _check_room(size, readable(job.source))
        with self._large if size[0] * size[1] > _LARGE else nullcontext():
            made = restore_one(job, self.pick, self.naming, passes)
        entry: dict[str, Any] = {"image": self.record.place(made.out), "sha256": sha256_of(made.out)}
        entry |= {"source": readable(job.source), "from": self.record.way_to(job.source), "input_sha256": digest}
        entry |= {"asked": self.asked, **made.facts, "seconds": round(time.perf_counter() - start, 3)}
        return _Outcome(entry, made.lines)

    def _is_done(self, out: Path, digest: str) -> bool:
        is_there = out.is_file() and bool(out.stat().st_size)  # one that was emptied is none
        return is_there and self.record.holds(self.record.place(out), digest, self.asked)

    def _refuse_changed(self, job: Job) -> None:
        for out in (job.out, job.copy):
            if out.is_file() and out.stat().st_size and self.record.is_changed(out):
                raise UserError(f"{readable(out)}: was changed since it was restored; {INSTEAD}")


@dataclass(frozen=True)
class _Outcome:
    """What became of a file: an entry for the record, none if it was done already; or an error."""

    entry: dict[str, Any] | None = None
    lines: Sequence[str] = ()
    error: str = ""
    is_full: bool = False


def _not_written(file: Path, error: OSError) -> _Outcome:
    return _Outcome(error=cannot_write(file, error), is_full=error.errno in _NO_ROOM)


@dataclass(frozen=True)
class Made:
    """A file that was written, what it depends on, and what to tell the user."""

    out: Path
    facts: dict[str, Any]
    lines: list[str]


def restore_one(job: Job, pick: Pick, naming: Naming, passes: Progress | None = None) -> Made:
    """Restore one file and write the result; errors as of `restore_files`, without a record."""
    name, code = readable(job.source), read_file(job.source)
    photo = read_photo(code, name)
    worker, why = pick(code, photo.pixels)
    lines = [_about(name, why)] if why else []
    if worker is None:
        called = job.source.suffix if naming.format in (None, "same") else ""
        told = write_untouched(code, photo, job.copy, naming.quality, called=called)
        return Made(job.copy, {"left_as_it_is": why}, [*lines, *(_about(name, line) for line in told)])
    check_holds(photo, readable(job.out))
    del code  # large images need the room
    restored, facts, told = restore_photo(photo, worker, name, passes)
    told = [*photo.notes, *told]
    del photo
    told += write_photo(restored, job.out, naming.quality)
    lines += [_about(name, line) for line in told]
    narrow = "" if facts["precision"] == "float32" else f", {facts['precision']}"
    lines.append(f"{name} -> {readable(job.out)} (policy {facts['policy']}{narrow})")
    return Made(job.out, {**facts, "chosen": why or None}, lines)


def _about(name: str, line: str) -> str:
    warns = line.startswith("warning: ")
    return f"warning: {name}: {line.removeprefix('warning: ')}" if warns else f"{name}: {line}"


def _check_room(size: tuple[int, int], name: str) -> None:
    """Whether the decoded image fits into memory, before the system kills the process."""
    height, width = size
    needed, there = 3 * height * width, available_bytes(torch.device("cpu"))
    if needed > there:
        told = f"{height}×{width} pixels take {needed / 2**30:.1f} GiB, {there / 2**30:.1f} GiB are free"
        raise UserError(f"{name}: {told}; free some, or make the image smaller")


def _shares(files: int, work: Work, device: torch.device) -> tuple[int, int]:
    """Files at a time, and threads of each: one thread a file makes the most of a CPU's cores."""
    cores = torch.get_num_threads()
    most = 1 if device.type != "cpu" else max(1, cores // (work.threads or 1))
    jobs = min(work.jobs or most, files)
    return jobs, work.threads or max(1, cores // jobs)


@contextmanager
def _pass_progress(name: str) -> Iterator[Progress]:
    """A bar for the passes of one image, on a terminal alone, gone when they are done."""
    with tqdm(desc=one_line(name), unit="pass", leave=False, disable=None, delay=1) as bar:

        def show(done: int, passes: int) -> None:
            bar.total = passes
            bar.update(done - bar.n)

        yield show
