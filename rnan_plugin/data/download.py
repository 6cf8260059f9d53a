"""Downloading one large file over HTTP so that an interrupted download goes on where it stopped."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

import requests
from tqdm import tqdm

from rnan_plugin.errors import UserError

_CHUNK = 2**20
_ATTEMPTS = 5
_TIMEOUT = (10, 60)  # seconds to connect, and between two pieces


def download(url: str, folder: Path) -> Path:
    """Download a file into a folder, with progress; a file already there is taken as it is.

    What has arrived stays in `NAME.part`. A later call asks for the rest alone, unless the server's file has changed.

    Raises:
        UserError: The server can't be reached, refuses, or breaks off again and again; the same call goes on.
    """
    file = folder / (Path(urlsplit(url).path).name or "download")
    if file.exists():
        return file
    folder.mkdir(parents=True, exist_ok=True)
    part, tag = file.with_name(f"{file.name}.part"), file.with_name(f"{file.name}.etag")
    failures = 0  # in a row, without a byte more
    while True:
        before = _size(part)
        try:
            _fetch_rest(url, part, tag)
            part.rename(file)
            tag.unlink(missing_ok=True)
        except requests.HTTPError as error:
            raise UserError(f"{url}: refused ({error.response.status_code} {error.response.reason})") from None
        except requests.RequestException as error:
            failures = 0 if _size(part) > before else failures + 1
            if failures == _ATTEMPTS:
                reason = type(error).__name__
                raise UserError(f"{url}: broken off ({reason}); the same command goes on where it stopped") from None
        except OSError as error:
            raise UserError(f"{part}: can't be written ({error.strerror}); the same command goes on") from None
        else:
            return file


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _fetch_rest(url: str, part: Path, tag: Path) -> None:
    have = _size(part)
    headers = {"Accept-Encoding": "identity"}  # ranges count the file's own bytes
    if have and _size(tag):
        # The server sends the whole file again if it is not the one that was begun.
        headers |= {"Range": f"bytes={have}-", "If-Range": tag.read_text(encoding="ascii")}
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink()
            raise requests.ConnectionError("the part does not fit the file; starting again")
        response.raise_for_status()
        resumed = response.status_code == requests.codes.partial_content
        if not resumed:
            have = 0
            tag.write_text(response.headers.get("ETag") or response.headers.get("Last-Modified", ""), encoding="ascii")
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        _receive(response, part, have, total)


def _receive(response: requests.Response, part: Path, have: int, total: int | None) -> None:
    progress = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=part.stem)
    with part.open("ab" if have else "wb") as out, progress:
        for chunk in response.iter_content(_CHUNK):
            out.write(chunk)
            progress.update(len(chunk))
        received = out.tell()
    if total is not None and received < total:
        raise requests.ConnectionError(f"{received} of {total} bytes")


def md5_of(file: Path) -> str:
    """MD5 of a file, with progress."""
    digest = hashlib.md5(usedforsecurity=False)
    with file.open("rb") as data, tqdm(total=file.stat().st_size, unit="B", unit_scale=True, desc="MD5") as progress:
        while chunk := data.read(_CHUNK):
            digest.update(chunk)
            progress.update(len(chunk))
    return digest.hexdigest()
