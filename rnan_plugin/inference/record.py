"""`restore.jsonl` beside restored images: a line for each, JSON with its input and all that the result depends on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Set
from contextlib import suppress
from pathlib import Path
from typing import Any

from rnan_plugin.errors import UserError
from rnan_plugin.files import atomic_path, readable, sha256_of, writing
from rnan_plugin.images.codec import read_file
from rnan_plugin.targets import check_file, is_file, real

NAME = "restore.jsonl"


class Record:
    """The entries of a folder, by the name of the result; at the end each result has one.

    A line is written after each image, so that what was done before a kill is known; what a run is about to make is
    written down before, as a kill may come between a result and its line. A line that a kill cut short is taken out;
    one that is no entry stays.

    Args:
        folder: Of the results; it may not be there yet.

    Raises:
        UserError: It is there and can't be read.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / NAME
        self._made = False  # the folder, by this command
        self._mine: set[str] = set()  # names that this run is about to write
        self._lacks = False  # a result, for which there was no room
        self._read()

    def _read(self) -> None:
        self._entries: dict[str, dict[str, Any]] = {}
        self._begun: set[str] = set()
        self._others: list[str] = []
        try:
            text = self.file.read_text(encoding="utf-8", errors="surrogateescape") if self.file.is_file() else ""
        except OSError as error:
            raise UserError(f"{self.file}: can't be read ({error.strerror}); check its permissions") from None
        lines = text.split("\n")
        for line in lines[:-1]:
            self._take(line)
        self._is_tidy = not lines[-1] and len(self._entries) + len(self._others) == len(lines) - 1
        self._is_cut_short = bool(lines[-1])

    def _take(self, line: str) -> None:
        try:
            entry = json.loads(line)
            if "begun" in entry:
                self._begun |= {str(name) for name in entry["begun"]}
            else:
                self._entries[entry["image"]] = entry
        except (ValueError, TypeError, KeyError, RecursionError):
            self._others.append(line)

    @property
    def images(self) -> set[str]:
        """Names of the results, relative to the folder; also of those that a run that was killed was about to write."""
        return self._entries.keys() | self._begun

    def made_of(self, sources: Set[str]) -> set[str]:
        """The results, as far as they were made of those files; both as `readable` names where they really are."""
        folder = readable(real(self.file.parent))
        ways = ((entry["image"], entry.get("from")) for entry in self._entries.values())
        made = ((image, os.path.normpath(f"{folder}/{way}")) for image, way in ways if isinstance(way, str))
        return {os.path.normpath(f"{folder}/{image}") for image, source in made if source in sources}

    def made(self, file: Path, source: Path) -> bool:
        """Whether a file of the folder is a result of this source, or of a run that ended before it could say."""
        image = self.place(file)
        entry = self._entries.get(image)
        if entry is None:
            return image in self._begun
        if entry.get("from") == self.way_to(source):
            return True
        with suppress(UserError):  # reading it says what is wrong
            return entry.get("input_sha256") == input_sha256(source)
        return False

    def is_changed(self, file: Path) -> bool:
        """Whether a result is no longer what was written."""
        written = self._entries.get(self.place(file), {}).get("sha256")
        return written is not None and written != sha256_of(file)

    def place(self, file: Path) -> str:
        """The name of a result, relative to the folder."""
        return readable(file.relative_to(self.file.parent).as_posix())

    def way_to(self, source: Path) -> str:
        """Where a source is, seen from the folder: the same wherever a command was typed."""
        there = real(source)
        try:
            return readable(os.path.relpath(there, real(self.file.parent)))
        except ValueError:  # on another drive
            return readable(there)

    def begin(self, files: Iterable[Path]) -> None:
        """Take note that results are about to be written into the folder, should there be any kill.

        Args:
            files: The results, as far as they are not there yet.

        Raises:
            UserError: The record can't be written.
        """
        check_file(self.file)
        self._made = not self.file.parent.exists()
        self._mine = {self.place(file) for file in files}
        with writing(self.file):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.open("ab").close()  # `touch` would not find out that it may not be written
            if self._mine:
                self._add({"begun": sorted(self._mine)})
                self._is_tidy = False

    def holds(self, image: str, input_sha256: str, asked: str) -> bool:
        """Whether a result was made of this input, and asked for in the same way."""
        entry = self._entries.get(image, {})
        return (entry.get("input_sha256"), entry.get("asked")) == (input_sha256, asked)

    def add(self, entry: dict[str, Any]) -> None:
        """Write down a result, whose entry has `image`, `sha256`, `from`, `input_sha256` and `asked`."""
        self._lacks = True
        self._add(entry)
        self._lacks = False
        self._is_tidy &= entry["image"] not in self._entries
        self._entries[entry["image"]] = entry

    def _add(self, line: dict[str, Any]) -> None:
        if self._is_cut_short:
            self._rewrite()
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._append(json.dumps(line) + "\n")

    def _append(self, line: str) -> None:
        """Add a line, or nothing where the disk is full."""
        before = self.file.stat().st_size if self.file.exists() else 0
        try:
            with self.file.open("a", encoding="utf-8", errors="surrogateescape") as file:
                file.write(line)
        except OSError:
            with suppress(OSError):
                os.truncate(self.file, before)
            raise

    def tidy(self) -> None:
        """Leave one line for each result, the last, also of what other processes wrote; without any, nothing.

        Where the disk is full the lines stay as they are: they can be read all the same.
        """
        if self._lacks:  # and is known by what was written before it alone
            self._mine = set()
        if not self._is_tidy:
            self._read()  # another process may have written since
        with suppress(OSError, UserError):
            if is_file(self.file) and not self._lines() and not self._lacks:
                self.file.unlink()
                if self._made and not any(self.file.parent.iterdir()):
                    self.file.parent.rmdir()
            elif not self._is_tidy:
                self._rewrite()

    def _rewrite(self) -> None:
        with atomic_path(self.file) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in self._lines()), "utf-8", "surrogateescape")
        self._is_tidy, self._is_cut_short = True, False

    def _lines(self) -> list[str]:
        begun = self._begun - self._mine - self._entries.keys()
        others = [*self._others, json.dumps({"begun": sorted(begun)})] if begun else self._others
        return [*others, *map(json.dumps, self._entries.values())]


def input_sha256(source: Path) -> str:
    """The hash of an input's content; errors as of `read_file`."""
    return hashlib.sha256(read_file(source)).hexdigest()
