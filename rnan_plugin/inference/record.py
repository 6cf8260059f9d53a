"""`restore.jsonl` beside restored images: a line for each, JSON with its input and all that the result depends on."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from rnan_plugin.errors import UserError
from rnan_plugin.files import atomic_path, writing
from rnan_plugin.targets import check_file, is_file

NAME = "restore.jsonl"


class Record:
    """The entries of a folder, by the name of the result; at the end each result has one.

    A line is written after each image, so that what was done before a kill is known. A line that a kill cut short is
    taken out; one that is no entry stays.

    Args:
        folder: Of the results; it may not be there yet.

    Raises:
        UserError: It is there and can't be read.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / NAME
        self._made = False  # the folder, by this command
        self._lacks = False  # a result, for which there was no room
        self._read()

    def _read(self) -> None:
        self._entries: dict[str, dict[str, Any]] = {}
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
            self._entries[entry["image"]] = entry
        except (ValueError, TypeError, KeyError, RecursionError):
            self._others.append(line)

    @property
    def images(self) -> list[str]:
        """Names of the results, relative to the folder."""
        return list(self._entries)

    @property
    def is_there(self) -> bool:
        """Whether any command has begun to write results into the folder."""
        return is_file(self.file)

    def begin(self) -> None:
        """Take note that results are about to be written into the folder, should there be any kill.

        Raises:
            UserError: The record can't be written.
        """
        check_file(self.file)
        self._made = not self.file.parent.exists()
        with writing(self.file):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.open("ab").close()  # `touch` would not find out that it may not be written

    def holds(self, image: str, input_sha256: str, asked: str) -> bool:
        """Whether a result was made of this input, and asked for in the same way."""
        entry = self._entries.get(image, {})
        return (entry.get("input_sha256"), entry.get("asked")) == (input_sha256, asked)

    def add(self, entry: dict[str, Any]) -> None:
        """Write down a result, whose entry has `image`, `source`, `input_sha256` and `asked`."""
        self._lacks = True
        if self._is_cut_short:
            self._rewrite()
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self._append(json.dumps(entry) + "\n")
        self._lacks = False
        self._is_tidy &= entry["image"] not in self._entries
        self._entries[entry["image"]] = entry

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
        if not self._is_tidy:
            self._read()  # another process may have written since
        with suppress(OSError, UserError):
            if self.is_there and not self._entries and not self._others and not self._lacks:
                self.file.unlink()
                if self._made and not any(self.file.parent.iterdir()):
                    self.file.parent.rmdir()
            elif not self._is_tidy:
                self._rewrite()

    def _rewrite(self) -> None:
        lines = [*self._others, *map(json.dumps, self._entries.values())]
        with atomic_path(self.file) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines), "utf-8", "surrogateescape")
        self._is_tidy, self._is_cut_short = True, False
