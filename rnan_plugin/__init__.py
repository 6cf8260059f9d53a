"""RNAN for BasicSR.

Importing this package is cheap: no torch, no BasicSR. It makes the next `import basicsr` of this process work on
today's torchvision and register RNAN (see `rnan_plugin.startup`). Its functions are those of `rnan_plugin.face`, which
is imported when the first of them is asked for.
"""

from __future__ import annotations

from rnan_plugin import startup

TYPE_CHECKING = False  # importing typing would take longer than all of the environment hook
if TYPE_CHECKING:
    from typing import Any

    from rnan_plugin.face import evaluate, load_network, load_released, restore
    from rnan_plugin.version import __version__

__all__ = ["__version__", "evaluate", "load_network", "load_released", "restore"]

startup.install()


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from rnan_plugin.version import __version__

        return __version__
    if name in __all__:
        from rnan_plugin import face

        return getattr(face, name)
    raise AttributeError(f"module 'rnan_plugin' has no attribute '{name}'")
