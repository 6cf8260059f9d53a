"""Results as files: a restored photograph, or what was left as it is."""

from __future__ import annotations

from pathlib import Path

from rnan_plugin.files import readable, write_whole
from rnan_plugin.images.photo import Photo
from rnan_plugin.images.photo_writer import FORMATS, encode_photo, format_of


def write_untouched(code: bytes, photo: Photo, out: Path, quality: int | None = None, *, called: str = "") -> list[str]:
    """Write what is left as it is: the file's content itself, or its pixels where `out` is of another format.

    Args:
        code: The content; empty where there was no file.
        photo: As `read_photo` gives it.
        out: Whose ending says the format.
        quality: Of JPEG and WebP.
        called: The ending of the file; a result with the same has its content, though that is of another format.

    Returns:
        What had to be changed, for the user.

    Raises:
        UserError: The format can't hold such an image.
        OSError: The disk is full, and the like.
    """
    if code and (out.suffix.lower() == called.lower() or FORMATS.get(out.suffix.lower()) in (None, format_of(code))):
        write_whole([code], out)
        return []
    return [*photo.notes, *write_photo(photo, out, quality)]


def write_photo(photo: Photo, out: Path, quality: int | None = None) -> list[str]:
    """Write a photograph; return what the format could not hold. Arguments and errors as of `write_untouched`."""
    pieces, lost = encode_photo(photo, str(out), quality)
    write_whole(pieces, out)
    return [f"warning: {readable(out.name)} can't hold {what} of the image" for what in lost]
