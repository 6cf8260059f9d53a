"""The queue behind the page: one file is restored at a time, what waits and what is kept is bounded."""

from __future__ import annotations

import secrets
import shutil
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Condition, Event, Thread
from typing import Any, Literal

from rnan_plugin.errors import UserError
from rnan_plugin.page.asked import Asked

MOST_WAITING = 32
MOST_KEPT = 100
MOST_KEPT_BYTES = 2**31

State = Literal["waiting", "working", "done", "failed"]


class QueueFullError(UserError):
    """No room for another file until one is done."""


class CancelledError(Exception):
    """Nobody wants the file any more."""


@dataclass
class Job:
    """A file on its way.

    Args:
        id: Hard to guess: whoever knows it can fetch the file.
        asked: What to do with it.
        folder: Its own; gone with it.
        state: How far it is.
        progress: 0..1, of the passes through the network.
        facts: What was chosen and found, for the page.
        error: In one line, where it failed.
        result: The file that was made.
        pictures: Files that the page shows: "before", "after", and of a demonstration "clean".
        finished: Set when nothing more will happen to it.
        is_cancelled: Whether nobody wants it any more.
    """

    id: str
    asked: Asked
    folder: Path
    state: State = "waiting"
    progress: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    result: Path | None = None
    pictures: dict[str, Path] = field(default_factory=dict)
    finished: Event = field(default_factory=Event)
    is_cancelled: bool = False

    @property
    def source(self) -> Path:
        """The file as it was sent."""
        return self.folder / "in" / self.asked.file_name

    def advance(self, done: int, passes: int) -> None:
        """Take down how many of the passes are done.

        Raises:
            CancelledError: Nobody wants the rest.
        """
        self.progress = done / passes
        if self.is_cancelled:
            raise CancelledError


class Jobs:
    """All jobs, and the thread that does them one after another.

    Args:
        folder: To keep the files in.
        work: Does a job.
    """

    def __init__(self, folder: Path, work: Callable[[Job], None]) -> None:
        self._folder, self._work = folder, work
        self._jobs: dict[str, Job] = {}  # in the order in which they came
        self._changed = Condition()
        self._is_closed = False
        self._thread = Thread(target=self._run, name="restore", daemon=True)
        self._thread.start()

    def check_room(self) -> None:
        """Whether another file may come, before it is read.

        Raises:
            QueueFullError: There is no room.
        """
        with self._changed:
            if len(self._waiting()) >= MOST_WAITING:
                raise QueueFullError(f"{MOST_WAITING} files are waiting already; send it again when one is done")

    def add(self, asked: Asked, content: bytes) -> Job:
        """Keep a file's content and let it wait.

        Raises:
            QueueFullError: There is no room.
            UserError: It can't be kept.
        """
        key = secrets.token_urlsafe(12)
        job = Job(key, asked, self._folder / key)
        try:
            job.source.parent.mkdir(parents=True)
            job.source.write_bytes(content)
            with self._changed:
                self.check_room()
                self._jobs[key] = job
                self._changed.notify_all()
        except OSError as error:
            _remove(job)
            raise UserError(f"{asked.file_name}: can't be kept here ({error.strerror}); make room") from None
        except QueueFullError:
            _remove(job)
            raise
        return job

    def get(self, key: str) -> Job | None:
        """The job; None where there is none, or none any more."""
        with self._changed:
            return self._jobs.get(key)

    def describe(self, job: Job) -> dict[str, Any]:
        """What the page and other programs are told of a job."""
        with self._changed:
            waiting = self._waiting()
            ahead = waiting.index(job) + 1 if job in waiting else 0
        told = {"id": job.id, "name": job.asked.name, "state": job.state, "ahead": ahead, "progress": job.progress}
        result = job.result.name if job.result is not None else None
        return {**told, "error": job.error or None, "file": result, "pictures": sorted(job.pictures), **job.facts}

    def remove(self, job: Job) -> None:
        """Forget a job; one that is being worked on stops after its next pass."""
        with self._changed:
            self._jobs.pop(job.id, None)
            job.is_cancelled = True
            is_being_done = job.state == "working"
        if not is_being_done:
            job.finished.set()
            _remove(job)

    def close(self) -> None:
        """Stop after the next pass of what is being worked on."""
        with self._changed:
            self._is_closed = True
            for job in self._jobs.values():
                job.is_cancelled = True
            self._changed.notify_all()
        self._thread.join()

    def _waiting(self) -> list[Job]:
        return [job for job in self._jobs.values() if job.state == "waiting"]

    def _run(self) -> None:
        while (job := self._next()) is not None:
            self._attempt(job)
            with self._changed:
                self._forget_oldest()
                is_unwanted = job.is_cancelled
            job.finished.set()
            if is_unwanted:
                _remove(job)

    def _next(self) -> Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._waiting())
            if self._is_closed:
                return None
            job = self._waiting()[0]
            job.state = "working"
            return job

    def _attempt(self, job: Job) -> None:
        """Do a job; whatever happens, the next one gets its turn."""
        try:
            self._work(job)
        except CancelledError:
            job.error = "taken back"
        except UserError as error:
            job.error = str(error)
        except OSError as error:
            job.error = f"{job.asked.file_name}: can't be kept here ({error.strerror}); make room"
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            job.error = f"{job.asked.file_name}: failed ({type(error).__name__}); the terminal says more"
        job.state = "failed" if job.error else "done"

    def _forget_oldest(self) -> None:
        """Drop what was finished longest ago until the rest may be kept; the last one always may."""
        finished = [job for job in self._jobs.values() if job.state in {"done", "failed"}]
        sizes = [_bytes_below(job.folder) for job in finished]
        while len(finished) > 1 and (len(finished) > MOST_KEPT or sum(sizes) > MOST_KEPT_BYTES):
            oldest, _ = finished.pop(0), sizes.pop(0)
            del self._jobs[oldest.id]
            _remove(oldest)


def _remove(job: Job) -> None:
    shutil.rmtree(job.folder, ignore_errors=True)


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
