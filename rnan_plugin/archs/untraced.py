"""Keeping the compiler out of a method without importing it: that takes as long as importing torch itself."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

import torch


def untraced(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method that `torch.compile` calls as it is: by `torch.compiler.disable`, once the compiler is imported."""

    @cache
    def disabled() -> Callable[..., Any]:
        found: Callable[..., Any] = torch.compiler.disable(method)  # type: ignore[no-untyped-call]
        return found

    @wraps(method)
    def call(*arguments: Any) -> Any:
        return (disabled() if "torch._dynamo" in sys.modules else method)(*arguments)

    return call
