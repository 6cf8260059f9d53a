"""Packing images into an LMDB in the toolbox's format, so that it survives being interrupted at any moment.

The LMDB grows in a hidden folder beside its place, in transactions that hold whole images only, and takes its name when
it is complete and was read back. A later call with the same images and layout goes on after the last transaction.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Literal, get_args

import lmdb
import numpy as np
from numpy.typing import NDArray

from rnan_plugin.data.image_sources import ImageSource, collect_images
from rnan_plugin.data.image_store import META_INFO, shape_of
from rnan_plugin.data.pack_work import DAMAGES, DATA, check_target, verify_and_name, work_folder
from rnan_plugin.errors import UserError, one_line, said_by
from rnan_plugin.files import atomic_path
from rnan_plugin.images.codec import encode_png
from rnan_plugin.images.eight_bit import decode_image
from rnan_plugin.images.raw_codec import encode_raw
from rnan_plugin.progress import FileProgress

Codec = Literal["png", "raw"]
Entry = tuple[str, bytes]  # key, value

PNG_LEVEL = 1  # the toolbox's: larger levels cost much time and save little
SKIPPED = "skipped.txt"

# A transaction ends after so many bytes or seconds: what an interruption costs at most.
_TRANSACTION_BYTES = 2**25
_TRANSACTION_SECONDS = 1.0


@dataclass(frozen=True)
class Layout:
    """What an LMDB holds of each image.

    Args:
        crop_size: Side of sub-images in pixels; None keeps images whole.
        step: Distance of neighbouring sub-images in pixels.
        codec: "png" (the toolbox reads it) or "raw" (uncompressed: much faster to read, the plugin alone reads it).

    Raises:
        UserError: A value outside its legal interval.
    """

    crop_size: int | None = None
    step: int = 240
    codec: Codec = "png"

    def __post_init__(self) -> None:
        if self.crop_size is not None and (self.crop_size < 1 or self.step < 1):
            raise UserError(f"crop size {self.crop_size} and step {self.step} must be 1 or more")
        if self.codec not in get_args(Codec):
            raise UserError(f"codec is '{self.codec}', legal are {', '.join(get_args(Codec))}")

    def first_key(self, name: str) -> str:
        """Key of an image's first entry."""
        return name if self.crop_size is None else f"{name}_s001"


@dataclass
class Packed:
    """What became of the images.

    Args:
        count: Entries of the LMDB.
        resumed: Images that an earlier, interrupted call had packed already.
        skipped: Why images were left out, by name.
    """

    count: int = 0
    resumed: int = 0
    skipped: dict[str, str] = field(default_factory=dict)


def sub_image_starts(length: int, size: int, step: int) -> list[int]:
    """Starts of sub-images along one axis, as the toolbox's `extract_subimages.py` places them.

    One every `step` pixels while it fits, and one at the end if pixels would be left out.
    An axis shorter than `size` is taken whole.
    """
    if length < size:
        return [0]
    starts = list(range(0, length - size + 1, step))
    if length > starts[-1] + size:
        starts.append(length - size)
    return starts


def sub_images(img: NDArray[np.uint8], name: str, size: int, step: int) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield (name_s001, crop), … of an image (H, W, C), row by row."""
    number = 0
    for top in sub_image_starts(img.shape[0], size, step):
        for left in sub_image_starts(img.shape[1], size, step):
            number += 1
            yield f"{name}_s{number:03d}", img[top : top + size, left : left + size]


def pack_folder(folder: str | Path, lmdb_path: str | Path, crop_size: int | None = None, step: int = 240) -> int:
    """Pack all images below a folder as PNG; see `pack`. Returns the number of images in the LMDB."""
    return pack(collect_images([folder]), lmdb_path, Layout(crop_size, step)).count


def pack(images: Mapping[str, ImageSource], lmdb_path: str | Path, layout: Layout, *, skip_bad: bool = False) -> Packed:
    """Pack images, decoding each once, on all cores and in bounded memory, with progress.

    Args:
        images: By name, which becomes the key (of sub-images: its beginning).
        lmdb_path: New folder whose name ends in `.lmdb`.
        layout: What to keep of each image.
        skip_bad: Leave unreadable images out, listed in `skipped.txt` inside the LMDB, instead of stopping.

    Raises:
        UserError: An unreadable image, a name that can't be a key, an LMDB already there or being packed, no room, or
            something that is not read back as it was packed; names the file and the remedy. What is packed so far
            stays beside the LMDB's place, and the same call goes on from there.
    """
    final = check_target(lmdb_path)
    bad = {name: f"{image.label}: {fault}" for name, image in images.items() if (fault := name_fault(name))}
    if bad and not skip_bad:
        raise UserError(*bad.values())
    images = {name: image for name, image in images.items() if name not in bad}
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with work_folder(final, _job(images, layout)) as work:
            packed = _fill(work, images, layout, Packed(skipped=bad), skip_bad=skip_bad)
            verify_and_name(work, final)
    except (OSError, lmdb.Error) as error:
        reason = getattr(error, "strerror", None) or said_by(error)
        if isinstance(error, DAMAGES):
            told = f"what was packed of it is damaged ({reason}); check the disk and start the same command again"
            raise UserError(f"{final}: {told}") from None
        raise UserError(f"{final}: can't be written ({reason}); mend that, and the same command goes on") from None
    return packed


def name_fault(name: str) -> str | None:
    """Why an image's name can't be a key, in words; None if it can.

    The index has a line for each key, and BasicSR's readers end a line where Python's `str.splitlines` does.
    """
    if one_line(name) != name:
        return "a line break, control character or undecodable byte in its name; rename it"
    if ".." in name.split("/"):
        return "its name leads out of its folder; rename it"
    return None


def _job(images: Mapping[str, ImageSource], layout: Layout) -> dict[str, object]:
    """What has to be the same for a later call to go on with the work."""
    stamps = "".join(f"{name}\0{image.stamp}\n" for name, image in images.items())
    return {"images": len(images), "sha256": hashlib.sha256(stamps.encode()).hexdigest(), **asdict(layout)}


def _fill(work: Path, images: Mapping[str, ImageSource], layout: Layout, packed: Packed, *, skip_bad: bool) -> Packed:
    """Pack what is not packed yet, and write the index; count it in `packed`."""
    with _opened(work) as environment:
        with environment.begin() as transaction:
            done = {name for name in images if transaction.get(layout.first_key(name).encode()) is not None}
        packed.resumed = len(done)
        todo = {name: image for name, image in images.items() if name not in done}
        batch = _Batch(environment)
        with FileProgress(len(images), "packing", done=len(done)) as progress:
            try:
                for name, result in _in_order(partial(_entries, layout=layout), todo):
                    try:
                        batch.add(result())
                    except UserError as error:
                        if not skip_bad:
                            raise
                        packed.skipped[name] = str(error)
                    progress.step()
            finally:
                batch.commit()
        lines = [line for name in images for line in _meta_lines(environment, name, layout)]
    if not lines:
        raise UserError(f"{work}: not one image could be packed; the first: {next(iter(packed.skipped.values()))}")
    _write_lines(work / SKIPPED, [f"{reason}\n" for reason in packed.skipped.values()])
    _write_lines(work / META_INFO, lines)
    packed.count = len(lines)
    return packed


def _write_lines(file: Path, lines: list[str]) -> None:
    if not lines:
        file.unlink(missing_ok=True)
        return
    with atomic_path(file) as temporary:
        temporary.write_bytes("".join(lines).encode())  # line feeds on every system


@contextmanager
def _opened(work: Path) -> Iterator[lmdb.Environment]:
    """The growing LMDB; removed again if nothing has come into it."""
    # The map starts at what is there and grows with the data.
    size = (work / DATA).stat().st_size if (work / DATA).exists() else 0
    environment = lmdb.open(str(work), map_size=max(2**26, 2 * size))
    entries = 0
    try:
        yield environment
    finally:
        entries = environment.stat()["entries"]
        environment.close()
        if not entries:
            (work / DATA).unlink()


def _in_order(
    work: Callable[[str, ImageSource], list[Entry]], images: Mapping[str, ImageSource]
) -> Iterator[tuple[str, Callable[[], list[Entry]]]]:
    """Run `work` on all cores, a few images ahead of the consumer; yield names and what gives their results."""
    ahead = 2 * (os.cpu_count() or 1)
    running: deque[tuple[str, Future[list[Entry]]]] = deque()
    with ThreadPoolExecutor() as pool:
        try:
            for name, image in images.items():
                running.append((name, pool.submit(work, name, image)))
                if len(running) > ahead:
                    first, future = running.popleft()
                    yield first, future.result
            while running:
                first, future = running.popleft()
                yield first, future.result
        finally:
            pool.shutdown(cancel_futures=True)


def _entries(name: str, image: ImageSource, *, layout: Layout) -> list[Entry]:
    img = decode_image(image.read(), image.label)
    crops = [(name, img)] if layout.crop_size is None else sub_images(img, name, layout.crop_size, layout.step)
    encode = encode_raw if layout.codec == "raw" else partial(encode_png, level=PNG_LEVEL, filtered=False)
    return [(key, encode(np.ascontiguousarray(crop))) for key, crop in crops]


class _Batch:
    """Entries of whole images, stored in one transaction each time enough have come together."""

    def __init__(self, environment: lmdb.Environment) -> None:
        self.environment = environment
        self.entries: list[tuple[bytes, bytes]] = []
        self.size = 0
        self.started = time.monotonic()

    def add(self, entries: list[Entry]) -> None:
        """Add all entries of an image."""
        limit = self.environment.max_key_size()
        for key, _ in entries:
            if len(key.encode()) > limit:
                raise UserError(f"{key}: longer than {limit} bytes, the most an LMDB takes; shorten the file's path")
        self.entries += [(key.encode(), value) for key, value in entries]
        self.size += sum(len(value) for _, value in entries)
        if self.size >= _TRANSACTION_BYTES or time.monotonic() - self.started >= _TRANSACTION_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Store what has come together, doubling the map while it does not fit; on disk when this returns."""
        while not self._try_commit():
            self.environment.set_mapsize(2 * self.environment.info()["map_size"] + self.size)
        self.entries, self.size, self.started = [], 0, time.monotonic()

    def _try_commit(self) -> bool:
        try:
            with self.environment.begin(write=True) as transaction:
                for key, value in self.entries:
                    transaction.put(key, value)
        except lmdb.MapFullError:
            return False
        except lmdb.Error as error:  # of a full disk, too, it says "Input/output error"
            if shutil.disk_usage(self.environment.path()).free < self.size + _TRANSACTION_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise
        return True


def _meta_lines(environment: lmdb.Environment, name: str, layout: Layout) -> Iterator[str]:
    """Lines of `meta_info.txt` for an image: in the toolbox's format whatever the codec."""
    keys = [name] if layout.crop_size is None else (f"{name}_s{number:03d}" for number in count(1))
    with environment.begin(buffers=True) as transaction:
        for key in keys:
            value = transaction.get(key.encode())
            if value is None:
                return
            yield f"{key}.png ({','.join(map(str, shape_of(value, key)))}) {PNG_LEVEL}\n"
