"""Keeping the compiler out of a method without importing it: that takes as long as importing torch itself."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

import torch

_COMPILER = "torch._dynamo"


def untraced(owner: type, name: str) -> None:
    """Let `torch.compile` call a method as it is: `torch.compiler.disable`, once there is a compiler in the process.

    Args:
        owner: The class.
        name: Of its method.
    """

    def disable() -> None:
        setattr(owner, name, torch.compiler.disable(getattr(owner, name)))  # type: ignore[no-untyped-call]

    if _COMPILER in sys.modules:
        disable()
    else:
        sys.meta_path.insert(0, _AfterImport(disable))


class _AfterImport(MetaPathFinder, Loader):
    """Calls a function after the compiler's module has been executed, once."""

    def __init__(self, then: Callable[[], None]) -> None:
        self.then = then
        self.loader: Loader | None = None

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """The spec that there is, loaded by this object."""
        if fullname != _COMPILER or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None:
            self.loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the module's own loader does."""
        assert self.loader is not None
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module, then do what was waiting for it."""
        assert self.loader is not None
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self.loader
        self.loader.exec_module(module)
        self.then()
