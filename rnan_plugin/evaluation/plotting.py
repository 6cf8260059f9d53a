"""matplotlib, which only figures need: an extra of the package."""

from __future__ import annotations

from typing import Any

from rnan_plugin.errors import UserError


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
