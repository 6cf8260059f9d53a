"""Names of files: long ones, and ones that are no UTF-8."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rnan_plugin.errors import UserError
from rnan_plugin.files import atomic_path, readable, shortened, staged


@pytest.mark.parametrize("stem", ["n" * 240, "n" * 251, "é" * 125, os.fsdecode(b"\xe9" * 251)], ids=[*"abcd"])
def test_names_up_to_the_longest_are_written(tmp_path: Path, stem: str) -> None:
    file = tmp_path / f"{stem}.png"
    with atomic_path(file) as temporary:
        temporary.write_bytes(b"x")
        assert temporary.suffix == ".png"
        assert temporary.name.startswith(".")
    assert list(tmp_path.iterdir()) == [file]


def test_names_that_are_too_long_are_cut_and_stay_apart() -> None:
    assert shortened("a", "_100.png") == "a_100.png"
    first, second = (shortened("é" * 123 + letter, "_100000.png") for letter in "ab")
    assert first != second
    for name in (first, second):
        assert len(os.fsencode(name)) <= 255
        assert name.startswith("é" * 100)
        assert name.endswith("_100000.png")
    assert shortened("n" * 247, "_100.png") == "n" * 247 + "_100.png"


def test_readable_names_are_utf8() -> None:
    assert readable("é.png") == "é.png"
    assert readable(os.fsdecode(b"caf\xe9.png")) == "caf\\xe9.png"


def test_staged_files_replace_those_of_their_name_together(tmp_path: Path) -> None:
    (tmp_path / "out/deep").mkdir(parents=True)
    for name in ("deep/old", "deep/other"):
        (tmp_path / "out" / name).write_text("before")
    with staged(tmp_path / "out") as stage:
        (stage / "deep").mkdir()
        (stage / "deep/old").write_text("after")
        (stage / "new").write_text("after")
        assert (tmp_path / "out/deep/old").read_text() == "before"
    found = {str(file.relative_to(tmp_path)): file.read_text() for file in tmp_path.rglob("*") if file.is_file()}
    assert found == {"out/deep/old": "after", "out/deep/other": "before", "out/new": "after"}


def test_what_fails_on_the_stage_is_told_of_its_place_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^{tmp_path}/out/a: can't be written$"), staged(tmp_path / "out") as stage:
        raise UserError(f"{stage}/a: can't be written")
    assert not (tmp_path / "out").exists()
