"""RNAN for BasicSR.

Importing this package is cheap: no torch, no BasicSR. It makes the next `import basicsr` of this process work on
today's torchvision and register RNAN (see `rnan_plugin.startup`).
"""

from __future__ import annotations

from rnan_plugin import startup

TYPE_CHECKING = False  # importing typing would take longer than all of the environment hook
if TYPE_CHECKING:
    from typing import Any

    from rnan_plugin.archs.official_weights import load_released
    from rnan_plugin.version import __version__

__all__ = ["__version__", "load_released"]

startup.install()


def __getattr__(name: str) -> Any:
    # Only when asked for: torch takes seconds.
    if name == "__version__":
        from rnan_plugin.version import __version__

        return __version__
    if name == "load_released":
        from rnan_plugin.archs.official_weights import load_released

        return load_released
    raise AttributeError(f"module 'rnan_plugin' has no attribute '{name}'")
