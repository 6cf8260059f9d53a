"""What a user has of an image set: folders and zip files, as one collection of named images."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from rnan_plugin.data.image_store import index_by_stem, list_images
from rnan_plugin.errors import UserError
from rnan_plugin.files import readable
from rnan_plugin.images.codec import IMAGE_ENDINGS, read_file


@dataclass(frozen=True)
class ImageSource:
    """One encoded image.

    Args:
        label: Where it is, for messages.
        stamp: Changes when its content does: size and time of a file, checksum of a zip's member.
        read: Returns the encoded image; raises a `UserError` naming the label.
    """

    label: str
    stamp: str
    read: Callable[[], bytes]


def collect_images(sources: Sequence[str | Path]) -> dict[str, ImageSource]:
    """Find the images of folders and zip files.

    Args:
        sources: Folders, or files ending in .zip.

    Returns:
        Images by name, sorted: the path below the folder (in a zip: below what all members share), without ending.

    Raises:
        UserError: A source is missing, damaged or without images, or two images have one name.
    """
    images: dict[str, ImageSource] = {}
    for source in sources:
        found = _of_zip(Path(source)) if str(source).lower().endswith(".zip") else _of_folder(Path(source))
        for name, image in found.items():
            if name in images:
                raise UserError(f"{image.label} and {images[name].label}: two images of one name; rename one")
            images[name] = image
    return dict(sorted(images.items()))


def _of_folder(folder: Path) -> dict[str, ImageSource]:
    images = {}
    for name, file in index_by_stem(list_images(folder), folder).items():
        images[name] = ImageSource(readable(file), _stamp_of(file), partial(read_file, file))
    return images


def _stamp_of(file: Path) -> str:
    try:
        state = file.stat()
    except OSError:  # a link that leads nowhere: reading it says so
        return "absent"
    return f"{state.st_size} {state.st_mtime_ns}"


def _of_zip(file: Path) -> dict[str, ImageSource]:
    if file.exists() and not file.is_file():
        raise UserError(f"{file}: no regular file; name a zip file, or a folder whose name does not end in .zip")
    try:
        archive = zipfile.ZipFile(file)
    except FileNotFoundError:
        raise UserError(f"{file}: no such file; check the path") from None
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{file}: not a readable zip file ({error}); download it again") from None
    members = {member.filename: member for member in archive.infolist() if _is_image(member.filename)}
    if not members:
        raise UserError(f"{file}: no images in it; known endings are {' '.join(sorted(IMAGE_ENDINGS))}")
    root = os.path.commonpath([PurePosixPath(name).parent for name in members])
    images = {}
    for path, origin in index_by_stem([Path(name) for name in sorted(members)], Path(root)).items():
        member = members[origin.as_posix()]
        read = partial(_read_member, archive, member.filename, f"{file}/{member.filename}")
        images[path] = ImageSource(f"{file}/{member.filename}", f"{member.file_size} {member.CRC}", read)
    return images


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    return path.suffix.lower() in IMAGE_ENDINGS and not hidden


def _read_member(archive: zipfile.ZipFile, name: str, label: str) -> bytes:
    try:
        return archive.read(name)
    except (OSError, zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise UserError(f"{label}: can't be read ({error}); download the zip file again") from None
    except RuntimeError as error:  # encrypted, or packed by a method that Python does not know
        raise UserError(f"{label}: can't be read ({error}); unpack the zip file, and name the folder") from None
