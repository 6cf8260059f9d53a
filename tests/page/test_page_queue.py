"""The queue behind the page: in order, bounded, and alive whatever happens to a file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rnan_plugin.errors import UserError
from rnan_plugin.page import jobs as queue
from rnan_plugin.page.asked import Asked
from rnan_plugin.page.jobs import Job, Jobs, QueueFullError

PATIENCE = 300  # seconds until what hangs fails its test


class Held:
    """Work that waits until it is let go, a job at a time."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.begins, self.go = threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, job: Job) -> None:
        self.begun.append(job.asked.name)
        self.begins.release()
        assert self.go.acquire(timeout=PATIENCE)
        job.advance(1, 2)
        if job.asked.name == "bad":
            raise ZeroDivisionError
        job.result = job.source


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[Held, Jobs]]:
    work = Held()
    jobs = Jobs(tmp_path, work)
    yield work, jobs
    work.go.release(100)
    jobs.close()


def test_one_after_another(held: tuple[Held, Jobs], tmp_path: Path) -> None:
    work, jobs = held
    first, second, third = (jobs.add(Asked(name), b"x") for name in "abc")
    assert work.begins.acquire(timeout=PATIENCE)
    assert [jobs.describe(job)["ahead"] for job in (first, second, third)] == [0, 1, 2]
    assert [job.state for job in (first, second, third)] == ["working", "waiting", "waiting"]
    jobs.remove(second)
    assert jobs.describe(third)["ahead"] == 1
    work.go.release(2)
    assert third.finished.wait(PATIENCE)
    assert work.begun == ["a", "c"]
    assert (third.progress, third.state) == (0.5, "done")
    assert {path.name for path in tmp_path.iterdir()} == {first.id, third.id}
    assert len({first.id, second.id, third.id}) == 3
    assert min(len(job.id) for job in (first, second, third)) >= 16


def test_what_is_worked_on_can_be_taken_back(held: tuple[Held, Jobs], tmp_path: Path) -> None:
    work, jobs = held
    job = jobs.add(Asked("a"), b"x")
    assert work.begins.acquire(timeout=PATIENCE)
    jobs.remove(job)
    assert jobs.get(job.id) is None
    last = jobs.add(Asked("b"), b"x")
    work.go.release(2)
    assert last.finished.wait(PATIENCE)
    assert (job.error, last.state) == ("taken back", "done")
    assert {path.name for path in tmp_path.iterdir()} == {last.id}


def test_a_full_queue_takes_no_more(held: tuple[Held, Jobs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "MOST_WAITING", 2)
    work, jobs = held
    jobs.add(Asked("a"), b"x")
    assert work.begins.acquire(timeout=PATIENCE)
    for name in "bc":
        jobs.add(Asked(name), b"x")
    with pytest.raises(QueueFullError, match="2 files are waiting already"):
        jobs.add(Asked("d"), b"x")
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(("name", "value"), [("MOST_KEPT", 2), ("MOST_KEPT_BYTES", 2)])
def test_the_oldest_results_are_dropped(
    name: str, value: int, held: tuple[Held, Jobs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, name, value)
    work, jobs = held
    work.go.release(4)
    added = [jobs.add(Asked(name), b"x") for name in "abcd"]
    assert added[-1].finished.wait(PATIENCE)
    assert [jobs.get(job.id) for job in added] == [None, None, *added[2:]]
    assert {path.name for path in tmp_path.iterdir()} == {job.id for job in added[2:]}


def test_an_error_of_the_program_ends_no_queue(held: tuple[Held, Jobs], capfd: pytest.CaptureFixture[str]) -> None:
    work, jobs = held
    work.go.release(2)
    bad, good = jobs.add(Asked("bad"), b"x"), jobs.add(Asked("good"), b"x")
    assert good.finished.wait(PATIENCE)
    assert (bad.error, good.state) == ("bad: failed (ZeroDivisionError); the terminal says more", "done")
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_a_queue_that_can_not_keep_a_file_says_so(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path / "file" / "folder", Held())
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"a\.png: can't be kept here"):
        jobs.add(Asked("a.png"), b"x")
    jobs.close()
