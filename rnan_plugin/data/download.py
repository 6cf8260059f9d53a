"""Downloading one large file over HTTP so that an interrupted download goes on where it stopped."""

from __future__ import annotations

import hashlib
import re
import struct
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import requests
from requests.structures import CaseInsensitiveDict
from tqdm import tqdm
from urllib3.exceptions import HTTPError

from rnan_plugin.errors import UserError, one_line, shown

_CHUNK = 2**13  # what a break costs at most
_ATTEMPTS = 5
_PAUSE = 0.5  # seconds before the second attempt in a row without a byte more, doubled each time
_TIMEOUT = (10, 60)  # seconds to connect, and between two pieces
_LONGEST_NAME = 200  # bytes
_MD5_PIECE = 2**20

_OK, _PARTIAL, _BEYOND_THE_END = 200, 206, 416
_MAY_PASS = frozenset({408, 425, 429, *range(500, 600)})
_RANGE = re.compile(r"bytes (?:(\d{1,18})-\d{1,18}|\*)/(\d{1,18}|\*)")
_ZIP_BEGINNINGS = (b"PK\3\4", b"PK\5\6", b"PK\7\x08")


class _BrokenOffError(Exception):
    """Something that may pass."""


def download(url: str, folder: Path) -> Path:
    """Download a file into a folder, with progress; a file already there is taken as it is.

    What has arrived stays in `NAME.part`. A later call asks for the rest alone, unless the server's file has changed.
    The file takes its name when it is complete and, if its name ends in .zip, a zip file.

    Raises:
        UserError: No URL; or the server can't be reached, refuses, sends something else, or breaks off again and
            again: the same call goes on. Passwords in the URL are not shown.
    """
    file = folder / file_name(url)
    part = _Part(file.with_name(f"{file.name}.part"), file.with_name(f"{file.name}.etag"), masked(url))
    with _writing(part.file):
        if file.exists():
            if part.is_zip and not _is_zip(file):
                raise UserError(f"{file}: is there already, but no zip file; remove it")
            return file
        folder.mkdir(parents=True, exist_ok=True)
    try:
        _fetch(url, part)
        with _writing(part.file):
            part.file.rename(file)
    finally:
        part.tidy()
    return file


def _fetch(url: str, part: _Part) -> None:
    """Try until all is there, or several times in a row have brought nothing."""
    failures = 0  # in a row, without a byte more
    while failures < _ATTEMPTS:
        time.sleep(_PAUSE * 2 ** (failures - 1) if failures else 0)
        before = part.size()
        try:
            return _fetch_rest(url, part)
        except UserError:
            raise
        except (ValueError, requests.TooManyRedirects) as error:  # URLs and headers that make no sense
            raise UserError(f"{part.label}: can't be downloaded ({type(error).__name__}); check the URL") from None
        except (_BrokenOffError, requests.RequestException, HTTPError) as error:
            reason = str(error) if isinstance(error, _BrokenOffError) else type(error).__name__
        failures = 0 if part.size() > before else failures + 1
    raise UserError(f"{part.label}: broken off ({reason}); the same command goes on where it stopped")


def masked(url: str) -> str:
    """A URL for messages: without password, token or query, which may be secrets, and in one line."""
    hidden = re.sub(r"(://[^/?#:@]*):(?:[^/?#]*|(?!\d*[/?#])\S*)@", r"\1:***@", url)
    hidden = re.sub(r"://[^/?#:@]+@", "://***@", hidden)
    return one_line(re.sub(r"\?.*", "?***", hidden, flags=re.DOTALL))


def file_name(url: str) -> str:
    """Name of the file that a URL is downloaded to.

    Raises:
        UserError: No URL, or the name is too long.
    """
    try:
        parts = urlsplit(url)
        name = Path(parts.path).name
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an open bracket, a port that is no number
        usable, name = False, ""
    if not usable or "\0" in url:
        raise UserError(
            f"{masked(url)}: not a URL that can be downloaded; it begins with http:// or https:// and a host"
        )
    if len(name.encode(errors="replace")) > _LONGEST_NAME:
        raise UserError(f"{masked(url)}: its file's name is too long; download it yourself and name the file")
    return "download" if name in {"", ".", ".."} else one_line(name)


@dataclass(frozen=True)
class _Part:
    """What has arrived of a file.

    Args:
        file: The bytes.
        tag: File with what the server knows the whole file by.
        label: The URL, for messages.
    """

    file: Path
    tag: Path
    label: str

    @property
    def is_zip(self) -> bool:
        """Whether it has to be a zip file."""
        return self.file.stem.lower().endswith(".zip")

    def size(self) -> int:
        """Number of bytes that have arrived."""
        return self.file.stat().st_size if self.file.exists() else 0

    def tidy(self) -> None:
        """Keep nothing but what a later call goes on with."""
        with suppress(OSError):
            if not self.size():
                self.file.unlink(missing_ok=True)
                self.tag.unlink(missing_ok=True)

    def known_by(self) -> str:
        """What to ask for the rest with; empty if it can't be asked for."""
        tag = self.tag.read_bytes().decode("latin-1") if self.tag.exists() else ""  # as HTTP's headers
        return tag if self.size() and tag.isprintable() else ""


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    """Turn a full disk and the like into one line."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{file}: can't be written ({error.strerror}); the same command goes on") from None


def _fetch_rest(url: str, part: _Part) -> None:
    """Append what is missing, or begin again if the server's file is another one."""
    with _writing(part.file):
        have, tag = part.size(), part.known_by()
    headers = {"Accept-Encoding": "identity"}  # ranges count the file's own bytes
    if tag:
        # The server sends the whole file again if it is not the one that was begun.
        headers |= {"Range": f"bytes={have}-", "If-Range": tag}
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if response.status_code == _BEYOND_THE_END:
            if _range_of(response.headers, have)[1] != have:
                _begin_again(part, "the part does not fit the file")
            _check_whole(part, have)
        elif response.status_code == _PARTIAL:
            first, total = _range_of(response.headers, have)
            if not tag or first != have or _is_another(_tag_of(response.headers), tag):
                _begin_again(part, "the server sent another part than was asked for")
            _receive(response, part, have, total)
        else:
            _check_status(response, part.label)
            _receive(response, part, 0, _length_of(response.headers))


def _begin_again(part: _Part, reason: str) -> None:
    with _writing(part.file):
        part.tag.unlink(missing_ok=True)
    raise _BrokenOffError(reason)


def _check_status(response: requests.Response, label: str) -> None:
    status = response.status_code
    if status in _MAY_PASS:
        raise _BrokenOffError(f"the server answers {status} {one_line(response.reason)[:80]}")
    if status != _OK:
        raise UserError(f"{label}: refused ({status} {one_line(response.reason)[:80]}); check the URL")


def _range_of(headers: CaseInsensitiveDict[str], have: int) -> tuple[int | None, int | None]:
    """First byte and total length that a server states of a part; None where it makes no sense or is not stated."""
    stated = headers.get("Content-Range")
    length = _length_of(headers)
    rest = None if length is None else have + length
    if stated is None:  # some servers leave it out, unless there are several parts
        return (None if "multipart" in headers.get("Content-Type", "") else have), rest
    match = _RANGE.fullmatch(stated.strip())
    first, total = match.groups() if match else (None, None)
    return int(first) if first else None, int(total) if total and total != "*" else rest


def _is_another(found: str, tag: str) -> bool:
    """Whether two tags name different files; a date beside a tag does not tell."""
    return found[:1] == tag[:1] == '"' and found != tag


def _tag_of(headers: CaseInsensitiveDict[str]) -> str:
    """What a whole file is known by; a weak tag does not tell its bytes."""
    tag = headers.get("ETag", "")
    return headers.get("Last-Modified", "") if not tag or tag.startswith("W/") else tag


def _length_of(headers: CaseInsensitiveDict[str]) -> int | None:
    length = headers.get("Content-Length", "").split(",")[0].strip()
    return int(length) if re.fullmatch(r"[0-9]{1,18}", length) and not _is_encoded(headers) else None


def _is_encoded(headers: CaseInsensitiveDict[str]) -> bool:
    return headers.get("Content-Encoding", "identity") != "identity"


def _receive(response: requests.Response, part: _Part, have: int, total: int | None) -> None:
    """Write as it arrives, behind the first `have` bytes; check it when all is there."""
    with _writing(part.file):
        out = part.file.open("ab")
    received = 0
    with out, tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=part.file.stem) as progress:
        for chunk in response.iter_content(_CHUNK):
            if have + received == 0:
                _begin(out, chunk, response.headers, part)
            with _writing(part.file):
                out.write(chunk)
                out.flush()
            received += len(chunk)
            progress.update(len(chunk))
    if have + received == 0:
        raise _BrokenOffError("nothing arrived")
    _check_whole(part, total)


def _begin(out: BinaryIO, chunk: bytes, headers: CaseInsensitiveDict[str], part: _Part) -> None:
    """Give up what arrived before, now that there is something in its place, and that it looks as it should."""
    if part.is_zip and not any(chunk[:4] == beginning[: len(chunk)] for beginning in _ZIP_BEGINNINGS):
        raise UserError(f"{part.label}: the server sent no zip file, but {shown(chunk[:40])}; check the URL")
    with _writing(part.file):
        out.truncate(0)
        part.tag.write_bytes(b"" if _is_encoded(headers) else _tag_of(headers).encode("latin-1", "replace"))


def _check_whole(part: _Part, total: int | None) -> None:
    if total is not None and part.size() != total:
        raise _BrokenOffError(f"{part.size()} of {total} bytes")
    if part.is_zip and not _is_zip(part.file):
        _begin_again(part, "what arrived is no whole zip file")


def _is_zip(file: Path) -> bool:
    try:
        return zipfile.is_zipfile(file)
    except (zipfile.BadZipFile, ValueError, struct.error):
        return False


def md5_of(file: Path) -> str:
    """MD5 of a file, with progress."""
    digest = hashlib.md5(usedforsecurity=False)
    with file.open("rb") as data, tqdm(total=file.stat().st_size, unit="B", unit_scale=True, desc="MD5") as progress:
        while chunk := data.read(_MD5_PIECE):
            digest.update(chunk)
            progress.update(len(chunk))
    return digest.hexdigest()
