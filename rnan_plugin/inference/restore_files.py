"""The `restore` command: image files in, PNG files out, and a record beside them of what was done."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from rnan_plugin.data.image_store import FolderStore
from rnan_plugin.device import available_bytes
from rnan_plugin.errors import UserError
from rnan_plugin.files import atomic_path, readable
from rnan_plugin.images.codec import (
    IMAGE_ENDINGS,
    decode_image,
    header_size,
    orientation_of,
    read_file,
    upright,
)
from rnan_plugin.images.png_rows import png_pieces
from rnan_plugin.inference.pick import Pick
from rnan_plugin.inference.policy import Progress

Job = tuple[Path, Path]  # file to read, file to write

_RECORD = "restore.jsonl"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
_MOST_LINES = 10  # of errors


def restore_files(source: str, target: str, pick: Pick) -> int:
    """Restore an image or all images below a folder, with progress; those that can't be are left out.

    Args:
        source: Image file or folder; results below it, where the target is, are no sources.
        target: PNG file for an image, else a folder; names are kept. `restore.jsonl` beside the results gets a line for
            each image, JSON with what it depends on.
        pick: Chooses what restores a file; what is left alone is copied as it is.

    Returns:
        Number of images.

    Raises:
        UserError: A target that can't be written, if possible before anything is restored; or images that could not be
            restored, a line each, after all others were.
    """
    jobs, folder = _plan(Path(source), Path(target))
    for file, out in jobs:
        if file.resolve() == out.resolve():
            raise UserError(f"{out}: the result would replace its input; name another target")
    errors = []
    for file, out in tqdm(jobs, unit="image"):
        try:
            name = readable(out.relative_to(folder).as_posix())
            entry = {"image": name, **_restore_file(file, out, pick)}
            with (folder / _RECORD).open("a", encoding="utf-8") as record:
                record.write(json.dumps(entry) + "\n")
        except UserError as error:
            errors.append(str(error))
        except OSError as error:
            errors.append(f"{out}: can't be written ({error.strerror}); make room, or name another target")
            if error.errno in _NO_ROOM:  # no other image would fare better
                break
    if errors:
        more = [f"and {len(errors) - _MOST_LINES} more"] if len(errors) > _MOST_LINES else []
        raise UserError("\n".join([*errors[-_MOST_LINES:], *more]))
    return len(jobs)


def _restore_file(file: Path, out: Path, pick: Pick) -> dict[str, Any]:
    """Restore a file, or leave it as it is; return what the result depends on, and how long it took."""
    start = time.perf_counter()
    code, name = read_file(file), readable(file)
    _check_room(code, name)
    img, orientation = decode_image(code, name), orientation_of(code)
    worker, why = pick(code, img)
    if why:
        tqdm.write(f"{name}: {why}")
    if worker is None:
        is_same_format = out.suffix.lower() == file.suffix.lower()
        _write(out, [code] if is_same_format else png_pieces(upright(img, orientation), level=3))
        return {"left_as_it_is": why, "seconds": round(time.perf_counter() - start, 3)}
    del code  # large images need the room
    with _pass_progress(readable(file.name)) as progress:
        restored, used = worker.restorer(img, name, progress)
    num_channel = img.shape[2]
    del img
    _tell_of_channels(name, num_channel, restored.shape[2], worker.restorer.num_channel)
    # Turned after it, since a network for JPEG files learnt their 8×8 grid as it is stored.
    _write(out, png_pieces(upright(restored, orientation), level=3))
    tqdm.write(f"{name} -> {readable(out)} (policy {used.describe()})")
    seconds = round(time.perf_counter() - start, 3)
    return {**worker.provenance, "chosen": why or None, "policy": used.describe(), "seconds": seconds}


def _write(out: Path, pieces: Iterable[bytes]) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as temporary, temporary.open("wb") as file:
        file.writelines(pieces)


def _tell_of_channels(name: str, given: int, restored: int, of_network: int) -> None:
    if restored < given:
        tqdm.write(f"warning: {name}: colour, but the network and --channels give a grey result")
    elif restored < of_network:
        tqdm.write(
            f"{name}: grey, restored as R = G = B by a network for colour; the result is the mean of its colours"
        )


def _check_room(code: bytes, name: str) -> None:
    """Whether the decoded image fits into memory, before the system kills the process."""
    height, width = header_size(code) or (0, 0)
    needed, there = 3 * height * width, available_bytes(torch.device("cpu"))
    if needed > there:
        told = f"{height}×{width} pixels take {needed / 2**30:.1f} GiB, {there / 2**30:.1f} GiB are free"
        raise UserError(f"{name}: {told}; free some, or make the image smaller")


@contextmanager
def _pass_progress(name: str) -> Iterator[Progress]:
    """A bar for the passes of one image, on a terminal alone, gone when they are done."""
    with tqdm(desc=name, unit="pass", leave=False, disable=None, delay=1) as bar:

        def show(done: int, passes: int) -> None:
            bar.total = passes
            bar.update(done - bar.n)

        yield show


def _plan(source: Path, target: Path) -> tuple[list[Job], Path]:
    """What to read and to write, and the folder of the record."""
    is_file_target = target.suffix.lower() in IMAGE_ENDINGS
    if source.is_dir():
        if is_file_target:
            raise UserError(f"{target}: {source} is a folder, so name a folder to write to")
        store = FolderStore(str(source))
        files = [store.file(name) for name in store.names]
        jobs = [(file, target / file.relative_to(source).with_suffix(".png")) for file in files]
        if _is_below(target, source):
            jobs = [job for job in jobs if not _is_below(job[0], target)]
        return jobs, _writable(target)
    if not source.is_file():
        what = "neither an image file nor a folder" if source.exists() else "no such image or folder"
        raise UserError(f"{source}: {what}; check the path")
    if is_file_target and target.suffix.lower() != ".png":
        raise UserError(f"{target}: results are written as PNG; name it {target.with_suffix('.png')}")
    out = target if is_file_target else target / f"{source.stem}.png"
    return [(source, out)], _writable(out.parent)


def _is_below(file: Path, folder: Path) -> bool:
    return folder.resolve() in file.resolve().parents


def _writable(folder: Path) -> Path:
    """The folder itself, if it can be made and written to; it is made with the first result."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise UserError(f"{folder}: {there} is a file, not a folder; name another target")
    if not os.access(there, os.W_OK):
        raise UserError(f"{folder}: no permission to write into {there}; name another target")
    return folder
