"""matplotlib, which only figures need: an extra of the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rnan_plugin.errors import UserError
from rnan_plugin.files import atomic_path


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


def picture_file(file: Path) -> Path:
    """The file that a figure is to be written to: PNG where it has no ending.

    Raises:
        UserError: Its ending is no format that matplotlib writes, or matplotlib is not installed.
    """
    formats = pyplot().matplotlib.backend_bases.FigureCanvasBase.get_supported_filetypes()
    file = file if file.suffix else file.with_suffix(".png")
    if not file.name or file.suffix[1:].lower() not in formats:
        raise UserError(f"{file}: no format of a picture; take .png, .pdf or .svg")
    return file


def save_figure(figure: Any, file: Path, dpi: int) -> None:
    """Write a figure to a `picture_file`, in a folder that is made where it is missing.

    Raises:
        UserError: It can't be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as temporary:
            figure.savefig(temporary, dpi=dpi, format=file.suffix[1:].lower())
    except OSError as error:
        raise UserError(f"{file}: can't be written ({error.strerror}); choose another place") from None
