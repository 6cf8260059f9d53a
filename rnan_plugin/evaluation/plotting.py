"""matplotlib, which only figures need: an extra of the package."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rnan_plugin.errors import UserError
from rnan_plugin.files import atomic_path, writing
from rnan_plugin.targets import check_new_file

ENDINGS = (".png", ".pdf", ".svg", ".eps", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")


def pyplot() -> Any:
    """matplotlib's pyplot, drawing to files.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
    except ImportError:
        raise UserError("figures need matplotlib: pip install 'rnan_plugin[figures]'") from None
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def picture_file(file: Path, inputs: Iterable[Path] = (), *, overwrite: bool) -> Path:
    """The file that a picture is to be written to, PNG where it has no ending, checked before anything is computed.

    Raises:
        UserError: An ending that is no picture's, or as of `check_new_file`.
    """
    file = file if file.suffix else file.with_suffix(".png")
    if file.suffix.lower() not in ENDINGS:
        raise UserError(f"{file}: no format of a picture; end it in one of {' '.join(ENDINGS)}")
    check_new_file(file, inputs, overwrite=overwrite)
    return file


def save_picture(figure: Any, file: Path, dpi: int) -> None:
    """Write a figure to a file that `picture_file` gave; its folder is made.

    Raises:
        UserError: The disk is full, and the like.
    """
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as temporary:
            figure.savefig(temporary, dpi=dpi, format=file.suffix[1:].lower())
