"""What a user has of an image set: folders and zip files, as one collection of named images."""

from __future__ import annotations

import io
import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from rnan_plugin.data.image_files import index_by_stem, list_images, no_images_in
from rnan_plugin.errors import UserError, one_line
from rnan_plugin.files import readable
from rnan_plugin.images.codec import IMAGE_ENDINGS, read_file
from rnan_plugin.targets import why_no_file

MEMBER_LIMIT = 2**29  # bytes of one image in a zip file; a member that is larger is no photograph, but a trap
# How much is read at once. Of bzip2 and LZMA, Python expands all of a piece, and 40 bytes may become a megabyte.
_PIECE, _SMALL_PIECE = 2**16, 2**6

# What reading a damaged or unusual zip file ends in, beside what it is meant to.
_ZIP_FAULTS = (
    OSError,
    EOFError,
    RuntimeError,  # encrypted; a compression that Python does not know
    ValueError,  # wrong positions, undecodable names
    OverflowError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


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
    files = index_by_stem(list_images(folder), folder)
    return {
        name: ImageSource(one_line(readable(file)), _stamp(file), partial(read_file, file))
        for name, file in files.items()
    }


def _stamp(file: Path) -> str:
    try:
        state = file.stat()
    except OSError:  # a link to nowhere, or to itself: reading it says so
        return "unreadable"
    return f"{state.st_size} {state.st_mtime_ns}"


def _of_zip(file: Path) -> dict[str, ImageSource]:
    if reason := why_no_file(file):
        raise UserError(f"{file}: {reason}; name a zip file, or a folder whose name does not end in .zip")
    try:
        archive = zipfile.ZipFile(file)
    except _ZIP_FAULTS as error:
        raise UserError(f"{file}: not a readable zip file ({_reason(error)}); download it again") from None
    members = {member.filename: member for member in archive.infolist() if _is_image(member)}
    if not members:
        raise no_images_in(file)
    places = {name: _place(name) for name in sorted(members)}
    root = os.path.commonpath([place.parent for place in places.values()])
    images: dict[str, ImageSource] = {}
    for origin, place in places.items():
        name = place.relative_to(root).with_suffix("").as_posix()
        label = one_line(f"{file}/{origin}")
        if name in images:
            raise UserError(f"{label} and {images[name].label}: two images of one name; rename one")
        member = members[origin]
        images[name] = ImageSource(
            label, f"{member.file_size} {member.CRC}", partial(_read_member, archive, member, label)
        )
    return images


def _place(name: str) -> PurePosixPath:
    """A member's path: relative, and without the empty and "." parts that some programs write."""
    return PurePosixPath(*(part for part in PurePosixPath(name).parts if part.strip("/")))


def _is_image(member: zipfile.ZipInfo) -> bool:
    path = _place(member.filename)
    hidden = any(part.startswith((".", "__MACOSX")) and part != ".." for part in path.parts)
    return path.suffix.lower() in IMAGE_ENDINGS and not hidden and not member.is_dir()


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, label: str) -> bytes:
    if member.file_size > MEMBER_LIMIT:
        size = f"{member.file_size} bytes, the most are {MEMBER_LIMIT}"
        raise UserError(f"{label}: too large for an image ({size}); take it out of the zip file")
    try:
        content = _content(archive, member)
    except _ZIP_FAULTS as error:
        remedy = "download the zip file again, or unpack it and name the folder"
        raise UserError(f"{label}: can't be read ({_reason(error)}); {remedy}") from None
    if len(content) != member.file_size:
        raise UserError(f"{label}: {len(content)} bytes of {member.file_size}; download the zip file again")
    return content


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """A member's bytes, never more than the zip file states."""
    piece = _PIECE if member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) else _SMALL_PIECE
    content = io.BytesIO()
    with archive.open(member) as data:
        assert isinstance(data, zipfile.ZipExtFile)
        data.MIN_READ_SIZE = piece
        while part := data.read(piece):
            content.write(part)
    return content.getvalue()


def _reason(error: BaseException) -> str:
    return one_line(getattr(error, "strerror", None) or error or type(error).__name__)
