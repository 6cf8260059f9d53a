"""`test`: BasicSR's testing, with the arguments of its script."""

from __future__ import annotations

from collections.abc import Sequence

from rnan_plugin.commands.train import launch


def run(argv: Sequence[str]) -> int:
    """Test as basicsr/test.py does; results land below the current folder. See `commands.train.run`."""
    return launch("test", argv)
