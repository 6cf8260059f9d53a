"""Free memory: what the system has, and what limits of control groups, of either version, leave of it."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest
import torch

from rnan_plugin import device

GIB = 2**30
UNLIMITED = 9_223_372_036_854_771_712  # as version 1 writes it


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of 64 GiB, in no control group."""
    (tmp_path / "meminfo").write_text(f"MemTotal: {2**27} kB\nMemAvailable: {64 * 2**20} kB\n")
    for name, file in (("_MEMINFO", "meminfo"), ("_CGROUP", "cgroup"), ("_OWN_GROUPS", "own")):
        monkeypatch.setattr(device, name, tmp_path / file)
    return tmp_path


def free() -> int:
    return device.available_bytes(torch.device("cpu"))


def limit(group: Path, limit: int | str, used: int, cached: int = 0) -> None:
    """A group of version 2; what is in memory at all has no part in what is free."""
    group.mkdir(parents=True, exist_ok=True)
    (group / "memory.max").write_text(f"{limit}\n")
    (group / "memory.current").write_text(f"{used}\n")
    (group / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\nactive_file 7\n")


def limit_1(group: Path, limit: int, used: int, cached: int = 0) -> None:
    """A group of version 1, whose `memory.stat` tells its own files before those of all groups below it."""
    group.mkdir(parents=True, exist_ok=True)
    (group / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (group / "memory.usage_in_bytes").write_text(f"{used}\n")
    (group / "memory.stat").write_text(f"inactive_file 3\nrss 5\ntotal_inactive_file {cached}\n")


def test_without_limits_it_is_the_systems(machine: Path) -> None:
    assert free() == 64 * GIB
    limit(machine / "cgroup", "max", GIB)
    limit_1(machine / "cgroup/memory", UNLIMITED, GIB)
    (machine / "own").write_text("4:memory:/\n1:name=systemd:/\n0::/\n")
    assert free() == 64 * GIB


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("own", ["/", "/docker/77ab", None])
def test_a_containers_limit_stands_at_its_outermost_group(machine: Path, own: str | None, version: int) -> None:
    """Whether or not it knows its group by the host's name."""
    if version == 2:
        limit(machine / "cgroup", 8 * GIB, 3 * GIB, GIB)
    else:
        limit_1(machine / "cgroup/memory", 8 * GIB, 3 * GIB, GIB)
    if own is not None:
        (machine / "own").write_text(f"9:cpu,cpuacct:{own}\n4:memory:{own}\n" if version == 1 else f"0::{own}\n")
    assert free() == 6 * GIB


@pytest.mark.parametrize("version", [1, 2])
def test_the_tightest_of_a_group_and_those_around_it_counts(machine: Path, version: int) -> None:
    """As of a systemd slice, without a container."""
    root, make = (machine / "cgroup", limit) if version == 2 else (machine / "cgroup/memory", limit_1)
    (machine / "own").write_text(("0::" if version == 2 else "4:memory:") + "/user.slice/of:you\n")
    make(root / "user.slice", 16 * GIB, 10 * GIB)
    make(root / "user.slice/of:you", 12 * GIB, 2 * GIB)
    make(root / "user.slice/others", GIB, GIB)
    assert free() == 6 * GIB
    make(root / "user.slice/of:you", 3 * GIB, 2 * GIB)
    assert free() == GIB


def test_files_that_cannot_be_read_limit_nothing(machine: Path) -> None:
    (machine / "cgroup/memory/memory.limit_in_bytes").mkdir(parents=True)
    limit(machine / "cgroup", "", GIB)
    assert free() == 64 * GIB


@pytest.mark.parametrize(("kind", "most"), [("array", 2**26 + 2**22), ("file", 2**22)])
def test_what_is_held_are_arrays_and_not_the_pages_of_files(kind: str, most: int, tmp_path: Path) -> None:
    size = 2**26
    (tmp_path / "file").write_bytes(bytes(size))
    with (tmp_path / "file").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as pages:
        with device.PeakMemory(torch.device("cpu")) as memory:
            held = torch.ones(size, dtype=torch.uint8) if kind == "array" else None
            read = sum(pages[:: mmap.PAGESIZE]) if kind == "file" else 0
        if memory.bytes is None:
            pytest.skip("this system does not tell its peak")
    assert (held is None, read) == (kind == "file", 0)
    assert most - 2**26 <= memory.bytes <= most
