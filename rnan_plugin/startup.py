"""Wait for the first `import basicsr` of a process, then cure it and register RNAN.

Where the environment hook is enabled every Python start runs this module: it imports only `os` and `sys`.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # the typing module would be the dearest import here
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

KILL_SWITCH = "RNAN_PLUGIN_DISABLE"

failures: list[str] = []  # what went wrong around the toolbox's import, for the doctor
started_by_hook = False


class ToolboxFinder:
    """Finder that wraps the loader of top-level `basicsr` and leaves everything else alone."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec which the later finders give, with a loader that also cures and registers."""
        if fullname != "basicsr":
            return None
        # Only the later ones: the earlier ones have had their turn and may be wrappers that ask all others.
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            spec = finder.find_spec(fullname, path, target) if hasattr(finder, "find_spec") else None
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _CuringLoader(spec.loader)  # type: ignore[assignment]
                return spec
        return None


class _CuringLoader:
    """Stand-in for the toolbox's loader until the module is executed."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:  # get_data, is_package, get_resource_reader …
        if name == "_loader":  # not there yet while being copied
            raise AttributeError(name)
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Let the real loader create the module."""
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Step out of the way, cure what breaks the import, import, and add the plugin."""
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        _attempt("preparing the import of basicsr", _before)
        self._loader.exec_module(module)
        uninstall()
        _attempt("curing basicsr", _after)
        # Whoever is importing the seam already registers for himself; here it would be a circular import.
        if "rnan_plugin.toolbox.api" not in sys.modules:
            _attempt("registering RNAN", _register)


def _before() -> None:
    from rnan_plugin.toolbox import compat as cures

    cures.before_import()


def _after() -> None:
    from rnan_plugin.toolbox import compat as cures

    cures.after_import()


def _register() -> None:
    import rnan_plugin.training.connect  # noqa: F401


def _attempt(what: str, step: Callable[[], None]) -> None:
    """Run `step`; a failure becomes one line, for `import basicsr` must not break because of the plugin."""
    try:
        step()
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        failures.append(f"{what} failed ({reason})")
        print(f"rnan_plugin: {failures[-1]}; run `python -m rnan_plugin doctor`", file=sys.stderr)


def is_installed() -> bool:
    """Tell whether this process waits for `import basicsr`."""
    return any(isinstance(finder, ToolboxFinder) for finder in sys.meta_path)


def install() -> None:
    """Wait for `import basicsr`, unless that is done already or it is too late."""
    if "basicsr" not in sys.modules and not is_installed():
        sys.meta_path.insert(0, ToolboxFinder())


def uninstall() -> None:
    """Wait no longer."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, ToolboxFinder)]


def is_switched_off() -> bool:
    """Tell whether the user has switched the environment hook off for this process."""
    return os.environ.get(KILL_SWITCH, "") not in ("", "0")


def install_at_startup() -> None:
    """Entry point of the environment hook."""
    global started_by_hook  # noqa: PLW0603
    if not is_switched_off():
        started_by_hook = True
        install()
        return
    # A .start file had to import the package to get here, which installed the finder. Forget both, so that a
    # later, explicit `import rnan_plugin` works as if there were no hook.
    uninstall()
    sys.modules.pop("rnan_plugin.startup", None)
    sys.modules.pop("rnan_plugin", None)
